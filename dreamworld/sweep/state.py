"""A sweep's directory: its lock, its plan, its events, and how far each run has come."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from dreamworld import presets, schema
from dreamworld.errors import UserError
from dreamworld.limits import SILENT
from dreamworld.logging.locks import hold
from dreamworld.logging.rows import write_json
from dreamworld.logging.rundir import RunDir
from dreamworld.reading import BadFile, open_file, require_inside
from dreamworld.stats.files import read_plan, read_status
from dreamworld.sweep.plan import Job
from dreamworld.text import printable
from dreamworld.writing import making

State = Literal["new", "unfinished", "finished"]
PLAN, EVENTS = "sweep.json", "sweep.jsonl"
PARTS = (
    PLAN,
    EVENTS,
    ".sweep.lock",
    "slurm",
    "slurm.json",
    "statistics",
)  # what a sweep writes in its folder


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds a sweep's directory against a second sweep; UserError where one is at work."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(making(folder))
            for name in PARTS:
                if os.path.lexists(folder / name):
                    require_inside(folder, folder / name)
            refused = f"logdir {folder}: a sweep is at work there ({{holder}}); wait, or stop it"
            stack.enter_context(hold(folder / ".sweep.lock", refused))
        except OSError as error:
            raise UserError(
                f"logdir {folder}: can't be written to ({error.strerror}); choose another"
            ) from None
        yield


def state_of(job: Job) -> State:
    """How far the run has come; UserError where its folder holds a run with other settings, or lies in one."""
    rundir = RunDir(job.logdir)
    if not rundir.exists():
        rundir.check_apart()
        return "new"
    changes = presets.diff(rundir.load_config(), job.config)
    silent = schema.marked(job.config, SILENT)
    loud = {key: change for key, change in changes.items() if key not in silent}
    if loud:
        raise UserError(
            f"{job.logdir} holds a run with other settings: {presets.describe_diff(loud)}; "
            "use those of the run (left), or another logdir"
        )
    status = _status_of(job)
    done = status.get("state") == "finished" and (status.get("step") or 0) >= int(job.config.run.steps)
    return "finished" if done else "unfinished"


def progress_of(job: Job) -> int:
    """Agent steps that the run has come to."""
    return int(_status_of(job).get("step") or 0)


def is_finished(job: Job) -> bool:
    """Whether the last heartbeat says so."""
    return _status_of(job).get("state") == "finished"


def _status_of(job: Job) -> dict[str, Any]:
    """The heartbeat of a run, empty where none can be read."""
    try:
        return read_status(job.logdir)
    except BadFile:
        return {}


def save_plan(folder: Path, name: str, jobs: Sequence[Job]) -> None:
    """Records the planned runs; those that an earlier plan had stay in it."""
    try:
        before = read_plan(folder)
    except BadFile:
        before = []
        if (folder / PLAN).is_file():  # kept, for whoever wants to look
            os.replace(folder / PLAN, folder / f"{PLAN}.damaged-{int(time.time())}")
    rows = {row["name"]: row for row in before} | {job.name: job.row() for job in jobs}
    write_json(folder / PLAN, {"name": name, "runs": list(rows.values())})


def forget(folder: Path) -> None:
    """Removes what a sweep that could start no run has written in its new folder."""
    shutil.rmtree(folder / "slurm", ignore_errors=True)
    for name in (PLAN, EVENTS, "slurm.json"):
        (folder / name).unlink(missing_ok=True)


def record(folder: Path, event: str, job: Job, **fields: Any) -> None:
    """Appends one line to the sweep's events."""
    row = {"time": time.time(), "event": event, "run": job.name, **fields}
    with (folder / EVENTS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def last_error(job: Job, lines: int = 200) -> str:
    """What went wrong, in a line: the heartbeat's error, or the last line of the log."""
    error = _status_of(job).get("error", "").strip()
    if error:
        return error.splitlines()[-1]
    try:
        with open_file(job.logdir / "log.txt") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 100 * lines))
            text = file.read().decode("utf-8", "replace").splitlines()
    except (OSError, BadFile):
        return ""
    said = [line.strip() for line in text if line.strip() and not line.startswith("# ")]  # "# ": a command
    return printable(said[-1]) if said else ""
