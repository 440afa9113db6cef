"""The fused mode: the same rows and updates as its parts give one by one, and resuming to the same bits."""

import contextlib
import io
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamworld import cli
from dreamworld.contract import Phase, Window
from dreamworld.envs.jax import make_jax_env
from dreamworld.envs.jax.batched import batched
from dreamworld.errors import UserError
from dreamworld.logging.progress import Progress
from dreamworld.logging.rundir import RunDir
from dreamworld.logging.writers import read_jsonl
from dreamworld.replay import device
from dreamworld.sessions.build import opened
from dreamworld.sessions.job import Job
from dreamworld.training import fused, rounds
from dreamworld.training.fused_loop import FusedLoop
from dreamworld.training.rounds import Round
from dreamworld.training.run import NumericalStop
from dreamworld.training.stops import Stop

WORDS = ["--configs", "debug", "--task", "jax_catch", "--run.mode", "fused", "--eval.every", "0"]
WORDS += ["--run.report_every", "0", "--run.log_every", "64", "--run.save_every", "128", "--run.steps", "384"]


class StopAt(Stop):
    def __init__(self, loop, step):
        super().__init__(30)
        self.loop, self.step = loop, step

    @property
    def requested(self):
        return self.loop.counters.step >= self.step


@contextlib.contextmanager
def open_fused(logdir, *words, source=None) -> Iterator[Any]:
    config = cli.parse([*WORDS, "--logdir", str(logdir), "--logger.tensorboard", "False", *words])
    progress = Progress(config.run.steps, show=False, file=io.StringIO())
    with opened(Job.of(config, source), progress) as session:
        yield session.loops[0]


def train(logdir, *stops):
    for stop in stops:
        with open_fused(logdir) as loop:
            loop.run(StopAt(loop, stop))
            state, counters = jax.device_get(loop.learner.snapshot()), loop.counters
    return state, counters


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return train(tmp_path_factory.mktemp("fused") / "run", 10**9)


def test_a_fused_run_stopped_and_resumed_ends_with_the_same_bits(tmp_path, whole):
    state, counters = train(tmp_path / "run", 150, 10**9)
    jax.tree.map(np.testing.assert_array_equal, state, whole[0])
    assert (counters.step, counters.updates) == (whole[1].step, whole[1].updates)
    with open_fused(tmp_path / "run", "--run.steps", "999", "--replay.min_starts", "500") as loop:
        windows = 2 * (counters.iteration - 8)  # those of 9 rows in each environment
        line = f"replay holds {windows} windows of 9 rows: the next update waits for --replay.min_starts 500"
        assert line in loop.restore()


def rows_of(path):
    clocks = ("time", "fps/", "time/")
    return [{k: v for k, v in row.items() if not k.startswith(clocks)} for row in read_jsonl(path)]


class Faulty:
    """`jax_catch` with a reward that is now and then not a number: first in row 71 with seed 0."""

    def __init__(self):
        self.env = make_jax_env("jax_catch")
        self.obs_space, self.act_space, self.reset = self.env.obs_space, self.env.act_space, self.env.reset

    def step(self, state, action, key):
        state, step = self.env.step(state, action, key)
        bad = jax.random.bernoulli(jax.random.fold_in(key, 28), 0.01)
        return state, step._replace(reward=jnp.where(bad, jnp.nan, step.reward))


def outcome(rundir, source):
    """(steps of its checkpoints, their states, log rows, episodes) of a run, and whether chunks started early."""
    early = []
    with open_fused(rundir.path, "--run.log_every", "32", "--run.keep_last", "9", source=source) as loop:
        attend = loop.attend

        def watched(previous):
            early.append(loop.learner.running)
            attend(previous)

        loop.attend = watched
        with pytest.raises(NumericalStop) if source else contextlib.nullcontext():
            loop.run(StopAt(loop, 10**9))
        steps = loop.checkpointer.steps()
        restored = [loop.checkpointer.restore(step, loop.learner.snapshot()).agent for step in steps]
    return (steps, jax.device_get(restored), rows_of(rundir.metrics), rows_of(rundir.episodes)), early


@pytest.mark.parametrize("source", [None, Faulty()], ids=["sound", "faulty"])
def test_starting_the_next_chunk_early_changes_nothing(tmp_path, monkeypatch, source):
    """Same checkpoints, same log, same end, also when the guard stops the run; and it does start early."""
    # Let rows that are not finite pass, so that the guard has something to catch.
    if source:
        monkeypatch.setattr(
            fused, "refuse", lambda state, rows, *_: (state, rows, jnp.zeros(rows.reward.shape, int))
        )
    (steps, states, *rows), early = outcome(RunDir(tmp_path / "early"), source)
    monkeypatch.setattr(FusedLoop, "needs_state", lambda *_: True)
    (want_steps, want_states, *want_rows), late = outcome(RunDir(tmp_path / "late"), source)
    assert any(early) and not all(early) and not any(late)
    assert steps == want_steps and (len(steps) < 3 if source else len(steps) == 3)
    assert rows == want_rows and all(rows)
    jax.tree.map(np.testing.assert_array_equal, states, want_states)


def test_a_stop_that_comes_while_a_chunk_runs_takes_it_along(tmp_path, whole):
    logdir = tmp_path / "run"
    with open_fused(logdir) as loop:
        stop, attend = Stop(30), loop.attend

        def watched(previous):
            attend(previous)
            if loop.learner.running and not stop.requested:
                stop.request("test")
                seen.append(loop.counters.step)

        seen: list[int] = []
        loop.attend = watched
        loop.run(stop)
        assert loop.checkpointer.steps() == [seen[0] + 64] == [loop.counters.step]
    state, _ = train(logdir, 10**9)
    jax.tree.map(np.testing.assert_array_equal, state, whole[0])


