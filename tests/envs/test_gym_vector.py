import functools

import numpy as np
import pytest
import toys
from ale_py.vector_env import AtariVectorEnv
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics

from dreamworld.envs.adapters.gym_vector import GymVectorEnv
from dreamworld.errors import UserError
from dreamworld.types import VectorEnv

LENGTHS = (3, 5)
MAKERS = [functools.partial(toys.Counter, length=length) for length in LENGTHS]


def check_stream(env, steps=14):
    """Every environment counts 0, 1, ..., length and starts again; rewards and flags belong to their rows."""
    assert isinstance(env, VectorEnv)
    row = env.reset(0)
    expected = np.zeros(len(LENGTHS), int)
    for _ in range(steps):
        assert row.obs["vector"][:, 1].tolist() == expected.tolist()
        assert row.is_first.tolist() == (expected == 0).tolist()
        assert row.is_last.tolist() == (expected == LENGTHS).tolist()
        assert row.is_terminal.tolist() == row.is_last.tolist()
        assert row.reward.tolist() == expected.tolist() and row.reward.dtype == np.float32
        expected = np.where(expected == LENGTHS, 0, expected + 1)
        row = env.step({"action": np.array([1, 2], np.int32)})
    env.close()


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_sync_streams_are_the_same_in_all_three_modes(mode):
    check_stream(GymVectorEnv(SyncVectorEnv(MAKERS, autoreset_mode=mode)))


def test_async_stream_in_same_step_mode():
    env = AsyncVectorEnv(MAKERS, autoreset_mode=AutoresetMode.SAME_STEP, context="spawn")
    check_stream(GymVectorEnv(env))


def test_actions_are_those_taken_and_zero_where_nobody_acts():
    raw = SyncVectorEnv(MAKERS, autoreset_mode=AutoresetMode.SAME_STEP)
    env = GymVectorEnv(raw)
    env.reset(0)
    for _ in range(5):
        env.step({"action": np.array([1, 2], np.int32)})
    # Counter numbers its actions from 5. The fourth step of the first one is never seen.
    assert [inner.actions for inner in raw.envs] == [[6, 6, 6, 5, 6], [7] * 5]  # type: ignore[attr-defined]


def test_foreign_same_step_keeps_the_true_last_observation():
    options = {"img_height": 64, "img_width": 64, "stack_num": 1, "noop_max": 0, "use_fire_reset": False}
    make = functools.partial(AtariVectorEnv, "pong", 1, max_num_frames_per_episode=4, **options)
    rows = {}
    for mode in (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP):
        env = GymVectorEnv(make(autoreset_mode=mode))
        rows[mode] = [env.reset(0)] + [env.step({"action": np.zeros(1, np.int32)}) for _ in range(7)]
    for exact, skipped in zip(*rows.values()):
        assert exact.is_last.tolist() == skipped.is_last.tolist()
        assert exact.is_first.tolist() == skipped.is_first.tolist()
    last = [row.is_last[0] for row in rows[AutoresetMode.NEXT_STEP]].index(True)
    np.testing.assert_array_equal(*(row[last].obs["image"] for row in rows.values()))
    assert "log/skipped_reward" in rows[AutoresetMode.SAME_STEP][last + 1].log


def test_logs_of_info_and_of_episode_statistics():
    env = GymVectorEnv(RecordEpisodeStatistics(SyncVectorEnv(MAKERS)))
    env.reset(0)
    rows = [env.step({"action": np.zeros(2, np.int32)}) for _ in range(3)]
    assert rows[0].log["log/twice"].tolist() == [2, 2]
    episode = rows[2].log["log/episode_return"]
    assert episode[0] == 6 and np.isnan(episode[1])


def test_an_unknown_mode_is_refused():
    env = SyncVectorEnv(MAKERS)
    env.metadata["autoreset_mode"] = None
    with pytest.raises(UserError, match="autoreset mode None"):
        GymVectorEnv(env)
