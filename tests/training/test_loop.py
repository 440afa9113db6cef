"""The loop: schedule, determinism, and resuming to the same bits."""

import contextlib
import io
import json

import jax
import numpy as np
import pytest

from dreamworld import cli
from dreamworld.logging.progress import Progress
from dreamworld.logging.rundir import RunDir
from dreamworld.sessions.build import opened
from dreamworld.sessions.job import Job
from dreamworld.training.loop import Loop, make_rows, mask
from dreamworld.training.stops import Stop
from dreamworld.types import TimeStep

TIMES = ("time", "fps/", "replay/wait", "time/")


class StopAt(Stop):
    """Asks for a stop once the loop passed a step."""

    def __init__(self, loop, step):
        super().__init__(30)
        self.loop, self.step = loop, step

    @property
    def requested(self):
        return self.loop.counters.step >= self.step


def config_for(logdir, *more):
    words = ["--configs", "debug", "--task", "jax_catch", "--logdir", str(logdir), "--env.engine", "jax"]
    words += ["--eval.every", "0", "--run.report_every", "0", "--run.steps", "400", "--run.save_every", "100"]
    return cli.parse([*words, "--logger.tensorboard", "False", *more])


@contextlib.contextmanager
def open_loop(config, said=None):
    progress = Progress(config.run.steps, show=False, file=said or io.StringIO())
    with opened(Job.of(config), progress) as session:
        loop = session.loops[0]
        assert isinstance(loop, Loop)
        yield loop


def train(config, *stops):
    """Runs in as many sessions as there are stops; returns state, digest and metrics rows."""
    for stop in stops:
        with open_loop(config) as loop:
            loop.run(StopAt(loop, stop))
            state = jax.device_get(loop.learner.snapshot())
            digest = loop.replay.digest()
            counters = loop.counters
    rows = [json.loads(line) for line in RunDir.of(config).metrics.read_text().splitlines()]
    rows = [{key: value for key, value in row.items() if not key.startswith(TIMES)} for row in rows]
    return state, digest, rows, counters


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    return train(config_for(tmp_path_factory.mktemp("a") / "run"), 10**9)


def test_a_run_stopped_and_resumed_twice_ends_with_the_same_bits(tmp_path, uninterrupted):
    config = config_for(tmp_path / "run")
    at_stop = train(config, 100, 202)
    with open_loop(config) as loop:
        assert loop.counters == at_stop[3]
        jax.tree.map(np.testing.assert_array_equal, jax.device_get(loop.learner.snapshot()), at_stop[0])
        assert loop.replay.digest() == at_stop[1]
    state, digest, rows, counters = train(config, 10**9)
    want_state, want_digest, want_rows, want_counters = uninterrupted
    jax.tree.map(np.testing.assert_array_equal, state, want_state)
    assert digest == want_digest
    assert rows == want_rows
    assert (counters.step, counters.updates) == (want_counters.step, want_counters.updates)


def test_train_ratio_holds_to_the_update(uninterrupted):
    *_, counters = uninterrupted
    rows_trained = (counters.updates - 1) * 4 * 8
    rows_due = (counters.step - counters.accounts["update"].first_update) * 32
    assert 0 <= rows_due - rows_trained < 2 * 2 * 32  # at most one vector step is not yet paid for


def test_rows_hold_the_action_after_the_observation_and_zero_where_the_episode_ended():
    step = TimeStep(
        obs={"x": np.ones((2, 3), np.float32)},
        reward=np.array([1.0, 2.0], np.float32),
        is_first=np.array([False, False]),
        is_last=np.array([False, True]),
        is_terminal=np.array([False, True]),
    )
    action = {"action": mask(np.array([[0.5, 2.0], [0.5, 2.0]], np.float32), ~step.is_last)}
    rows = make_rows(step, action, {"latent/deter": np.zeros((2, 4))})
    np.testing.assert_array_equal(rows["action/action"], [[0.5, 2.0], [0.0, 0.0]])
    assert set(rows) == {
        "obs/x", "action/action", "reward", "is_first", "is_last", "is_terminal", "latent/deter"
    }  # fmt: skip


def updates_by_step(config, stop):
    """{step: updates} after every iteration of a session that ends at `stop`, and what it said."""
    counts, said = {}, io.StringIO()
    with open_loop(config, said) as loop:
        loop.begin()
        while loop.counters.step < stop:
            loop.iterate()
            counts[loop.counters.step] = loop.counters.updates
        loop.end()
    return counts, said.getvalue()


CHANGES = [  # options, and the updates that they make of 60 steps
    (["--run.train_ratio", "32"], 60),
    (["--run.train_ratio", "128"], 240),
    (["--run.train_ratio", "0"], 0),
    (["--run.train_ratio", "64", "--run.batch_size", "8", "--run.batch_length", "16"], 30),
]


def test_a_change_of_the_train_ratio_or_the_batch_counts_from_there(tmp_path):
    done = 0
    for number, (words, due) in enumerate(CHANGES):
        config = config_for(tmp_path / "run", "--replay.min_starts", "8", *words)
        counts, said = updates_by_step(config, 60 * (number + 1))
        first, *rest = np.diff([done, *counts.values()])
        done += first + sum(rest)
        assert first <= 8  # of the session before, which may have had 8 to do
        assert number == 0 or abs(sum(rest) - due * 58 / 60) <= 1
        assert "owed" not in said
