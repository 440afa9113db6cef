"""`dreamworld status DIR`: a table of runs: state, step, speed, return, time left, host, error."""

from __future__ import annotations

import dataclasses
import json
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from dreamworld import cli, text
from dreamworld.limits import Range
from dreamworld.sweep.status import STALE_S, is_over, rows
from dreamworld.sweep.table import render, show

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
    given, options = cli.leading_words(argv)
    flags = cli.parse_flags(options, Flags(), prog="dreamworld status DIR", description=DESCRIPTION)
    cli.require_folders(
        "status", given if len(given) == 1 else [], "give one directory: dreamworld status DIR"
    )
    root = text.expand_path(given[0])
    if flags.json:
        print(json.dumps([dataclasses.asdict(row) for row in rows(root, flags.stale_s)], indent=1))
    elif flags.watch:
        watch(root, flags)
    else:
        show(rows(root, flags.stale_s))
    return 0


def watch(root: Path, flags: Flags) -> None:
    """Redraws the table until every run has ended or Ctrl-C."""
    from rich.live import Live

    table = rows(root, flags.stale_s)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)  # here it is no accident
    try:
        with Live(render(table), auto_refresh=False) as live:
            while not is_over(table):
                time.sleep(flags.every_s)
                table = rows(root, flags.stale_s)
                live.update(render(table), refresh=True)
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    from dreamworld import early

    sys.exit(early.run_script("status", main))
