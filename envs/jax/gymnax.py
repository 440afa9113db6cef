"""Adapter for gymnax-style environments (Lange, 2022): reset(key, params), step(key, state, action, params).

gymnax itself is not imported. Both of its generations are understood: `done` that includes the time limit
(0.0.x), and separate `is_truncated` (1.0).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from dreamworld.envs.attributes import attribute, has
from dreamworld.envs.pictures import (
    AUTO,
    Reading,
    asked_bounds,
    asked_layout,
    black_and_white,
    image_layout,
)
from dreamworld.errors import UserError
from dreamworld.types import EnvObject, JaxStep, Native, Space, Spaces, Tree

GymnaxSpace: TypeAlias = Any  # gymnax's Discrete, Box, Dict or Tuple, or what has their attributes

Array = jax.Array

NO_LIMIT = 2**30  # steps


class GymnaxEnv:
    """A `JaxEnv` around a gymnax-style object.

    Observation keys are as for gymnasium spaces: "image" or "vector" for an unnamed space, "a/b" for nested
    ones. Box actions are in [-1, 1] here and scaled to their bounds. A time limit truncates, it does not
    terminate.
    """

    def __init__(self, env: EnvObject, params: Tree = None, reading: Reading = AUTO):
        """`params` defaults to `env.default_params`. Raises UserError for a space without a counterpart."""
        self.env = env
        self.params: Tree = attribute(env, "default_params") if params is None else params
        leaves = list(_leaves(env.observation_space(self.params), "", ()))
        self._obs = [_obs_leaf(*leaf, reading) for leaf in leaves]
        reading.check_used([prefix for space, prefix, _ in leaves if not hasattr(space, "n")])
        self.obs_space: Spaces = {leaf.key: leaf.space for leaf in self._obs}
        self.act_space: Spaces = {}
        self._decode = _act_decoder(env.action_space(self.params), "", self.act_space)
        # `step` resets by itself in gymnax; the functions below it don't.
        self._reset = attribute(env, "reset_env", env.reset)
        self._step = attribute(env, "step_env", env.step)

    def reset(self, key: Array) -> tuple[Any, dict[str, Array]]:
        """Starts an episode."""
        obs, state = self._reset(key, self.params)
        return jax.tree.map(_strong, state), self._encode(obs)

    def step(self, state: Tree, action: dict[str, Array], key: Array) -> tuple[Any, JaxStep]:
        """Advances by one action, without gymnax's automatic reset."""
        obs, new, reward, *flags, _ = self._step(key, state, self._decode(action), self.params)
        terminal, truncated = self._ends(new, *flags)
        # a state whose dtypes wander could not be scanned over
        new = jax.tree.map(lambda leaf, old: jnp.asarray(leaf, old.dtype), new, state)
        reward = jnp.asarray(reward, jnp.float32).reshape(())
        return new, JaxStep(self._encode(obs), reward, terminal | truncated, terminal)

    def ground_truth(self, state: Tree) -> dict[str, Array]:
        """The state's arrays by their paths."""
        leaves = jax.tree_util.tree_flatten_with_path(state)[0]
        return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}

    def _ends(self, state: Tree, done: Array, truncated: Array | None = None) -> tuple[Array, Array]:
        """(is_terminal, truncated) of the transition into `state`."""
        done = jnp.asarray(done, bool).reshape(())
        if truncated is not None:
            return done, jnp.asarray(truncated, bool).reshape(())
        if has(self.env, "is_truncated"):
            return done, jnp.asarray(self.env.is_truncated(state, self.params), bool).reshape(())
        limit = attribute(self.params, "max_steps_in_episode")
        if limit is None or not has(self.env, "is_terminal"):
            return done, jnp.zeros((), bool)
        unlimited = dataclasses.replace(self.params, max_steps_in_episode=NO_LIMIT)
        terminal = jnp.asarray(self.env.is_terminal(state, unlimited), bool).reshape(()) & done
        return terminal, done & ~terminal

    def _encode(self, obs: Tree) -> dict[str, Array]:
        return {leaf.key: leaf.convert(_pick(obs, leaf.path)) for leaf in self._obs}


class _ObsLeaf(NamedTuple):
    key: str
    path: tuple[Any, ...]
    space: Space
    convert: Callable[[Any], Array]


def _strong(leaf: Array) -> Array:
    """An array with a dtype of its own: Python numbers would change it in the first step."""
    return jnp.asarray(leaf, jnp.asarray(leaf).dtype)


