"""Observing and imagining over time: the scans over a world model. Knows only the contract."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from dreamworld.types import Array, Key


def time_first(tree: Any) -> Any:
    """Swaps the two leading axes of every leaf: [B, T, ...] <-> [T, B, ...]."""
    return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), tree)


def scan_rows(
    step: Callable[[Any, Any, Any], tuple[Any, Any]], state: Any, rows: Any, noise: Any
) -> tuple[Any, Any]:
    """Runs `step(state, row, noise) -> (state, out)` over axis T of rows [B, T, ...]; last state, outs.

    `noise` [T, ...]: keys, or what was drawn from them.
    """
    state, out = jax.lax.scan(lambda state, row: step(state, *row), state, (time_first(rows), noise))
    return state, time_first(out)


def imagine(
    advance: Callable[[Any, Any, Key], Any],
    policy: Callable[[Any, Key], Any],
    start: Any,
    length: int,
    key: Key,
) -> tuple[Any, Any]:
    """Unrolls s[h+1] = advance(s[h], a[h]) with a[h] = policy(s[h]) for h < length.

    Args:
        start: states [N, ...].
        length: H.

    Returns: states [H+1, N, ...] beginning with `start`, actions [H+1, N, ...]; the last leads nowhere.
    """

    def step(state: Any, key: Key) -> tuple[Any, tuple[Any, Any]]:
        act_key, world_key = jax.random.split(key)
        action = policy(state, act_key)
        return advance(state, action, world_key), (state, action)

    keys = jax.random.split(key, length + 1)
    last, (states, actions) = jax.lax.scan(step, start, keys[:length])
    append = lambda rows, row: jnp.concatenate([rows, row[None]], 0)
    return jax.tree.map(append, states, last), jax.tree.map(append, actions, policy(last, keys[length]))


def open_loop(
    advance: Callable[[Any, Any, Key], Any], start: Any, actions: dict[str, Array], key: Key
) -> Any:
    """States [B, T, ...] after each of the given actions [B, T, ...], without looking at observations."""

    def step(state: Any, action: Any, key: Key) -> tuple[Any, Any]:
        state = advance(state, action, key)
        return state, state

    length = jax.tree.leaves(actions)[0].shape[1]
    return scan_rows(step, start, actions, jax.random.split(key, length))[1]
