"""Importance weights: probabilities of windows against frequencies, and what weighted means come to."""

from __future__ import annotations

import math
from collections import Counter, deque

import numpy as np
import pytest

from dreamworld.contract import Mix
from dreamworld.replay import probability

DRAWS = 20_000
MIXES = {
    "priority": Mix(uniform=0.0, prioritized=1.0),
    "recent": Mix(uniform=0.0, recent=1.0),
    "all": Mix(uniform=1.0, prioritized=2.0, recent=1.0),
}


def uneven(kit, **options):
    """Evictions at the old end, a broken stream in the middle, partial chunks at the new end, random priorities."""
    replay = kit.replay(num_envs=3, capacity=150, length=5, context=options.pop("context", 1), **options)
    kit.fill(replay, 63)
    replay.add(kit.rows(63, 3, first=[False, True, False]))
    kit.fill(replay, 13, begin=64)
    rows = np.array([(c.stream << 40) + c.start + i for c in replay.chunks for i in range(c.rows)])
    priorities = np.random.default_rng(1).gamma(0.5, size=len(rows)).astype(np.float32)
    replay.update_priorities(rows[:, None], priorities[:, None] + 0.05)
    return replay


def assert_frequencies(rows, starts, expected):
    """Chi-square of counts against probabilities is within 5 standard deviations of its mean."""
    assert sum(expected) == pytest.approx(1)
    counts = Counter(rows)
    assert counts.keys() <= set(starts)
    possible = [(counts[s], p) for s, p in zip(starts, expected) if p > 0]
    chi2 = sum((count - len(rows) * p) ** 2 / (len(rows) * p) for count, p in possible)
    freedom = len(possible) - 1
    assert abs(chi2 - freedom) < 5 * math.sqrt(2 * freedom), (chi2, freedom)


@pytest.mark.parametrize("name", MIXES)
@pytest.mark.parametrize(("chunk", "context"), [(8, 1), (3, 0), (3, 3)])
def test_probabilities_are_the_frequencies_of_draws(kit, name, chunk, context):
    replay = uneven(kit, chunk=chunk, context=context, prioritized=1.0)
    starts = kit.starts(replay)
    expected = probability.probabilities(replay.sampler, np.array(starts), MIXES[name])
    assert_frequencies(replay.draw(DRAWS, MIXES[name]).rows.tolist(), starts, expected)


def test_hardly_any_recent_window_leaves_the_uniform_ones(kit):
    replay = kit.replay(num_envs=1, chunk=8, length=5, capacity=1000, prioritized=1.0)
    for step in range(400):  # nearly every row breaks the stream
        replay.add(kit.rows(step, 1, first=[step not in (1, 2, 3, 4, 361, 362, 363, 364)]))
    starts = kit.starts(replay)
    assert len(starts) == 2
    expected = probability.recent(replay.sampler, np.array(starts))
    assert 0.5 < expected[1] < 0.7  # without the uniform ones it would be 0.9
    assert_frequencies(replay.draw(2000, MIXES["recent"]).rows.tolist(), starts, expected)


def test_windows_without_any_priority_are_uniform(kit):
    replay = kit.replay(num_envs=1, prioritized=1.0)
    kit.fill(replay, 20)
    replay.update_priorities(np.arange(20)[None], np.zeros((1, 20)))
    starts = np.array(kit.starts(replay))
    np.testing.assert_allclose(probability.prioritized(replay.sampler, starts), 1 / len(starts))


def slots(replay, batch, count, mix):
    """Draws of batches that all find the same queue, and what each window's slots were."""
    queue = list(replay.sampler.queue)
    for _ in range(count):
        replay.sampler.queue = deque(queue)
        yield replay.draw(batch, mix)


def test_windows_of_the_queue_count_as_certain(kit):
    mix = Mix(1.0, 2.0, 1.0, online=True)
    replay = uneven(kit, chunk=8, prioritized=1.0, online=True)
    replay.sampler.queue = deque(list(replay.sampler.queue)[-2:])
    starts = kit.starts(replay)
    drawn = list(slots(replay, 5, 3000, mix))
    online = np.array([True, True, False, False, False])
    assert all((draw.kinds == 0).tolist() == online.tolist() for draw in drawn)
    served = drawn[0].rows[:2].tolist()
    expected = probability.probabilities(replay.sampler, np.array(starts), mix) * 3 / 5
    expected += np.array([(start in served) / 5 for start in starts])
    rows = drawn[7].rows
    found = probability.slot_probabilities(replay.sampler, rows, online, mix)
    np.testing.assert_allclose(found, [expected[starts.index(row)] for row in rows.tolist()])
    assert sum(expected) == pytest.approx(1)


@pytest.mark.parametrize("online", [False, True])
def test_weighted_means_of_batches_are_those_over_all_windows(kit, online):
    mix = Mix(1.0, 2.0, 1.0, online=online)
    replay = uneven(kit, chunk=8, prioritized=1.0, beta=1.0, online=True)
    replay.sampler.queue = deque(list(replay.sampler.queue)[-2:])
    starts = kit.starts(replay)
    value = dict(
        zip(starts, np.random.default_rng(2).normal(3, 1, len(starts)) + np.arange(len(starts)) / 20)
    )
    means = []
    for draw in slots(replay, 5, 4000, mix):
        kinds = draw.kinds == 0
        weight = 1 / (len(starts) * probability.slot_probabilities(replay.sampler, draw.rows, kinds, mix))
        np.testing.assert_allclose(draw.weights, weight / weight.max(), rtol=1e-6)
        means.append((weight * [value[row] for row in draw.rows.tolist()]).mean())
    error = np.std(means) / math.sqrt(len(means))
    wanted, unweighted = np.mean(list(value.values())), 6 * error
    assert abs(np.mean(means) - wanted) < 4 * error
    plain = [np.mean([value[row] for row in draw.rows.tolist()]) for draw in slots(replay, 5, 1000, mix)]
    assert abs(np.mean(plain) - wanted) > unweighted  # which is why there are weights


def test_batches_carry_them_where_they_are_asked_for(kit):
    replay = uneven(kit, prioritized=1.0, beta=0.5)
    batch = replay.sample(8)
    weight = batch["weight"]
    assert weight.dtype == np.float32 and weight.shape == (8,) and weight.max() == 1 and weight.min() > 0
    assert "weight" in replay.sample_part(8, 3, mix=MIXES["all"])
    for other in (replay.sample_part(8, 3), replay.sample(8, Mix()), replay.sample(8, MIXES["recent"])):
        assert "weight" not in other
    assert "weight" not in uneven(kit, prioritized=1.0).sample(8)
    assert "weight" not in uneven(kit, beta=0.5).sample(8)


def test_weights_change_no_draw(kit):
    plain, weighted = uneven(kit, prioritized=1.0), uneven(kit, prioritized=1.0, beta=1.0)
    for _ in range(5):
        np.testing.assert_array_equal(plain.sample(8)["row"], weighted.sample(8)["row"])
