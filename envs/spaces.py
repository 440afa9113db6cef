"""Flattens gymnasium spaces and dm_env specs to `Spaces`, and converts observations and actions.

Observations: an image becomes uint8 [height, width, channels]; every other Box becomes float32; Discrete,
MultiDiscrete and MultiBinary become int32 class indices. Actions: Box in [-1, 1], the others class indices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from dreamworld.envs.attributes import has
from dreamworld.envs.finite import check_finite
from dreamworld.envs.pictures import (
    AUTO,
    Reading,
    asked_bounds,
    asked_layout,
    black_and_white,
    image_layout,
    pixels,
)
from dreamworld.envs.scalars import Misfit, fit, kind_of, whole
from dreamworld.errors import UserError
from dreamworld.types import FLAGS, DType, Native, Space, Spaces

if TYPE_CHECKING:
    import gymnasium
    from gymnasium import spaces

SUPPORTED = "Box, Discrete, MultiDiscrete, MultiBinary, and Dict or Tuple of these at any depth"
MAX_INT_CLASSES = 256  # an integer action Box with more values is treated as continuous and rounded
UNBOUNDED = 1e9  # MuJoCo writes 1e10 for "no limit"

Decode = Callable[[dict[str, np.ndarray]], Any]


class ObsCodec(NamedTuple):
    """How observations become flat arrays."""

    spaces: Spaces
    encode: Callable[[Any], dict[str, np.ndarray]]  # always fresh arrays


class ActCodec(NamedTuple):
    """How flat actions become the environment's own."""

    spaces: Spaces
    decode: Decode


class _Leaf(NamedTuple):
    key: str
    path: tuple[Any, ...]
    shape: tuple[int, ...]  # as the environment returns it
    space: Space
    convert: Callable[[np.ndarray], np.ndarray]  # of an array of this shape; always fresh

    def read(self, value: Any) -> np.ndarray:
        """The flat observation from all that the environment returned."""
        what = f"observation {self.key!r}"
        for index in self.path:
            named = has(value, "_fields")  # a NamedTuple
            try:
                value = getattr(value, index) if named and isinstance(index, str) else value[index]
            except (KeyError, IndexError, TypeError, AttributeError):
                raise Misfit(f"{what} is missing: the environment returned {kind_of(value)}") from None
        array = fit(what, value, self.shape)
        if self.space.dtype != "float32":  # as an integer a NaN would pass for a number
            check_finite(self.key, array)
        return self.convert(array)


def make_obs_codec(space: gymnasium.Space, reading: Reading = AUTO) -> ObsCodec:
    """Codec of a gymnasium observation space. An unnamed top-level space is called "image" or "vector"."""
    leaves = list(_obs_leaves(space, "", (), reading))
    reading.check_used(list(_box_prefixes(space, "")))
    if not leaves:
        raise UserError(f"observation space {space} holds no elements")
    spaces: Spaces = {}
    for leaf in leaves:
        if leaf.key in spaces:
            raise UserError(f"two observations flatten to the same key {leaf.key!r} in {space}; rename one")
        spaces[leaf.key] = leaf.space

    return ObsCodec(spaces, lambda value: {leaf.key: leaf.read(value) for leaf in leaves})


def make_act_codec(space: gymnasium.Space) -> ActCodec:
    """Codec of a gymnasium action space. An unnamed top-level space is called "action"."""
    spaces: Spaces = {}
    decode = _act_decoder(space, "", spaces)
    if not spaces:
        raise UserError(f"action space {space} holds no elements")
    return ActCodec(spaces, decode)


def _join(prefix: str, name: object) -> str:
    return f"{prefix}/{name}" if prefix else str(name)


def _children(space: spaces.Dict | spaces.Tuple) -> Iterable[tuple[Any, Any]]:
    """(index, subspace) pairs of a Dict or Tuple."""
    pairs = space.spaces
    return pairs.items() if isinstance(pairs, Mapping) else enumerate(pairs)


def _unsupported(kind: str, space: gymnasium.Space, prefix: str) -> UserError:
    where = f"{kind} {prefix!r}" if prefix else f"the {kind}"
    return UserError(
        f"{where} has the unsupported space {space}; supported are {SUPPORTED}. "
        "Drop or convert it with a gymnasium wrapper (FilterObservation, TransformObservation)"
    )


