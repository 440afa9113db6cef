"""Which observations are pictures: by their shape and bounds, or as the user says for a key."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from dreamworld import words
from dreamworld.config import EnvConfig
from dreamworld.envs.notices import say_once
from dreamworld.errors import UserError
from dreamworld.types import DType, Space, Spaces

MIN_IMAGE_SIDE = 16  # smaller pictures are symbols, not scenery: they become vectors
MAX_CHANNELS = 16
LARGE = 1024  # values of a vector that may have been meant as a picture
KNOWN_BOUNDS = {(0, 1), (0, 255), (-1, 1)}  # of floats and wide integers; a uint8 picture may have any

ToImage = Callable[[Any], Any]


class Reading(NamedTuple):
    """Regular expressions of the Box observations that are pictures or vectors whatever their shape says."""

    image_keys: str = "auto"
    vector_keys: str = "auto"

    @classmethod
    def of(cls, config: EnvConfig) -> Reading:
        """That of the options."""
        return cls(config.image_keys, config.vector_keys)

    def is_image(self, prefix: str) -> bool | None:
        """Whether a key is to be a picture; None leaves it to shape and bounds. An unnamed key has both names."""
        names = [prefix] if prefix else ["image", "vector"]
        image, vector = (_matches(pattern, names) for pattern in self)
        if image and vector:
            raise UserError(f"env.image_keys and env.vector_keys both name the observation {names[0]!r}")
        return True if image else False if vector else None

    def check_used(self, prefixes: list[str]) -> None:
        """UserError where a pattern names none of the Box observations."""
        keys = [name for prefix in prefixes for name in ([prefix] if prefix else ["image", "vector"])]
        for option, pattern in zip(self._fields, self):
            if not _is_free(pattern) and not _matches(pattern, keys):
                there = ", ".join(keys) or "none"
                raise UserError(f"env.{option} {pattern!r} names no Box observation; there are {there}")

    def refuse(self, name: str) -> None:
        """UserError where a pattern is set for an environment that makes its own observations."""
        for option, pattern in zip(self._fields, self):
            if not _is_free(pattern):
                raise UserError(
                    f"env.{option} is for Box observations of gymnasium, dm_env and gymnax environments; {name} has "
                    "its own: choose encoders with agent.encoder.image_keys and agent.encoder.vector_keys"
                )


AUTO = Reading()


def image_layout(shape: tuple[int, ...]) -> ToImage | None:
    """What turns an array of this shape into [height, width, channels]; None where it is no image.

    Accepts [H, W], [H, W, C], [C, H, W], and stacks [T, H, W, C] and [T, C, H, W], which become T*C channels.
    """
    if len(shape) == 2 and min(shape) >= 2 * MIN_IMAGE_SIDE:
        return lambda x: x[:, :, None]
    if len(shape) == 3 and min(shape[:2]) >= MIN_IMAGE_SIDE and shape[2] <= MAX_CHANNELS:
        return lambda x: x
    if len(shape) == 3 and min(shape[1:]) >= MIN_IMAGE_SIDE and shape[0] <= MAX_CHANNELS:
        return lambda x: x.transpose(1, 2, 0)
    if len(shape) == 4 and min(shape[1:3]) >= MIN_IMAGE_SIDE and shape[0] * shape[3] <= 4 * MAX_CHANNELS:
        return lambda x: x.transpose(1, 2, 0, 3).reshape(*x.shape[1:3], -1)
    if len(shape) == 4 and min(shape[2:]) >= MIN_IMAGE_SIDE and shape[0] * shape[1] <= 4 * MAX_CHANNELS:
        return lambda x: x.transpose(2, 3, 0, 1).reshape(*x.shape[2:], -1)
    return None


def asked_layout(key: str, shape: tuple[int, ...]) -> ToImage:
    """`image_layout` of a key that is to be a picture, of any size; UserError for an array that can't be one."""
    layout = image_layout(shape)
    if layout is not None:
        return layout
    if len(shape) == 2:
        return lambda x: x[:, :, None]
    if len(shape) == 3:
        return (lambda x: x.transpose(1, 2, 0)) if shape[0] < shape[2] else (lambda x: x)
    raise UserError(
        f"observation {key!r} has the shape {shape}: env.image_keys takes [H, W], [H, W, C] and [C, H, W]"
    )


