"""What a study found: rows of numbers with their intervals, for a file, a table and a page."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from dreamworld.assess.intervals import Curve, Estimate
from dreamworld.assess.table import with_interval
from dreamworld.stats.html import document, figure
from dreamworld.stats.plots import COLOURS, GREY

VERSION = 1  # of the file, docs/assess.md
Value = Estimate | str | float


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


class Study(NamedTuple):
    """Of one run."""

    name: str
    kind: str  # the study
    about: dict[str, Any]  # run, agent, checkpoint, segments
    columns: dict[str, str]  # of the rows: name in the file -> what it says
    rows: list[dict[str, Value]]
    pictures: list[Picture]
    method: str

    def plain(self) -> dict[str, Any]:
        """The file."""
        rows = [{key: _plain(value) for key, value in row.items()} for row in self.rows]
        curves = [
            {"picture": picture.caption, "name": line.name, "x": list(line.x), **_curve(line.curve)}
            for picture in self.pictures
            for line in picture.lines
        ]
        head = {"version": VERSION, "study": self.kind, "name": self.name, **self.about}
        return head | {"method": self.method, "rows": rows, "curves": curves}

    def cells(self) -> list[list[str]]:
        """The rows as text, below the names of their columns."""
        return [list(self.columns.values())] + [
            [_shown(row[key]) for key in self.columns] for row in self.rows
        ]


def _plain(value: Value) -> Any:
    return value._asdict() if isinstance(value, Estimate) else value


def _curve(curve: Curve) -> dict[str, list[float | None]]:
    found = {"value": curve.value, "low": curve.low, "high": curve.high}
    return {name: [float(x) if np.isfinite(x) else None for x in values] for name, values in found.items()}


def _shown(value: Value) -> str:
    if isinstance(value, Estimate):
        return with_interval(value)
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
    segments = studies[0].about["segments"]
    told = f"{segments['count']:,} segments, hash {segments['hash']} · {day} · dreamworld assess"
    body = [f'<h1>{escape(title)}</h1><p class="soft">{escape(told)}</p>']
    for study in studies:
        body.append(f"<h2>{escape(study.name)}</h2>")
        cards = [figure(f"{study.kind}{i}", _draw(one), one.caption) for i, one in enumerate(study.pictures)]
        body += [f'<div class="pair">{"".join(cards)}</div>', _table(study)]
    body.append(f'<h2>Method</h2><p class="soft">{escape(studies[0].method)} See docs/assess.md.</p>')
    return document(title, body)


def _table(study: Study) -> str:
    head, *rows = study.cells()
    heads = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    lines = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="table"><table><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table></div>'


def _draw(picture: Picture) -> Callable[[], Figure]:
    def draw() -> Figure:
        shown = Figure((5.0, 3.1), layout="constrained")
        axes = shown.subplots()
        for number, line in enumerate(picture.lines):
            colour = GREY if line.dashed else COLOURS[number % len(COLOURS)]
            axes.plot(line.x, line.curve.value, "--" if line.dashed else "-", color=colour, label=line.name)
            if np.isfinite(line.curve.low).any():
                axes.fill_between(
                    line.x, line.curve.low, line.curve.high, color=colour, alpha=0.2, linewidth=0
                )
        axes.set(xlabel=picture.x, ylabel=picture.y)
        axes.legend(fontsize=8)
        return shown

    return draw
