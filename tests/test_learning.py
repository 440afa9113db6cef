"""Tiny agents learn: an image task with discrete actions, a vector task with continuous ones."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from dreamworld.logging.rundir import RunDir

SMALL = [
    "--configs", "demo", "--run.report_every", "0", "--run.save_every", "0", "--run.log_every", "200",
    "--logger.tensorboard", "False", "--run.progress", "False", "--agent.loss.obs", "1", "--agent.optim.anneal", "0",
]  # fmt: skip

REACH = '''
import gymnasium
import numpy as np


class Reach(gymnasium.Env):
    """A point is pushed towards a goal; the reward is minus the distance. 20 steps."""

    observation_space = gymnasium.spaces.Dict(
        {"point": gymnasium.spaces.Box(-2, 2, (2,)), "goal": gymnasium.spaces.Box(-1, 1, (2,))}
    )
    action_space = gymnasium.spaces.Box(-0.3, 0.3, (2,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        self.point, self.goal = self.np_random.uniform(-1, 1, (2, 2)).astype(np.float32)
        return self.observe(), {}

    def step(self, action):
        self.time += 1
        self.point = np.clip(self.point + action, -2, 2).astype(np.float32)
        reward = -float(np.linalg.norm(self.point - self.goal))
        return self.observe(), reward, False, self.time == 20, {}

    def observe(self):
        return {"point": self.point, "goal": self.goal}
'''


def learn(tmp_path, *words, timeout_s=900):
    """Trains in a process of its own, with the compiler's usual optimisations; returns the episode returns."""
    environment = {**os.environ, "XLA_FLAGS": "", "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "dreamworld", "train", *SMALL, "--logdir", str(tmp_path / "run"), *words]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout_s)
    assert found.returncode == 0, found.stderr
    rows = RunDir(tmp_path / "run").episodes.read_text().splitlines()
    return np.array([json.loads(row)["return"] for row in rows])


@pytest.mark.parametrize("precision", ["float32", pytest.param("bfloat16", marks=pytest.mark.soak)])
def test_image_and_discrete_actions_catch_the_ball(tmp_path, precision):
    returns = learn(
        tmp_path,
        *("--agent.precision", precision),
        *(
            "--task",
            "jax_catch",
            "--env.options",
            "obs=image,rows=6",
            "--env.num",
            "8",
            "--run.steps",
            "2400",
        ),
        *("--agent.behaviour.entropy", "5e-2", "--agent.encoder.depth", "4"),
    )
    assert returns[:40].mean() < 0  # random: -0.6
    assert returns[-60:].mean() > 0.5  # best possible: 1


def test_vectors_and_continuous_actions_of_a_custom_environment_reach_the_goal(tmp_path):
    (tmp_path / "reach_env.py").write_text(REACH)
    returns = learn(tmp_path, "--task", "reach_env:Reach", "--env.num", "4", "--run.steps", "2500")
    first, last = returns[:20].mean(), returns[-20:].mean()
    assert first < -15  # random walks stay about one unit away
    assert last > first / 2


@pytest.mark.soak
def test_dmc_cartpole_balances_from_vectors(tmp_path):
    returns = learn(
        tmp_path,
        "--task",
        "dmc_cartpole_balance",
        "--env.repeat",
        "2",
        "--env.num",
        "4",
        "--run.steps",
        "20000",
        timeout_s=3600,
    )
    assert returns[-8:].mean() > 1.5 * returns[:4].mean()