def _box_prefixes(space: gymnasium.Space, prefix: str) -> Iterable[str]:
    from gymnasium import spaces

    if isinstance(space, (spaces.Dict, spaces.Tuple)):
        for index, sub in _children(space):
            yield from _box_prefixes(sub, _join(prefix, index))
    elif isinstance(space, spaces.Box):
        yield prefix


def _obs_leaves(
    space: gymnasium.Space, prefix: str, path: tuple[Any, ...], reading: Reading
) -> Iterable[_Leaf]:
    from gymnasium import spaces

    if isinstance(space, (spaces.Dict, spaces.Tuple)):
        for index, sub in _children(space):
            yield from _obs_leaves(sub, _join(prefix, index), (*path, index), reading)
        return
    key = _safe_key(prefix)
    if isinstance(space, spaces.Discrete):
        start, what = int(space.start), f"observation {key!r}"
        flat = Space((), "int32", classes=int(space.n))
        yield _Leaf(key, path, (), flat, lambda x: np.array(whole(what, x) - start, np.int32))
    elif isinstance(space, spaces.MultiBinary):
        flat = Space(tuple(space.shape), "int32", classes=2)
        yield _Leaf(key, path, flat.shape, flat, lambda x: np.array(x, np.int32))
    elif isinstance(space, spaces.MultiDiscrete):
        yield from _multi_discrete_leaves(space, key, path)
    elif isinstance(space, spaces.Box):
        if np.prod(space.shape) > 0:  # dm_control has empty observations
            yield _box_leaf(space, prefix, path, reading)
    else:
        raise _unsupported("observation", space, prefix)


def _safe_key(prefix: str) -> str:
    """ "vector" for an unnamed space; names of flags are taken, so those get a prefix."""
    if prefix in FLAGS:
        return f"obs_{prefix}"
    return prefix or "vector"


def _multi_discrete_leaves(space: spaces.MultiDiscrete, key: str, path: tuple[Any, ...]) -> Iterable[_Leaf]:
    """One key where all elements have as many classes, else one scalar key per element."""
    nvec, start = np.asarray(space.nvec), np.asarray(space.start)
    if (nvec == nvec.flat[0]).all():
        flat = Space(tuple(nvec.shape), "int32", classes=int(nvec.flat[0]))
        yield _Leaf(key, path, flat.shape, flat, lambda x: np.array(x - start, np.int32))
        return
    for i, (n, first) in enumerate(zip(nvec.flat, start.flat)):

        def pick(x: np.ndarray, i: int = i, first: int = int(first)) -> np.ndarray:
            return np.array(int(x.flat[i]) - first, np.int32)

        yield _Leaf(f"{key}/{i}", path, nvec.shape, Space((), "int32", classes=int(n)), pick)


def _box_leaf(space: spaces.Box, prefix: str, path: tuple[Any, ...], reading: Reading) -> _Leaf:
    shape, asked, name = tuple(space.shape), reading.is_image(prefix), prefix or "image"
    if asked:
        layout, bounds = asked_layout(name, shape), asked_bounds(name, space.low, space.high)
    else:
        layout, bounds = image_layout(shape), black_and_white(space.dtype, space.low, space.high)
    if layout and bounds and asked is not False:
        image = Space(layout(np.empty(shape, np.uint8)).shape, "uint8", low=0, high=255)
        key = _safe_key(name)
        return _Leaf(key, path, shape, image, pixels(layout, *bounds, space.dtype, key))
    # A picture that is too small, or of unknown range, is a vector: encoders take rank <= 2 as vectors.
    flat_shape = shape if len(shape) <= 2 else (int(np.prod(shape)),)
    flat = Space(flat_shape, "float32", low=float(np.min(space.low)), high=float(np.max(space.high)))

    def to_vector(x: Any) -> np.ndarray:
        with np.errstate(over="ignore"):  # what float32 can't hold is refused by name, as an infinity
            return np.array(x, np.float32).reshape(flat_shape)

    return _Leaf(_safe_key(prefix), path, shape, flat, to_vector)


