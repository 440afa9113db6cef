"""Refuses values that nothing can be learned from: one NaN in a row would stay in replay and in the agent's latents."""

from __future__ import annotations

import numpy as np

from dreamworld import words
from dreamworld.envs.scalars import Misfit
from dreamworld.types import Space

REWARD_MAX = float(np.finfo(np.float32).max)


class NotFinite(Misfit):
    """An environment returned a NaN or an infinity; the text names the key and the value."""


def check_finite(key: str, value: np.ndarray) -> None:
    """NotFinite if the observation `key`, of any dtype, holds a NaN or an infinity."""
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        raise NotFinite(describe_bad(key, value))


def check_reward(reward: float) -> None:
    """NotFinite for a reward that is no finite number in float32."""
    if not abs(reward) <= REWARD_MAX:  # "not <=", as comparisons with a NaN are false
        raise NotFinite(f"reward is {reward}")


def check_class(key: str, value: np.ndarray, space: Space) -> None:
    """Misfit if the observation `key` is of classes, and a value is none of them: it has no one-hot code."""
    if space.classes is None or not value.size:
        return
    low, high = value.min(), value.max()
    if low < 0 or high >= space.classes:
        raise Misfit(
            f"observation {key!r} holds the class {low if low < 0 else high}, counted from 0; "
            f"its space has {words.count(space.classes, 'class', 'classes')}"
        )


def as_finite(key: str, value: object, dtype: str) -> np.ndarray:
    """The observation `key` as an array of `dtype`; NotFinite if it is not finite, or would not be in `dtype`."""
    array = np.asarray(value)
    check_finite(key, array)
    if array.dtype == dtype:
        return array
    with np.errstate(over="ignore"):
        converted = array.astype(dtype)
    if converted.dtype.kind == "f" and not (finite := np.isfinite(converted)).all():
        raise NotFinite(f"observation {key!r} holds {array[~finite][0]:g}, more than {dtype} can hold")
    return converted


def describe_bad(key: str, value: np.ndarray) -> str:
    """`observation 'speed' holds nan (2 of 5 values, the first at index 3)`, or `observation 'height' is inf`."""
    bad = ~np.isfinite(value)
    if value.ndim == 0:
        return f"observation {key!r} is {value}"
    where = np.argwhere(bad)[0].tolist()
    index = where[0] if len(where) == 1 else tuple(where)
    count = f"{bad.sum()} of {words.count(bad.size, 'value')}, the first at index {index}"
    return f"observation {key!r} holds {value[tuple(where)]} ({count})"
