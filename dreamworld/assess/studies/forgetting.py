"""Forgetting: what is lost of a first task while a second one is learnt, with and without replay of the first.

F = max over t of P[t] - P[T], of what is measured on the first task at the checkpoints t of both trainings (Chaudhry et
al., 2018, arXiv:1801.10112); of a loss, which falls as it gets better, L[T] - min over t of L[t].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dreamworld.assess.intervals import Curve, Estimate, over_runs
from dreamworld.assess.studies.study import Line, Picture, Study, Table, Value, estimates

METHOD = (
    "An agent learns from rows of the first task, and goes on from there in two ways with as many updates: on rows of "
    "the second task alone, and on rows of both. At checkpoints of both trainings it plays both tasks, and dreams "
    "held-out segments of both: the world loss is the squared error of these dreams. Forgetting is the best that was "
    "measured on the first task, less what is left at the end; the best of several noisy measurements is better than "
    "it should be, so compare it with the other way, on the same seeds. Means over seeds with Student's 95% intervals."
)
WAYS = ("without", "with")
COLUMNS = {
    "way": "replay",
    "measure": "measured",
    "best": "first task, best",
    "after_first": "before the second",
    "end": "at the end",
    "forgetting": "forgetting",
    "second": "second task, at the end",
}
DIFFERENCES = {
    "measure": "measured",
    "forgetting": "forgetting without − with replay",
    "second": "second task at the end, without − with",
}
MEASURES = {"return": "return", "loss": "world loss"}


class Measured(NamedTuple):
    """Of the checkpoints of a training, [S seeds, P checkpoints, 2 tasks]."""

    steps: Sequence[int]  # [P], updates
    returns: np.ndarray
    loss: np.ndarray

    def of(self, measure: str) -> np.ndarray:
        """What is measured."""
        return self.returns if measure == "return" else self.loss


class Baselines(NamedTuple):
    """What needs no learning, on each task."""

    returns: tuple[float, float]  # of the policy that the data are of
    loss: tuple[float, float]  # of copying the last row


def forgetting(values: np.ndarray, measure: str) -> np.ndarray:
    """F [S] of what was measured on the first task at all checkpoints [S, P]; 0 or above."""
    last = values[:, -1]
    return values.max(1) - last if measure == "return" else last - values.min(1)


def tabulate(
    name: str,
    tasks: Sequence[str],
    first: Measured,
    ways: Mapping[str, Measured],
    baselines: Baselines,
    about: dict[str, Any],
) -> Study:
    """The study of a first training and of the two `WAYS` to go on."""
    rows: list[dict[str, Value]] = []
    lost: dict[tuple[str, str], np.ndarray] = {}
    for way in WAYS:
        for measure, what in MEASURES.items():
            before, after = first.of(measure), ways[way].of(measure)
            whole = np.concatenate([before, after], 1)[..., 0]
            lost[way, measure] = forgetting(whole, measure)
            best = whole.max(1) if measure == "return" else whole.min(1)
            row: dict[str, Value] = {"way": way, "measure": what, "best": over_runs(best)}
            row |= {"after_first": over_runs(before[:, -1, 0]), "end": over_runs(after[:, -1, 0])}
            row |= {"forgetting": over_runs(lost[way, measure]), "second": over_runs(after[:, -1, 1])}
            rows.append(row)
    differences: list[dict[str, Value]] = []
    for measure, what in MEASURES.items():
        second = ways["without"].of(measure)[:, -1, 1] - ways["with"].of(measure)[:, -1, 1]
        between = lost["without", measure] - lost["with", measure]
        differences.append({"measure": what, "forgetting": over_runs(between), "second": over_runs(second)})
    pictures = [
        _picture(measure, index, tasks, first, ways, baselines) for measure in MEASURES for index in (0, 1)
    ]
    more = (Table("The two ways on the same seeds", DIFFERENCES, differences),)
    return Study(name, "forgetting", about, COLUMNS, rows, pictures, METHOD, more)


def _picture(
    measure: str,
    index: int,
    tasks: Sequence[str],
    first: Measured,
    ways: Mapping[str, Measured],
    baselines: Baselines,
) -> Picture:
    """What is measured on one task, over the updates of both trainings; the second begins where the first ends."""
    before = first.of(measure)[..., index]
    lines = [Line("the first task", list(first.steps), _curve(before))]
    for way in WAYS:
        joined = np.concatenate([before[:, -1:], ways[way].of(measure)[..., index]], 1)
        steps = [first.steps[-1], *(first.steps[-1] + step for step in ways[way].steps)]
        lines.append(Line(f"the second, {way} replay", steps, _curve(joined)))
    level, what = (
        (baselines.returns[index], "the policy of the data")
        if measure == "return"
        else (baselines.loss[index], "copying the last row")
    )
    ends = [first.steps[0], first.steps[-1] + ways["with"].steps[-1]]
    flat = estimates([Estimate(level, None, None, 0)] * 2)
    lines.append(Line(what, ends, flat, dashed=True))
    ordinal = ("first", "second")[index]
    caption = f"{MEASURES[measure].capitalize()} on the {ordinal} task, {tasks[index]}."
    return Picture(caption, "updates", MEASURES[measure], lines)


def _curve(values: np.ndarray) -> Curve:
    """The mean over seeds of values [S, P]."""
    return estimates([over_runs(column) for column in values.T])
