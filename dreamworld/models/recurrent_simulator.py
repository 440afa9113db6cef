"""Dreams of a `RecurrentWorld`: as a simulator, and as behaviours see it that learn by gradients through them."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from dreamworld import dists
from dreamworld.contract import Expected, Simulator, State
from dreamworld.models.recurrent_world import RecurrentWorld
from dreamworld.types import Array, Key, Params, Tree


@dataclasses.dataclass(frozen=True)
class Dream:
    """A world with parameters that get no gradient, as behaviours see it whose gradients go through its dreams."""

    world: RecurrentWorld
    params: Params
    discount: float

    def imagine(self, state: State, action: dict[str, Array], key: Key) -> State:
        return self.world.dynamics.imagine(self.params["dynamics"], state, action, key)

    def feature(self, state: State) -> Array:
        return self.world.feature(state)

    def reward(self, feature: Array) -> Array:
        return self.world.reward(self.params, feature)

    def cont(self, feature: Array) -> Array:
        """Chance of going on after a state, times the discount."""
        if self.world.cont_layers:
            return jax.nn.sigmoid(self.world.cont_logit(self.params, feature))
        return jnp.full(feature.shape[:-1], self.discount)


def make_simulator(world: RecurrentWorld, discount: float = 1.0) -> Simulator:
    """The RSSM to step through; without a head of ends, episodes go on. `discount` is what that head learned with."""
    dynamics = world.dynamics

    def observed(
        params: Params, state: State, prev_action: Tree, obs: Tree, is_first: Array, key: Key
    ) -> tuple[State, Any]:
        see_key, key = jax.random.split(key)
        embedded = world.encode(params, world.see(obs, see_key))
        return dynamics.observe(params["dynamics"], state, prev_action, embedded, is_first, key)

    def observe(
        params: Params, state: State, prev_action: Tree, obs: Tree, is_first: Array, key: Key
    ) -> State:
        return observed(params, state, prev_action, obs, is_first, key)[0]

    def surprise(
        params: Params, state: State, prev_action: Tree, obs: Tree, is_first: Array, key: Key
    ) -> Array:
        return world.divergence(*observed(params, state, prev_action, obs, is_first, key)[1])

    def imagine(
        params: Params,
        state: State,
        action: dict[str, Array],
        key: Key,
        temperature: float | Array | None = None,
    ) -> State:
        return dynamics.imagine(params["dynamics"], state, action, key, temperature)

    def edit(params: Params, state: State, obs: dict[str, Array], key: Key) -> State:
        see_key, key = jax.random.split(key)
        return world.correct(params, state, world.encode(params, world.see(obs, see_key)), key)

    def predict(params: Params, feature: Array) -> Expected:
        cont = jnp.ones(feature.shape[:-1])
        if world.cont_layers:
            cont = jnp.minimum(jax.nn.sigmoid(world.cont_logit(params, feature)) / discount, 1)
        return Expected(world.reward(params, feature), cont)

    def reward_nll(params: Params, feature: Array, reward: Array) -> Array:
        return dists.unit_normal_nll(world.reward(params, feature), reward, 0)

    def decode(params: Params, feature: Array) -> dict[str, Array]:
        return world.show(params, feature)

    return Simulator(
        initial=lambda params, batch: dynamics.initial(batch),
        observe=observe,
        imagine=imagine,
        feature=lambda params, state: world.feature(state),
        predict=predict,
        decode=decode,
        surprise=surprise,
        edit=edit,
        reward_nll=reward_nll,
    )
