"""Learning curves on a common grid: scores averaged over a window of frames that ends at each grid point."""

from __future__ import annotations

import numpy as np

from dreamworld.stats.normalise import crafter_rates, crafter_score, normalise, split_task
from dreamworld.stats.scores import Run

WINDOW_SHARE = 0.05  # of the frames so far, as the published scores are averaged
WINDOW_FLOOR = 10_000  # frames, likewise; a tenth of a shorter run


def window_frames(at: np.ndarray | float, budget: float) -> np.ndarray:
    """Frames averaged over at `at`: 5% of it, at least 10k or a tenth of the budget where that is less."""
    return np.maximum(WINDOW_SHARE * np.asarray(at), min(WINDOW_FLOOR, 0.1 * budget))


def returns_at(run: Run, at: np.ndarray | float, window: np.ndarray | float) -> np.ndarray:
    """Mean return of the episodes that ended in (at - window, at], same shape as `at`.

    Where none did, the window moves back to the last episode before; NaN before the first one.
    """
    at, window = np.asarray(at, np.float64), np.asarray(window, np.float64)
    if len(run.frames) == 0:
        return np.full(at.shape, np.nan)
    ends = np.searchsorted(run.frames, at, side="right")
    last = run.frames[np.maximum(ends - 1, 0)]
    close = np.where(last > at - window, at, last)
    starts = np.searchsorted(run.frames, close - window, side="right")
    sums = np.concatenate([[0.0], np.cumsum(run.returns)])
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(ends > 0, (sums[ends] - sums[starts]) / (ends - starts), np.nan)


def scores_at(run: Run, at: np.ndarray | float, window: np.ndarray | float) -> np.ndarray:
    """Normalised score, same shape as `at`. Crafter's is over all episodes so far, by its definition."""
    if split_task(run.task)[0] != "crafter":
        return normalise(run.task, returns_at(run, at, window))
    at = np.asarray(at, np.float64)
    rates = [crafter_rates(run, frames) for frames in np.atleast_1d(at)]
    scores = [np.nan if rate is None else crafter_score(rate) / 100 for rate in rates]
    return np.array(scores).reshape(at.shape)


def grid(budget: float, points: int = 100) -> np.ndarray:
    """Evenly spaced frames in (0, budget]."""
    return budget * np.arange(1, points + 1) / points


def aligned(runs: list[Run], at: np.ndarray, budget: float, *, normalised: bool = False) -> np.ndarray:
    """Curves of runs on one grid [G] -> [runs, G]; NaN before the first episode and after the reach."""
    window = window_frames(at, budget)
    read = scores_at if normalised else returns_at
    curves = np.array([read(run, at, window) for run in runs])
    reach = np.array([run.reach for run in runs])[:, None]
    return np.where(at <= reach * 1.02, curves, np.nan)


def hours_at(run: Run, frames: float) -> float:
    """Hours of work until `frames`, in proportion between logged episodes and beyond the last one."""
    if len(run.frames) == 0 or run.reach <= 0:
        return float("nan")
    ticks, hours = np.append(run.frames, run.reach), np.append(run.hours, run.total_hours)
    return float(np.interp(frames, ticks, hours))
