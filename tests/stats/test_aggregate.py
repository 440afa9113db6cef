"""Aggregates against hand-computed values, plain loops and rliable 1.2.0 on the same matrix."""

import itertools

import numpy as np
import pytest

from dreamworld.stats import aggregate

ROWS = np.random.default_rng(7).gamma(1.0, 0.8, (5, 26)) - 0.1  # runs x tasks
OTHER = np.random.default_rng(8).gamma(1.0, 0.7, (5, 26))
SCORES, THEIRS = list(ROWS.T), list(OTHER.T)
RLIABLE = {  # aggregates of ROWS, and their percentile intervals from 20,000 resamples
    "mean": (0.7303390159694533, 0.6052114996273122, 0.8636570627389394),
    "median": (0.6848728671599722, 0.4839367775127312, 0.7840889260947382),
    "IQM": (0.5279042220512414, 0.4296600223545602, 0.6365368129125821),
    "optimality gap": (0.48550846206716425, 0.42311261933113953, 0.54767663630779),
}


@pytest.mark.parametrize("name", RLIABLE)
def test_statistics_equal_rliable(name):
    value, low, high = aggregate.estimate(SCORES, resamples=20_000)[name]
    assert value == pytest.approx(RLIABLE[name][0], rel=1e-12)
    assert (low, high) == pytest.approx(RLIABLE[name][1:], abs=0.008)  # two random bootstraps


def test_probability_of_improvement_equals_rliable():
    value, low, high = aggregate.probability_of_improvement(SCORES, THEIRS, resamples=4000)
    assert value == pytest.approx(0.5215384615384615, rel=1e-12)
    assert (low, high) == pytest.approx((0.45076923, 0.59538462), abs=0.008)


def test_performance_profile_equals_rliable():
    value, low, high = aggregate.performance_profile(SCORES, np.array([0.0, 0.5, 1.0, 2.0]))
    assert value == pytest.approx([0.8769230769, 0.5076923077, 0.2307692308, 0.1], rel=1e-9)
    assert low == pytest.approx([0.8230769, 0.4307692, 0.1615385, 0.0538462], abs=0.008)
    assert high == pytest.approx([0.9230769, 0.5846154, 0.3076923, 0.1461538], abs=0.008)


def test_iqm_by_hand():
    # Eight runs: two are cut at each end, the middle four are averaged.
    scores = [np.array([9.0, 1.0, 5.0, 4.0]), np.array([100.0, -50.0, 3.0, 6.0])]
    assert aggregate.iqm(scores) == pytest.approx((3 + 4 + 5 + 6) / 4)
    # Five runs: int(5 / 4) = 1 is cut at each end.
    assert aggregate.iqm([np.array([1.0, 2.0, 3.0, 4.0, 100.0])]) == pytest.approx(3.0)


def test_iqm_weighs_tasks_equally_whatever_their_runs():
    # Task 0 has its run twice: each counts half as much, and the middle half is where it was.
    once = [np.array([1.0, 2.0]), np.array([3.0, 4.0])]
    assert aggregate.iqm(once) == pytest.approx(2.5)
    twice = [np.array([1.0, 2.0, 1.0, 2.0]), np.array([3.0, 4.0])]
    # Weights 1/8 for task 0, 1/4 for task 1; int(6 / 4) / 6 = 1/6 of the weight is cut at each end.
    expected = ((1 / 4 - 1 / 6) * 1 + 1 / 4 * 2 + 1 / 4 * 3 + (1 / 4 - 1 / 6) * 4) / (1 - 2 / 6)
    assert aggregate.iqm(twice) == pytest.approx(expected)


def test_mean_median_and_gap_by_hand():
    scores = [np.array([0.0, 1.0]), np.array([2.0, 4.0]), np.array([0.1, 0.1])]
    assert aggregate.mean(scores) == pytest.approx((0.5 + 3.0 + 0.1) / 3)
    assert aggregate.median(scores) == pytest.approx(0.5)
    assert aggregate.optimality_gap(scores) == pytest.approx(1 - (0.5 + 1.0 + 0.1) / 3)


def test_bootstrap_of_two_runs_approaches_its_enumeration():
    # One task, two runs: resample means 0, 1/2, 1 with chances 1/4, 1/2, 1/4.
    drawn = aggregate.resample([np.array([0.0, 1.0])], resamples=40_000)[0].mean(-1)
    values, counts = np.unique(drawn, return_counts=True)
    assert values.tolist() == [0, 0.5, 1]
    assert counts / 40_000 == pytest.approx([0.25, 0.5, 0.25], abs=0.01)


def test_resampling_never_mixes_tasks():
    drawn = aggregate.resample([np.array([1.0, 2.0]), np.array([10.0, 20.0, 30.0])], resamples=500)
    assert [task.shape for task in drawn] == [(500, 2), (500, 3)]
    assert set(np.unique(drawn[0])) == {1, 2} and set(np.unique(drawn[1])) == {10, 20, 30}


def test_interval_of_the_mean_equals_the_plain_bootstrap():
    curves = np.random.default_rng(0).normal(size=(4, 3))
    band = aggregate.mean_band(curves, resamples=20_000)
    exact = np.array([curves[list(pick)].mean(0) for pick in itertools.product(range(4), repeat=4)])
    assert band.value == pytest.approx(curves.mean(0))
    assert band.low == pytest.approx(np.percentile(exact, 2.5, axis=0), abs=0.05)
    assert band.high == pytest.approx(np.percentile(exact, 97.5, axis=0), abs=0.05)


def test_profile_and_improvement_equal_plain_loops_on_unequal_runs():
    x, y = [np.array([1.0, 2.0, 3.0]), np.array([5.0])], [np.array([2.0, 0.0]), np.array([5.0, 6.0])]
    per_task = []
    for first, second in zip(x, y):
        wins = [1.0 if a > b else 0.5 if a == b else 0.0 for a in first for b in second]
        per_task.append(sum(wins) / len(wins))
    assert aggregate.probability_of_improvement(x, y).value == pytest.approx(sum(per_task) / 2)
    profile = aggregate.performance_profile(x, np.array([1.5, 4.0]))
    assert profile.value == pytest.approx([(2 / 3 + 1) / 2, 0.5])


def test_single_runs_get_no_interval():
    one = [np.array([0.3]), np.array([0.5])]
    assert all(np.isnan(estimate.low) for estimate in aggregate.estimate(one).values())
    assert np.isnan(aggregate.probability_of_improvement(one, one).high)
    assert np.isnan(aggregate.mean_band(np.ones((1, 4))).low).all()


def test_same_seed_same_interval():
    assert aggregate.estimate(SCORES, seed=3) == aggregate.estimate(SCORES, seed=3)
    assert aggregate.estimate(SCORES, seed=3) != aggregate.estimate(SCORES, seed=4)


@pytest.mark.parametrize("scores", [[], [np.array([])], [np.array([1.0, np.nan])], [np.ones((2, 2))]])
def test_holes_in_the_scores_are_refused(scores):
    with pytest.raises(ValueError, match="finite scores"):
        aggregate.estimate(scores)
