"""The state of runs below a directory, from their heartbeats and from the sweep that planned them."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import time
from pathlib import Path
from typing import Any

from dreamworld.errors import UserError
from dreamworld.stats.groups import read_plan
from dreamworld.stats.scores import find_runs, flatten, read_config, read_status
from dreamworld.sweep.state import EVENTS

STALE_S = 120.0
STARTING_S = 900.0  # compilation and filling the replay come before the first heartbeat
ALIVE = ("starting", "running")


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
    planned = [row["name"] for row in read_plan(root)]
    events = _last_events(root)
    found = {_name(root, path): path for path in runs}
    names = [*planned, *(name for name in found if name not in planned)]
    if not names:
        raise UserError(f"{root} holds no runs and no sweep; give the directory of one")
    return [
        _row(name, found[name], events.get(name, {}), stale_s) if name in found else Row(name, "waiting")
        for name in names
    ]


def _name(root: Path, path: Path) -> str:
    name = path.relative_to(root).as_posix()
    return path.name if name == "." else name


def _last_events(root: Path) -> dict[str, dict[str, Any]]:
    """The last event of each run in the sweep's log."""
    last = {}
    if (root / EVENTS).is_file():
        for line in (root / EVENTS).read_text("utf-8").splitlines():
            try:
                event = json.loads(line)
                last[event["run"]] = event
            except (ValueError, KeyError):
                continue
    return last


def _row(name: str, path: Path, event: dict[str, Any], stale_s: float) -> Row:
    status = read_status(path)
    state = str(status.get("state", "waiting"))
    age = max(0.0, time.time() - status["updated"]) if "updated" in status else None
    if state in ALIVE and age is not None:
        state = _presence(path, status, state, age, stale_s)
    error = str(status.get("error") or "")
    if event.get("event") == "failed" and state != "finished":
        state, error = "failed", error or str(event.get("error") or f"exit code {event.get('code')}")
    return Row(
        run=name,
        state=state,
        step=status.get("step"),
        steps=status.get("steps"),
        fps=status.get("fps") if state in ALIVE else None,
        mean_return=status.get("return"),
        eta_s=status.get("eta_s") if state in ALIVE else None,
        host=str(status.get("host", "")),
        heartbeat_s=age,
        error=(error.strip().splitlines() or [""])[-1],
    )


def _presence(path: Path, status: dict[str, Any], state: str, age: float, stale_s: float) -> str:
    """`lost` where its process is gone, `lost?` where its heartbeat is overdue, else the state it says."""
    if status.get("host") == socket.gethostname() and status.get("pid"):
        return state if _is_alive(int(status["pid"])) else "lost"
    if state == "starting":
        return "lost?" if age > max(stale_s, STARTING_S) else state
    return "lost?" if age > max(stale_s, 3 * _interval_s(path, status)) else state


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _interval_s(path: Path, status: dict[str, Any]) -> float:
    """Seconds between two heartbeats at the run's own speed: slow runs log rarely."""
    options = flatten(read_config(path))
    fps = float(status.get("fps") or 0)
    if not fps:
        return 0.0
    task = str(options.get("task", ""))
    repeat = options.get("env.atari.repeat" if task.startswith("atari") else "env.repeat", 1)
    return float(options.get("run.log_every", 0)) * float(repeat) / fps


def summary(table: list[Row]) -> str:
    """`3 finished, 2 running, 1 failed of 6 runs`."""
    counts: dict[str, int] = {}
    for row in table:
        counts[row.state] = counts.get(row.state, 0) + 1
    listed = ", ".join(
        f"{count} {state}" for state, count in sorted(counts.items(), key=lambda item: -item[1])
    )
    return f"{listed} of {len(table)} run{'s' if len(table) > 1 else ''}"


def is_over(table: list[Row]) -> bool:
    """Whether nothing will change any more unless somebody starts something."""
    return all(row.state in ("finished", "failed", "lost", "preempted") for row in table)
