"""The tables of a sweep: its plan, and the runs as `dreamworld status` shows them and a sweep ends with."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from dreamworld import words
from dreamworld.logging.progress import format_duration
from dreamworld.sweep.plan import Job
from dreamworld.sweep.spec import Spec
from dreamworld.sweep.state import State
from dreamworld.sweep.status import Row, summary
from dreamworld.text import marked

if TYPE_CHECKING:
    from rich.console import RenderableType

COLOURS = {"finished": "green", "running": "cyan", "starting": "cyan", "failed": "red", "waiting": "dim"}
WIDTH = 160  # of a table that goes to a file


def show(found: list[Row], most: int = 0) -> None:
    """Prints the table on stdout; of more than `most` runs (0: no limit) those that are not finished."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console.width = WIDTH
    short = most and len(found) > most
    console.print(
        render([row for row in found if row.state != "finished"] if short else found, summary(found))
    )


def render(found: list[Row], last: str = "") -> RenderableType:
    """The table, with a line that counts the states."""
    from rich import box
    from rich.console import Group
    from rich.table import Table

    grid = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("run", "state"):
        grid.add_column(name, no_wrap=True)
    for name in ("step", "", "fps", "return", "left"):
        grid.add_column(name, justify="right", no_wrap=True)
    for name in ("host", "heartbeat"):
        grid.add_column(name, no_wrap=True)
    for row in found:
        colour = COLOURS.get(row.state, "yellow")
        share = words.percent(row.step, row.steps) if row.step is not None and row.steps else ""
        cells = [
            marked(row.run),
            f"[{colour}]{marked(row.state)}[/]",
            _count(row.step),
            share,
            "" if row.fps is None else _rate(row.fps),
        ]
        cells += [_return(row.mean_return), _duration(row.eta_s), marked(row.host)]
        silent = row.heartbeat_s is None or row.state == "finished"
        grid.add_row(*cells, "" if silent else f"{_duration(row.heartbeat_s)} ago")
    errors = [f"[red]{marked(row.run)}[/]: {marked(row.error)}" for row in found if row.error]
    return Group(*([grid] if found else []), *errors, marked(last or summary(found)))


def _count(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) < 1e15 else f"{value:.3g}"


def _rate(value: float) -> str:
    return words.rate(value) if abs(value) < 1e15 else f"{value:.3g}"


def _return(value: float | None) -> str:
    return "" if value is None else f"{value:,.4g}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return format_duration(seconds) if abs(seconds) < 1e10 else "?"


def print_plan(spec: Spec, jobs: Sequence[Job], states: Mapping[str, State]) -> None:
    """A table: methods and tasks, their seeds, and how many runs are finished, begun and new."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(file=sys.stdout)
    if not console.is_terminal:
        console.width = 120
    table = Table(
        box=box.SIMPLE_HEAD,
        title=marked(f"{spec.name}: {words.count(len(jobs), 'run')} in {spec.folder}"),
        title_justify="left",
    )
    for name in ("method", "task", "seeds", "steps", "finished", "begun", "new"):
        table.add_column(name, justify="left" if name in ("method", "task", "seeds") else "right")
    cells: dict[tuple[str, str], list[Job]] = {}
    for job in jobs:
        cells.setdefault((job.variant, job.task), []).append(job)
    for (variant, task), group in cells.items():
        found = [states[job.name] for job in group]
        counts = [found.count("finished"), found.count("unfinished"), found.count("new")]
        seeds = ", ".join(str(job.seed) for job in group)
        steps = f"{group[0].config.run.steps:,.0f}"
        row = [variant or "(one method)", task, seeds, steps, *(str(count or "") for count in counts)]
        table.add_row(*(marked(cell) for cell in row))
    console.print(table, highlight=False)
