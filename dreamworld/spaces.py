"""Spaces in words, compared, and as plain JSON values."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from dreamworld import words
from dreamworld.errors import UserError
from dreamworld.fields import Fields
from dreamworld.reading import BadFile, is_number
from dreamworld.types import DTYPES, Native, Space, Spaces

DATA_SET = "dataset.json"  # beside spaces.json: what makes a folder a data set, and no run
MAX_RANK = 32
MAX_KEYS = 1000  # observations, or actions: compiling an agent takes 10 to 20 ms for each
MAX_SIZE = 1 << 30  # classes, or bytes of a row


def describe_space(space: Space) -> str:
    """`uint8 (64, 64, 3)`, `2 x 5 classes`, `float32 (6,)`."""
    if space.discrete:
        classes = words.count(space.classes or 0, "class", "classes")
        return f"{space.size} x {classes}" if space.shape else classes
    return f"{space.dtype} {space.shape}"


def describe_spaces(spaces: Spaces) -> str:
    """`place: float32 (3,), state/phase: 4 classes`."""
    return ", ".join(f"{key}: {describe_space(space)}" for key, space in sorted(spaces.items()))


class Described:
    """Mixin of environments whose `repr` is one short line: how many they are, what they show and what they take."""

    def __repr__(self) -> str:
        spaces: Any = self
        number = getattr(self, "num_envs", None)
        said = [] if number is None else [words.count(number, "environment")]
        said += [f"shows {describe_spaces(spaces.obs_space)}", f"takes {describe_spaces(spaces.act_space)}"]
        return f"{type(self).__name__}({'; '.join(said)})"


def difference(what: str, found: Spaces, wanted: Spaces) -> str:
    """The first key in which two sets of spaces differ, `action 'a' is 2 classes, not 3 classes`; empty for none.

    Bounds of observations are not compared: an agent does not depend on them. An action's own bounds are.
    """
    for key in sorted({*found, *wanted}):
        if key not in found or key not in wanted:
            state = "missing" if key in wanted else f"{describe_space(found[key])}, which was not there"
            return f"{what} {key!r} is {state}" + (
                f", not {describe_space(wanted[key])}" if key in wanted else ""
            )
        one, other = found[key], wanted[key]
        if (one.shape, one.dtype, one.classes) != (other.shape, other.dtype, other.classes):
            return f"{what} {key!r} is {describe_space(one)}, not {describe_space(other)}"
        if one.native != other.native and one.native and other.native:
            return f"{what} {key!r} is {_describe_native(one.native)}, not {_describe_native(other.native)}"
    return ""


def _describe_native(native: Native) -> str:
    pick = lambda values: (
        f"{values[0]:g}" if len(set(values)) == 1 else str([float(f"{x:g}") for x in values])
    )
    return f"{native.dtype} from {pick(native.low)} to {pick(native.high)}"


def to_plain(spaces: Spaces) -> dict[str, Any]:
    """Spaces as JSON values; an infinite bound is null."""
    return {key: _space_to_plain(space) for key, space in spaces.items()}


def _space_to_plain(space: Space) -> dict[str, Any]:
    bound = lambda value: float(value) if math.isfinite(value) else None
    row: dict[str, Any] = {
        "shape": list(space.shape),
        "dtype": space.dtype,
        "classes": space.classes,
        "low": bound(space.low),
        "high": bound(space.high),
    }
    if space.native is not None:
        low, high, dtype = space.native
        row["native"] = {"low": list(low), "high": list(high), "dtype": dtype}
    return row


def from_fields(spaces: Fields, what: str) -> Spaces:
    """Spaces from what `to_plain` wrote, at the key `what`; BadFile that names the field for anything else."""
    rows = spaces.fields(what)
    if not rows.row:
        raise BadFile(spaces.path, f"{spaces.name(what)} must be a mapping of spaces, and is empty")
    if len(rows.row) > MAX_KEYS:
        raise BadFile(
            spaces.path, f"{spaces.name(what)} has {len(rows.row):,} spaces, of at most {MAX_KEYS:,}"
        )
    found = {key: _space(rows.fields(key)) for key in rows}
    if sum(math.prod(space.shape) * _itemsize(space.dtype) for space in found.values()) > MAX_SIZE:
        raise spaces.bad(what, f"spaces of which a row has at most {words.size(MAX_SIZE)}")
    return found


def _space(row: Fields) -> Space:
    shape = row.items("shape", int)
    if (
        len(shape) > MAX_RANK
        or any(type(side) is not int or side < 0 for side in shape)
        or math.prod(shape) * _itemsize(_dtype(row)) > MAX_SIZE
    ):
        raise row.bad("shape", f"a list of whole numbers, of at most {words.size(MAX_SIZE)}")
    classes = None if row.get("classes") is None else row.integer("classes", 1, MAX_SIZE)
    low = -math.inf if row.get("low") is None else row.number("low")
    high = math.inf if row.get("high") is None else row.number("high")
    native = row.fields("native") if row.get("native", None) is not None else None
    try:
        space = Space(tuple(shape), _dtype(row), classes=classes, low=low, high=high)
    except BadFile:
        raise
    except UserError as error:
        raise BadFile(row.path, f"{row.where} is no space: {error}") from None
    if native is None:
        return space
    low, high = (_native_bounds(native, name, space) for name in ("low", "high"))
    return dataclasses.replace(space, native=Native(low, high, _dtype(native)))


def _dtype(row: Fields) -> str:
    if row.text("dtype") not in DTYPES:
        raise row.bad("dtype", f"one of {', '.join(DTYPES)}")
    return row.text("dtype")


def _itemsize(dtype: str) -> int:
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


def _native_bounds(row: Fields, name: str, space: Space) -> tuple[Any, ...]:
    values = row.get(name)
    fits = lambda x: is_number(x) and (isinstance(x, int) or not space.discrete)
    if not isinstance(values, list) or len(values) != space.size or not all(map(fits, values)):
        kind = "whole" if space.discrete else "finite"
        raise row.bad(name, f"a list of {words.count(space.size, f'{kind} number')}")
    return tuple(values)
