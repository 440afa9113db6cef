"""Aggregates with stratified bootstrap intervals (Agarwal et al., 2021, arXiv:2108.13264).

Scores are a list with one array per task, [runs of the task]; tasks may have different numbers of runs. Every
task weighs the same. Resampling draws runs with replacement within each task (stratified); intervals are
percentile intervals.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

Scores = Sequence[np.ndarray]  # one [runs] array per task
RESAMPLES = 2000
LEVEL = 0.95


class Estimate(NamedTuple):
    """A point estimate and its interval; the bounds are NaN where nothing can be resampled."""

    value: float
    low: float
    high: float


class Band(NamedTuple):
    """An estimate at each of P points."""

    value: np.ndarray  # [P]
    low: np.ndarray  # [P]
    high: np.ndarray  # [P]


def mean(samples: Scores) -> np.ndarray:
    """Mean over tasks of the mean over runs; each task's samples are [..., runs], the result is [...]."""
    return np.mean([task.mean(-1) for task in samples], axis=0)


def median(samples: Scores) -> np.ndarray:
    """Median over tasks of the mean over runs."""
    return np.median([task.mean(-1) for task in samples], axis=0)


def iqm(samples: Scores) -> np.ndarray:
    """Interquartile mean of all runs: a quarter of the weight is cut at each end, rounded down to whole runs.

    A run weighs 1 / (tasks x runs of its task). With equally many runs per task this is the 25% trimmed mean.
    """
    flat = np.concatenate(samples, axis=-1)
    weight = np.concatenate(
        [np.full(task.shape[-1], 1 / (len(samples) * task.shape[-1])) for task in samples]
    )
    cut = np.floor(0.25 * len(weight)) / len(weight)
    order = np.argsort(flat, axis=-1)
    ends = np.cumsum(weight[order], axis=-1)
    inside = np.minimum(ends, 1 - cut) - np.maximum(ends - weight[order], cut)
    return (np.maximum(inside, 0) * np.take_along_axis(flat, order, -1)).sum(-1) / (1 - 2 * cut)


def optimality_gap(samples: Scores) -> np.ndarray:
    """1 minus the mean of scores clipped above at 1: the distance from solved tasks."""
    return 1 - mean([np.minimum(task, 1) for task in samples])


STATISTICS: dict[str, Callable[[Scores], np.ndarray]] = {
    "mean": mean,
    "median": median,
    "IQM": iqm,
    "optimality gap": optimality_gap,
}


def resample(scores: Scores, resamples: int = RESAMPLES, seed: int = 0) -> list[np.ndarray]:
    """Stratified bootstrap: one array [resamples, runs] per task, drawn within the task."""
    random = np.random.default_rng(seed)
    return [task[random.integers(0, len(task), (resamples, len(task)))] for task in scores]


def interval(samples: np.ndarray, level: float = LEVEL) -> tuple[np.ndarray, np.ndarray]:
    """Percentile interval over the first axis."""
    tail = 50 * (1 - level)
    low, high = np.percentile(samples, [tail, 100 - tail], axis=0)
    return low, high


def estimate(scores: Scores, resamples: int = RESAMPLES, seed: int = 0) -> dict[str, Estimate]:
    """Every statistic with its 95% interval; no interval where every task has a single run."""
    scores = _checked(scores)
    drawn = resample(scores, resamples, seed) if any(len(task) > 1 for task in scores) else None
    result = {}
    for name, statistic in STATISTICS.items():
        low, high = interval(statistic(drawn)) if drawn else (np.nan, np.nan)
        result[name] = Estimate(float(statistic(scores)), float(low), float(high))
    return result


def mean_band(curves: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> Band:
    """Mean over runs of curves [runs, P] with its bootstrap interval; no interval of one run."""
    value = curves.mean(0)
    if len(curves) < 2:
        return Band(value, np.full_like(value, np.nan), np.full_like(value, np.nan))
    share = _shares(len(curves), resamples, np.random.default_rng(seed))
    return Band(value, *interval(share @ curves))


def performance_profile(
    scores: Scores, thresholds: np.ndarray, resamples: int = RESAMPLES, seed: int = 0
) -> Band:
    """Share of runs that score above each threshold [P], averaged over tasks."""
    scores = _checked(scores)
    above = [(task[:, None] > thresholds).astype(np.float64) for task in scores]  # [runs, P]
    value = np.mean([task.mean(0) for task in above], axis=0)
    if all(len(task) < 2 for task in scores):
        return Band(value, np.full_like(value, np.nan), np.full_like(value, np.nan))
    random = np.random.default_rng(seed)
    total = sum(_shares(len(task), resamples, random) @ task for task in above)
    return Band(value, *interval(np.asarray(total) / len(scores)))


def probability_of_improvement(
    ours: Scores, theirs: Scores, resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
    """P(X > Y) + P(X = Y) / 2 for runs X of ours and Y of theirs on a task, averaged over tasks."""
    ours, theirs = _checked(ours), _checked(theirs)
    random = np.random.default_rng(seed)
    values, draws = [], np.zeros(resamples)
    for x, y in zip(ours, theirs, strict=True):
        wins = (x[:, None] > y) + 0.5 * (x[:, None] == y)  # [runs of x, runs of y]
        values.append(wins.mean())
        first, second = _shares(len(x), resamples, random), _shares(len(y), resamples, random)
        draws += np.einsum("ri,ij,rj->r", first, wins, second, optimize=True)
    if all(len(task) < 2 for task in (*ours, *theirs)):
        return Estimate(float(np.mean(values)), np.nan, np.nan)
    low, high = interval(draws / len(values))
    return Estimate(float(np.mean(values)), float(low), float(high))


def _shares(runs: int, resamples: int, random: np.random.Generator) -> np.ndarray:
    """How much each run counts in each resample, [resamples, runs]; rows sum to 1."""
    return random.multinomial(runs, np.full(runs, 1 / runs), resamples) / runs


def _checked(scores: Scores) -> list[np.ndarray]:
    scores = [np.asarray(task, np.float64) for task in scores]
    if not scores or any(task.ndim != 1 or len(task) == 0 or not np.isfinite(task).all() for task in scores):
        raise ValueError("scores must hold at least one task, each with finite scores [runs], at least one")
    return scores
