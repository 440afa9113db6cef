"""Scaling: how the loss of a world falls with the size of the model, the rows that it learns from, and those it sees.

Models of several sizes learn from several shares of one data set, and dream the same rows after contexts of several
lengths. Through the losses go power laws (`dreamworld.assess.power_law`), where there are points enough.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from dreamworld.assess import intervals, power_law
from dreamworld.assess.intervals import Curve
from dreamworld.assess.power_law import PowerLaw
from dreamworld.assess.segments import Segments
from dreamworld.assess.sheet import Sheet, make_sheet
from dreamworld.assess.studies.study import Line, Picture, Study, Table, Value

METHOD = (
    "Loss: squared error of dreams of the same held-out rows, for every context (the last rows before them). "
    "Intervals: bootstrap over episodes of the segments and over the seeds of each training; of few seeds they are "
    "too narrow, as resamples of three lie within their range. b is the exponent of L = a x^-b, the slope in log-log; "
    "b with an offset is that of L = a x^-b + c, c of 0 or above. Each training has the same number of updates."
)
COLUMNS = {
    "size": "size",
    "parameters": "parameters",
    "share": "share of the data",
    "rows": "rows",
    "context": "context",
    "loss": "loss",
    "of_copy": "of copying the last row",
}
LAWS = {
    "over": "over",
    "at": "at",
    "points": "points",
    "b": "b",
    "b_offset": "b with an offset",
    "c": "offset c",
}
PARAMETERS, ROWS, CONTEXT = "parameters", "rows of data", "rows of context"


class Trained(NamedTuple):
    """The models of one size and one share, of all seeds."""

    size: str
    parameters: int
    share: float
    rows: int
    errors: dict[int, np.ndarray]  # by context, [seeds, N, H]


class Point(NamedTuple):
    """The loss of a model that sees a context."""

    trained: Trained
    context: int
    loss: np.ndarray  # [R]


def tabulate(
    name: str,
    trained: Sequence[Trained],
    segments: Segments,
    copied: np.ndarray,
    about: dict[str, Any],
    seed: int = 0,
) -> Study:
    """The study of trained models; `copied` [N, H] are the errors of copying the last row."""
    sheet, mask = make_sheet(segments.episode, seed=seed), segments.imagined
    base = intervals.total_mean(sheet.weights, copied, mask)
    points = [
        Point(one, context, resampled(sheet, errors, mask, seed + 1 + number))
        for number, one in enumerate(trained)
        for context, errors in one.errors.items()
    ]
    rows: list[dict[str, Value]] = []
    for point in points:
        one = point.trained
        row: dict[str, Value] = {"size": one.size, "parameters": one.parameters, "share": one.share}
        row |= {"rows": one.rows, "context": point.context}
        row["loss"] = intervals.estimate(point.loss, sheet.episodes, mask.sum())
        with np.errstate(invalid="ignore", divide="ignore"):
            row["of_copy"] = intervals.estimate(point.loss / base, sheet.episodes, mask.sum())
        rows.append(row)
    laws = Table("Power laws", LAWS, [_law_row(group, sheet) for group in _groups(points)])
    return Study(name, "scaling", about, COLUMNS, rows, _pictures(points, sheet), METHOD, (laws,))


def resampled(sheet: Sheet, errors: np.ndarray, mask: np.ndarray, seed: int) -> np.ndarray:
    """The mean [R] of errors [S, N, H]: episodes as in the sheet, and the S seeds drawn anew in each resample."""
    losses = np.stack([intervals.total_mean(sheet.weights, one, mask) for one in errors], 1)
    weights = intervals.draw_weights(np.arange(len(errors)), len(sheet.weights) - 1, seed)
    return (weights * losses).sum(1) / weights.sum(1)


class Group(NamedTuple):
    """Points along one of the three axes, the other two held."""

    over: str
    at: str
    line: str  # `at`, shorter, for a legend
    points: list[Point]


def _groups(points: list[Point]) -> list[Group]:
    """Over size with all data and over data with the largest model, for each context; over the context with both."""
    contexts = sorted({point.context for point in points})
    share = max(point.trained.share for point in points)
    largest = max(points, key=lambda point: point.trained.parameters).trained
    found = []
    for context in contexts:
        here = [point for point in points if point.context == context]
        all_data = [point for point in here if point.trained.share == share]
        found.append(
            _group(PARAMETERS, f"share {share:g}, context {context}", f"context {context}", all_data)
        )
    for context in contexts:
        here = [point for point in points if point.context == context]
        own = [point for point in here if point.trained.size == largest.size]
        found.append(_group(ROWS, f"size {largest.size}, context {context}", f"context {context}", own))
    both = [point for point in points if point.trained.size == largest.size and point.trained.share == share]
    return [*found, _group(CONTEXT, f"size {largest.size}, share {share:g}", f"size {largest.size}", both)]


def _group(over: str, at: str, line: str, points: list[Point]) -> Group:
    return Group(over, at, line, sorted(points, key=AXES[over]))


AXES: dict[str, Callable[[Point], float]] = {
    PARAMETERS: lambda point: point.trained.parameters,
    ROWS: lambda point: point.trained.rows,
    CONTEXT: lambda point: point.context,
}


def _arrays(group: Group) -> tuple[np.ndarray, np.ndarray]:
    """The sizes [K] and the losses [R, K] of a group."""
    x = np.array([AXES[group.over](point) for point in group.points], float)
    return x, np.stack([point.loss for point in group.points], 1)


def line_of(group: Group) -> PowerLaw | None:
    """The line in log-log; None where there are too few points for one."""
    x, loss = _arrays(group)
    return power_law.fit_line(x, loss) if len(np.unique(x)) >= power_law.LEAST else None


def _law_row(group: Group, sheet: Sheet) -> dict[str, Value]:
    x, loss = _arrays(group)
    count = len(np.unique(x))
    row: dict[str, Value] = {"over": group.over, "at": group.at, "points": count}
    told = lambda values: intervals.estimate(values, sheet.episodes, count)
    line = line_of(group)
    row["b"] = told(line.b) if line else f"needs {power_law.LEAST} points"
    if count < power_law.LEAST_OFFSET:
        return row | {"b_offset": f"needs {power_law.LEAST_OFFSET} points", "c": "–"}
    law = power_law.fit_offset(x, loss)
    return row | {"b_offset": told(law.b), "c": told(law.c)}


def _pictures(points: list[Point], sheet: Sheet) -> list[Picture]:
    """One for each axis that has more than one point."""
    groups = _groups(points)
    pictures = []
    for over, caption in (
        (
            PARAMETERS,
            "Loss over parameters of the world model, with all of the data. Dashed: the fitted line.",
        ),
        (ROWS, "Loss over rows of data, of the largest model. Dashed: the fitted line."),
        (CONTEXT, "Loss over rows of context, with all of the data."),
    ):
        own = _by_context(points) if over == CONTEXT else [group for group in groups if group.over == over]
        if all(len(group.points) < 2 for group in own):
            continue
        lines = [line for group in own for line in _lines(group, sheet, fitted=over != CONTEXT)]
        pictures.append(Picture(caption, over, "squared error", lines, log=True))
    return pictures


def _lines(group: Group, sheet: Sheet, fitted: bool) -> list[Line]:
    """The losses of a group, and the line through them."""
    x, loss = _arrays(group)
    count = np.full(len(x), len(group.points))
    lines = [Line(group.line, x.tolist(), intervals.curve(loss, sheet.episodes, count))]
    law = line_of(group)
    if law and fitted:
        through = law.at(x)[0]
        lines.append(Line(f"line through {group.line}", x.tolist(), no_interval(through, count), dashed=True))
    return lines


def _by_context(points: list[Point]) -> list[Group]:
    """Of each size, with all of the data."""
    share = max(point.trained.share for point in points)
    here = [point for point in points if point.trained.share == share]
    sizes = dict.fromkeys(point.trained.size for point in here)
    return [
        _group(CONTEXT, size, f"size {size}", [point for point in here if point.trained.size == size])
        for size in sizes
    ]


def no_interval(values: np.ndarray, count: np.ndarray) -> Curve:
    """A curve that has none."""
    nothing = np.full(len(values), np.nan)
    return Curve(values, nothing, nothing, count)
