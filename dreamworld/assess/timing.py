"""What acting once and an imagined step cost: states advanced, rewards and ends predicted, at several batch sizes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from dreamworld import nets
from dreamworld.contract import Agent, Simulator
from dreamworld.types import Array, Key, Params, Spaces

BATCHES = (1, 16, 1024)
ROWS = 1024  # of a measured rollout: its steps times its batch, at most
STEPS = 16  # of it, at most
REPEATS = 2


def act_seconds(agent: Agent, params: Params) -> float:
    """Seconds in which the agent acts once on one state, compiled; of several, as many times of it at most."""
    seen = {key: jnp.asarray(space.zeros(1)) for key, space in agent.obs_space.items()}
    seen |= {"is_first": jnp.ones(1, bool)}
    act = jax.jit(lambda params, obs, key: agent.act(params, agent.initial(params, 1), obs, key)[1])
    return _fastest(lambda number: act(params, seen, jax.random.PRNGKey(number)), repeats=3)


def step_times(simulator: Simulator, params: Params, act_space: Spaces) -> dict[str, dict[str, float]]:
    """Seconds per step {"imagine": {batch: s}, "imagine and decode": {batch: s}}, the best of some rollouts.

    The time is that of the whole batch.
    """
    kinds = {"imagine": False} | ({"imagine and decode": True} if simulator.decode else {})
    return {
        name: {str(batch): _measure(simulator, params, act_space, batch, shown) for batch in BATCHES}
        for name, shown in kinds.items()
    }


def _measure(simulator: Simulator, params: Params, act_space: Spaces, batch: int, shown: bool) -> float:
    dtype = lambda space: jnp.int32 if nets.class_count(space) else jnp.float32
    action = {name: jnp.zeros((batch, *space.shape), dtype(space)) for name, space in act_space.items()}

    def step(state: Any, key: Key) -> tuple[Any, Array]:
        state = simulator.imagine(params, state, action, key)
        feature = simulator.feature(params, state)
        told = simulator.predict(params, feature).reward.sum() if simulator.predict else feature.sum()
        if shown and simulator.decode is not None:
            told += sum(value.sum() for value in simulator.decode(params, feature).values())
        return state, told.astype(jnp.float32)

    @jax.jit
    def rollout(state: Any, key: Key) -> Array:
        return jax.lax.scan(step, state, jax.random.split(key, steps))[1]

    start, steps = simulator.initial(params, batch), max(1, min(STEPS, ROWS // batch))
    return _fastest(lambda number: rollout(start, jax.random.PRNGKey(number)), REPEATS) / steps


def _fastest(call: Callable[[int], Any], repeats: int) -> float:
    """Seconds of the fastest of some calls, after a first one that compiles."""
    took = []
    for number in range(repeats + 1):
        began = time.perf_counter()
        jax.block_until_ready(call(number))
        took.append(time.perf_counter() - began)
    return min(took[1:])
