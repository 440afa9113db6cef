"""Averages on the device, and episode statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamworld.logging.metrics import EpisodeStats, Metrics
from dreamworld.types import TimeStep


def test_results_are_means_since_the_last_result():
    metrics = Metrics()
    for value in (1.0, 2.0, 6.0):
        metrics.add({"device": jnp.float32(value), "host": value}, "train/")
    metrics.add({"once": 5})
    assert metrics.result() == {"once": 5.0, "train/device": 3.0, "train/host": 3.0}
    assert metrics.result() == {}
    metrics.add({"device": jnp.float32(7)}, "train/")
    assert metrics.result() == {"train/device": 7.0}


def test_a_name_in_several_sets_of_keys_is_averaged_over_all():
    metrics = Metrics()
    metrics.add({"a": jnp.float32(1), "b": jnp.int32(10)})
    metrics.add({"a": jnp.float32(3)})
    metrics.add({"a": 8.0, "c": jnp.bfloat16(2)})
    assert metrics.result() == {"a": 4.0, "b": 10.0, "c": 2.0}


def test_adding_neither_waits_for_the_device_nor_grows(monkeypatch):
    metrics = Metrics()
    values = {f"k{i}": jnp.float32(i) for i in range(20)}
    metrics.add(values)
    del values  # only live arrays that the object keeps are counted
    fresh = [{f"k{i}": jnp.float32(i) for i in range(20)} for _ in range(30)]
    before = len(jax.live_arrays())
    with jax.transfer_guard_device_to_host("disallow"):
        for row in fresh:
            metrics.add(row)
    assert len(jax.live_arrays()) <= before + 1


@pytest.mark.parametrize("cut", [0, 1, 4, 9])
def test_a_restored_object_goes_on_to_the_same_bits(cut):
    random = np.random.default_rng(0)
    rows = [{"a": jnp.float32(a), "b": jnp.float32(b)} for a, b in random.normal(size=(10, 2)) * 1e3]

    def feed(metrics, part):
        for row in part:
            metrics.add(row)
            metrics.add({"host": float(row["a"]) / 3, "a2": row["a"]}, "x/")

    whole, first, second = Metrics(), Metrics(), Metrics()
    feed(whole, rows)
    feed(first, rows[:cut])
    state = first.state()
    assert all(isinstance(value, np.ndarray) for value in state.values())
    second.restore(state)
    feed(second, rows[cut:])
    assert second.result() == whole.result()


def test_a_restored_object_reports_what_never_comes_again():
    first, second = Metrics(), Metrics()
    first.add({"a": jnp.float32(3)})
    second.restore(first.state())
    assert second.state() == first.state()
    assert second.result() == {"a": 3.0}


def test_arrays_are_refused_by_name():
    with pytest.raises(ValueError, match=r"train/x has shape \(2,\)"):
        Metrics().add({"x": jnp.zeros(2)}, "train/")


def step(reward, first: object = False, last: object = False, **log):
    row = {key: np.asarray(value, np.float32) for key, value in log.items()}
    flags = [np.broadcast_to(np.asarray(flag), (2,)) for flag in (first, last, False)]
    return TimeStep({}, np.broadcast_to(np.asarray(reward, np.float32), (2,)), *flags, log=row)


def test_an_episode_counts_its_actions_and_their_rewards():
    stats = EpisodeStats(2)
    assert stats.add(step(0, first=True, coins=[5, 5])) == []
    assert stats.add(step([1, 10], coins=[1, 0])) == []
    (row,) = stats.add(step([2, 20], last=[True, False], coins=[3, 0]))
    assert row == {"env": 0, "return": 3.0, "length": 2, "log/coins": 3.0, "log/coins/mean": 2.0}
    assert stats.add(step([0, 30], first=[True, False], coins=[0, 0])) == []
    rows = stats.add(step([4, 40], last=True, coins=[7, 8]))
    assert [(row["env"], row["return"], row["length"]) for row in rows] == [(0, 4.0, 1), (1, 100.0, 4)]
    assert rows[0]["log/coins/mean"] == 7.0 and rows[1]["log/coins/mean"] == 2.0
    assert stats.last == 100.0 and stats.mean == pytest.approx((3 + 4 + 100) / 3) and stats.episodes == 3


def test_a_reset_that_logs_nothing_begins_the_means_anew():
    stats = EpisodeStats(2)
    for _ in range(2):  # the second episode must not count the first one's coins
        stats.add(step(0, first=True))
        stats.add(step(1, coins=[1, 2]))
        rows = stats.add(step(1, last=True, coins=[3, 4]))
        assert [row["log/coins/mean"] for row in rows] == [2.0, 3.0]


def test_an_episode_has_the_names_that_its_environment_and_an_evaluation_use():
    stats = EpisodeStats(2)
    stats.add(step(0, first=True, **{"log/coins": [5, 5]}))
    (row, _) = stats.add(step([1, 10], last=True, **{"log/coins": [3, 0]}))
    assert {key for key in row if key.startswith("log/")} == {"log/coins", "log/coins/mean"}


@pytest.mark.parametrize("chunks", [(60,), (1,) * 60, (7, 23, 30)])
def test_steps_added_at_once_count_as_those_added_one_by_one_to_the_bit(chunks):
    random = np.random.default_rng(0)
    is_last = random.uniform(size=(60, 3)) < 0.2
    is_first = np.insert(is_last[:-1], 0, True, axis=0)
    is_last &= ~is_first
    is_first = np.insert(is_last[:-1], 0, True, axis=0)
    reward = np.where(is_first, 5, random.normal(size=(60, 3)) * 1e3).astype(np.float32)
    single, many = EpisodeStats(3), EpisodeStats(3)
    want, got, at = [], [], 0
    for t in range(60):
        want += [(t, row) for row in single.add(TimeStep({}, reward[t], is_first[t], is_last[t], is_last[t]))]
    for length in chunks:
        part = slice(at, at + length)
        got += [(at + t, row) for t, row in many.add_steps(reward[part], is_first[part], is_last[part])]
        at += length
    assert got == want and len(want) > 15
    assert all(type(a) is type(b) for x, y in zip(got, want) for a, b in zip(x[1].values(), y[1].values()))
    for key, value in single.state().items():
        np.testing.assert_array_equal(many.state()[key], value)
        assert many.state()[key].dtype == value.dtype


def test_the_mean_is_over_the_last_100_episodes():
    stats = EpisodeStats(2)
    assert np.isnan(stats.mean) and np.isnan(stats.last)
    for reward in range(120):
        stats.add(step(0, first=True))
        stats.add(step(reward, last=True))
    assert stats.mean == np.mean(np.repeat(np.arange(70, 120), 2))


def test_restored_statistics_go_on_in_the_middle_of_an_episode():
    steps = [
        step(0, first=True, coins=[1, 2]),
        step([1, 2], coins=[3, 4]),
        step([0.1, 0.2], last=True, coins=[5, 6]),
    ]
    steps = steps + steps
    for cut in range(len(steps)):
        whole, first, second = EpisodeStats(2), EpisodeStats(2), EpisodeStats(2)
        rows = [whole.add(row) for row in steps]
        for row in steps[:cut]:
            first.add(row)
        second.restore(first.state())
        assert [second.add(row) for row in steps[cut:]] == rows[cut:]
        assert (second.mean, second.last, second.episodes) == (whole.mean, whole.last, whole.episodes)


def test_the_shapes_of_the_state_do_not_depend_on_progress():
    stats = EpisodeStats(2)
    stats.add(step(0, first=True, coins=[1, 2]))
    early = {key: value.shape for key, value in stats.state().items()}
    for _ in range(200):
        stats.add(step(1, last=True, coins=[1, 2]))
    assert {key: value.shape for key, value in stats.state().items()} == early
