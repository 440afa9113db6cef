"""Segments as a file: arrays and a description, named by the hash of what is in it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from dreamworld import words, writing
from dreamworld.assess.segments import Segments
from dreamworld.datasets.formats.npz import read_arrays
from dreamworld.errors import UserError
from dreamworld.fields import Fields
from dreamworld.reading import BadFile, parse_json, require_inside
from dreamworld.spaces import from_fields

FORMAT, VERSION = "dreamworld segments", 1
META = "meta"
OWN = ("valid", "episode", "row", "label")


def save(segments: Segments, folder: Path, request: dict[str, Any]) -> Path:
    """Writes `segments-<hash>.npz` into a folder; `request` says how they were asked for."""
    meta = {
        "format": FORMAT,
        "version": VERSION,
        "hash": segments.hash,
        "request": request,
    } | segments.plain()
    arrays: dict[str, Any] = segments.arrays()
    arrays[META] = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    path = folder / f"segments-{segments.hash}.npz"
    require_inside(folder.parent, folder)
    folder.mkdir(parents=True, exist_ok=True)
    writing.replace(path, buffer.getvalue())
    return path


def load(path: Path) -> tuple[Segments, Any]:
    """The segments of a file, and how they were asked for; BadFile for anything else."""
    arrays = read_arrays(path)
    if META not in arrays or arrays[META].dtype != np.uint8:
        raise BadFile(path, "holds no segments of `dreamworld assess`")
    row = Fields(parse_json(arrays.pop(META).tobytes(), path), path)
    if row.get("format", None) != FORMAT or row.get("version", None) != VERSION:
        raise BadFile(path, f"holds no segments of version {VERSION}; make them again")
    missing = [name for name in OWN if name not in arrays]
    part = lambda kind: {
        name.removeprefix(f"{kind}/"): value for name, value in arrays.items() if name.startswith(f"{kind}/")
    }
    columns = part("column")
    if missing or "reward" not in columns:
        raise BadFile(path, f"lacks the array {(missing or ['reward'])[0]!r}")
    segments = Segments(
        row.integer("context", 1),
        columns,
        arrays["valid"],
        arrays["episode"],
        arrays["row"],
        arrays["label"],
        tuple(row.items("labels", str)),
        row.text("task"),
        from_fields(row, "obs_space"),
        from_fields(row, "act_space"),
        part("branch"),
    )
    if segments.hash != row.text("hash"):
        raise BadFile(path, f"is damaged: its content has the hash {segments.hash}, not {row.text('hash')}")
    return segments, row.get("request")


def find(folder: Path, request: dict[str, Any]) -> tuple[Segments, Path] | None:
    """The newest segments in a folder that were asked for in the same way; files that can't be read are passed."""
    found = sorted(folder.glob("segments-*.npz"), key=lambda path: path.lstat().st_mtime, reverse=True)
    for path in found:
        try:
            segments, asked = load(path)
        except UserError:
            continue
        if asked == request:
            return segments, path
    return None


def describe(segments: Segments) -> str:
    """`256 segments of 64 episodes (5 + 50 rows, 9a3f…)`."""
    rows = f"{segments.context} + {words.count(segments.horizon, 'row')}"
    return (
        f"{words.count(len(segments), 'segment')} of {words.count(segments.episodes, 'episode')} "
        f"({rows}, hash {segments.hash})"
    )
