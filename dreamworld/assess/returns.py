"""Metric 7, imagined against real return: the same policy from the same states, in the dream and in the environment.

In the dream the agent acts on what is decoded. Both begin without a memory of the agent's. Simulators have no value
function, so returns are sums of rewards over the horizon, without a bootstrap.
"""

from __future__ import annotations

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dreamworld.assess import intervals
from dreamworld.assess.decisions import seen_state
from dreamworld.assess.dreams import Dreaming
from dreamworld.assess.ground import NEEDS, Ground, start_states
from dreamworld.assess.segments import Segments
from dreamworld.assess.sheet import Sheet
from dreamworld.contract import Agent
from dreamworld.dream_env import as_shown
from dreamworld.types import Array, Key, Params, Spaces, Tree

STARTS, LEAST = 64, 8  # at most; with fewer there is nothing to correlate
SECONDS = 60.0  # that acting may take


def add_returns(
    sheet: Sheet,
    agent: Agent | None,
    params: Params,
    dreaming: Dreaming,
    segments: Segments,
    ground: Ground | None,
    key: Key,
) -> None:
    """Writes down bias, RMSE and correlation of imagined returns; `params` is what `agent.acting` returned."""
    simulator = dreaming.simulator
    reason = ""
    if ground is None:
        reason = NEEDS
    elif agent is None or simulator.predict is None or simulator.decode is None:
        reason = "needs an agent that acts, and a model that decodes and predicts rewards"
    elif not _decodes_all(dreaming, params):
        reason = "needs a model that decodes all that the agent sees"
    fit = np.flatnonzero(segments.imagined[:, 0])
    if reason or not len(fit):
        sheet.left_out["returns"] = reason or "needs segments that go on"
        return
    assert agent is not None and ground is not None
    took = _act_seconds(agent, params, segments)
    index = fit[: min(STARTS, int(SECONDS / (2 * segments.horizon * took)))]
    if len(index) < min(LEAST, len(fit)):
        sheet.left_out["returns"] = f"needs an agent that acts faster: {took:.2g} s for one state"
        return
    real_key, see_key, dream_key = jax.random.split(key, 3)
    states, age = start_states(ground, segments, index)
    first = segments.batch(index)
    seen = {name: value[:, segments.context - 1] for name, value in first.obs.items()}
    real = _real(agent, params, ground, states, age, seen, segments.horizon, real_key)
    start = seen_state(dreaming, params["world"], segments, index, see_key)
    dreamt = _dreamt(agent, params, dreaming, start, seen, segments.horizon, dream_key)
    score(sheet, np.asarray(real), np.asarray(dreamt), index)


def score(sheet: Sheet, real: np.ndarray, dreamt: np.ndarray, segment: np.ndarray) -> None:
    """Writes down the metrics of real and dreamt returns [M] from these segments [M]."""
    weights, n = sheet.weights[:, segment], len(segment)
    all_ = np.ones(n, bool)
    mean = lambda values: intervals.total_mean(weights, values, all_)
    sheet.number("returns/real", mean(real), n)
    sheet.number("returns/dreamt", mean(dreamt), n)
    sheet.number("returns/bias", mean(dreamt - real), n)
    spread = np.sqrt(np.maximum(mean(real**2) - mean(real) ** 2, 0))
    with np.errstate(invalid="ignore", divide="ignore"):
        sheet.number("returns/bias_by_sd", np.where(spread > 1e-9, mean(dreamt - real) / spread, np.nan), n)
    sheet.number("returns/rmse", np.sqrt(mean((dreamt - real) ** 2)), n)
    sheet.number("returns/correlation", intervals.weighted_correlation(weights, real, dreamt), n)


def _decodes_all(dreaming: Dreaming, params: Params) -> bool:
    simulator = dreaming.simulator
    decode = simulator.decode
    assert decode is not None
    world = params["world"]
    show = lambda: decode(world, simulator.feature(world, simulator.initial(world, 1)))
    return set(jax.eval_shape(show)) >= {key for key, space in dreaming.spaces.items() if space.size}


