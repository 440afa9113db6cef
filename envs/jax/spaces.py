"""Spaces and option checks shared by the JAX environments."""

from __future__ import annotations

from dreamworld.errors import UserError
from dreamworld.types import Space, Spaces


def image_space(size: int, channels: int = 3) -> Spaces:
    """{"image": uint8 [size, size, channels]}."""
    return {"image": Space((size, size, channels), "uint8", low=0, high=255)}


def vector_space(size: int, low: float = float("-inf"), high: float = float("inf")) -> Spaces:
    """{"vector": float32 [size]}."""
    return {"vector": Space((size,), "float32", low=low, high=high)}


def discrete_space(classes: int) -> Spaces:
    """{"action": int32 []} in [0, classes)."""
    return {"action": Space((), "int32", classes=classes)}


def box_space(size: int) -> Spaces:
    """{"action": float32 [size]} in [-1, 1]."""
    return {"action": Space((size,), "float32", low=-1.0, high=1.0)}


def require_choice(where: str, option: str, value: object, choices: tuple[str, ...]) -> None:
    """Raises UserError unless `value` is one of `choices`."""
    if value not in choices:
        raise UserError(f"{where}: {option} must be one of {', '.join(choices)}, got {value!r}")


def require_range(where: str, option: str, value: float, low: float, high: float) -> None:
    """Raises UserError unless low <= value <= high."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not low <= value <= high:
        raise UserError(f"{where}: {option} must be a number from {low:g} to {high:g}, got {value!r}")


def require_integer(where: str, option: str, value: int, low: int, high: int) -> None:
    """Raises UserError unless `value` is a whole number with low <= value <= high."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise UserError(f"{where}: {option} must be a whole number from {low} to {high}, got {value!r}")


def require_size(where: str, size: int) -> None:
    """Raises UserError unless `size` suits the image encoder: a multiple of 16 from 16 to 128."""
    if not isinstance(size, int) or isinstance(size, bool) or size % 16 or not 16 <= size <= 128:
        raise UserError(f"{where}: size must be a multiple of 16 from 16 to 128 pixels, got {size!r}")
