"""Spaces in words, compared, and as plain JSON values."""

from __future__ import annotations

import math
from typing import Any

from dreamworld.errors import UserError
from dreamworld.types import DTYPES, Native, Space, Spaces

MAX_RANK = 16


def describe_space(space: Space) -> str:
    """`uint8 (64, 64, 3)`, `2 x 5 classes`, `float32 (6,)`."""
    if space.discrete:
        return f"{space.size} x {space.classes} classes" if space.shape else f"{space.classes} classes"
    return f"{space.dtype} {space.shape}"


def describe_spaces(spaces: Spaces) -> str:
    """`place: float32 (3,), state/phase: 4 classes`."""
    return ", ".join(f"{key}: {describe_space(space)}" for key, space in sorted(spaces.items()))


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


def from_plain(value: Any, where: str) -> Spaces:
    """Spaces from what `to_plain` wrote; UserError that names the entry for anything else."""
    if not isinstance(value, dict) or not value:
        raise UserError(f"{where}: expects an object of spaces")
    return {key: _space_from_plain(row, f"{where}.{key}") for key, row in value.items()}


def _space_from_plain(row: Any, where: str) -> Space:
    if not isinstance(row, dict):
        raise UserError(f"{where}: expects an object")
    shape, classes = row.get("shape"), row.get("classes")
    if not isinstance(shape, list) or len(shape) > MAX_RANK:
        raise UserError(f"{where}.shape: expects a list of whole numbers")
    low, high = (_bound(row.get(name), f"{where}.{name}") for name in ("low", "high"))
    low, high = -math.inf if low is None else low, math.inf if high is None else high
    native = _native_from_plain(row["native"], f"{where}.native") if row.get("native") is not None else None
    try:
        space = Space(tuple(shape), str(row.get("dtype")), classes=classes, low=low, high=high, native=native)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    if native is not None and not len(native.low) == len(native.high) == space.size:
        raise UserError(f"{where}.native: expects {space.size} bounds, one per element")
    return space


def _bound(value: Any, where: str) -> float | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise UserError(f"{where}: expects a number or null")
    return value


def _native_from_plain(row: Any, where: str) -> Native:
    if not isinstance(row, dict) or row.get("dtype") not in DTYPES:
        raise UserError(f"{where}: expects low, high and dtype")
    sides = []
    for name in ("low", "high"):
        values = row.get(name)
        if not isinstance(values, list) or any(_bound(x, f"{where}.{name}") is None for x in values):
            raise UserError(f"{where}.{name}: expects a list of numbers")
        if not all(math.isfinite(x) for x in values):
            raise UserError(f"{where}.{name}: expects finite numbers")
        sides.append(tuple(values))
    return Native(sides[0], sides[1], row["dtype"])
