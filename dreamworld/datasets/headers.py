"""`dataset.json` and `spaces.json`: what a data set holds, checked field by field. May be written by anybody."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from dreamworld import text, words, writing
from dreamworld.datasets.episodes import Schema
from dreamworld.errors import UserError
from dreamworld.fields import Fields, read_fields
from dreamworld.reading import BadFile, inside, is_number
from dreamworld.replay.manifest import ROWS, read_names
from dreamworld.spaces import DATA_SET, from_fields, to_plain

VERSION = 1
HEADER, SPACES = DATA_SET, "spaces.json"
MAX_BYTES = 256 << 20  # of dataset.json: 40 bytes an episode
LENGTH, POLICY, FILE, TERMINAL = range(4)  # columns of `episodes`
MAX_ROWS = 1 << 40  # of an episode
MAX_RETURN = 1e51  # of 2^40 rewards that fit float32
FORMAT = "dreamworld data set"


@dataclasses.dataclass(frozen=True)
class Header:
    """What is known of a data set without reading its rows."""

    source: str  # where it came from
    task: str  # environment that it was recorded in; empty where that is not known
    policies: tuple[str, ...]  # labels of the episodes
    files: tuple[str, ...]
    episodes: np.ndarray  # [E, 4] int64, see LENGTH … TERMINAL
    returns: tuple[float, ...]  # of each episode; empty without reward

    @property
    def steps(self) -> int:
        """Actions that led to a row: one less than rows in each episode."""
        return int(self.episodes[:, LENGTH].sum()) - len(self.episodes)


def empty_header(source: str, task: str) -> Header:
    """That of a data set without episodes."""
    return Header(source, task, (), (), np.zeros((0, 4), np.int64), ())


def schema_to_plain(schema: Schema) -> dict[str, Any]:
    """The spaces as JSON values."""
    return {
        "obs": to_plain(schema.obs_space),
        "act": to_plain(schema.act_space),
        "extra": to_plain(schema.extra_space),
    }


def schema_from_fields(row: Fields, absent: list[Any]) -> Schema:
    """The spaces that `schema_to_plain` wrote; BadFile that names the field for anything else."""
    spaces = {key: from_fields(row, key) if row.fields(key).row else {} for key in ("obs", "act", "extra")}
    if not spaces["obs"]:
        raise BadFile(row.path, f"{row.name('obs')} must be a mapping of spaces, and is empty")
    for key, found in spaces.items():
        for name in found:
            _check_text(row, f"a name in {key}", name)
    known = all(isinstance(name, str) for name in absent) and set(absent) <= {"reward", "action"}
    if not known or ("action" in absent) == bool(spaces["act"]):
        raise BadFile(row.path, "its actions and what it calls absent contradict each other")
    return Schema(spaces["obs"], spaces["act"], spaces["extra"], "reward" not in absent)


def write_spaces(path: Path, schema: Schema, task: str) -> None:
    """Replaces spaces.json, in which a run's fields are, too."""
    row = {
        "environment": task or "unknown",
        "given": False,
        "folder": text.current_folder(),
        **schema_to_plain(schema),
    }
    writing.replace(path, json.dumps(row, indent=1, allow_nan=False) + "\n")


def write_header(path: Path, header: Header, schema: Schema) -> None:
    """Replaces dataset.json atomically."""
    row = {
        "format": FORMAT,
        "version": VERSION,
        "source": header.source,
        "task": header.task,
        "absent": schema.absent,
        "policies": list(header.policies),
        "steps": header.steps,
        "files": list(header.files),
        "episodes": header.episodes.tolist(),
        "returns": list(header.returns),
    }
    writing.replace(path, json.dumps(row, separators=(",", ":"), allow_nan=False) + "\n")


def read_headers(folder: Path) -> tuple[Header, Schema]:
    """What the two files hold; BadFile that names file and field where they hold anything else."""
    row = read_fields(inside(folder, HEADER), MAX_BYTES)
    if row.get("format", None) != FORMAT:
        raise BadFile(row.path, f"is not the header of a data set (its format must be {FORMAT!r})")
    if row.get("version") != VERSION:
        raise BadFile(
            row.path, f"has the format version {row.get('version')!r:.40}; this one reads {VERSION}"
        )
    schema = schema_from_fields(read_fields(inside(folder, SPACES)), row.items("absent"))
    header = Header(
        _check_text(row, "source", row.text("source")),
        _check_text(row, "task", row.text("task")),
        tuple(_check_text(row, "policies", name) for name in row.items("policies", str)),
        tuple(read_names(row, "files", re.compile(ROWS.pattern))),
        row.table("episodes", 4),
        _numbers(row, "returns"),
    )
    _check_header(row, header, schema)
    return header, schema


def _check_header(row: Fields, header: Header, schema: Schema) -> None:
    table = header.episodes
    highs = {LENGTH: MAX_ROWS, POLICY: len(header.policies), FILE: len(header.files), TERMINAL: 2}
    for column, high in highs.items():
        values = table[:, column]
        if len(values) and not (2 * (column == LENGTH) <= values.min() and values.max() < high):
            raise row.bad("episodes", f"rows whose column {column} is in its range")
    if (np.diff(table[:, FILE]) < 0).any():
        raise row.bad("episodes", "rows in the order of the files")
    if row.integer("steps") != header.steps:
        found = words.count(header.steps, "step")
        raise row.bad("steps", f"the {found} of its episodes")
    if len(header.returns) != (len(table) if schema.has_reward else 0):
        raise row.bad("returns", "a number for each episode")


def _numbers(row: Fields, key: str) -> tuple[float, ...]:
    values = row.items(key)
    if not all(is_number(value) and abs(value) <= MAX_RETURN for value in values):
        raise row.bad(key, f"a list of finite numbers, up to {MAX_RETURN:g}")
    return tuple(map(float, values))


def _check_text(row: Fields, key: str, value: str) -> str:
    try:
        text.check(key, value)
    except UserError as error:
        raise BadFile(row.path, str(error)) from None
    return value
