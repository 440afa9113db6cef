"""N copies of a JAX environment that reset themselves, as two pure functions.

The row semantics are those of `types.VectorEnv`: the row after an `is_last` row is the `is_first` row of a
new episode, its reward is 0 and the action given for it is ignored. Each environment owns a key, and the
random bits of its row t come from `fold_in(key, t)`: they do not depend on how many environments run beside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from dreamworld import words
from dreamworld.envs.attributes import attribute, has
from dreamworld.errors import UserError
from dreamworld.types import Array, DType, JaxEnv, JaxStep, Spaces, Tree


class Rows(NamedTuple):
    """One row of each environment."""

    obs: dict[str, Array]  # each [N, ...]
    reward: Array  # [N] float32, 0 where is_first
    is_first: Array  # [N] bool
    is_last: Array  # [N] bool
    is_terminal: Array  # [N] bool, implies is_last; without it, a flag was a NaN

    @property
    def bad_flags(self) -> Array:
        """Rows [N] whose `is_last` or `is_terminal` was a NaN: what is said of them is BAD_FLAG."""
        return self.is_terminal & ~self.is_last


class BatchedState(NamedTuple):
    """Everything that the next rows depend on; saving it is copying it."""

    env: Tree  # states of the environments, leading axis N
    key: Array  # [N, 2] uint32, constant
    row: Array  # [N] uint32, rows returned so far
    needs_reset: Array  # [N] bool, the last row returned was is_last


class BatchedEnv(NamedTuple):
    """Pure functions; jit, scan or shard them as you like.

    reset(keys [N]) -> (BatchedState, Rows): starts an episode everywhere
    step(state, action {key: [N, ...]}) -> (BatchedState, Rows)
    """

    reset: Callable[[Array], tuple[BatchedState, Rows]]
    step: Callable[[BatchedState, dict[str, Array]], tuple[BatchedState, Rows]]


def batched(env: JaxEnv) -> BatchedEnv:
    """Turns an environment of one into self-resetting functions of N.

    An environment that has `observe(state) -> obs` draws one observation per row; without it both the reset's
    and the step's observation are computed and one is kept. UserError, when they are traced, for what is not of
    the environment's spaces.
    """
    observe = attribute(env, "observe")

    def begin(key: Array) -> tuple[Tree, dict[str, Array]]:
        state, obs = _pair("reset", env.reset(key), "obs")
        return state, _observation(obs, env.obs_space)

    def reset_one(key: Array) -> tuple[BatchedState, Rows]:
        state, obs = begin(jax.random.fold_in(key, 0))
        no = jnp.zeros((), bool)
        rows = Rows(obs, jnp.zeros((), jnp.float32), jnp.ones((), bool), no, no)
        return BatchedState(state, key, jnp.ones((), jnp.uint32), no), rows

    def step_one(state: BatchedState, action: dict[str, Array]) -> tuple[BatchedState, Rows]:
        # Only one of the two results is kept, so the row's key is used once.
        key = jax.random.fold_in(state.key, state.row)
        first = state.needs_reset
        new_env, new_obs = begin(key)
        old_env, step = take_step(env.step(state.env, action, key))
        _check_state(new_env, old_env)
        env_state = _where(first, new_env, old_env)
        own = env.obs_space
        obs = (
            _observation(observe(env_state), own)
            if observe
            else _where(first, new_obs, _observation(step.obs, own))
        )
        (is_last, bad), (is_terminal, worse) = _flag("is_last", step), _flag("is_terminal", step)
        bad = (bad | worse) & ~first
        is_last &= ~first & ~bad
        reward = jnp.where(first, 0, scalar("reward", step.reward, jnp.float32))
        rows = Rows(obs, reward, first, is_last, is_terminal & is_last | bad)
        return BatchedState(env_state, state.key, state.row + 1, is_last), rows

    def reset(keys: Array) -> tuple[BatchedState, Rows]:
        if jnp.issubdtype(keys.dtype, jax.dtypes.prng_key):
            keys = jax.random.key_data(keys)  # raw bits are plain arrays: they save like the rest
        return jax.vmap(reset_one)(keys)

    return BatchedEnv(reset, jax.vmap(step_one))


def _pair(name: str, value: object, second: str) -> tuple[Tree, Tree]:
    """The two things that a function of an environment returns."""
    if not isinstance(value, tuple) or len(value) != 2:
        what = f"{words.type_of(value)} of {len(value)}" if isinstance(value, tuple) else _kind(value)
        raise UserError(f"{name} of the JAX environment returned {what}, not (state, {second})")
    return value


def take_step(value: object) -> tuple[Tree, JaxStep]:
    """What `step` of an environment returned; UserError if it is something else."""
    state, step = _pair("step", value, "JaxStep")
    if not has(step, *JaxStep._fields):
        raise UserError(
            f"step of the JAX environment returned (state, {_kind(step)}), "
            f"not (state, JaxStep({', '.join(JaxStep._fields)}))"
        )
    return state, step


def _check_state(reset: Tree, step: Tree) -> None:
    """UserError unless both states are made of the same arrays."""
    described = [_arrays(state) for state in (reset, step)]
    for name in sorted(described[0].keys() | described[1].keys()):
        one, other = (each.get(name, "nothing") for each in described)
        if one != other:
            raise UserError(
                f"state of the JAX environment: {name} is {one} after reset and {other} after step; "
                "shapes and dtypes must not change"
            )


def _arrays(state: Tree) -> dict[str, str]:
    """Dtype and shape of each array of a state, by its path."""
    found = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]:
        dtype = attribute(leaf, "dtype") or jnp.result_type(leaf)
        found[jax.tree_util.keystr(path) or "the state"] = f"{dtype}{list(jnp.shape(leaf))}"
    return found


def _observation(obs: object, spaces: Spaces) -> dict[str, Array]:
    """The observation in the dtypes of its spaces; UserError if it is not of them."""
    if not isinstance(obs, Mapping) or obs.keys() != spaces.keys():
        what = sorted(map(str, obs)) if isinstance(obs, Mapping) else _kind(obs)
        raise UserError(
            f"observation of the JAX environment is {what}, its obs_space has the keys {sorted(spaces)}"
        )
    return {key: _fit(key, obs[key], spaces[key].shape, jnp.dtype(spaces[key].dtype)) for key in spaces}


def _fit(key: str, value: object, shape: tuple[int, ...], dtype: DType) -> Array:
    try:
        array = jnp.asarray(value)
    except (TypeError, ValueError):
        raise UserError(f"observation {key!r} of the JAX environment is {_kind(value)}") from None
    if array.shape != shape:
        raise UserError(f"observation {key!r} has the shape {array.shape}, its space {shape}")
    if jnp.issubdtype(array.dtype, jnp.inexact) and not jnp.issubdtype(dtype, jnp.floating):
        raise UserError(
            f"observation {key!r} is {array.dtype}, its space {dtype}: convert it in reset and step"
        )
    return array.astype(dtype)


def _flag(what: str, step: JaxStep) -> tuple[Array, Array]:
    """A flag of a step, and whether it is a NaN."""
    value = getattr(step, what)
    return scalar(what, value, bool), jnp.isnan(scalar(what, value, jnp.float32))


def scalar(what: str, value: object, dtype: DType) -> Array:
    """A reward or flag without axes; UserError for what is not one number."""
    try:
        value = jnp.asarray(value, dtype)
    except (TypeError, ValueError):
        raise UserError(f"{what} of the JAX environment is {_kind(value)}, not one number") from None
    if value.size != 1:
        raise UserError(f"{what} of the JAX environment has the shape {value.shape}, not one number")
    return value.reshape(())


def _kind(value: object) -> str:
    if value is None:
        return "None"
    return "an array" if isinstance(value, jax.Array) else words.type_of(value)


def _where(condition: Array, yes: Tree, no: Tree) -> Tree:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)
