"""Observing and imagining over time: the scans over a world model. Knows only the contract."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from dreamworld.contract import State
from dreamworld.types import Array, Batch, Key, Params, Tree

Step = Callable[[Any, Any, Any], tuple[Any, Any]]


def time_first(tree: Tree) -> Tree:
    """Swaps the two leading axes of every leaf: [B, T, ...] <-> [T, B, ...]."""
    return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), tree)


def trained_rows(batch: Batch, context: int) -> Batch:
    """The batch without its first `context` rows and without extras."""
    cut = lambda x: x[:, context:]
    obs, action = jax.tree.map(cut, (batch.obs, batch.action))
    flags = (cut(batch.reward), cut(batch.is_first), cut(batch.is_last), cut(batch.is_terminal))
    return Batch(obs, action, *flags, extras={})


def actions_before(batch: Batch) -> dict[str, Array]:
    """The actions that led to the rows of a batch; zeros before the first."""
    return {
        name: jnp.concatenate([jnp.zeros_like(x[:, :1]), x[:, :-1]], 1) for name, x in batch.action.items()
    }


def scan_rows(
    step: Callable[[Any, Any, Any], tuple[Any, Any]], state: State, rows: Tree, noise: Tree
) -> tuple[Any, Any]:
    """Runs `step(state, row, noise) -> (state, out)` over axis T of rows [B, T, ...]; last state, outs.

    `noise` [T, ...]: keys, or what was drawn from them.
    """
    state, out = jax.lax.scan(lambda state, row: step(state, *row), state, (time_first(rows), noise))
    return state, time_first(out)


def scan_states(step: Step, params: Params, state: State, rows: Tree) -> tuple[Any, Any]:
    """States and outs, all [T, B, ...], of `step(params, state, row) -> (state, out)` over rows [T, B, ...]."""

    def keep(state: State, row: Tree) -> tuple[Any, tuple[Any, Any]]:
        state, out = step(params, state, row)
        return state, (state, out)

    return jax.lax.scan(keep, state, rows)[1]


def scan_states_at_once(step: Step, params: Any, state: State, rows: Tree) -> tuple[Any, Any]:
    """`scan_states` with equal gradients, for which the backward scan carries only the gradient of the state.

    With that known for every step, the gradients of params and rows are those of one step over all T * B rows,
    instead of T small ones added up; and of each step only the matrix products are kept. On a GPU, whose scans
    wait for their kernels to start, that is 40% fewer kernels in an update (size1m); in exchange the step is
    computed once more, for all rows together.
    """
    scan = jax.custom_vjp(functools.partial(scan_states, step))
    light = jax.checkpoint(step, policy=jax.checkpoint_policies.dots_saveable, prevent_cse=False)

    def nudged(params: Params, state: State, row: Tree) -> tuple[Any, Any]:
        """`step`, with something added to the state: its gradient is that of the state."""
        row, nudge = row
        state, out = light(params, state, row)
        return jax.tree.map(jnp.add, state, nudge), out

    def forward(params: Params, state: State, rows: Tree) -> Tree:
        length = jax.tree.leaves(rows)[0].shape[0]
        zeros = jax.tree.map(lambda x: jnp.zeros((length, *x.shape), x.dtype), state)
        run = lambda state, nudges: scan_states(nudged, params, state, (rows, nudges))
        found, pull = jax.vjp(run, state, zeros)
        return found, (params, state, rows, found[0], pull)

    def backward(kept: Tree, grads: Tree) -> Tree:
        params, state, rows, states, pull = kept
        state_grad, state_grads = pull(grads)
        before = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest[:-1]]), state, states)
        before, flat_rows, flat_grads = jax.tree.map(
            lambda x: x.reshape((-1, *x.shape[2:])), (before, rows, (state_grads, grads[1]))
        )
        _, pull = jax.vjp(lambda params, rows: step(params, before, rows), params, flat_rows)
        params_grad, row_grads = pull(flat_grads)
        return (
            params_grad,
            state_grad,
            jax.tree.map(lambda grad, row: grad.reshape(row.shape), row_grads, rows),
        )

    scan.defvjp(forward, backward)
    return scan(params, state, rows)


def imagine(
    advance: Callable[[Any, Any, Key], Any],
    look: Callable[[Any, Key], tuple[Any, Any]],
    start: State,
    length: int,
    key: Key,
) -> tuple[Any, Any]:
    """Unrolls s[h+1] = advance(s[h], a[h]) with a[h], out[h] = look(s[h]) for h <= length.

    Args:
        start: states [N, ...].
        length: H.

    Returns: outs [H, N, ...] of the states that were left, beginning with `start`, and out [N, ...] of the last one.
    """

    def step(state: State, key: Key) -> tuple[Any, Any]:
        look_key, world_key = jax.random.split(key)
        action, out = look(state, look_key)
        return advance(state, action, world_key), out

    keys = jax.random.split(key, length + 1)
    last, outs = jax.lax.scan(step, start, keys[:length])
    return outs, look(last, keys[length])[1]


def append(rows: Tree, row: Tree) -> Tree:
    """[H, ...] and [...] to [H+1, ...]."""
    return jax.tree.map(lambda rows, row: jnp.concatenate([rows, row[None]], 0), rows, row)


def by_step(function: Callable[[Any], Any], rows: Tree, *, at_once: bool) -> Any:
    """`function` of rows [H, N, ...]: of all steps at once, or of one step [N, ...] after another.

    The results and gradients are equal. On a CPU the arrays of one step stay in its cache, and of each step only the
    matrix products are kept for the gradient; an accelerator would wait for the many small steps.
    """
    if at_once:
        return function(rows)
    light = jax.checkpoint(function, policy=jax.checkpoint_policies.dots_saveable, prevent_cse=False)
    return jax.lax.map(light, rows)


def open_loop(
    advance: Callable[[Any, Any, Key], Any], start: State, actions: dict[str, Array], key: Key
) -> State:
    """States [B, T, ...] after each of the given actions [B, T, ...], without looking at observations."""

    def step(state: State, action: dict[str, Array], key: Key) -> tuple[Any, Any]:
        state = advance(state, action, key)
        return state, state

    length = jax.tree.leaves(actions)[0].shape[1]
    return scan_rows(step, start, actions, jax.random.split(key, length))[1]
