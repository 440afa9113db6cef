"""Ground truth of segments: the states of a JAX environment, what they are made of, and going on from them."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dreamworld.assess.segments import Segments
from dreamworld.envs import restore
from dreamworld.types import Array, JaxEnv, Key, Tree

PREFIX = "extra/state/"  # of the columns that hold states
RESTORE = f"{restore.NEEDS}, and segments that were played in it"
NEEDS = "needs ground truth: an environment in JAX, and segments that hold its states"


class Ground(NamedTuple):
    """A JAX environment and its states in all rows of the segments."""

    env: JaxEnv
    states: Tree  # [N, L, ...]
    limit: int = 0  # steps after which episodes are truncated, beside the environment's own rule; 0 for never


def make_ground(env: JaxEnv | None, segments: Segments, limit: int = 0) -> Ground | None:
    """The ground truth of segments; None where there is none."""
    if env is None:
        return None
    like = jax.eval_shape(env.reset, jax.random.PRNGKey(0))[0]
    paths, tree = jax.tree_util.tree_flatten_with_path(like)
    leaves = []
    for path, leaf in paths:
        name = jax.tree_util.keystr(path, simple=True, separator="/") or "state"
        values = segments.columns.get(PREFIX + name)
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        if values is None or is_key or values.shape[2:] != leaf.shape or values.dtype != leaf.dtype:
            return None
        leaves.append(values)
    return Ground(env, jax.tree.unflatten(tree, leaves), limit)


def truth(ground: Ground) -> dict[str, np.ndarray]:
    """What the environment says of its states, by name [N, L, ...]; nothing where it says nothing."""
    tell = getattr(ground.env, "ground_truth", None)
    if tell is None:
        return {}
    return jax.device_get(jax.jit(jax.vmap(jax.vmap(tell)))(ground.states))


def start_states(ground: Ground, segments: Segments, index: np.ndarray) -> tuple[Tree, np.ndarray]:
    """The states of the last observed rows of some segments, and the steps of their episodes so far."""
    row = segments.context - 1
    states = jax.tree.map(lambda x: jnp.asarray(x[index, row]), ground.states)
    return states, segments.row[index] + row


class Played(NamedTuple):
    """Rows of the real environment, [..., K, ...] of each sequence of actions."""

    obs: dict[str, Array]
    reward: Array
    alive: Array  # bool, the row is one of the episode
    terminal: Array  # bool


def play(
    ground: Ground, states: Tree, age: Array, actions: dict[str, Array], keys: Array, keep: bool
) -> Played:
    """Plays sequences of actions [M, K, ...] from states [M, ...] whose episodes are `age` [M] steps old.

    Each has a key of its own, [M, ...]: equal ones give equal noise. Rows after an end are not alive, and their rewards
    0. Observations are kept if `keep`.
    """

    def one(state: Tree, age: Array, sequence: dict[str, Array], key: Key) -> Any:
        def step(carry: Any, row: Any) -> Any:
            state, age, alive = carry
            action, key = row
            state, told = ground.env.step(state, action, key)
            last = jnp.asarray(told.is_last, bool).reshape(())
            last |= (age + 1 >= ground.limit) & (ground.limit > 0)
            reward = jnp.where(alive, jnp.asarray(told.reward, jnp.float32).reshape(()), 0.0)
            terminal = jnp.asarray(told.is_terminal, bool).reshape(()) & alive
            return (state, age + 1, alive & ~last), (told.obs if keep else {}, reward, alive, terminal)

        length = jax.tree.leaves(sequence)[0].shape[0]
        rows = (sequence, jax.random.split(key, length))
        return Played(*jax.lax.scan(step, (state, age, jnp.ones((), bool)), rows)[1])

    return jax.vmap(one)(states, jnp.asarray(age, jnp.int32), actions, keys)
