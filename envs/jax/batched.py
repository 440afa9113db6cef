"""N copies of a JAX environment that reset themselves, as two pure functions.

The row semantics are those of `types.VectorEnv`: the row after an `is_last` row is the `is_first` row of a
new episode, its reward is 0 and the action given for it is ignored. Each environment owns a key, and the
random bits of its row t come from `fold_in(key, t)`: they do not depend on how many environments run beside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from dreamworld.envs.attributes import attribute
from dreamworld.errors import UserError
from dreamworld.types import Array, DType, JaxEnv, Tree


class Rows(NamedTuple):
    """One row of each environment."""

    obs: dict[str, Array]  # each [N, ...]
    reward: Array  # [N] float32, 0 where is_first
    is_first: Array  # [N] bool
    is_last: Array  # [N] bool
    is_terminal: Array  # [N] bool, implies is_last


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
    and the step's observation are computed and one is kept.
    """
    observe = attribute(env, "observe")

    def reset_one(key: Array) -> tuple[BatchedState, Rows]:
        state, obs = env.reset(jax.random.fold_in(key, 0))
        no = jnp.zeros((), bool)
        rows = Rows(obs, jnp.zeros((), jnp.float32), jnp.ones((), bool), no, no)
        return BatchedState(state, key, jnp.ones((), jnp.uint32), no), rows

    def step_one(state: BatchedState, action: dict[str, Array]) -> tuple[BatchedState, Rows]:
        # Only one of the two results is kept, so the row's key is used once.
        key = jax.random.fold_in(state.key, state.row)
        first = state.needs_reset
        new_env, new_obs = env.reset(key)
        old_env, step = env.step(state.env, action, key)
        env_state = _where(first, new_env, old_env)
        obs = observe(env_state) if observe else _where(first, new_obs, step.obs)
        is_last = _scalar("is_last", step.is_last, bool) & ~first
        reward = jnp.where(first, 0, _scalar("reward", step.reward, jnp.float32))
        rows = Rows(obs, reward, first, is_last, _scalar("is_terminal", step.is_terminal, bool) & is_last)
        return BatchedState(env_state, state.key, state.row + 1, is_last), rows

    def reset(keys: Array) -> tuple[BatchedState, Rows]:
        if jnp.issubdtype(keys.dtype, jax.dtypes.prng_key):
            keys = jax.random.key_data(keys)  # raw bits are plain arrays: they save like the rest
        return jax.vmap(reset_one)(keys)

    return BatchedEnv(reset, jax.vmap(step_one))


def _scalar(what: str, value: object, dtype: DType) -> Array:
    value = jnp.asarray(value, dtype)
    if value.size != 1:
        raise UserError(f"{what} of the JAX environment has the shape {value.shape}, not one number")
    return value.reshape(())


def _where(condition: Array, yes: Tree, no: Tree) -> Tree:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)
