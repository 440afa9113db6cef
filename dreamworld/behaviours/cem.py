"""Planning by the cross-entropy method (Hafner et al., 2019, arXiv:1811.04551, algorithm 2)."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from dreamworld import nets, random
from dreamworld.contract import Simulator, State
from dreamworld.types import Array, Key, Params, Spaces

VARIANCE_FLOOR = 1e-6


@dataclasses.dataclass(frozen=True)
class CEM:
    """Fits a normal over plans to the best of its samples, a few times, and returns the first action of its mean.

    A plan is a sequence of vectors: of a continuous action the action, clipped to [-1, 1]; of a discrete one a score
    for each class, of which the largest is taken. It sees the model through `imagine`, `feature` and `predict`. Plans
    are rated by the sum of expected rewards, without a discount or a value at their end; each dreams with noise of
    its own.
    """

    simulator: Simulator
    act_space: Spaces
    horizon: int
    candidates: int
    iterations: int
    elites: int

    def plan(self, params: Params, state: State, key: Key) -> dict[str, Array]:
        """Actions {key: [N, *shape]} for the states [N, ...] of the model."""
        count = jax.tree.leaves(state)[0].shape[0]
        return jax.vmap(self._plan_one, (None, 0, 0))(params, state, jax.random.split(key, count))

    def _plan_one(self, params: Params, state: State, key: Key) -> dict[str, Array]:
        shape = (self.horizon, sum(self._sizes().values()))
        spread = lambda x: jnp.broadcast_to(x, (self.candidates, *x.shape))
        start = jax.tree.map(spread, state)

        def improve(normal: tuple[Array, Array], key: Key) -> tuple[tuple[Array, Array], None]:
            plan_key, dream_key = jax.random.split(key)
            mean, std = normal
            noise = random.draw(jax.random.normal, plan_key, (self.candidates, *shape))
            plans = self._clip(mean[None] + std[None] * noise)
            returns = self._rate(params, start, plans, dream_key)
            best = plans[jax.lax.top_k(returns, self.elites)[1]]
            return (best.mean(0), jnp.sqrt(best.var(0) + VARIANCE_FLOOR)), None

        first = (jnp.zeros(shape), jnp.ones(shape))
        (mean, _), _ = jax.lax.scan(improve, first, jax.random.split(key, self.iterations))
        return self.as_actions(mean[0])

    def _rate(self, params: Params, start: State, plans: Array, key: Key) -> Array:
        """Sums of expected rewards [candidates] of plans [candidates, horizon, A]."""
        simulator, predict = self.simulator, self.simulator.predict
        assert predict is not None

        def step(state: State, row: tuple[Array, Key]) -> tuple[State, Array]:
            vectors, key = row
            state = simulator.imagine(params, state, self.as_actions(vectors), key)
            return state, predict(params, simulator.feature(params, state)).reward

        rows = (plans.swapaxes(0, 1), jax.random.split(key, self.horizon))
        return jax.lax.scan(step, start, rows)[1].sum(0)

    def as_actions(self, vectors: Array) -> dict[str, Array]:
        """[..., A] -> {key: [..., *shape]}."""
        actions, begin = {}, 0
        for name, size in self._sizes().items():
            space, part = self.act_space[name], vectors[..., begin : begin + size]
            classes = nets.class_count(space)
            shape = (*vectors.shape[:-1], *space.shape)
            if classes:
                scores = part.reshape((*shape, classes))
                actions[name] = jnp.argmax(scores, -1).astype(jnp.int32)
            else:
                actions[name] = part.reshape(shape)
            begin += size
        return actions

    def _sizes(self) -> dict[str, int]:
        spaces = sorted(self.act_space.items())
        return {name: math.prod(space.shape) * (nets.class_count(space) or 1) for name, space in spaces}

    def _clip(self, vectors: Array) -> Array:
        """Continuous entries in [-1, 1]; scores as they are."""
        limits: list[Any] = []
        for name, size in self._sizes().items():
            limits += [jnp.inf if nets.class_count(self.act_space[name]) else 1.0] * size
        limit = jnp.array(limits).reshape((1,) * (vectors.ndim - 1) + (-1,))
        return jnp.clip(vectors, -limit, limit)
