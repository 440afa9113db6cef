"""Spaces and actions between our flat, normalised form and the nested one of gymnasium, which Minari stores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dreamworld.errors import UserError
from dreamworld.types import Space, Spaces

if TYPE_CHECKING:
    import gymnasium

Tree = Any  # nested mappings and tuples of arrays


def encode_action(
    space: gymnasium.Space, values: Tree, spaces: Spaces, prefix: str = ""
) -> dict[str, np.ndarray]:
    """Actions [T, ...] of a gymnasium space as ours: classes from 0, continuous ones scaled to [-1, 1]."""
    parts = getattr(space, "spaces", None)
    if parts is not None:
        found: dict[str, np.ndarray] = {}
        for index, sub in parts.items() if hasattr(parts, "items") else enumerate(parts):
            found |= encode_action(sub, values[index], spaces, f"{prefix}/{index}" if prefix else str(index))
        return found
    key, values = prefix or "action", np.asarray(values)
    if key in spaces:
        return {key: _from_native(spaces[key], values.reshape(len(values), *spaces[key].shape))}
    flat = values.reshape(len(values), -1)
    return {f"{key}/{i}": _from_native(spaces[f"{key}/{i}"], flat[:, i]) for i in range(flat.shape[1])}


def _from_native(space: Space, values: np.ndarray) -> np.ndarray:
    assert space.native is not None
    low, high = (np.array(bound, np.float64).reshape(space.shape) for bound in space.native[:2])
    if space.discrete:
        return (values.astype(np.int64) - low.astype(np.int64)).astype(space.dtype)
    half = np.where(high > low, (high - low) / 2, 1)
    return ((values.astype(np.float64) - (high + low) / 2) / half).astype(space.dtype)


def nested(flat: dict[str, Any], single: bool = True) -> Tree:
    """{"a/b": x} as {"a": {"b": x}}; the value itself where there is one key."""
    if single and len(flat) == 1:
        return next(iter(flat.values()))
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *folders, leaf = key.split("/")
        place = tree
        for folder in folders:
            place = place.setdefault(folder, {})
            if not isinstance(place, dict):
                raise UserError(f"{key!r} and {folder!r} are both names of columns, which Minari can't hold")
        if leaf in place:
            raise UserError(f"{key!r} is a column and the beginning of another, which Minari can't hold")
        place[leaf] = value
    return tree


def gym_space(spaces: Spaces) -> gymnasium.Space:
    """The gymnasium space of some columns: a Dict, or that of the only one."""
    from gymnasium.spaces import Dict

    build = lambda tree: (
        Dict({key: build(value) for key, value in tree.items()}) if isinstance(tree, dict) else _leaf(tree)
    )
    return build(nested(dict(spaces)))


def _leaf(space: Space) -> gymnasium.Space:
    from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

    if space.classes is not None and not space.shape:
        return Discrete(space.classes)
    if space.classes is not None:
        return MultiDiscrete(np.full(space.shape, space.classes))
    if space.dtype == "bool":
        return MultiBinary(space.shape or 1)
    dtype: Any = np.dtype(space.dtype)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        low, high = max(space.low, int(info.min)), min(space.high, int(info.max))
        return Box(int(low), int(high), space.shape, dtype)
    return Box(space.low, space.high, space.shape, dtype)
