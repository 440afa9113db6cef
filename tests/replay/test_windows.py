"""Windows beside the drawn ones: parts of them, sweeps over all rows, and whole episodes."""

import numpy as np
import pytest

from dreamworld.config import ReplayConfig
from dreamworld.replay import Replay
from dreamworld.types import Space

ENVS, LENGTH, CONTEXT, EPISODE = 2, 6, 1, 5
FLAGS = ("is_first", "is_last", "is_terminal")
SPACES = {
    "obs/time": Space((), "int32"),
    "reward": Space((), "float32"),
    **dict.fromkeys(FLAGS, Space((), "bool")),
}


def make(rows=40, **config):
    """Rows whose `obs/time` is 100 times the environment plus the time; episodes of EPISODE rows."""
    options = ReplayConfig(chunk=8, min_starts=1, **config)
    replay = Replay(
        SPACES, options, num_envs=ENVS, length=LENGTH, context=CONTEXT, capacity_steps=200, seed=3
    )
    for time in range(rows):
        step = time % EPISODE
        replay.add(
            {
                "obs/time": np.array([time, 100 + time], np.int32),
                "reward": np.zeros(ENVS, np.float32),
                "is_first": np.full(ENVS, step == 0),
                "is_last": np.full(ENVS, step == EPISODE - 1),
                "is_terminal": np.zeros(ENVS, bool),
            }
        )
    return replay


def times(batch):
    return batch["obs/time"].tolist()


@pytest.mark.parametrize("rows", [40, 41, 44])
def test_a_sweep_trains_on_every_row_in_order_and_says_how_long_it_takes(rows):
    replay = make(rows)
    count = replay.sweep_updates(3, 4, 1)
    batches = [replay.sweep(3, 4, 1, index) for index in range(count)]
    windows = [window for batch in batches for window in times(batch)]
    assert all(np.diff(window).tolist() == [1] * 4 for window in windows)  # whole, never over a stream's end
    trained = [time for window in windows for time in window[1:]]
    assert set(trained) == {base + time for base in (0, 100) for time in range(1, rows)}
    first = [window[0] for window in windows]
    assert first[: len(first) - 3] == sorted(first[: len(first) - 3])
    wanted = 2 * -(-(rows - 1) // 4)
    assert count == -(-wanted // 3)


def test_what_is_drawn_aside_leaves_all_other_draws_as_they_are():
    plain, beside = make(online=True), make(online=True)
    for index in range(4):
        parts = [beside.sample_part(3, length, beside.aside(index)) for length in (LENGTH, 4)]
        episodes = beside.sample_episodes(3, 4, beside.aside(index))
        assert [times(part)[0][-1] - times(part)[0][0] for part in (*parts, episodes)] == [5, 3, 3]
        assert times(plain.sample(3)) == times(beside.sample(3))  # of the queue, too
    again = beside.sample_part(3, LENGTH, beside.aside(0)), beside.sample_part(3, LENGTH, beside.aside(1))
    assert times(again[0]) == times(make().sample_part(3, LENGTH, plain.aside(0))) != times(again[1])
    with pytest.raises(LookupError, match="no window"):
        make(3).sample_part(2, LENGTH, plain.aside(0))


def test_a_sweep_over_too_little_is_refused():
    with pytest.raises(LookupError, match="long enough"):
        make(3).sweep(2, 4, 1, 0)


def test_a_sweep_knows_what_was_evicted():
    replay = make(400)
    oldest = min(
        time
        for index in range(replay.sweep_updates(1, 4, 1))
        for time in times(replay.sweep(1, 4, 1, index))[0]
    )
    assert oldest > 200


def test_parts_of_windows_cover_all_of_them():
    replay = make(40)
    drawn = [window for _ in range(50) for window in times(replay.sample_part(64, 2))]
    assert all(window[1] == window[0] + 1 for window in drawn)
    assert {window[0] for window in drawn} == {base + time for base in (0, 100) for time in range(39)}
    assert (
        replay.stats()["online_waiting"] == make(40).stats()["online_waiting"]
    )  # the queue is for whole windows


def test_whole_episodes_begin_with_their_first_row():
    replay = make(43)
    drawn = [window[0] % 100 for _ in range(100) for window in times(replay.sample_episodes(4))]
    # The last two episodes have no whole window behind their first row.
    assert set(drawn) == set(range(0, 43 - LENGTH + 1, EPISODE))
    counts = np.bincount(drawn)[::EPISODE]
    assert counts.min() > 20  # 400 draws of 8 beginnings


def test_windows_of_episodes_have_the_length_that_is_asked_for():
    assert make(43).sample_episodes(4, 3)["obs/time"].shape == (4, 3)


def test_episodes_are_known_after_a_load_and_after_eviction(tmp_path):
    replay = make(43)
    replay.sample_episodes(1)
    manifest = replay.save(tmp_path)
    again = make(0)
    again.load(tmp_path, manifest)
    again.sampler.random = np.random.default_rng(1)
    replay.sampler.random = np.random.default_rng(1)
    for time in range(43, 700):  # what follows is drawn alike, too, and each chunk's episodes go with it
        for each in (again, replay):
            step = {"is_first": np.full(ENVS, time % 5 == 3), "is_last": np.full(ENVS, time % 5 == 2)}
            each.add({**rows_of(time), **step})
        if time % 10 == 0:
            drawn = times(replay.sample_episodes(4))
            assert times(again.sample_episodes(4)) == drawn
            assert all(window[0] % 100 % 5 in (0, 3) for window in drawn)
    assert replay.episodes is not None and replay.episodes.ranks.base > 0
    long = make(43)
    long.sample_episodes(1)
    for time in range(500):
        long.add({**rows_of(time), "is_first": np.full(ENVS, time == 400)})
    assert {window[0] for window in times(long.sample_episodes(8))} <= {400, 500}


def rows_of(time):
    zero = np.zeros(ENVS, bool)
    return {
        "obs/time": np.array([time, 100 + time], np.int32),
        "reward": np.zeros(ENVS, np.float32),
        "is_first": zero,
        "is_last": np.full(ENVS, time == 399),
        "is_terminal": zero,
    }


def test_without_an_episode_there_is_none_to_draw():
    with pytest.raises(LookupError, match="no whole episode"):
        make(4).sample_episodes(1)
