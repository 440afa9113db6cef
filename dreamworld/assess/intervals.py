"""Statistics of segments with 95% intervals, by the bootstrap over episodes (Efron, 1979).

Segments of one episode depend on each other, so whole episodes are drawn with replacement. A statistic is a function of
weights [R, N]: how often each of N segments counts. Row 0 counts every segment once, the others are resamples.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

RESAMPLES = 1000
TAIL = 2.5  # percent on each side
BLOCK = 100  # resamples whose ranks are summed up at once


class Estimate(NamedTuple):
    """A number with its interval; None where it is not defined, or where fewer than two episodes can be resampled."""

    value: float | None
    low: float | None
    high: float | None
    n: int  # segments, or rows, that it rests on


class Curve(NamedTuple):
    """An estimate at each of H imagined steps; NaN where an `Estimate` has None."""

    value: np.ndarray  # [H]
    low: np.ndarray  # [H]
    high: np.ndarray  # [H]
    n: np.ndarray  # [H] int


def draw_weights(episode: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """Weights [1 + resamples, N] of segments whose episodes are numbered by `episode` [N]."""
    names, index = np.unique(episode, return_inverse=True)
    random = np.random.default_rng(seed)
    drawn = random.integers(0, len(names), (resamples, len(names)))
    counts = np.stack([np.bincount(row, minlength=len(names)) for row in drawn]) if resamples else drawn
    return np.concatenate([np.ones((1, len(episode))), counts[:, index]])


def mean(weights: np.ndarray, values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Weighted means [R, ...] over segments of values [N, ...] where mask [N, ...]; NaN where nothing is left."""
    flat, kept = (x.reshape(len(x), -1).astype(np.float64) for x in np.broadcast_arrays(values, mask))
    total = weights @ np.where(kept > 0, flat, 0) if flat.size else np.zeros((len(weights), 0))
    with np.errstate(invalid="ignore", divide="ignore"):
        found = total / (weights @ kept)
    return found.reshape(len(weights), *np.shape(values)[1:])


def total_mean(weights: np.ndarray, values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Weighted means [R] over all rows of values [N, ...] where mask [N, ...]."""
    kept = np.broadcast_to(mask, np.shape(values)).reshape(len(values), -1)
    flat = np.where(kept, np.reshape(values, (len(values), -1)), 0).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (weights @ flat.sum(1)) / (weights @ kept.sum(1))


def estimate(values: np.ndarray, episodes: int, n: int) -> Estimate:
    """The estimate of a statistic [R]: row 0, and the percentiles of the others where there are episodes to draw."""
    if not np.isfinite(values[0]):
        return Estimate(None, None, None, int(n))
    low, high = _interval(values[1:], episodes)
    plain = lambda x: float(x) if np.isfinite(x) else None
    return Estimate(float(values[0]), plain(low), plain(high), int(n))


def curve(values: np.ndarray, episodes: int, n: np.ndarray) -> Curve:
    """The curve of a statistic [R, H]."""
    low, high = _interval(values[1:], episodes)
    return Curve(values[0], low, high, np.asarray(n, np.int64))


def over_runs(values: np.ndarray) -> Estimate:
    """The mean of one number of each of a few runs, with Student's 95% interval; without one for a single run.

    Few runs can't be resampled: percentiles of three lie within their range, which is too narrow.
    """
    count = len(values)
    mean_value = float(np.mean(values))
    if not np.isfinite(mean_value):
        return Estimate(None, None, None, count)
    if count < 2:
        return Estimate(mean_value, None, None, count)
    wide = student(count - 1) * float(np.std(values, ddof=1)) / math.sqrt(count)
    return Estimate(mean_value, mean_value - wide, mean_value + wide, count)


def student(freedom: int) -> float:
    """The percentile of Student's t above which `TAIL` lies."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 1 - TAIL / 100))


def _interval(drawn: np.ndarray, episodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Percentiles over the first axis without NaN; NaN where there are none."""
    shape = drawn.shape[1:]
    if episodes < 2 or len(drawn) == 0:
        return np.full(shape, np.nan), np.full(shape, np.nan)
    kept = np.isfinite(drawn)
    filled = np.where(kept, drawn, np.nan)
    empty = ~kept.any(0)
    filled = np.where(empty, 0.0, filled)
    low, high = np.nanpercentile(filled, [TAIL, 100 - TAIL], axis=0)
    return np.where(empty, np.nan, low), np.where(empty, np.nan, high)


# --- statistics of ranks: items belong to segments, and count as often as their segment ----------------------------


def auroc(weights: np.ndarray, segment: np.ndarray, score: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Probability [R] that a positive item has the higher score than a negative one; ties count one half."""

    def of(block: np.ndarray) -> np.ndarray:
        above, below = _by_score(block, segment, score, positive)
        under = np.cumsum(below, 1) - below
        with np.errstate(invalid="ignore", divide="ignore"):
            return (above * (under + below / 2)).sum(1) / (above.sum(1) * below.sum(1))

    return _in_blocks(of, weights)


def average_precision(
    weights: np.ndarray, segment: np.ndarray, score: np.ndarray, positive: np.ndarray
) -> np.ndarray:
    """Sum over thresholds of precision times the gain in recall, [R]; equal scores pass a threshold together."""

    def of(block: np.ndarray) -> np.ndarray:
        above, below = (x[:, ::-1] for x in _by_score(block, segment, score, positive))
        hits, all_ = np.cumsum(above, 1), np.cumsum(above + below, 1)
        with np.errstate(invalid="ignore", divide="ignore"):
            precision = np.where(all_ > 0, hits / all_, 0)
            return (precision * above).sum(1) / above.sum(1)

    return _in_blocks(of, weights)


def spearman(weights: np.ndarray, segment: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Correlation [R] of the ranks of two scores; ranks are those among all items, ties share theirs."""
    x, y = ranks(one), ranks(other)

    def of(block: np.ndarray) -> np.ndarray:
        w = block[:, segment]
        return weighted_correlation(w, x, y)

    return _in_blocks(of, weights)


def weighted_correlation(weights: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Pearson's correlation [R] of x and y [M] under weights [R, M]; NaN where one of them is constant."""
    with np.errstate(invalid="ignore", divide="ignore"):
        total = weights.sum(1)
        mean_x, mean_y = weights @ x / total, weights @ y / total
        var_x, var_y = weights @ x**2 / total - mean_x**2, weights @ y**2 / total - mean_y**2
        both = weights @ (x * y) / total - mean_x * mean_y
        floor = 1e-9 * (1 + mean_x**2) * (1 + mean_y**2)  # of rounding
        return np.where(var_x * var_y > floor**2, both / np.sqrt(np.maximum(var_x * var_y, 1e-300)), np.nan)


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0 to 1; equal values share the mean of theirs."""
    _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    middle = ends - (counts + 1) / 2
    return middle[index] / max(len(values) - 1, 1)


def _by_score(
    block: np.ndarray, segment: np.ndarray, score: np.ndarray, positive: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Weights [R, U] of positive and of negative items at each of U different scores, ascending."""
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(score[order]) != 0]) if len(score) else np.zeros(0, int)
    w = block[:, segment[order]]
    if not len(score):
        return w, w
    up = positive[order].astype(np.float64)
    return np.add.reduceat(w * up, starts, 1), np.add.reduceat(w * (1 - up), starts, 1)


def _in_blocks(of: Callable[[np.ndarray], np.ndarray], weights: np.ndarray) -> np.ndarray:
    parts = [of(weights[start : start + BLOCK]) for start in range(0, len(weights), BLOCK)]
    return np.concatenate(parts)
