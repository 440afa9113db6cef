"""Planning by a distribution over plans that is fitted to the best of its samples: what CEM and MPPI share."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dreamworld import nets, random
from dreamworld.behaviours.plans import Objective, Vectors, propose, repeated
from dreamworld.contract import Agent, Choose, Simulator, State
from dreamworld.plan_options import PlanConfig
from dreamworld.types import Array, Carry, Key, Mode, Params

VARIANCE_FLOOR = 1e-6
LEAST = float(np.finfo(np.float32).min)  # what a return that is no number counts as
EXTRAS = 1  # of `fold_in`: random numbers that the plain method does not draw


class Memory(NamedTuple):
    """What is left of the plan of the step before."""

    mean: Array  # [N, H, A]
    kept: Array  # [N, K, H, A], elites


class Fit(NamedTuple):
    """The distribution of plans after an iteration, and what it was fitted to."""

    mean: Array  # [H, A]
    std: Array  # [H, A]
    elites: Array  # [E, H, A], the best first
    weights: Array  # [E], sum 1


@dataclasses.dataclass(frozen=True)
class Planner:
    """Draws plans from a normal, keeps the elites, fits the normal to them, and begins again.

    Subclasses say how elites weigh and what is done in the end. `params` is what acting needs of an agent.
    """

    simulator: Simulator
    vectors: Vectors
    objective: Objective
    options: PlanConfig
    actor: Choose | None = None  # proposes `options.actor` of the candidates

    def weigh(self, returns: Array) -> Array:
        """Weights [E] of elites with these returns, the best first; their sum is 1."""
        raise NotImplementedError

    def decide(self, fit: Fit, key: Key) -> Array:
        """The plan [H, A] of which the first action is taken."""
        raise NotImplementedError

    def initial(self, batch: int) -> Memory:
        """Before the first step of an episode."""
        shape = (self.options.horizon, self.vectors.size)
        return Memory(jnp.zeros((batch, *shape)), jnp.zeros((batch, self.options.kept, *shape)))

    def plan(self, params: Params, state: State, memory: Memory, key: Key) -> tuple[Memory, dict[str, Array]]:
        """What to remember, and actions {key: [N, *shape]}, for the states [N, ...] of the simulator."""
        count = jax.tree.leaves(state)[0].shape[0]
        keys = jax.random.split(key, count)
        memory, first = jax.vmap(self._plan_one, (None, 0, 0, 0))(params, state, memory, keys)
        return memory, self.vectors.as_actions(first)

    def _plan_one(self, params: Params, state: State, memory: Memory, key: Key) -> tuple[Memory, Array]:
        options = self.options
        start = self._spread(state, options.candidates)
        extra_key = jax.random.fold_in(key, EXTRAS)
        given = self._given(params, state, extra_key)
        rate = repeated(functools.partial(self.objective, params), options.dreams)

        def improve(carry: tuple[Fit, Array], key: Key) -> tuple[tuple[Fit, Array], None]:
            fit, kept = carry
            plan_key, dream_key = jax.random.split(key)
            fixed = jnp.concatenate([kept, given])
            drawn = self._draw(fit, options.candidates - len(fixed), plan_key)
            plans = jnp.concatenate([drawn, fixed]) if len(fixed) else drawn
            returns = rate(start, self.vectors.as_actions(plans), dream_key)
            returns, order = jax.lax.top_k(jnp.nan_to_num(returns, nan=LEAST), options.elites)
            fit = self._fit(plans[order], returns)
            return (fit, fit.elites[: options.kept]), None

        keys = jax.random.split(key, options.iterations)
        (fit, kept), _ = jax.lax.scan(improve, self._begin(memory), keys)
        decided = self.decide(fit, jax.random.fold_in(extra_key, 1))
        return Memory(fit.mean, kept), decided[0]

    def _begin(self, memory: Memory) -> tuple[Fit, Array]:
        """The plan of the step before, one step on, with zeros at its end."""
        options = self.options
        on = lambda plans: jnp.concatenate([plans[..., 1:, :], jnp.zeros_like(plans[..., :1, :])], -2)
        mean = on(memory.mean) if options.warm else jnp.zeros_like(memory.mean)
        elites, weights = jnp.zeros((options.elites, *mean.shape)), jnp.zeros(options.elites)
        return Fit(mean, jnp.full_like(mean, options.std), elites, weights), on(memory.kept)

    def _given(self, params: Params, state: State, key: Key) -> Array:
        """The candidates [M, H, A] that the actor proposes."""
        count, steps = self.options.actor, self.options.horizon
        if not count or self.actor is None:
            return jnp.zeros((0, steps, self.vectors.size))
        many = self._spread(state, count)
        return propose(self.simulator, self.actor, self.vectors, params, many, steps, key)

    def _draw(self, fit: Fit, count: int, key: Key) -> Array:
        noise = random.draw(jax.random.normal, key, (count, *fit.mean.shape))
        if self.options.color:
            noise = jnp.einsum("ij,cja->cia", colored(self.options.horizon, self.options.color), noise)
        return self.vectors.clip(fit.mean[None] + fit.std[None] * noise)

    def _fit(self, elites: Array, returns: Array) -> Fit:
        weights = self.weigh(returns)
        mean = jnp.tensordot(weights, elites, 1)
        variance = jnp.tensordot(weights, jnp.square(elites - mean[None]), 1)
        std = jnp.maximum(jnp.sqrt(variance + VARIANCE_FLOOR), self.options.min_std)
        return Fit(mean, std, elites, weights)

    @staticmethod
    def _spread(state: State, count: int) -> State:
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *x.shape)), state)


def colored(length: int, exponent: float) -> np.ndarray:
    """[H, H], which makes white noise over H steps into noise whose power falls as 1 / frequency^exponent.

    Each step keeps the variance 1. The constant part has the power of the lowest frequency (arXiv:2008.06389).
    """
    frequency = np.fft.rfftfreq(length)
    frequency[0] = frequency[1] if length > 1 else 1.0
    scale = frequency ** (-exponent / 2)
    matrix = np.fft.irfft(scale[:, None] * np.fft.rfft(np.eye(length), axis=0), length, axis=0)
    return (matrix / np.sqrt(np.square(matrix).sum(1, keepdims=True))).astype(np.float32)


def planned(agent: Agent, planner: Planner) -> Agent:
    """The agent as one that plans its actions: to act with, not to train."""
    simulator = planner.simulator

    def initial(params: Params, batch: int) -> Carry:
        action = nets.zero_actions(planner.vectors.spaces, batch)
        return simulator.initial(params["world"], batch), action, planner.initial(batch)

    def act(
        params: Params, carry: Carry, obs: dict[str, Array], key: Key, *, mode: Mode = "sample"
    ) -> tuple[Any, Any, Any]:
        state, prev_action, memory = carry
        observe_key, plan_key = jax.random.split(key)
        first = obs["is_first"]
        state = simulator.observe(params["world"], state, prev_action, obs, first, observe_key)
        anew = lambda x: jnp.where(first.reshape((-1, *[1] * (x.ndim - 1))), 0, x)
        memory, action = planner.plan(params, state, jax.tree.map(anew, memory), plan_key)
        return (state, action, memory), action, {}

    return agent._replace(initial=initial, act=act, latent_space={}, extra_space={}, stages=())
