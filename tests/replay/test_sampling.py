"""Distributions of draws at fixed seeds, against probabilities computed by brute force."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from dreamworld.errors import UserError

DRAWS = 40_000


def assert_distribution(rows: list[int], expected: dict[int, float]) -> None:
    """Chi-square of counts against probabilities is within 5 standard deviations of its mean."""
    assert set(rows) <= set(expected)
    assert sum(expected.values()) == pytest.approx(1)
    counts = Counter(rows)
    chi2 = sum((counts[s] - len(rows) * p) ** 2 / (len(rows) * p) for s, p in expected.items() if p > 0)
    freedom = len(expected) - 1
    assert abs(chi2 - freedom) < 5 * math.sqrt(2 * freedom), (chi2, freedom)


def draws(replay, count=DRAWS) -> list[int]:
    return replay.draw(count).rows.tolist()


def uneven(kit, **options):
    """Evictions at the old end, a broken stream in the middle, partial chunks at the new end."""
    replay = kit.replay(num_envs=3, capacity=150, chunk=8, length=5, **options)
    kit.fill(replay, 63)
    replay.add(kit.rows(63, 3, first=[False, True, False]))
    kit.fill(replay, 13, begin=64)
    assert replay.counts["evicted_rows"] > 0 and replay.counts["breaks"] == 1
    return replay


def test_uniform_draws_are_uniform_over_all_valid_starts(kit):
    replay = uneven(kit)
    starts = kit.starts(replay)
    assert_distribution(draws(replay), {s: 1 / len(starts) for s in starts})


def test_windows_run_from_one_episode_into_the_next(kit):
    replay = kit.replay()
    kit.fill(replay, 40, episode=10)
    batch = replay.sample(200)
    assert batch["is_first"][:, 0].all()
    assert batch["is_first"][:, 1:].any(axis=1).mean() > 0.2
    inside = np.diff(batch["reward"], axis=1)
    np.testing.assert_array_equal(inside, np.full_like(inside, 1000))


def test_windows_never_cross_a_break_of_a_stream(kit):
    replay = kit.replay(num_envs=1)
    kit.fill(replay, 15, episode=100)
    replay.add(kit.rows(15, 1, first=[True]))
    kit.fill(replay, 10, begin=16, episode=100)
    first = replay.sample(500)["reward"] // 1000
    assert not ((first[:, 0] < 15) & (first[:, -1] >= 15)).any()
    assert replay.starts == (15 - 4) + (11 - 4)


def test_prioritised_draws_follow_the_mean_priority_of_a_window(kit):
    replay = uneven(kit, uniform=0.0, prioritized=1.0)
    rows = np.array([(c.stream << 40) + c.start + i for c in replay.chunks for i in range(c.rows)])
    priorities = np.random.default_rng(1).gamma(0.5, size=len(rows)).astype(np.float32)
    priorities[::7] = 0
    replay.update_priorities(rows[:, None], priorities[:, None])
    starts = kit.starts(replay)
    around = {int(r): [s for s in starts if s + replay.context <= r < s + replay.length] for r in rows}
    weight = {int(r): float(p) for r, p in zip(rows, priorities) if around[int(r)]}
    expected = dict.fromkeys(starts, 0.0)
    for row, value in weight.items():
        for start in around[row]:
            expected[start] += value / sum(weight.values()) / len(around[row])
    assert_distribution(draws(replay), {s: p for s, p in expected.items() if p > 0})


def test_new_rows_get_the_highest_priority_so_far(kit):
    replay = kit.replay(num_envs=1, uniform=0.0, prioritized=1.0)
    kit.fill(replay, 20)
    rows = np.arange(20)[None]
    replay.update_priorities(rows, np.full((1, 20), 1e-6))
    replay.update_priorities(rows[:, :1], np.array([[50.0]]))
    replay.add(kit.rows(20, 1))
    assert set(draws(replay, 50)) == {16}


def test_all_priorities_zero_falls_back_to_uniform(kit):
    replay = kit.replay(num_envs=1, uniform=0.0, prioritized=1.0)
    kit.fill(replay, 20)
    replay.update_priorities(np.arange(20)[None], np.zeros((1, 20)))
    starts = kit.starts(replay)
    assert_distribution(draws(replay, 4000), {s: 1 / len(starts) for s in starts})


def test_recent_draws_follow_the_logarithm_of_age(kit):
    replay = uneven(kit, uniform=0.0, recent=1.0)
    ends = {}
    for chunk in replay.chunks:
        for offset in range(chunk.valid):
            ends[(chunk.stream << 40) + chunk.start + offset] = chunk.clock + offset + replay.length - 1
    weights = {
        s: math.log((replay.sampler.clock - end + 1) / (replay.sampler.clock - end))
        for s, end in ends.items()
    }
    assert_distribution(draws(replay), {s: w / sum(weights.values()) for s, w in weights.items()})


def test_mixture_shares_are_as_configured(kit):
    replay = uneven(kit, uniform=2.0, prioritized=1.0, recent=1.0)
    kinds = replay.draw(DRAWS).kinds
    for kind, share in ((1, 0.5), (2, 0.25), (3, 0.25)):
        spread = math.sqrt(DRAWS * share * (1 - share))
        assert abs((kinds == kind).sum() - DRAWS * share) < 4 * spread
    assert not (kinds == 0).any()


@pytest.mark.parametrize("context", [0, 1, 2])
def test_online_queue_serves_each_new_chunk_once_and_first(kit, context):
    replay = kit.replay(num_envs=3, online=True, context=context, length=5)
    stride, served = 5 - context, []
    for step in range(0, 100, 2):
        kit.fill(replay, 2, begin=step)
        if replay.starts:
            draw = replay.draw(4)
            online = (draw.kinds == 0).tolist()
            assert online == sorted(online, reverse=True)
            served += draw.rows[draw.kinds == 0].tolist()
    served += (rest := replay.draw(100)).rows[rest.kinds == 0].tolist()
    expected = [
        (env << 40) + position for position in range(0, 96, stride) for env in range(3) if position + 5 <= 100
    ]
    assert sorted(served) == sorted(expected)
    trained = Counter(row for start in served for row in range(start + context, start + 5))
    assert set(trained.values()) == {1}


def test_online_queue_forgets_evicted_chunks(kit):
    replay = kit.replay(online=True, capacity=100)
    kit.fill(replay, 1000)
    assert len(replay.sampler.queue) <= 100 / 4
    batch = replay.sample(60)
    assert batch["reward"].min() >= 1000 * (1000 - 60)


def test_served_rows_are_counted_exactly(kit):
    replay = kit.replay(context=2, length=5)
    kit.fill(replay, 30)
    for batch in (1, 4, 7):
        replay.sample(batch)
    assert replay.stats()["served_rows"] == 12 * 3
    assert replay.stats()["inserts"] == 60


def test_draws_cost_the_same_whatever_the_size(kit):
    """Bookkeeping per row would show here: only chunks at the ends of streams are searched."""
    for steps in (100, 4000):
        replay = kit.replay(capacity=10_000)
        kit.fill(replay, steps)
        assert len(replay.sampler.trained.partial) <= 2 * replay.num_envs
    assert len(replay.sampler.trained.full) > 900


@pytest.mark.parametrize("shares", [(0, 0, 0), (-1, 1, 1), (float("nan"), 1, 0)])
def test_impossible_mixtures_are_refused(kit, shares):
    with pytest.raises(UserError, match=r"replay\.uniform"):
        kit.replay(uniform=shares[0], prioritized=shares[1], recent=shares[2])


def test_bad_priorities_are_refused(kit):
    replay = kit.replay(prioritized=1.0)
    kit.fill(replay, 20)
    for value in (-1.0, np.nan, np.inf):
        with pytest.raises(UserError, match="finite"):
            replay.update_priorities(np.zeros((1, 1), int), np.array([[value]]))
    with pytest.raises(UserError, match="shape"):
        replay.update_priorities(np.zeros((1, 2), int), np.ones((1, 1)))
