"""The state of runs below a directory, from their heartbeats and from the sweep that planned them."""

from __future__ import annotations

import dataclasses
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dreamworld import system, words
from dreamworld.errors import UserError
from dreamworld.reading import BadFile, is_number
from dreamworld.stats.files import read_config, read_events, read_plan, read_status
from dreamworld.stats.finding import find_runs
from dreamworld.stats.scores import flatten
from dreamworld.text import printable

STALE_S = 120.0
STARTING_S = 900.0  # compilation and filling the replay come before the first heartbeat
ALIVE = ("starting", "running")
UNREADABLE = "unreadable"  # a file of the run can't be read; the error says which and why


@dataclasses.dataclass(frozen=True)
class Row:
    """One run as `dreamworld status` shows it."""

    run: str  # relative to the directory asked about
    state: str  # waiting, starting, running, finished, preempted, failed, lost (its process is gone), lost?
    step: int | None = None
    steps: int | None = None
    fps: float | None = None
    mean_return: float | None = None
    eta_s: float | None = None
    host: str = ""
    heartbeat_s: float | None = None  # age of the last heartbeat
    error: str = ""  # its last line


def rows(root: Path, stale_s: float = STALE_S) -> list[Row]:
    """One row per run at or below `root`, and one per run that a sweep there planned and has not started.

    UserError where there is nothing to show.
    """
    runs = find_runs(root)
    plan, bad_plan = _tried(read_plan, root, [])
    events, bad_events = _tried(read_events, root, {})
    planned = [row["name"] for row in plan]
    found = {_name(root, path): path for path in runs}
    names = [*dict.fromkeys(planned), *(name for name in found if name not in set(planned))]
    unread = [
        Row(name, UNREADABLE, error=line)
        for name, line in (("sweep.json", bad_plan), ("sweep.jsonl", bad_events))
        if line
    ]
    if not names and not unread:
        raise UserError(f"{root} holds no runs and no sweep; give the directory of one")
    return unread + [
        _row(name, found[name], events.get(name, {}), stale_s)
        if name in found
        else _not_begun(name, events.get(name, {}))
        for name in names
    ]


def _not_begun(name: str, event: dict[str, Any]) -> Row:
    """A planned run that has no files: it waits, or what was wrong came before them."""
    if event.get("event") != "failed":
        return Row(name, "waiting")
    return Row(name, "failed", error=_why(event))


def _why(event: dict[str, Any]) -> str:
    return str(event.get("error") or f"exit code {event.get('code')}")


def _tried(read: Callable[[Path], Any], root: Path, instead: Any) -> tuple[Any, str]:
    """What `read` gives for `root`, or `instead` and what is wrong."""
    try:
        return read(root), ""
    except BadFile as error:
        return instead, str(error)


def _name(root: Path, path: Path) -> str:
    name = path.relative_to(root).as_posix()
    return printable(path.name if name == "." else name)


def _row(name: str, path: Path, event: dict[str, Any], stale_s: float) -> Row:
    status, bad = _tried(read_status, path, {})
    if bad:
        return Row(name, UNREADABLE, error=bad)
    state = status.get("state", "waiting")
    age = max(0.0, time.time() - status["updated"]) if "updated" in status else None
    if state in ALIVE and age is not None:
        config, bad = _tried(read_config, path, {})
        state = _presence(config, status, state, age, stale_s)
    error = status.get("error", "")
    if event.get("event") == "failed" and state != "finished":
        state, error = "failed", error or _why(event)
    return Row(
        run=name,
        state=state,
        step=status.get("step"),
        steps=status.get("steps"),
        fps=status.get("fps") if state in ALIVE else None,
        mean_return=status.get("return"),
        eta_s=status.get("eta_s") if state in ALIVE else None,
        host=status.get("host", ""),
        heartbeat_s=age,
        error=bad or printable((error.strip().splitlines() or [""])[-1]),
    )


def _presence(config: dict[str, Any], status: dict[str, Any], state: str, age: float, stale_s: float) -> str:
    """`lost` where its process is gone, `lost?` where its heartbeat is overdue, else the state it says."""
    if status.get("host") == socket.gethostname() and status.get("pid"):
        return state if system.is_alive(int(status["pid"])) else "lost"
    if state == "starting":
        return "lost?" if age > max(stale_s, STARTING_S) else state
    return "lost?" if age > max(stale_s, 3 * _interval_s(config, status)) else state


def _interval_s(config: dict[str, Any], status: dict[str, Any]) -> float:
    """Seconds between two heartbeats at the run's own speed: slow runs log rarely."""
    options = flatten(config)
    fps = float(status.get("fps") or 0)
    if fps <= 0:
        return 0.0
    task = str(options.get("task", ""))
    repeat = options.get("env.atari.repeat" if task.startswith("atari") else "env.repeat", 1)
    every = options.get("run.log_every", 0)
    return float(every) * float(repeat) / fps if is_number(every) and is_number(repeat) else 0.0


def summary(table: list[Row]) -> str:
    """`3 finished, 2 running, 1 failed of 6 runs`."""
    counts: dict[str, int] = {}
    for row in table:
        counts[row.state] = counts.get(row.state, 0) + 1
    listed = ", ".join(
        f"{count} {state}" for state, count in sorted(counts.items(), key=lambda item: -item[1])
    )
    return f"{listed} of {words.count(len(table), 'run')}"


def is_over(table: list[Row]) -> bool:
    """Whether nothing will change any more unless somebody starts something."""
    return all(row.state in ("finished", "failed", "lost", "preempted", UNREADABLE) for row in table)
