"""The columns of an episode under the names that files of other programs use, and spaces for those without ours.

A file has the observations by their own names, `action` (or `action/<key>` of several), `extra/<name>`, `reward`,
`is_first`, `is_last` and `is_terminal`, each [rows, ...].
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from dreamworld.datasets.episodes import ENDS, BadEpisode, Episode, Schema, make_flags
from dreamworld.envs.pictures import image_layout
from dreamworld.errors import UserError
from dreamworld.types import Space, Spaces

INDICES = (
    "ep_len",
    "ep_offset",
    "ep_idx",
    "episode_idx",
    "step_idx",
    "discount",
    "logprob",
)  # no observations
MAX_CLASSES = 1 << 16

Columns = dict[str, np.ndarray]


def to_columns(schema: Schema, episode: Episode) -> Columns:
    """The columns of an episode by their names in files; UserError where two would have the same."""
    return {name: episode[key] for key, name in file_names(schema).items()}


def file_names(schema: Schema) -> dict[str, str]:
    """{column: its name in files}."""
    names = {f"obs/{key}": key for key in schema.obs_space}
    one = len(schema.act_space) == 1 and list(schema.act_space) == ["action"]
    names |= {f"action/{key}": "action" if one else f"action/{key}" for key in schema.act_space}
    names |= {f"extra/{key}": f"extra/{key}" for key in schema.extra_space}
    names |= {"reward": "reward"} if schema.has_reward else {}
    for key in schema.obs_space:
        if key.split("/")[0] in ("action", "extra", "reward", *ENDS, *INDICES):
            raise UserError(f"observation {key!r} has a name that files use for something else; rename it")
    refuse_unknown_dtypes(schema)
    return names | {flag: flag for flag in ENDS}


def refuse_unknown_dtypes(schema: Schema) -> None:
    """UserError for columns whose dtype other programs do not know."""
    for key, space in schema.row_spaces().items():
        if space.dtype == "bfloat16":
            raise UserError(f"{key!r} is bfloat16, which the files of other programs do not know")


def from_columns(schema: Schema, columns: Columns, name: str) -> Episode:
    """The episode in the columns of a file, in the dtypes of the spaces; BadEpisode that says what is missing."""
    spaces, names = schema.row_spaces(), file_names(schema)
    rows = len(next(iter(columns.values())))
    flags = make_flags(rows, bool(np.any(columns.get("is_terminal", False))))
    episode: Episode = {}
    for key, column in names.items():
        if column in columns and column not in ENDS:
            episode[key] = as_space(spaces[key], columns[column], key)
        elif column in ENDS:
            episode[key] = _flag(columns.get(column, flags[column]))
        else:
            raise BadEpisode(f"{name} lacks the column {column!r}")
    return episode


def _flag(values: np.ndarray) -> np.ndarray:
    return np.asarray(values).reshape(len(values)).astype(bool)


def as_space(space: Space, values: np.ndarray, key: str) -> np.ndarray:
    """A column in the dtype and layout of its space, as far as that loses nothing but digits of floats."""
    dtype = np.dtype(space.dtype)
    if space.discrete and values.dtype.kind == "f":
        values = _from_onehot(values, space.classes or 0) if values.ndim > len(space.shape) + 1 else values
    if values.dtype == dtype:
        same = values
    elif values.dtype.kind in "biuf" and dtype.kind in "f" and space.dtype == "float32":
        with np.errstate(over="ignore"):
            same = values.astype(dtype)
    elif values.dtype.kind in "biu" and dtype.kind in "biu" and _fits(values, dtype):
        same = values.astype(dtype)
    else:
        return values  # which the check of the episode refuses, with both dtypes in its text
    if space.is_image and same.shape[1:] != space.shape and (layout := _layout(same.shape[1:])):
        same = np.stack([layout(image) for image in same])
    if space.size == np.prod(same.shape[1:], dtype=np.int64):
        same = same.reshape(len(same), *space.shape)  # [rows, 1] of scalars, vectors of high rank
    return np.ascontiguousarray(same)


def _fits(values: np.ndarray, dtype: np.dtype) -> bool:
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return not values.size or (int(values.min()) >= low and int(values.max()) <= high)


def _from_onehot(values: np.ndarray, classes: int) -> np.ndarray:
    """Class indices; rows of zeros, as before the first step, are class 0."""
    return values.argmax(-1).astype(np.int32) if values.shape[-1] == classes else values


def _layout(shape: tuple[int, ...]) -> Any:
    return image_layout(shape) if len(shape) == 3 else None


# --- spaces of files without ours ----------------------------------------------------------------------------


class Seen(NamedTuple):
    """What is known of the columns after a look at all episodes."""

    shapes: dict[str, tuple[str, tuple[int, ...]]]  # dtype and shape of a row
    classes: int  # of an integer action: one more than the largest
    onehot: bool  # every float action is a class


def look(episodes: Iterable[tuple[str, Columns]]) -> Seen:
    """Goes over all episodes once; UserError where two of them have other columns."""
    shapes: dict[str, tuple[str, tuple[int, ...]]] = {}
    classes, onehot, begin = 0, True, ""
    for name, columns in episodes:
        found = {key: (value.dtype.name, value.shape[1:]) for key, value in columns.items()}
        if not shapes:
            shapes, begin = found, name
        elif found != shapes:
            raise UserError(f"{name} {_difference(found, shapes)} as {begin} has; a data set has one kind")
        action = columns.get("action")
        if action is not None and action.dtype.kind in "iu" and action.size:
            if int(action.min()) < 0:
                raise UserError(f"{name}: action holds {int(action.min())}; classes are counted from 0")
            classes = max(classes, int(action.max()) + 1)
        elif action is not None:
            onehot = onehot and _is_onehot(action)
    if not shapes:
        raise UserError("there are no episodes in it")
    return Seen(shapes, classes, onehot)


def _difference(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    key = next(key for key in sorted({*found, *wanted}) if found.get(key) != wanted.get(key))
    show = lambda kind: f"{kind[0]} {kind[1]}"
    if key not in found:
        return f"has no column {key!r}"
    return f"has {key!r} as {show(found[key])}, not {show(wanted[key]) if key in wanted else 'absent'}"


def _is_onehot(action: np.ndarray) -> bool:
    """Whether each row is one class, but rows of zeros, which begin and end episodes."""
    if action.ndim != 2 or action.shape[1] < 2 or not np.isin(action, (0, 1)).all():
        return False
    return bool((action.sum(-1) <= 1).all()) and bool(action.any())


def infer(seen: Seen) -> tuple[Schema, list[str]]:
    """The spaces that such columns most likely have, and notes on what was assumed."""
    notes: list[str] = []
    obs: Spaces = {}
    extra: Spaces = {}
    for key, (dtype, shape) in seen.shapes.items():
        if key in ("action", "reward", *ENDS, *INDICES):
            continue
        if key.startswith("extra/"):
            extra[key.partition("/")[2]] = Space(shape, dtype)
        else:
            obs[key] = _obs_space(dtype, shape)
    left_out = sorted(set(INDICES) & set(seen.shapes) - {"ep_len", "ep_offset"})
    if left_out:
        notes.append(f"left out, as no observations: {', '.join(left_out)}")
    act = {"action": _act_space(seen, notes)} if "action" in seen.shapes else {}
    if not obs:
        raise UserError("it has no observations, only " + ", ".join(sorted(seen.shapes)))
    if "is_terminal" not in seen.shapes:
        notes.append(
            "it does not say which episodes end truly (is_terminal): all are taken as cut by a time limit"
        )
    return Schema(obs, act, extra, "reward" in seen.shapes), notes


def _obs_space(dtype: str, shape: tuple[int, ...]) -> Space:
    if dtype == "uint8" and (layout := _layout(shape)):
        return Space(layout(np.empty(shape, np.uint8)).shape, "uint8", low=0, high=255)
    return Space(shape if len(shape) <= 2 else (int(np.prod(shape)),), "float32")


def _act_space(seen: Seen, notes: list[str]) -> Space:
    dtype, shape = seen.shapes["action"]
    if seen.classes:
        notes.append(f"actions are whole numbers up to {seen.classes - 1}: taken as classes")
        if seen.classes > MAX_CLASSES:
            raise UserError(f"an action is {seen.classes - 1}; classes are below {MAX_CLASSES}")
        return Space(() if shape == (1,) else shape, "int32", classes=seen.classes)
    if seen.onehot:
        notes.append(f"every action is one of {shape[0]} unit vectors: taken as a class")
        return Space((), "int32", classes=shape[0])
    if "float" not in dtype:
        raise UserError(f"action has the dtype {dtype}; expected whole or floating numbers")
    notes.append("continuous actions are taken as they are: the agent acts in [-1, 1]")
    return Space(shape, "float32", low=-1, high=1)
