"""The files of a run and of a sweep as reports and `status` read them: whoever wrote them, a mapping or `BadFile`.

Text that comes from here is printable, numbers are finite, and nothing is read through a link that leaves the run.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dreamworld import plainyaml, reading
from dreamworld.fields import Fields
from dreamworld.limits import MAX_STEP
from dreamworld.reading import INT64, BadFile, MissingFile, inside, is_number
from dreamworld.text import printable

NUMBERS = ("fps", "return", "eta_s", "updated")
TEXTS = ("state", "host", "error", "task", "device")
MAX_RUNS = 100_000  # of a sweep
MAX_ERROR = 4000  # characters
LARGE = 1e30  # returns and frames beyond are none
COUNTS = {"step": MAX_STEP, "steps": MAX_STEP, "updates": 1 << 53, "frames": 1 << 53} | dict.fromkeys(
    ("pid", "seed"), INT64 - 1
)  # and the largest that each can be


def read_status(path: Path) -> dict[str, Any]:
    """The heartbeat in run directory `path`, empty where there is none; BadFile names what is wrong with it."""
    file = inside(path, "status.json")
    try:
        found = Fields(reading.read_json(file, reading.MAX_STATUS), file)
    except MissingFile:
        return {}
    status: dict[str, Any] = {}
    for key in found:
        value = found.get(key)
        if key in COUNTS and value is not None:
            status[key] = found.integer(key, 0, COUNTS[key])
        elif key in NUMBERS and value is not None:
            status[key] = found.number(key)
        elif key in TEXTS and value is not None:
            lines = found.text(key)[-MAX_ERROR:].strip().splitlines()
            status[key] = "\n".join(map(printable, lines)) if key == "error" else printable(" ".join(lines))
    return status


def read_config(path: Path) -> dict[str, Any]:
    """The resolved config in run directory `path`, empty where there is none; BadFile names what is wrong with it."""
    file = inside(path, "config.yaml")
    try:
        config = plainyaml.read_yaml(file, typed=True)
    except MissingFile:
        return {}
    except BadFile as error:
        raise BadFile(file, f"is unreadable: {error.reason}") from None
    return _printable(Fields(config, file).row)


def _printable(value: object) -> Any:
    if isinstance(value, dict):
        return {printable(key): _printable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_printable(item) for item in value]
    return printable(value) if isinstance(value, str) else value


def read_rows(path: Path) -> Iterator[dict[str, Any] | None]:
    """Rows of a log with a number as `step`; None for each line that is none."""
    for row in reading.read_rows(inside(path.parent, path.name)):
        yield row if row is not None and is_number(row.get("step")) and 0 <= row["step"] <= MAX_STEP else None


def is_sane(value: Any) -> bool:
    """Whether a value of a row is a number that can be summed and drawn."""
    return is_number(value) and abs(value) <= LARGE


def read_plan(path: Path) -> list[dict[str, Any]]:
    """The runs that a sweep in `path` planned, each with name, task, seed and variant; or nothing. Raises BadFile."""
    file = inside(path, "sweep.json")
    try:
        found = Fields(reading.read_json(file), file)
    except MissingFile:
        return []
    rows = found.rows("runs")
    if len(rows) > MAX_RUNS:
        raise BadFile(file, f"plans {len(rows):,} runs, more than {MAX_RUNS:,}")
    plan = []
    for row in rows:
        texts = {key: printable(row.text(key)) for key in ("name", "task", "variant")}
        plan.append({**row.row, **texts, "seed": row.integer("seed")})
    return plan


def read_events(path: Path) -> dict[str, dict[str, Any]]:
    """The last event of each run in the log of a sweep in `path`; damaged lines are left out. Raises BadFile."""
    last: dict[str, dict[str, Any]] = {}
    for row in reading.read_rows(inside(path, "sweep.jsonl")):
        if row is not None and isinstance(row.get("run"), str):
            last[printable(row["run"])] = row
    return last
