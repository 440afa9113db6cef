"""Stepping through any world model by its simulator: what it dreams, beside what happened."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from dreamworld import nets, rollout
from dreamworld.contract import Simulator, State
from dreamworld.types import Array, Batch, Key, Params, Spaces


def observe_rows(simulator: Simulator, params: Params, batch: Batch, key: Key) -> tuple[Any, Any]:
    """The last state [B, ...] and all states [B, L, ...] of a model that sees the rows of a batch, without a memory."""
    is_first = jnp.asarray(batch.is_first).at[:, 0].set(True)

    def see(state: State, row: Any, key: Key) -> tuple[Any, Any]:
        action, obs, first = row
        state = simulator.observe(params, state, action, obs, first, key)
        return state, state

    count, length = batch.reward.shape
    start = simulator.initial(params, count)
    rows = (rollout.actions_before(batch), batch.obs, is_first)
    return rollout.scan_rows(see, start, rows, jax.random.split(key, length))


def open_loop(
    simulator: Simulator, params: Params, batch: Batch, observed: int, key: Key
) -> tuple[Any, Array]:
    """States and features [B, L, ...] of all rows of a batch: `observed` of them seen, the others imagined.

    The actions are those of the batch. Every chunk begins without a memory.
    """
    observe_key, imagine_key = jax.random.split(key)
    last, seen = observe_rows(simulator, params, jax.tree.map(lambda x: x[:, :observed], batch), observe_key)
    advance = lambda state, action, key: simulator.imagine(params, state, action, key)
    actions = {name: x[:, observed:] for name, x in rollout.actions_before(batch).items()}
    dreamt = rollout.open_loop(advance, last, actions, imagine_key)
    states = jax.tree.map(lambda a, b: jnp.concatenate([a, b], 1), seen, dreamt)
    return states, simulator.feature(params, states)


def report(
    simulator: Simulator, spaces: Spaces, params: Params, batch: Batch, context: int, key: Key
) -> dict[str, Array]:
    """`truth/<key>` and `dream/<key>` [B, T, *shape] of the rows after `context`; nothing where no key is decoded.

    The first T/2 of them are observed, the rest imagined. What a probe decodes is `probe/<key>` instead. `is_first`
    [B, T] says where an episode starts.
    """
    if simulator.decode is None:
        return {}
    rows = rollout.trained_rows(batch, context)
    _, features = open_loop(simulator, params, rows, report_context(rows.reward.shape[1]), key)
    found, side = {}, "probe" if simulator.probed else "dream"
    for name, dream in simulator.decode(params, features).items():
        found[f"truth/{name}"] = nets.target(spaces[name], rows.obs[name]).astype(jnp.float32)
        found[f"{side}/{name}"] = dream
    return found | ({"is_first": rows.is_first} if found else {})


def report_context(length: int) -> int:
    """Observed rows of an open-loop report over `length` rows."""
    return length // 2
