"""Statistics under weights are those of the items repeated; intervals resample episodes."""

import itertools

import numpy as np
import pytest

from dreamworld.assess import intervals, reward

RANDOM = np.random.default_rng(0)
SEGMENT = RANDOM.integers(0, 6, 40)
SCORE = RANDOM.integers(0, 8, 40) / 8
POSITIVE = RANDOM.random(40) < 0.4
WEIGHTS = np.array([[1.0] * 6, [0, 2, 1, 0, 3, 1]])


def repeated(row):
    counts = WEIGHTS[row][SEGMENT].astype(int)
    return np.repeat(SCORE, counts), np.repeat(POSITIVE, counts)


@pytest.mark.parametrize("row", [0, 1])
def test_auroc_counts_pairs(row):
    score, positive = repeated(row)
    pairs = [
        (one > other) + 0.5 * (one == other)
        for one, other in itertools.product(score[positive], score[~positive])
    ]
    assert intervals.auroc(WEIGHTS, SEGMENT, SCORE, POSITIVE)[row] == pytest.approx(np.mean(pairs))


@pytest.mark.parametrize("row", [0, 1])
def test_average_precision_goes_through_the_thresholds(row):
    score, positive = repeated(row)
    total, before = 0.0, 0.0
    for threshold in sorted(set(score), reverse=True):
        passed = score >= threshold
        recall, precision = positive[passed].sum() / positive.sum(), positive[passed].mean()
        total, before = total + precision * (recall - before), recall
    assert intervals.average_precision(WEIGHTS, SEGMENT, SCORE, POSITIVE)[row] == pytest.approx(total)


def test_spearman_is_the_correlation_of_ranks():
    x = RANDOM.normal(size=40)
    for other, expected in ((np.exp(x), 1), (-(x**3), -1)):
        found = intervals.spearman(WEIGHTS, SEGMENT, x, other)
        assert found[0] == pytest.approx(expected)
    assert np.isnan(intervals.spearman(WEIGHTS, SEGMENT, x, np.ones(40))).all()
    np.testing.assert_allclose(
        intervals.ranks(np.array([5.0, 1.0, 5.0, 9.0])), np.array([1.5, 0, 1.5, 3]) / 3
    )


def test_means_leave_out_what_is_masked():
    values, mask = np.array([[1.0, 9.0], [3.0, 4.0]]), np.array([[True, False], [True, True]])
    weights = np.array([[1.0, 1.0], [0.0, 2.0], [1.0, 0.0]])
    np.testing.assert_allclose(intervals.mean(weights, values, mask), [[2, 4], [3, 4], [1, np.nan]])
    np.testing.assert_allclose(intervals.total_mean(weights, values, mask), [8 / 3, 3.5, 1])


def test_whole_episodes_are_drawn():
    episode = np.array([7, 7, 7, 2, 2])
    weights = intervals.draw_weights(episode, resamples=200)
    assert (weights[0] == 1).all()
    assert (weights[:, :3] == weights[:, :1]).all() and (weights[:, 3] == weights[:, 4]).all()
    assert set(map(tuple, weights[1:, [0, 3]])) == {(0, 2), (1, 1), (2, 0)}


def test_an_interval_covers_the_mean_as_often_as_it_says():
    random, hits = np.random.default_rng(1), 0
    for trial in range(300):
        level = random.normal(size=40)  # of an episode: its five segments are alike
        episode = np.repeat(np.arange(40), 5)
        values = level[episode] + 0.1 * random.normal(size=200)
        weights = intervals.draw_weights(episode, 300, seed=trial)
        found = intervals.estimate(
            intervals.total_mean(weights, values, np.ones(200, bool)), episodes=40, n=200
        )
        assert found.low is not None and found.high is not None
        hits += found.low <= 0 <= found.high
    assert 0.90 <= hits / 300 <= 0.98


def test_one_episode_has_no_interval():
    weights = intervals.draw_weights(np.zeros(3), 10)
    found = intervals.estimate(weights.sum(1), episodes=1, n=3)
    assert found == (3, None, None, 3)


def test_the_crps_of_samples_is_that_of_pairs():
    dreamt, real = RANDOM.normal(size=(2, 3, 5)), RANDOM.normal(size=(2, 3))
    near = np.abs(dreamt - real[..., None]).mean(-1)
    pairs = [np.abs(dreamt[..., i] - dreamt[..., j]) for i, j in itertools.combinations(range(5), 2)]
    np.testing.assert_allclose(reward.crps(dreamt, real), near - np.mean(pairs, 0) / 2)
    np.testing.assert_allclose(reward.crps(dreamt[..., :1], real), np.abs(dreamt[..., 0] - real))


def test_calibration_is_the_distance_between_what_is_said_and_what_comes():
    expected = np.repeat([[0.9, 0.5, 0.1]], 100, 0)
    happened = np.zeros((100, 3), bool)
    happened[:80, 0], happened[:50, 1] = True, True  # 0.8 of 0.9, 0.5 of 0.5, none of 0.1
    weights = np.ones((1, 100))
    mask = np.ones((100, 3), bool)
    found, diagram = reward.calibration(weights, expected, happened, mask)
    assert found[0] == pytest.approx((0.1 + 0 + 0.1) / 3)
    np.testing.assert_allclose(diagram["expected"], [0.1, 0.5, 0.9])
    np.testing.assert_allclose(diagram["happened"], [0, 0.5, 0.8])
    mask[:, 0] = False
    assert reward.calibration(weights, expected, happened, mask)[0][0] == pytest.approx(0.05)
