"""What was rewritten for speed learns what its plain form learns: the same update, and the same curves."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
import scipy.stats

from dreamworld import cli
from dreamworld.benchmarks import plain_forms, update
from dreamworld.logging.rundir import RunDir

SEEDS = 5
COMMON = ["--run.report_every", "0", "--run.save_every", "0", "--logger.tensorboard", "False"]
TASKS = {
    "cartpole": ["--configs", "demo", "--run.steps", "6000"],
    "catch": [
        *("--configs", "demo", "--task", "jax_catch", "--env.options", "obs=image,rows=6", "--env.num", "8"),
        *("--agent.encoder.depth", "8", "--agent.behaviour.entropy", "5e-2", "--run.steps", "2600"),
        *("--agent.loss.obs", "1", "--agent.optim.anneal", "0"),
    ],
}


@pytest.mark.parametrize(
    ("obs", "gradients"), [("vector:4", "per_step"), ("vector:4", "at_once"), ("image:16x16x3", "at_once")]
)
def test_one_update_equals_that_of_the_plain_forms(obs, gradients, monkeypatch):
    config, flags = cli.parse_with(
        ["--configs", "debug", "--agent.weight_gradients", gradients],
        update.Flags(obs=obs, act="discrete:3"),
        prog="",
        description="",
    )
    agent = update.make_synthetic_agent(config, flags)
    batch = update.synthetic_batch(agent, config.run.batch_size, config.run.batch_length + 1)
    state = jax.jit(agent.init)(jax.random.PRNGKey(0))
    carry = agent.phase.initial(state.params, config.run.batch_size)
    fast, _, fast_out = jax.jit(agent.phase.update)(state, carry, batch)
    plain_forms.install(monkeypatch.setattr)
    jax.clear_caches()
    plain, _, plain_out = jax.jit(lambda *inputs: agent.phase.update(*inputs))(state, carry, batch)
    for name, value in plain_out.metrics.items():
        np.testing.assert_allclose(fast_out.metrics[name], value, rtol=1e-4, atol=1e-5, err_msg=name)
    # After one step the optimiser's second moments are the squared gradients.
    for one, two in zip(jax.tree.leaves(fast.opt_state), jax.tree.leaves(plain.opt_state), strict=True):
        np.testing.assert_allclose(one, two, rtol=2e-3, atol=1e-5 * np.abs(two).max() + 1e-30)


def train(folder, name, *, plain):
    """Mean returns of the last fifth of all episodes and of all, of every seed, in one process for all of them."""
    program = ["-m", "dreamworld.benchmarks.plain_forms" if plain else "dreamworld"]
    words = ["train", *TASKS[name], *COMMON, "--seeds", f"0:{SEEDS}", "--logdir", str(folder)]
    environment = {**os.environ, "XLA_FLAGS": ""}
    done = subprocess.run(
        [sys.executable, *program, *words], env=environment, capture_output=True, text=True, timeout=3600
    )
    assert done.returncode == 0, done.stderr
    found = []
    for run in sorted(folder.glob("*/")):
        rows = [json.loads(row) for row in RunDir(run).episodes.read_text().splitlines()]
        found.append([row["return"] for row in rows])
    assert len(found) == SEEDS
    return np.array([np.mean(returns[-(len(returns) // 5) :]) for returns in found]), np.array(
        list(map(np.mean, found))
    )


@pytest.mark.soak
@pytest.mark.parametrize("name", list(TASKS))
def test_learning_curves_coincide_within_the_spread_of_seeds(name, tmp_path):
    fast, plain = (train(tmp_path / str(form), name, plain=form) for form in (False, True))
    for what, one, two in zip(("last fifth of the episodes", "all episodes"), fast, plain):
        print(f"{name}, {what}: rewritten {one.round(2).tolist()}, plain {two.round(2).tolist()}")
        # Rounding makes pairs of equal seeds drift apart, so that they are samples of one distribution.
        assert scipy.stats.ttest_rel(one, two).pvalue > 0.05
