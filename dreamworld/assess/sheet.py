"""The sheet that metrics are written on: numbers and curves by name, and what is left out with the reason."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from dreamworld.assess import intervals
from dreamworld.assess.intervals import Curve, Estimate


@dataclasses.dataclass
class Sheet:
    """Numbers `metrics` and `curves` over imagined steps, each with its interval; names are `<topic>/<what>`."""

    weights: np.ndarray  # [R, N] of the segments
    episodes: int
    metrics: dict[str, Estimate] = dataclasses.field(default_factory=dict)
    curves: dict[str, Curve] = dataclasses.field(default_factory=dict)
    diagrams: dict[str, dict[str, list[float]]] = dataclasses.field(default_factory=dict)
    left_out: dict[str, str] = dataclasses.field(default_factory=dict)  # topic -> what it needs

    def number(self, name: str, values: np.ndarray, n: int) -> Estimate:
        """Writes down a statistic [R] that rests on n rows or segments."""
        self.metrics[name] = intervals.estimate(values, self.episodes, n)
        return self.metrics[name]

    def curve(self, name: str, values: np.ndarray, n: np.ndarray) -> Curve:
        """Writes down a statistic [R, H] that rests on n [H] segments at each step."""
        self.curves[name] = intervals.curve(values, self.episodes, n)
        return self.curves[name]

    def mean_curve(self, name: str, values: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Writes down the mean at each step of values [N, H] where mask; returns the statistic [R, H]."""
        found = intervals.mean(self.weights, values, mask)
        self.curve(name, found, mask.sum(0))
        return found

    def mean_number(self, name: str, values: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Writes down the mean over all rows of values [N, ...] where mask; returns the statistic [R]."""
        found = intervals.total_mean(self.weights, values, mask)
        self.number(name, found, int(np.broadcast_to(mask, np.shape(values)).sum()))
        return found

    def ratio_curve(self, name: str, total: np.ndarray, count: np.ndarray) -> np.ndarray:
        """Writes down sum / count at each step, of totals and counts [N, H] of items; returns the statistic [R, H]."""
        with np.errstate(invalid="ignore", divide="ignore"):
            found = (self.weights @ total) / (self.weights @ count)
        self.curve(name, found, count.sum(0))
        return found

    def ratio_number(self, name: str, total: np.ndarray, count: np.ndarray, n: int | None = None) -> None:
        """Writes down sum / count over all rows, of totals and counts [N, ...] of items; it rests on n, or on these."""
        flat = lambda x: np.reshape(x, (len(x), -1)).sum(1).astype(float)
        with np.errstate(invalid="ignore", divide="ignore"):
            found = (self.weights @ flat(total)) / (self.weights @ flat(count))
        self.number(name, found, int(np.sum(count)) if n is None else n)

    def value(self, name: str) -> float | None:
        """A number that was written down; None where it is not there or not defined."""
        return self.metrics[name].value if name in self.metrics else None

    def plain(self) -> dict[str, Any]:
        """As JSON values: a number that is not defined is null."""
        return {
            "metrics": {name: found._asdict() for name, found in self.metrics.items()},
            "curves": {
                name: {field: _plain(values) for field, values in found._asdict().items()}
                for name, found in self.curves.items()
            },
            "diagrams": {
                name: {field: _plain(np.asarray(values)) for field, values in found.items()}
                for name, found in self.diagrams.items()
            },
            "left_out": self.left_out,
        }


def make_sheet(episode: np.ndarray, resamples: int = intervals.RESAMPLES, seed: int = 0) -> Sheet:
    """An empty sheet for segments of these episodes [N]."""
    return Sheet(intervals.draw_weights(episode, resamples, seed), len(np.unique(episode)))


def _plain(values: np.ndarray) -> list[float | int | None]:
    if values.dtype.kind in "iu":
        return [int(value) for value in values]
    return [float(value) if math.isfinite(value) else None for value in values]
