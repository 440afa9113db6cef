"""Segments as a file: arrays and a description, named by the hash of what is in it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from dreamworld import words, writing
from dreamworld.assess import tape
from dreamworld.assess.segments import Segments, below
from dreamworld.datasets.episodes import ENDS, FLAG, REWARD
from dreamworld.datasets.formats.npz import read_arrays
from dreamworld.errors import UserError
from dreamworld.fields import Fields
from dreamworld.reading import BadFile, inside, parse_json, require_inside
from dreamworld.replay.layout import as_dtype, finite, is_float
from dreamworld.spaces import from_fields
from dreamworld.types import Space

FORMAT, VERSION = "dreamworld segments", 1
META = "meta"
OWN = ("valid", "episode", "row", "label")
NUMBER = Space((), "int32")


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
    with writing.making(folder):
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
    columns = below("column", arrays)
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
        below("branch", arrays),
    )
    if segments.hash != row.text("hash"):
        raise BadFile(path, f"is damaged: its content has the hash {segments.hash}, not {row.text('hash')}")
    if wrong := _misfit(segments):
        raise BadFile(path, wrong)
    return segments, row.get("request")


def _misfit(segments: Segments) -> str:
    """The first array that does not fit the others or the spaces; empty for none. A right hash says nothing of it."""
    valid = segments.valid
    if valid.ndim != 2 or valid.dtype != bool or not valid.size:
        return "holds 'valid', which must be true or false for each row of each segment"
    if valid.shape[1] <= segments.context or not valid[:, : segments.context + 1].all():
        return f"has segments without a row after the context of {words.count(segments.context, 'row')}"
    arrays = segments.arrays()
    for name, (lead, space) in _wanted(segments).items():
        if name not in arrays:
            return f"lacks the array {name!r:.80}"
        array, shape, dtype = arrays[name], (*lead, *space.shape), as_dtype(space.dtype)
        if array.shape != shape or array.dtype != dtype:
            return f"holds {name!r:.80} as {array.dtype} {array.shape}, not {dtype} {shape}"
        if is_float(dtype) and not finite(array, dtype.name == "bfloat16").all():
            return f"holds {name!r:.80}, in which a number is not finite"
        if space.classes is not None and ((array < 0) | (array >= space.classes)).any():
            return f"holds {name!r:.80}, in which a number is not one of 0 to {space.classes - 1:,}"
    like = {name: valid.shape for name in arrays if name.startswith("column/extra/")}
    if "branch/fan/alive" in arrays:
        lead = arrays["branch/fan/alive"].shape
        like |= {f"branch/fan/obs/{key}": (*lead, *space.shape) for key, space in segments.obs_space.items()}
    if told := tape.misfit(segments):
        return told
    wrong = [name for name, shape in like.items() if _shape(arrays, name)[: len(shape)] != shape]
    return f"holds {min(wrong)!r:.80} of other rows or of another shape than it should be" if wrong else ""


def _shape(arrays: dict[str, np.ndarray], name: str) -> tuple[int, ...]:
    return arrays[name].shape if name in arrays else ()


def _wanted(segments: Segments) -> dict[str, tuple[tuple[int, ...], Space]]:
    """Which arrays there must be: name -> (axes before those of the space, space)."""
    count, rows = segments.valid.shape, segments.branches
    label = Space((), "int32", classes=max(len(segments.labels), 1))
    own = {"episode": (count[:1], NUMBER), "row": (count[:1], NUMBER), "label": (count[:1], label)}
    own |= {f"column/{name}": (count, FLAG) for name in ENDS} | {"column/reward": (count, REWARD)}
    kinds = {"obs": segments.obs_space, "action": segments.act_space}
    for kind, spaces in kinds.items():
        own |= {f"column/{kind}/{key}": (count, space) for key, space in spaces.items()}
    for name in ("fan", "plan", "loop"):
        if not below(name, rows):
            continue
        alive = rows.get(f"{name}/alive", np.zeros((1, 1, 1))).shape  # [M, A, K], [M, P, K] or [M, 2, K]
        lead = alive if len(alive) == 3 and min(alive) > 0 else (1, 1, 1)
        branch = {"segment": (lead[:1], Space((), "int32", classes=count[0])), "alive": (lead, FLAG)}
        held = lead[1:2] if name == "fan" else lead
        branch |= {f"action/{key}": (held, space) for key, space in segments.act_space.items()}
        if name == "plan":
            branch["reward"] = (lead, REWARD)
        if name == "loop":
            lead = (lead[0], 2, lead[2])
            branch["alive"] = (lead, FLAG)
            branch |= {f"obs/{key}": (lead[:2], space) for key, space in segments.obs_space.items()}
        own |= {f"branch/{name}/{key}": value for key, value in branch.items()}
    return own


def find(folder: Path, request: dict[str, Any]) -> tuple[Segments, Path] | None:
    """The newest segments in a folder that were asked for in the same way; files that can't be read are passed."""
    found = sorted(folder.glob("segments-*.npz"), key=lambda path: path.lstat().st_mtime, reverse=True)
    for path in found:
        try:
            segments, asked = load(inside(folder, path.name))
        except UserError:
            continue
        if asked == request:
            return segments, path
    return None


def describe(segments: Segments) -> str:
    """`256 segments of 64 episodes (5 + 50 rows, hash 9a3f…): 128 random, 128 agent of demo`."""
    rows = f"{segments.context} + {words.count(segments.horizon, 'row')}"
    return (
        f"{words.count(len(segments), 'segment')} of {words.count(segments.episodes, 'episode')} "
        f"({rows}, hash {segments.hash}): "
        + ", ".join(f"{count:,} {label}" for label, count in segments.policies.items())
    )
