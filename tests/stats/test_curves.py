"""Windows and grids against plain recomputation."""

import numpy as np
import pytest

from dreamworld.stats import curves
from dreamworld.stats.scores import read_run


def test_returns_at_equal_a_plain_loop(make_run):
    random = np.random.default_rng(0)
    scores = [
        (int(frames), float(random.normal())) for frames in np.sort(random.integers(1, 50_000, 300)) * 2
    ]
    run = read_run(make_run("a", scores=scores))
    for at, window in [(100_000, 5000), (33_333, 10_000), (90_000, 500)]:
        plain = [value for frames, value in scores if at - window < frames <= at]
        assert plain and curves.returns_at(run, at, window) == pytest.approx(np.mean(plain))


def test_an_empty_window_moves_back_to_the_last_episodes(make_run):
    run = read_run(make_run("a", scores=[(1000, 2.0), (2000, 4.0, 0), (2000, 6.0, 1)]))
    assert curves.returns_at(run, 9000, 500) == 5.0
    assert np.isnan(curves.returns_at(run, 999, 500))


def test_a_window_excludes_its_start_and_includes_its_end(make_run):
    run = read_run(make_run("a", scores=[(1000, 100.0), (2000, 1.0), (3000, 2.0), (4000, 50.0)]))
    assert curves.returns_at(run, 3000, 2000) == pytest.approx(1.5)


def test_window_is_the_published_one_for_long_runs():
    assert curves.window_frames(np.array([10_000, 400_000.0]), 400_000).tolist() == [10_000, 20_000]
    assert curves.window_frames(600.0, 600) == 60


def test_curves_end_where_a_run_ends(make_run):
    run = read_run(make_run("a", scores=[(2000, 1.0), (4000, 2.0)]))
    curve = curves.aligned([run], np.array([1000.0, 2000, 4000, 6000]), 6000)[0]
    assert np.isnan(curve[[0, 3]]).all() and curve[1:3].tolist() == [1, 2]


def test_hours_at_are_in_proportion(make_run):
    run = read_run(make_run("a", scores=[(2000, 1), (4000, 2), (6000, 3)], second=360))
    assert curves.hours_at(run, 5000) == pytest.approx(0.15)
