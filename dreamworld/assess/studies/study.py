"""What a study found: rows of numbers with their intervals, for a file, a table and a page."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Callable, Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from dreamworld import words
from dreamworld.assess.intervals import Curve, Estimate
from dreamworld.assess.table import with_interval
from dreamworld.stats.html import document, figure
from dreamworld.stats.plots import COLOURS, GREY

VERSION = 1  # of the file, docs/assess.md
DECADES = 20  # beyond this ratio, ticks are powers of ten and their doubles and halves
Value = Estimate | str | float | int


class Line(NamedTuple):
    """A curve of a picture."""

    name: str
    x: Sequence[float]
    curve: Curve
    dashed: bool = False


class Picture(NamedTuple):
    """Curves over one axis."""

    caption: str
    x: str
    y: str
    lines: list[Line]
    log: bool = False  # both axes; each point is marked


class Table(NamedTuple):
    """Rows of numbers below their heads."""

    name: str
    columns: dict[str, str]  # of the rows: name in the file -> what it says
    rows: list[dict[str, Value]]

    def plain(self) -> list[dict[str, Any]]:
        """The rows as JSON values."""
        return [{key: _plain(value) for key, value in row.items()} for row in self.rows]

    def cells(self) -> list[list[str]]:
        """The rows as text, below the names of their columns."""
        return [list(self.columns.values())] + [
            [_shown(row[key]) for key in self.columns] for row in self.rows
        ]


class Study(NamedTuple):
    """Of one run, or of the trainings that it made."""

    name: str
    kind: str  # the study
    about: dict[str, Any]  # run, agent, checkpoint, segments
    columns: dict[str, str]  # of the rows: name in the file -> what it says
    rows: list[dict[str, Value]]
    pictures: list[Picture]
    method: str
    more: tuple[Table, ...] = ()  # what follows from the rows

    def plain(self) -> dict[str, Any]:
        """The file."""
        curves = [
            {"picture": picture.caption, "name": line.name, "x": list(line.x), **_curve(line.curve)}
            for picture in self.pictures
            for line in picture.lines
        ]
        head = {"version": VERSION, "study": self.kind, "name": self.name, **self.about}
        first, *more = self.tables()
        found = head | {"method": self.method, "rows": first.plain(), "curves": curves}
        return found | ({"tables": {table.name: table.plain() for table in more}} if more else {})

    def cells(self) -> list[list[str]]:
        """The rows as text, below the names of their columns."""
        return self.tables()[0].cells()

    def tables(self) -> list[Table]:
        """All of them, that of the rows first."""
        return [Table("", self.columns, self.rows), *self.more]


def _plain(value: Value) -> Any:
    return value._asdict() if isinstance(value, Estimate) else value


def _curve(curve: Curve) -> dict[str, list[float | None]]:
    found = {"value": curve.value, "low": curve.low, "high": curve.high}
    return {name: [float(x) if np.isfinite(x) else None for x in values] for name, values in found.items()}


def _shown(value: Value) -> str:
    if isinstance(value, Estimate):
        return with_interval(value)
    if isinstance(value, int):
        return f"{value:,}"
    return value if isinstance(value, str) else f"{value:g}"


def estimates(found: Sequence[Estimate]) -> Curve:
    """Estimates beside each other as a curve."""
    number = lambda values: np.array([np.nan if value is None else value for value in values], float)
    return Curve(
        number([one.value for one in found]),
        number([one.low for one in found]),
        number([one.high for one in found]),
        np.array([one.n for one in found]),
    )


def page(studies: Sequence[Study], title: str) -> str:
    """A page that needs nothing else."""
    day = datetime.date.today().isoformat()
    told = f"{describe_all(studies[0].about['segments'])} · {day} · dreamworld assess"
    body = [f'<h1>{escape(title)}</h1><p class="soft">{escape(told)}</p>']
    for study in studies:
        body.append(f"<h2>{escape(study.name)}</h2>")
        cards = [figure(f"{study.kind}{i}", _draw(one), one.caption) for i, one in enumerate(study.pictures)]
        body.append(f'<div class="pair">{"".join(cards)}</div>')
        for table in study.tables():
            body += [f"<h3>{escape(table.name)}</h3>" if table.name else "", _table(table)]
    body.append(f'<h2>Method</h2><p class="soft">{escape(studies[0].method)} See docs/assess.md.</p>')
    return document(title, body)


def describe_all(segments: dict[str, Any] | list[dict[str, Any]]) -> str:
    """Number and hash of the segments of `about`, of which there may be several."""
    found = segments if isinstance(segments, list) else [segments]
    return ", ".join(f"{words.count(one['count'], 'segment')}, hash {one['hash']}" for one in found)


def _table(table: Table) -> str:
    head, *rows = table.cells()
    heads = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    lines = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="table"><table><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table></div>'


def _draw(picture: Picture) -> Callable[[], Figure]:
    def draw() -> Figure:
        shown = Figure((5.0, 3.1), layout="constrained")
        axes = shown.subplots()
        colours = itertools.cycle(COLOURS)
        for line in picture.lines:
            colour = GREY if line.dashed else next(colours)
            kind = "--" if line.dashed else "o-" if picture.log else "-"
            label = "" if picture.log and line.dashed else line.name  # a fit beside its points
            axes.plot(line.x, line.curve.value, kind, color=colour, label=label, markersize=4)
            if np.isfinite(line.curve.low).any():
                axes.fill_between(
                    line.x, line.curve.low, line.curve.high, color=colour, alpha=0.2, linewidth=0
                )
        axes.set(xlabel=picture.x, ylabel=picture.y)
        if picture.log:
            _scale(axes, sorted({x for line in picture.lines for x in line.x}))
        axes.legend(fontsize=8)
        return shown

    return draw


def _scale(axes: Axes, points: list[float]) -> None:
    """Logarithmic axes whose ticks are plain numbers: the points themselves, and a few losses."""
    axes.set(xscale="log", yscale="log")
    axes.set_xticks(points, [f"{x:,.0f}" for x in points])
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(MaxNLocator(6) if high < DECADES * low else LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:.3g}"))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())