def _pick(value: Tree, path: tuple[Any, ...]) -> Tree:
    """gymnax observations nest as dicts and tuples, or as structs with attributes."""
    for part in path:
        value = value[part] if isinstance(value, dict | tuple | list) else getattr(value, part)
    return value


def _join(prefix: str, name: object) -> str:
    return f"{prefix}/{name}" if prefix else str(name)


def _children(space: GymnaxSpace) -> list[tuple[Any, Any]]:
    """(index, subspace) pairs of a Dict or Tuple; nothing for other spaces."""
    spaces = getattr(space, "spaces", None)
    if spaces is None:
        return []
    return list(spaces.items()) if hasattr(spaces, "items") else list(enumerate(spaces))


def _leaves(
    space: GymnaxSpace, prefix: str, path: tuple[Any, ...]
) -> Iterator[tuple[Any, str, tuple[Any, ...]]]:
    children = _children(space)
    for index, sub in children:
        yield from _leaves(sub, _join(prefix, index), (*path, index))
    if not children:
        yield space, prefix, path


def _bounds(space: GymnaxSpace, what: str) -> tuple[np.ndarray, np.ndarray]:
    if not (hasattr(space, "low") and hasattr(space, "high") and hasattr(space, "shape")):
        raise UserError(
            f"{what} has the unsupported space {space}; supported are Discrete, Box, Dict and Tuple"
        )
    shape = tuple(space.shape)
    low, high = np.asarray(space.low, np.float64), np.asarray(space.high, np.float64)
    return np.broadcast_to(low, shape), np.broadcast_to(high, shape)


def _obs_leaf(space: GymnaxSpace, prefix: str, path: tuple[Any, ...], reading: Reading) -> _ObsLeaf:
    if hasattr(space, "n"):
        discrete = Space((), "int32", classes=int(space.n))
        return _ObsLeaf(prefix or "vector", path, discrete, lambda x: jnp.asarray(x, jnp.int32).reshape(()))
    low, high = _bounds(space, f"observation {prefix!r}")
    shape = low.shape
    black, white = float(low.min()), float(high.max())
    asked = reading.is_image(prefix)
    if asked:
        asked_bounds(prefix or "image", low, high)
    # Layouts transpose and reshape: good for JAX arrays, too.
    layout: Any = asked_layout(prefix or "image", shape) if asked else image_layout(shape)
    known = asked or black_and_white(getattr(space, "dtype", np.float32), black, white) is not None
    if layout and known and asked is not False:
        image = Space(layout(np.empty(shape, np.uint8)).shape, "uint8", low=0, high=255)
        factor = 255 / (white - black) if white > black else 255.0

        def to_image(x: Array) -> Array:
            gray = (jnp.asarray(x, jnp.float32) - black) * factor
            return layout(jnp.rint(jnp.clip(gray, 0, 255)).astype(jnp.uint8))

        return _ObsLeaf(prefix or "image", path, image, to_image)
    flat = shape if len(shape) <= 2 else (int(np.prod(shape)),)
    vector = Space(flat, "float32", low=black, high=white)
    return _ObsLeaf(prefix or "vector", path, vector, lambda x: jnp.asarray(x, jnp.float32).reshape(flat))


def _act_decoder(space: GymnaxSpace, prefix: str, out: Spaces) -> Callable[[dict[str, Array]], Any]:
    """Adds the flat spaces to `out`; the result rebuilds the environment's own action."""
    children = _children(space)
    if children:
        parts = {index: _act_decoder(sub, _join(prefix, index), out) for index, sub in children}
        if hasattr(space.spaces, "items"):
            return lambda action: {index: decode(action) for index, decode in parts.items()}
        return lambda action: tuple(decode(action) for decode in parts.values())
    key = prefix or "action"
    if hasattr(space, "n"):
        out[key] = Space((), "int32", classes=int(space.n))
        return lambda action: action[key]
    low, high = _bounds(space, f"action {key!r}")
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise UserError(f"action {key!r} of the environment is unbounded ({space}): give it finite bounds")
    native = Native(tuple(low.ravel().tolist()), tuple(high.ravel().tolist()), "float32")
    out[key] = Space(low.shape, "float32", low=-1.0, high=1.0, native=native)
    middle, half = np.float32((high + low) / 2), np.float32((high - low) / 2)
    return lambda action: middle + half * jnp.clip(action[key].astype(jnp.float32), -1, 1)