def test_a_save_that_comes_due_while_replay_is_filled_is_made_before_the_next_chunk(tmp_path):
    """The multiple of 48 is passed by the rows that fill replay, the first chunk passes none."""
    with open_fused(tmp_path / "run", "--run.save_every", "48", "--run.log_every", "8") as loop:
        loop.run(StopAt(loop, 96))
        assert loop.checkpointer.steps()[0] < 96


def test_replay_holds_the_rows_that_the_environment_gave_for_the_actions_stored(whole):
    state, counters = whole
    rows, count = state.replay.rows, int(state.replay.count)
    assert count == counters.iteration
    env = batched(make_jax_env("jax_catch"))
    base = jax.random.fold_in(jax.random.PRNGKey(0), 1)
    now, seen = env.reset(jax.random.split(base, 2))
    step = jax.jit(env.step)
    for t in range(60):
        for name in ("reward", "is_first", "is_last", "is_terminal"):
            np.testing.assert_array_equal(rows[name][:, t], getattr(seen, name), err_msg=f"{name} {t}")
        np.testing.assert_array_equal(rows["obs/vector"][:, t], seen.obs["vector"])
        assert not rows["action/action"][:, t][np.asarray(seen.is_last)].any()
        now, seen = step(now, {"action": rows["action/action"][:, t]})


def test_a_round_of_updates_equals_the_agents_own_update_on_the_same_windows(tmp_path):
    with open_fused(tmp_path / "run") as loop:
        loop.begin()
        loop.chunks.fill()
        before = jax.device_get(loop.learner.snapshot())
        agent, updates = loop.learner.agent, 2
        what = Round("policy", 1, ((agent.phase.name, updates),))
        assert rounds.plan(loop.schedule, 2, 2) == (what, 1)
        loop.learner.start(what, 1)
        loop.learner.finish()
        after = jax.device_get(loop.learner.snapshot())
    root = jax.random.PRNGKey(0)
    key = jax.random.fold_in(jax.random.fold_in(root, fused.SAMPLE_STREAM), before.iteration + 1)
    replay, train_state, carry = jax.tree.map(
        jnp.asarray, (after.replay, before.train, before.carry[agent.phase.name])
    )
    # Only latents changed since the first draw: put those of the rows before back.
    latents = {name: value for name, value in before.replay.rows.items() if name.startswith("latent/")}
    at = int(before.replay.count) % before.replay.capacity
    latents = {name: jnp.asarray(value) for name, value in latents.items()}
    for name in latents:
        latents[name] = latents[name].at[:, at].set(replay.rows[name][:, at])
    replay = replay._replace(rows={**replay.rows, **latents})
    update = jax.jit(agent.phase.update)
    for one in jax.random.split(key, updates):
        batch, place = loop.learner.program.sample(agent.phase, replay, one)
        train_state, carry, output = update(train_state, carry, batch)
        replay = device.write_back(replay, place, output.writeback)
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    jax.tree.map(close, jax.device_get(train_state.params), after.train.params)
    jax.tree.map(close, jax.device_get(train_state.stats), after.train.stats)


def make_phase(ratio):
    return Phase("update", Window(4, 8), lambda *_: None, ratio)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("ratio", "num_envs", "want"),
    [(32, 2, (1, 2)), (8, 2, (2, 1)), (16, 2, (1, 1)), (1024, 16, (1, 512)), (0, 2, (1, 0))],
)
def test_the_schedule_is_train_ratio_in_whole_numbers(ratio, num_envs, want):
    assert rounds.pace(make_phase(ratio), num_envs) == want


def test_a_train_ratio_that_is_no_whole_number_is_refused_with_one_that_is():
    with pytest.raises(UserError, match="32 would do"):
        rounds.pace(make_phase(36), 2)


def test_without_a_train_ratio_it_collects_only_and_another_ratio_and_batch_count_from_there(tmp_path):
    logdir = tmp_path / "run"
    with open_fused(logdir, "--run.train_ratio", "0") as loop:
        loop.run(StopAt(loop, 128))
        assert loop.counters.updates == 0
    rows = read_jsonl(logdir / "metrics.jsonl")
    assert rows and all(None not in row.values() for row in rows)
    with open_fused(logdir, "--run.batch_size", "8", "--run.batch_length", "16") as loop:
        begun = loop.counters.step
        loop.run(StopAt(loop, begun + 64))
        assert loop.counters.updates * 128 == (loop.counters.step - begun) * 32 > 0
        assert loop.learner.snapshot().guard["update"].batch.reward.shape == (8, 17)
    assert np.isfinite(read_jsonl(logdir / "metrics.jsonl")[-1]["loss/total"])


def test_replay_too_short_for_a_longer_window_is_filled_before_the_next_update(tmp_path):
    logdir = tmp_path / "run"
    with open_fused(logdir, "--replay.capacity_steps", "16") as loop:
        loop.run(StopAt(loop, 128))
        assert loop.learner.program.capacity == 16  # 8 of each environment and a window
        before = loop.counters.updates
    with open_fused(logdir, "--replay.capacity_steps", "16", "--run.batch_length", "32") as loop:
        assert loop.replay_stats()["size_steps"] == 2 * 16
        begun = loop.counters.step
        loop.chunks.fill()
        state = loop.learner.snapshot()
        assert int(device.starts(state.replay, 33)) > 0 and loop.counters.updates == before
        # Nothing is owed for the steps that filled replay.
        assert loop.counters.step > begun and loop.counters.account("update").waiting
        loop.run(StopAt(loop, loop.counters.step + 64))
        assert loop.replay_stats()["size_steps"] == 2 * min(int(loop.learner.snapshot().replay.count), 40)
