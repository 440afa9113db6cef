"""`dreamworld status DIR`: a table of runs: state, step, speed, return, time left, host, error."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from dreamworld import cli, text
from dreamworld.errors import UserError
from dreamworld.limits import Range
from dreamworld.logging.progress import format_duration
from dreamworld.sweep.status import STALE_S, Row, is_over, rows, summary
from dreamworld.text import marked

if TYPE_CHECKING:
    from rich.console import RenderableType

COLOURS = {"finished": "green", "running": "cyan", "starting": "cyan", "failed": "red", "waiting": "dim"}
DESCRIPTION = "Show the state of the runs at or below a directory: dreamworld status DIR"


@dataclasses.dataclass(frozen=True)
class Flags:
    watch: bool = False
    """Refresh until every run has ended; Ctrl-C leaves."""
    json: bool = False
    """Print one JSON list, a row per run."""
    stale_s: Annotated[float, Range(0, 1e9)] = STALE_S
    """A run on another host whose heartbeat is older (and overdue) is shown as `lost?`."""
    every_s: Annotated[float, Range(0.1, 1e6)] = 2.0
    """Seconds between refreshes."""


def main(argv: Sequence[str]) -> int:
    """Prints the table; returns the exit code."""
    first = next((index for index, word in enumerate(argv) if word.startswith("-")), len(argv))
    flags = cli.parse_flags(argv[first:], Flags(), prog="dreamworld status DIR", description=DESCRIPTION)
    if first != 1:
        raise UserError("status: give one directory: dreamworld status DIR")
    text.check("DIR", argv[0])
    root = Path(argv[0]).expanduser()
    if flags.json:
        print(json.dumps([dataclasses.asdict(row) for row in rows(root, flags.stale_s)], indent=1))
    elif flags.watch:
        watch(root, flags)
    else:
        from rich.console import Console

        console = Console()
        if not console.is_terminal:
            console.width = 160
        console.print(render(rows(root, flags.stale_s)))
    return 0


def watch(root: Path, flags: Flags) -> None:
    """Redraws the table until every run has ended or Ctrl-C."""
    from rich.live import Live

    table = rows(root, flags.stale_s)
    try:
        with Live(render(table), auto_refresh=False) as live:
            while not is_over(table):
                time.sleep(flags.every_s)
                table = rows(root, flags.stale_s)
                live.update(render(table), refresh=True)
    except KeyboardInterrupt:
        return


def render(found: list[Row]) -> RenderableType:
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
        share = f"{min(row.step / row.steps, 99):.0%}" if row.step is not None and row.steps else ""
        cells = [
            marked(row.run),
            f"[{colour}]{marked(row.state)}[/]",
            _count(row.step),
            share,
            _count(row.fps),
        ]
        cells += [_return(row.mean_return), _duration(row.eta_s), marked(row.host)]
        silent = row.heartbeat_s is None or row.state == "finished"
        grid.add_row(*cells, "" if silent else f"{_duration(row.heartbeat_s)} ago")
    errors = [f"[red]{marked(row.run)}[/]: {marked(row.error)}" for row in found if row.error]
    return Group(grid, *errors, marked(summary(found)))


def _count(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) < 1e15 else f"{value:.3g}"


def _return(value: float | None) -> str:
    return "" if value is None else f"{value:,.4g}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return format_duration(seconds) if abs(seconds) < 1e10 else "?"


if __name__ == "__main__":
    sys.exit(cli.run(main, sys.argv[1:]))