def _act_decoder(space: gymnasium.Space, prefix: str, out: Spaces) -> Decode:
    """Adds the flat spaces to `out` and returns what rebuilds the environment's action."""
    from gymnasium import spaces

    if isinstance(space, (spaces.Dict, spaces.Tuple)):
        parts = {index: _act_decoder(sub, _join(prefix, index), out) for index, sub in _children(space)}
        if isinstance(space, spaces.Dict):
            return lambda action: {index: decode(action) for index, decode in parts.items()}
        return lambda action: tuple(decode(action) for decode in parts.values())
    key = prefix or "action"
    if key in out:
        raise UserError(f"two actions flatten to the same key {key!r}; rename one")
    if 0 in (getattr(space, "shape", None) or ()):
        raise UserError(f"action {key!r} holds no elements ({space}); leave it out of the action space")
    if isinstance(space, spaces.Discrete):
        return _decoder(key, _classes((), space.n, space.start, space.dtype), out)
    if isinstance(space, spaces.MultiBinary) or (isinstance(space, spaces.Box) and space.dtype == bool):
        return _decoder(key, _classes(tuple(space.shape or ()), 2, 0, space.dtype), out)
    if isinstance(space, spaces.MultiDiscrete):
        return _class_decoder(key, space.nvec, space.start, space.dtype, out)
    if isinstance(space, spaces.Box):
        return _box_decoder(key, space, out)
    raise _unsupported("action", space, prefix)


def _decoder(key: str, space: Space, out: Spaces) -> Decode:
    """Adds a flat space to `out` and returns what rebuilds the action from its key."""
    out[key] = space
    native = make_native(space)
    return lambda action: native(action[key])


def _classes(shape: tuple[int, ...], count: Any, start: ArrayLike, dtype: DType) -> Space:
    """Class indices of `count` classes each, which the environment counts from `start`."""
    low = np.broadcast_to(start, shape).ravel()
    native = Native(tuple(low.tolist()), tuple((low + int(count) - 1).tolist()), np.dtype(dtype).name)
    return Space(shape, "int32", classes=int(count), native=native)


def make_native(space: Space) -> Callable[[Any], Any]:
    """Turns actions [..., *shape] of a flat space into the environment's own; clips continuous ones to [-1, 1]."""
    if space.native is None:
        return lambda action: np.asarray(action)[()] if space.discrete else np.clip(action, -1.0, 1.0)
    dtype = np.dtype(space.native.dtype)
    whole = np.issubdtype(dtype, np.integer)
    if space.discrete:
        start = np.array(space.native.low, np.int64).reshape(space.shape)
        return lambda action: (np.asarray(action) + start).astype(dtype)[()]
    low = np.array(space.native.low, np.float64).reshape(space.shape)
    high = np.array(space.native.high, np.float64).reshape(space.shape)
    middle, half = (high + low) / 2, (high - low) / 2

    def scale(action: ArrayLike) -> np.ndarray:
        value = middle + half * np.clip(np.asarray(action, np.float64), -1.0, 1.0)
        value = np.rint(value) if whole else value
        # Casting to float32 may round past a bound.
        return np.asarray(np.clip(np.asarray(value).astype(dtype), low.astype(dtype), high.astype(dtype)))

    return scale


def _class_decoder(key: str, counts: ArrayLike, start: ArrayLike, dtype: DType, out: Spaces) -> Decode:
    counts, start = np.asarray(counts), np.asarray(start)
    if (counts == counts.flat[0]).all():
        return _decoder(key, _classes(tuple(counts.shape), counts.flat[0], start, dtype), out)
    parts = [
        _decoder(f"{key}/{i}", _classes((), count, first, dtype), out)
        for i, (count, first) in enumerate(zip(counts.flat, start.flat))
    ]
    return lambda action: np.array([part(action) for part in parts], dtype).reshape(counts.shape)


def _box_decoder(key: str, space: spaces.Box, out: Spaces) -> Decode:
    dtype: Any = space.dtype
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    if not (
        np.isfinite(low).all() and np.isfinite(high).all() and (np.maximum(-low, high) < UNBOUNDED).all()
    ):
        raise UserError(
            f"action {key!r} has no finite bounds ({space}): the agent acts in [-1, 1] and can't tell what "
            "that should mean; give the action space finite bounds"
        )
    if np.issubdtype(dtype, np.integer) and (high - low < MAX_INT_CLASSES).all():
        return _class_decoder(key, (high - low + 1).astype(np.int64), space.low.astype(np.int64), dtype, out)
    native = Native(tuple(low.ravel().tolist()), tuple(high.ravel().tolist()), np.dtype(dtype).name)
    return _decoder(key, Space(tuple(space.shape), "float32", low=-1.0, high=1.0, native=native), out)
