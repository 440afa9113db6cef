"""The agent that `docs/agents.md` shows trains, plans and goes through the commands as it stands there."""

import re
import sys

import jax
import numpy as np
import pytest

import dreamworld
from dreamworld import cli
from dreamworld.agents import find, make_agent
from dreamworld.types import Space


@pytest.fixture
def example(repo, tmp_path, monkeypatch):
    """The module `my_agent`, from the page."""
    blocks = re.findall(r"```python\n(.*?)```", (repo / "docs" / "agents.md").read_text(), re.DOTALL)
    (tmp_path / "my_agent.py").write_text(next(block for block in blocks if "SPEC = AgentSpec(" in block))
    monkeypatch.syspath_prepend(tmp_path)
    yield "my_agent:SPEC"
    sys.modules.pop("my_agent", None)


def test_it_trains_and_can_be_loaded(example, tmp_path):
    words = ["--agent", example, "--agent.units", "8", "--agent.plans", "8", "--task", "jax_cartpole"]
    words += [
        "--logdir",
        str(tmp_path / "run"),
        "--env.num",
        "2",
        "--run.steps",
        "560",
        "--run.train_ratio",
        "32",
    ]
    words += [
        "--run.batch_size",
        "4",
        "--run.batch_length",
        "8",
        "--run.log_every",
        "20",
        "--run.report_every",
        "0",
    ]
    words += ["--replay.min_starts", "8", "--run.progress", "False", "--logger.tensorboard", "False"]
    assert dreamworld.train(cli.parse(words)) == 0
    player = dreamworld.load(tmp_path / "run")
    _, action = player.act(player.initial(), np.zeros(4, np.float32))
    assert action["action"] in (0, 1)


def test_every_environment_has_a_plan_of_its_own(example):
    config = cli.parse(["--agent", example, "--agent.plans", "64", "--agent.horizon", "2"])
    act_space = {"move": Space((1,), "float32", low=-1.0, high=1.0)}
    agent = make_agent(config, {"x": Space((1,), "float32")}, act_space)
    state = agent.init(jax.random.PRNGKey(0))
    params = agent.acting(state)
    assert agent.simulator is not None and find(example).can == ("plan",)
    obs = {"x": np.zeros((3, 1), np.float32), "is_first": np.ones(3, bool)}
    _, action, _ = jax.jit(agent.act)(params, (), obs, jax.random.PRNGKey(1))
    assert action["move"].shape == (3, 1) and len(np.unique(np.asarray(action["move"]))) == 3