def _act_seconds(agent: Agent, params: Params, segments: Segments) -> float:
    """Seconds in which the agent acts once on one state, compiled; of several, as many times of it at most."""
    batch = segments.batch(np.arange(1))
    seen = {name: value[:, 0] for name, value in batch.obs.items()} | {"is_first": jnp.ones(1, bool)}
    act = jax.jit(lambda params, obs, key: agent.act(params, agent.initial(params, 1), obs, key)[1])
    took = []
    for number in range(4):  # the first one compiles
        began = time.perf_counter()
        jax.block_until_ready(act(params, seen, jax.random.PRNGKey(number)))
        took.append(time.perf_counter() - began)
    return min(took)


def _clipped(spaces: Spaces, action: dict[str, Array]) -> dict[str, Array]:
    return {key: value if spaces[key].discrete else jnp.clip(value, -1, 1) for key, value in action.items()}


def _real(
    agent: Agent,
    params: Params,
    ground: Ground,
    states: Tree,
    age: np.ndarray,
    seen: dict[str, Array],
    horizon: int,
    key: Key,
) -> Array:
    """Sums of the rewards [M] that the agent earns in the environment."""
    count, spaces = len(age), agent.act_space

    def step(carry: Any, row: Any) -> tuple[Any, None]:
        states, memory, obs, alive, total = carry
        number, key = row
        act_key, env_key = jax.random.split(key)
        obs = obs | {"is_first": jnp.full(count, number == 0)}
        memory, action, _ = agent.act(params, memory, obs, act_key)
        keys = jax.random.split(env_key, count)
        states, told = jax.vmap(ground.env.step)(states, _clipped(spaces, action), keys)
        total += jnp.where(alive, told.reward.reshape(count), 0)
        last = told.is_last.reshape(count)
        if ground.limit:
            last |= jnp.asarray(age) + number + 1 >= ground.limit
        return (states, memory, told.obs, alive & ~last, total), None

    rows = (jnp.arange(horizon), jax.random.split(key, horizon))
    carry = (states, agent.initial(params, count), seen, jnp.ones(count, bool), jnp.zeros(count))
    return jax.jit(lambda carry: jax.lax.scan(step, carry, rows)[0][4])(carry)


def _dreamt(
    agent: Agent,
    params: Params,
    dreaming: Dreaming,
    start: Any,
    seen: dict[str, Array],
    horizon: int,
    key: Key,
) -> Array:
    """Sums of the rewards [M] that the agent expects where it acts in its dream, weighted by being alive."""
    simulator, spaces = dreaming.simulator, dreaming.spaces
    decode, predict, count = simulator.decode, simulator.predict, len(jax.tree.leaves(seen)[0])
    assert decode is not None and predict is not None

    def step(carry: Any, row: Any) -> tuple[Any, None]:
        state, memory, obs, alive, total = carry
        number, key = row
        act_key, dream_key = jax.random.split(key)
        obs = obs | {"is_first": jnp.full(count, number == 0)}
        memory, action, _ = agent.act(params, memory, obs, act_key)
        state = simulator.imagine(params["world"], state, _clipped(agent.act_space, action), dream_key)
        feature = simulator.feature(params["world"], state)
        reward, cont = predict(params["world"], feature)
        shown = decode(params["world"], feature)
        obs = {name: as_shown(spaces[name], shown[name]) for name in seen if name in shown}
        return (state, memory, seen | obs, alive * cont, total + alive * reward), None

    rows = (jnp.arange(horizon), jax.random.split(key, horizon))
    carry = (start, agent.initial(params, count), seen, jnp.ones(count), jnp.zeros(count))
    return jax.jit(lambda carry: jax.lax.scan(step, carry, rows)[0][4])(carry)
