"""Metric 7, imagined against real return: the same policy from the same states, in the dream and in the environment.

In the dream the agent acts on what is decoded. Both begin without a memory of the agent's. Simulators have no value
function, so returns are sums of rewards over the horizon, without a bootstrap.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dreamworld.assess import intervals
from dreamworld.assess.decisions import seen_state
from dreamworld.assess.dreams import Dreaming
from dreamworld.assess.ground import RESTORE, Ground, start_states
from dreamworld.assess.host import HostGround
from dreamworld.assess.segments import Segments
from dreamworld.assess.sheet import Sheet
from dreamworld.assess.timing import act_seconds
from dreamworld.contract import Agent, State
from dreamworld.dream_env import as_shown, clip_actions
from dreamworld.types import Array, Key, Params, Tree

STARTS, LEAST = 64, 8  # at most; with fewer there is nothing to correlate
SECONDS = 60.0  # that acting may take


def add_returns(
    sheet: Sheet,
    agent: Agent | None,
    params: Params,
    dreaming: Dreaming,
    segments: Segments,
    ground: Ground | HostGround | None,
    key: Key,
) -> None:
    """Writes down bias, RMSE and correlation of imagined returns; `params` is what `agent.acting` returned."""
    reason = needs(agent, dreaming, params, ground)
    fit = np.flatnonzero(segments.imagined[:, 0])
    if reason or not len(fit):
        sheet.left_out["returns"] = reason or "needs segments that go on"
        return
    assert agent is not None and ground is not None
    index = choose_starts(agent, params, segments, times=2)
    if len(index) < min(LEAST, len(fit)):
        took = act_seconds(agent, params)
        sheet.left_out["returns"] = f"needs an agent that acts faster: {took:.2g} s for one state"
        return
    real_key, see_key, dream_key = jax.random.split(key, 3)
    real = real_returns(agent, params, segments, ground, index, real_key)
    index, real = index[np.isfinite(real)], real[np.isfinite(real)]
    if len(index) < min(LEAST, len(fit)):
        sheet.left_out["returns"] = f"needs more states that can be restored: {len(index):,} were"
        return
    start = seen_state(dreaming, params["world"], segments, index, see_key)
    score(sheet, real, dreamt_returns(agent, params, dreaming, segments, index, start, dream_key), index)


def needs(agent: Agent | None, dreaming: Dreaming, params: Params, ground: Ground | HostGround | None) -> str:
    """What is missing for imagined against real returns; empty for nothing."""
    if ground is None:
        return RESTORE
    if agent is None or dreaming.simulator.predict is None or dreaming.simulator.decode is None:
        return "needs an agent that acts, and a model that decodes and predicts rewards"
    return "" if _decodes_all(dreaming, params) else "needs a model that decodes all that the agent sees"


def choose_starts(agent: Agent, params: Params, segments: Segments, times: int) -> np.ndarray:
    """The segments from which an agent acts, `times` times over the horizon: as many as `SECONDS` allow."""
    fit = np.flatnonzero(segments.imagined[:, 0])
    took = act_seconds(agent, params)
    return fit[: min(STARTS, int(SECONDS / (times * segments.horizon * took)))]


def real_returns(
    agent: Agent, params: Params, segments: Segments, ground: Ground | HostGround, index: np.ndarray, key: Key
) -> np.ndarray:
    """Sums of the rewards [M] that the agent earns from the last observed rows; NaN where a state was not reached."""
    if isinstance(ground, HostGround):
        total, reached = ground.earn(agent, params, segments, index, key)
        return np.where(reached, total, np.nan)
    states, age = start_states(ground, segments, index)
    seen, rows = _last_seen(segments, index), _numbered(segments, key)
    return np.asarray(_real(agent, params, ground, states, age, seen, rows))


def _last_seen(segments: Segments, index: np.ndarray) -> dict[str, Array]:
    return {name: value[:, segments.context - 1] for name, value in segments.batch(index).obs.items()}


def _numbered(segments: Segments, key: Key) -> tuple[Array, Array]:
    return jnp.arange(segments.horizon), jax.random.split(key, segments.horizon)


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


class Moment(NamedTuple):
    """What an action led to, of M states."""

    state: Tree
    obs: dict[str, Array]
    reward: Array  # [M]
    goes_on: Array  # [M], the probability that the episode goes on after it


def _earned(
    agent: Agent,
    params: Params,
    start: Tree,
    seen: dict[str, Array],
    rows: tuple[Array, Array],
    advance: Callable[[Tree, dict[str, Array], Array, Key], Moment],
) -> Array:
    """Sums of rewards [M] where the agent acts on `seen`, and then on what `advance(state, action, number, key)` shows.

    Rewards are weighted by the probability that the episode has not ended before; `rows` number the steps, with keys.
    """
    count = len(jax.tree.leaves(seen)[0])

    def step(carry: Any, row: Any) -> tuple[Any, None]:
        state, memory, obs, alive, total = carry
        number, key = row
        act_key, key = jax.random.split(key)
        obs = obs | {"is_first": jnp.full(count, number == 0)}
        memory, action, _ = agent.act(params, memory, obs, act_key)
        state, obs, reward, goes_on = advance(state, clip_actions(agent.act_space, action), number, key)
        total += jnp.where(alive > 0, alive * reward, 0)
        return (state, memory, obs, alive * goes_on, total), None

    carry = (start, agent.initial(params, count), seen, jnp.ones(count), jnp.zeros(count))
    return jax.jit(lambda carry: jax.lax.scan(step, carry, rows)[0][4])(carry)


def _real(
    agent: Agent,
    params: Params,
    ground: Ground,
    states: Tree,
    age: np.ndarray,
    seen: dict[str, Array],
    rows: tuple[Array, Array],
) -> Array:
    """Sums of the rewards [M] that the agent earns in the environment."""
    count = len(age)

    def advance(states: Tree, action: dict[str, Array], number: Array, key: Key) -> Moment:
        states, told = jax.vmap(ground.env.step)(states, action, jax.random.split(key, count))
        last = told.is_last.reshape(count)
        if ground.limit:
            last |= jnp.asarray(age) + number + 1 >= ground.limit
        return Moment(states, told.obs, told.reward.reshape(count), 1.0 - last)

    return _earned(agent, params, states, seen, rows, advance)


def dreamt_returns(
    agent: Agent,
    params: Params,
    dreaming: Dreaming,
    segments: Segments,
    index: np.ndarray,
    start: State,
    key: Key,
    *,
    world: Params | None = None,
    temperature: float = 1.0,
) -> np.ndarray:
    """Sums of the rewards [M] that the agent expects where it acts in a dream, from states `start` of its world.

    `world` is what is dreamt in, if it is not the agent's own; `start` are states of it.
    """
    simulator, spaces = dreaming.simulator, dreaming.spaces
    world = params["world"] if world is None else world
    seen, rows = _last_seen(segments, index), _numbered(segments, key)
    decode, predict = simulator.decode, simulator.predict
    assert decode is not None and predict is not None

    def advance(state: State, action: dict[str, Array], number: Array, key: Key) -> Moment:
        state = simulator.imagine(world, state, action, key, temperature)
        feature = simulator.feature(world, state)
        shown = decode(world, feature)
        obs = {name: as_shown(spaces[name], shown[name]) if name in shown else seen[name] for name in seen}
        return Moment(state, obs, *predict(world, feature))

    return np.asarray(_earned(agent, params, start, seen, rows, advance))
