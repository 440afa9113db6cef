"""Reads what environments return: numbers, flags and arrays of any library, in any wrapping of size 1."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from dreamworld import words
from dreamworld.envs.attributes import attribute, has
from dreamworld.envs.notices import say_once
from dreamworld.errors import UserError

NO_NUMBERS = "cmMSU"  # dtype kinds: complex, times, text
PLAIN = frozenset((np.ndarray, np.float32, np.float64, float, int, bool, np.bool_))  # not asked what they are
SHOWN = 60  # characters of a value in a message


class Misfit(UserError):
    """An environment returned something that can't be taken; the text names it."""


def number(what: str, value: object) -> float:
    """One number: of Python, numpy, JAX or torch, also in an array or list of size 1. Misfit for anything else."""
    if type(value) is float or isinstance(value, int | np.floating):
        return _as_float(value)
    found = _single(value)
    if found is None:
        raise Misfit(f"{what} is {describe_value(value)}, not one number")
    return found


def _as_float(value: Any) -> float:
    """A whole number that is larger than any float is infinite."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def flag(what: str, value: object) -> bool:
    """True or False, also as a number or in an array of size 1; None is False. Misfit for anything else."""
    if isinstance(value, bool | np.bool_ | None):
        return bool(value)
    found = _single(value)
    if found is None or math.isnan(found):
        raise Misfit(f"{what} is {describe_value(value)}, not True or False")
    return found != 0


def whole(what: str, value: object) -> int:
    """A whole number, as `number` takes it."""
    found = number(what, value)
    if not found.is_integer():
        raise Misfit(f"{what} is {found:g}, not a whole number")
    return int(found)


def fit(what: str, value: object, shape: tuple[int, ...]) -> np.ndarray:
    """An array of this shape, perhaps the value itself; axes of length 1 may be missing or too many.

    Misfit if it has another shape, or does not hold numbers.
    """
    try:
        array = np.asarray(_on_host(value))
        array = array.astype(np.float64) if array.dtype.kind == "O" else array
    except (TypeError, ValueError, OverflowError):
        array = None
    if array is None or array.dtype.kind in NO_NUMBERS:
        raise Misfit(f"{what} is {describe_value(value)}, not an array of numbers") from None
    if array.shape == shape:
        return array
    if _without_ones(array.shape) == _without_ones(shape):
        return array.reshape(shape)
    raise Misfit(f"{what} has the shape {array.shape}, its space {shape}")


def log_entries(entries: Mapping[Any, Any]) -> dict[str, float]:
    """The numbers among `entries`; another value is left out, and said once."""
    log = {}
    for key, value in entries.items():
        found = _single(value)
        if found is None:
            say_once(f"{key} of an environment is {kind_of(value)}, not one number: it is not logged")
        else:
            log[str(key)] = found
    return log


def kind_of(value: object) -> str:
    """What a value is, without what it holds."""
    if value is None:
        return "None"
    shape = attribute(value, "shape")
    if isinstance(shape, tuple) and shape:
        return f"an array of shape {tuple(shape)}"
    if isinstance(value, list | tuple | Mapping):
        return f"{words.type_of(value)} of {len(value)}"
    return words.type_of(value)


def describe_value(value: object) -> str:
    """What a value is, and the beginning of what it holds."""
    return kind_of(value) if value is None else f"{kind_of(value)} ({_short(value)})"


def _short(value: object) -> str:
    text = " ".join(repr(value.tolist() if isinstance(value, np.ndarray) else value)[: 4 * SHOWN].split())
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _single(value: object) -> float | None:
    """The only element as a float; None where there are more or fewer, or it is no number."""
    if isinstance(value, str | bytes | Mapping | None):
        return None
    try:
        array = np.asarray(_on_host(value))
        item = array.reshape(-1)[0] if array.size == 1 and array.dtype.kind not in NO_NUMBERS else None
        return None if isinstance(item, str | bytes | None) else float(item)
    except (TypeError, ValueError, OverflowError):
        return None


def _on_host(value: Any) -> Any:
    """A torch tensor without its graph, on the CPU; anything else as it is."""
    if type(value) in PLAIN or not has(value, "detach", "cpu"):
        return value
    value = value.detach().cpu()
    return value.float() if str(attribute(value, "dtype")) == "torch.bfloat16" else value


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(side for side in shape if side != 1)
