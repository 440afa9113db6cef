"""The fused mode: the same rows and updates as its parts give one by one, and resuming to the same bits."""

import contextlib
import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamworld import cli
from dreamworld.config import RunConfig
from dreamworld.envs.jax.batched import batched
from dreamworld.errors import UserError
from dreamworld.logging.progress import Progress
from dreamworld.logging.rundir import RunDir
from dreamworld.replay import device
from dreamworld.scripts import session_fused
from dreamworld.training import fused
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
def open_fused(logdir):
    config = cli.parse([*WORDS, "--logdir", str(logdir), "--logger.tensorboard", "False"])
    progress = Progress(config.run.steps, show=False, file=io.StringIO())
    with contextlib.ExitStack() as stack:
        yield session_fused.build_fused(RunDir(logdir), config, progress, None, stack)


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


def test_replay_holds_the_rows_that_the_environment_gave_for_the_actions_stored(whole):
    from dreamworld.envs.jax import make_jax_env

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
        before = jax.device_get(loop.learner.snapshot())
        agent, run = loop.learner.agent, loop.config.run
        steps, updates = loop.learner.rounds
        assert (steps, updates) == (1, 2)
        loop.learner.train(1)
        after = jax.device_get(loop.learner.snapshot())
    root = jax.random.PRNGKey(0)
    key = jax.random.fold_in(jax.random.fold_in(root, fused.SAMPLE_STREAM), before.iteration + 1)
    replay, train_state, carry = jax.tree.map(jnp.asarray, (after.replay, before.train, before.carry))
    # Only latents changed since the first draw: put those of the rows before back.
    latents = {name: value for name, value in before.replay.rows.items() if name.startswith("latent/")}
    at = int(before.replay.count) % before.replay.capacity
    latents = {name: jnp.asarray(value) for name, value in latents.items()}
    for name in latents:
        latents[name] = latents[name].at[:, at].set(replay.rows[name][:, at])
    replay = replay._replace(rows={**replay.rows, **latents})
    update = jax.jit(agent.update)
    length = run.replay_context + run.batch_length
    for one in jax.random.split(key, updates):
        windows, place = device.sample(replay, run.batch_size, length, one)
        train_state, carry, output = update(train_state, carry, fused.as_batch(windows, run.batch_size))
        replay = device.write_back(replay, place, output.writeback)
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    jax.tree.map(close, jax.device_get(train_state.params), after.train.params)
    jax.tree.map(close, jax.device_get(train_state.stats), after.train.stats)


@pytest.mark.parametrize(
    ("ratio", "num_envs", "want"), [(32, 2, (1, 2)), (8, 2, (2, 1)), (16, 2, (1, 1)), (1024, 16, (1, 512))]
)
def test_the_schedule_is_train_ratio_in_whole_numbers(ratio, num_envs, want):
    assert fused.schedule(RunConfig(train_ratio=ratio, batch_size=4, batch_length=8), num_envs) == want


def test_a_train_ratio_that_is_no_whole_number_is_refused_with_one_that_is():
    with pytest.raises(UserError, match="32 would do"):
        fused.schedule(RunConfig(train_ratio=36, batch_size=4, batch_length=8), 2)