def black_and_white(
    dtype: DType, low: np.ndarray | float, high: np.ndarray | float
) -> tuple[Any, Any] | None:
    """Values of black and white, numbers or one per element; None where the bounds don't say that it is a picture."""
    low, high = np.asarray(low), np.asarray(high)
    bounds = (np.unique(low), np.unique(high))
    uniform = len(bounds[0]) == len(bounds[1]) == 1
    pair = (float(bounds[0][0]), float(bounds[1][0]))
    if np.dtype(dtype) == np.uint8:
        return pair if uniform else (low.astype(np.float32), high.astype(np.float32))
    return pair if uniform and pair in KNOWN_BOUNDS else None


def asked_bounds(key: str, low: np.ndarray | float, high: np.ndarray | float) -> tuple[Any, Any]:
    """The bounds of a key that is to be a picture; UserError unless they are finite."""
    low, high = np.asarray(low, np.float32), np.asarray(high, np.float32)
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise UserError(
            f"observation {key!r} has no finite bounds: env.image_keys can't tell black from white; give its space "
            "bounds (gymnasium.wrappers.TransformObservation)"
        )
    uniform = (low == low.flat[0]).all() and (high == high.flat[0]).all()
    return (float(low.flat[0]), float(high.flat[0])) if uniform else (low, high)


def pixels(
    layout: ToImage, black: np.ndarray | float, white: np.ndarray | float, dtype: DType, key: str
) -> Callable[[np.ndarray], np.ndarray]:
    """Scales [black, white] to the bytes 0 to 255 and lays them out; bytes of the full range stay as they are."""
    span = np.where(np.asarray(white) > np.asarray(black), np.subtract(white, black), 1)
    factor = 255.0 / span if np.ndim(span) else 255.0 / float(span)
    full = np.ndim(span) == 0 and (black, white) == (0, 255)
    is_bytes = np.dtype(dtype) == np.uint8

    def convert(x: np.ndarray) -> np.ndarray:
        if x.dtype == np.uint8 and (full or (not is_bytes and (x > white).any())):
            return np.array(layout(x), np.uint8, order="C")  # bytes, whatever a float space says
        if is_bytes and x.dtype.kind == "f" and (x != np.rint(x)).any():
            say_once(
                f"observation {key!r} holds fractions, and its space says uint8: they are rounded; give a picture "
                "of values from 0 to 1 a float space with these bounds"
            )
        return np.array(layout(np.rint(np.clip((x - black) * factor, 0, 255))), np.uint8, order="C")

    return convert


def notes_on(spaces: Spaces, reading: Reading = AUTO) -> list[str]:
    """Observations that may have been meant as pictures, and that `reading` does not call vectors."""
    return [
        f"observation {key!r} is a vector of {words.count(space.size, 'value')}{_way_to_picture(key, space)}"
        for key, space in spaces.items()
        if space.dtype == "float32" and space.size >= LARGE and reading.is_image(key) is None
    ]


def _way_to_picture(key: str, space: Space) -> str:
    if np.isfinite([space.low, space.high]).all():
        return f"; if it is a picture, say --env.image_keys {key}"
    return " without bounds; if it is a picture, give its space finite bounds (0 to 255, or 0 to 1)"


def _is_free(pattern: str) -> bool:
    return pattern in ("auto", "")


def _matches(pattern: str, names: list[str]) -> bool:
    return not _is_free(pattern) and any(re.fullmatch(pattern, name) for name in names)
