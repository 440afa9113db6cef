"""Environments that return what is not finite: training goes on, or ends with everything saved."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamworld import cli
from dreamworld.envs.base import Step
from dreamworld.envs.jax import make_jax_env
from dreamworld.envs.jax.batched import batched
from dreamworld.logging.rundir import RunDir
from dreamworld.logging.writers import read_jsonl
from dreamworld.scripts.train import train
from dreamworld.training import refusals, snapshot
from dreamworld.types import JaxStep, Space

WORDS = [
    "--configs",
    "debug",
    "--eval.every",
    "0",
    "--run.report_every",
    "0",
    "--run.log_every",
    "32",
    "--run.steps",
    "192",
]
WORDS += ["--run.save_every", "0", "--run.progress", "False", "--logger.tensorboard", "False"]


class Faulty:
    """`jax_catch` whose reward is not a number in a fifth of its rows."""

    def __init__(self):
        self.env = make_jax_env("jax_catch")
        self.obs_space, self.act_space, self.reset = self.env.obs_space, self.env.act_space, self.env.reset

    def step(self, state, action, key):
        state, step = self.env.step(state, action, key)
        bad = jax.random.bernoulli(jax.random.fold_in(key, 28), 0.2)
        return state, step._replace(reward=jnp.where(bad, jnp.nan, step.reward))


def run(logdir, *words):
    return train(cli.parse([*WORDS, "--logdir", str(logdir), *words]), env=Faulty())


@pytest.mark.parametrize(
    ("seeds", "mode"),
    [(["--seeds", "0,1"], ["--env.engine", "jax"]), ([], ["--run.mode", "fused"])],
    ids=["seeds in the host mode", "fused"],
)
def test_training_goes_on_until_too_many_rows_in_a_row_are_not_finite(tmp_path, capfd, seeds, mode):
    words = [*mode, *seeds, "--env.max_failures"]
    folders = [RunDir(tmp_path / f"seed{seed}") for seed in (0, 1)] if seeds else [RunDir(tmp_path)]
    assert run(tmp_path, *words, "1") == 1
    said = capfd.readouterr().err
    assert "failed 2 times in a row (env.max_failures is 1): reward is nan" in said
    assert "Traceback" not in said and "the same command continues" in said
    saved = [snapshot.snapshot_steps(folder.checkpoints) for folder in folders]
    assert saved[0] and all(steps == saved[0] for steps in saved)
    assert f"saved at step {saved[0][-1]:,}" in said
    assert [folder.read_status()["state"] for folder in folders] == ["failed"] * len(folders)

    assert run(tmp_path, *words, "99") == 0
    said = capfd.readouterr().err
    assert f"continued at step {saved[0][-1]:,}" in said
    assert "environment 0: reward is nan; episode closed as truncated" in said
    assert "not applied" not in said, "nothing of it reached an update"
    for folder in folders:
        losses = [row["loss/total"] for row in read_jsonl(folder.metrics) if "loss/total" in row]
        assert losses and np.isfinite(losses).all()
        lengths = [row["length"] for row in read_jsonl(folder.episodes)]
        assert min(lengths) < max(lengths) <= 9  # catch lasts nine steps


class Lost:
    """Observes its step; first rows and third steps are not finite with probability `share`."""

    obs_space = {"x": Space((2,), "float32"), "picture": Space((2,), "uint8")}  # noqa: RUF012
    act_space = {"action": Space((), "int32", classes=2)}  # noqa: RUF012

    def __init__(self, share):
        self.share = share

    def reset(self, key):
        return jnp.int32(0), self._obs(jnp.int32(0), key)

    def step(self, state, action, key):
        state = state + 1
        return state, JaxStep(self._obs(state, key), jnp.float32(1), state >= 5, state >= 5)

    def _obs(self, state, key):
        bad = jax.random.bernoulli(key, self.share) & ((state == 0) | (state == 3))
        x = jnp.stack([state, jnp.where(bad, -jnp.inf, 0)]).astype(jnp.float32)
        return {"x": x, "picture": jnp.zeros(2, jnp.uint8)}


def test_refused_rows_on_the_device_are_closed_and_first_ones_drawn_again():
    env = batched(Lost(0.4))
    state, rows, code = refusals.refuse(
        *env.reset(jax.random.split(jax.random.PRNGKey(0), 8)), None, Lost.obs_space
    )
    action = {"action": jnp.zeros(8, jnp.int32)}
    kept, codes = [rows], [code]
    for _ in range(30):
        before = rows.obs
        state, rows, code = refusals.refuse(*env.step(state, action), before, Lost.obs_space)
        kept.append(rows)
        codes.append(code)
    assert {refusals.reasons(Lost.obs_space)[int(code) - 1] for code in np.unique(codes)[1:]} == {
        "observation 'x' is -inf"
    }
    for before, row, code, after in zip(kept, kept[1:], codes[1:], kept[2:]):
        bad = np.asarray(code) > 0
        assert np.isfinite(row.obs["x"]).all()
        np.testing.assert_array_equal(after.is_first, row.is_last)
        np.testing.assert_array_equal(np.asarray(row.obs["x"])[bad], np.asarray(before.obs["x"])[bad])
        assert (
            np.asarray(row.is_last)[bad].all()
            and not np.asarray(row.is_terminal | (row.reward != 0))[bad].any()
        )
    refused = np.asarray(codes) > 0
    first = np.stack([row.is_first for row in kept])
    assert (refused & first).any() and (refused & ~first).any()


def test_refused_rows_are_counted_in_a_row_over_chunks_and_resets_prove_nothing():
    class Counter:
        def __init__(self):
            self.row = 0

        def record(self, who, what):
            self.row += 1
            if self.row > 3:
                raise RuntimeError(f"{who}: {what}, too often")
            return f"{who}: {what}"

        def succeeded(self, who):
            self.row = 0

    found = refusals.Refusals(Lost.obs_space, Counter())
    bad, fine = np.array([[4, 0]]).T[:1], np.zeros((1, 1), int)
    step, reset = np.zeros((1, 1), bool), np.ones((1, 1), bool)
    for codes, first in [(bad, step), (fine, reset), (bad, step), (fine, step), (bad, step), (bad, reset)]:
        events, error = found.look(codes, first)
        assert error is None and len(events) == (codes == 4).sum()
    assert found.look(fine, reset) == ([], None)
    assert found.look(bad, step)[1] is None
    events, error = found.look(bad, step)
    assert events == [] and str(error) == "environment 0: observation 'x' is nan, too often"


class Unsavable:
    """Ten steps long; its state is no secret, but saving it is broken."""

    obs_space = {"x": Space((2,), "float32")}  # noqa: RUF012
    act_space = {"action": Space((), "int32", classes=2)}  # noqa: RUF012

    def reset(self, seed):
        self.time = 0
        return self._row(True)

    def step(self, action):
        self.time += 1
        return self._row(False)

    def _row(self, first):
        return Step({"x": np.full(2, self.time, np.float32)}, 0.0, first, self.time == 10, False)

    def save(self):
        raise KeyError("position")

    def restore(self, state):
        raise AssertionError("nothing was saved")

    def render(self):
        return None

    def close(self):
        pass


def test_an_environment_that_fails_to_save_its_state_ends_no_training(tmp_path, capfd):
    """It ended with a traceback, unsaved."""
    words = [*WORDS, "--logdir", str(tmp_path / "run"), "--run.train_ratio", "0", "--env.engine", "inprocess"]
    for steps in (32, 64):
        assert train(cli.parse([*words, "--run.steps", str(steps)]), env=Unsavable) == 0
    said = capfd.readouterr().err
    assert said.count("the environments can't save their state (KeyError: 'position')") == 2
    assert "continued at step 32" in said and "Traceback" not in said
    assert snapshot.snapshot_steps(RunDir(tmp_path / "run").checkpoints) == [32, 64]
