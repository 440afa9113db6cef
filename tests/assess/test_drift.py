"""Drift by hand: decibels of a ball that is a little off, slopes of known errors, scores of known samples."""

import math

import numpy as np
import pytest

from dreamworld.assess import drift

SIZE, RADIUS = 64, 4.0


def ball(x, y):
    """A white disc on black, without soft edges."""
    pixel = np.arange(SIZE) + 0.5
    return ((pixel - x) ** 2 + (pixel[:, None] - y) ** 2 <= RADIUS**2).astype(float)


def one_side(distance):
    """Area that two discs at this distance don't share: twice the disc without the lens."""
    half = distance / 2
    lens = 2 * RADIUS**2 * math.acos(half / RADIUS) - distance * math.sqrt(RADIUS**2 - half**2)
    return 2 * (math.pi * RADIUS**2 - lens)


@pytest.mark.parametrize(("off", "decibels"), [(0.5, 27.1), (1.0, 24.1), (2.0, 21.1), (4.0, 18.3)])
def test_decibels_of_a_ball_that_is_a_little_off_follow_from_areas(off, decibels):
    assert -10 * math.log10(one_side(off) / SIZE**2) == pytest.approx(decibels, abs=0.05)
    random = np.random.default_rng(0)
    errors = []
    for _ in range(2000):
        x, y = random.uniform(12, 52, 2)
        angle = random.uniform(0, 2 * np.pi)
        moved = ball(x + off * np.cos(angle), y + off * np.sin(angle))
        errors.append(np.mean((ball(x, y) - moved) ** 2))
    assert drift.psnr(np.mean(errors)) == pytest.approx(decibels, abs=0.1)


def test_no_ball_scores_more_than_a_ball_that_is_four_pixels_off():
    black = drift.psnr(np.mean(ball(30.3, 31.9) ** 2))
    assert black == pytest.approx(-10 * math.log10(math.pi * RADIUS**2 / SIZE**2), abs=0.1)
    assert round(float(black), 1) == 19.1
    assert black > drift.psnr(np.mean((ball(30.3, 31.9) - ball(34.3, 31.9)) ** 2))


def test_decibels_end_where_bytes_round():
    assert drift.psnr(np.array(0.0)) == pytest.approx(58.92, abs=0.01)
    assert drift.psnr(np.array(0.01)) == pytest.approx(20)


@pytest.mark.parametrize(("power", "slope"), [(1.0, 1.0), (0.5, 0.5)])
def test_growth_tells_a_bias_from_a_random_walk(power, slope):
    steps = np.arange(1, 101)
    error = 0.5 * steps**power
    assert drift.growth(error[None], np.full((1, 100), 1e3))[0] == pytest.approx(slope)
    # 50 pixels after 100 frames, or 5
    assert error[-1] == pytest.approx({1.0: 50, 0.5: 5}[power])


def test_growth_ends_where_errors_saturate():
    steps = np.arange(1, 21)
    error = np.minimum(steps * 1.0, 10.0)
    assert (
        drift.growth(error[None], np.full((1, 20), 20.0))[0] < 0.95
    )  # all steps are below half of 20, as if free
    assert drift.growth(error[None], np.full((1, 20), 16.0))[0] == pytest.approx(1)
    assert np.isnan(drift.growth(error[None], np.full((1, 20), 4.0))[0])  # two steps are no slope


def test_the_useful_horizon_ends_at_the_first_step_without_skill():
    score = np.array([[0.9, 0.6, 0.5, 0.9], [0.4, 0.9, 0.9, 0.9], [0.9, np.nan, 0.9, 0.9]])
    assert drift.useful_horizon(score).tolist() == [2, 0, 4]


def test_skill_compares_with_copying():
    found = drift.skill(np.array([0.0, 1.0, 2.0, 0.0, 1.0]), np.array([2.0, 2.0, 2.0, 0.0, 0.0]))
    np.testing.assert_array_equal(found, [1.0, 0.5, 0.0, 1.0, np.nan])
