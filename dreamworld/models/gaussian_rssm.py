"""Recurrent state-space model with Gaussian latents (Hafner et al., 2019, arXiv:1811.04551, section 3)."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from dreamworld import layers, nets, random, rollout
from dreamworld.types import Array, Key, Params, Spaces, Tree

Cell = Literal["reset_before", "reset_after"]


class GaussianLatent(NamedTuple):
    """The model state."""

    sample: Array  # [..., S]
    belief: Array  # [..., D]


class Gaussian(NamedTuple):
    """A diagonal normal."""

    mean: Array  # [..., S]
    std: Array


class GRU(nn.Module):
    """(inputs [..., n], state [..., D]) -> state; the gates' biases begin at 1.

    reset, update = sigmoid([x, h]); c = tanh([x, reset h]); h' = update h + (1 - update) c.
    """

    units: int

    @nn.compact
    def __call__(self, x: Array, h: Array) -> Array:
        ones = nn.initializers.ones_init()
        both = nn.Dense(2 * self.units, bias_init=ones, name="gates")(jnp.concatenate([x, h], -1))
        reset, update = jnp.split(jax.nn.sigmoid(both), 2, -1)
        candidate = jnp.tanh(nn.Dense(self.units, name="candidate")(jnp.concatenate([x, reset * h], -1)))
        return update * h + (1 - update) * candidate


class ResetAfterGRU(nn.Module):
    """The same, resetting the product of the state and not the state, with biases of both, that begin at 0.

    reset, update = sigmoid(W x + U h); c = tanh(W x + reset U h); h' = update h + (1 - update) c.
    """

    units: int

    @nn.compact
    def __call__(self, x: Array, h: Array) -> Array:
        own = jnp.split(nn.Dense(3 * self.units, name="input")(x), 3, -1)
        back = jnp.split(
            nn.Dense(3 * self.units, kernel_init=nn.initializers.orthogonal(), name="state")(h), 3, -1
        )
        reset, update = (jax.nn.sigmoid(a + b) for a, b in zip(own[:2], back[:2]))
        return update * h + (1 - update) * jnp.tanh(own[2] + reset * back[2])


class GaussianHead(nn.Module):
    """[..., n] -> normal [..., size]: a hidden layer, then mean and standard deviation."""

    hidden: int
    size: int
    min_std: float
    activation: str = "relu"

    @nn.compact
    def __call__(self, x: Array) -> Gaussian:
        x = layers.ACTIVATIONS[self.activation](nn.Dense(self.hidden, name="hidden")(x))
        std = jax.nn.softplus(nn.Dense(self.size, name="std")(x)) + self.min_std
        return Gaussian(nn.Dense(self.size, name="mean")(x), std)


class Input(nn.Module):
    """What enters the GRU: a hidden layer over sample and action."""

    units: int
    activation: str = "relu"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        return layers.ACTIVATIONS[self.activation](nn.Dense(self.units, name="hidden")(x))


@dataclasses.dataclass(frozen=True)
class GaussianRSSM:
    """Dynamics alone: encoders, decoders and heads belong to the agent. `embedded` is what an encoder made of a row."""

    stoch: int
    belief: int
    hidden: int
    min_std: float
    act_space: Spaces
    activation: str = "relu"
    cell: Cell = "reset_before"

    @property
    def input(self) -> Input:
        return Input(self.hidden, self.activation)

    @property
    def gru(self) -> nn.Module:
        return GRU(self.belief) if self.cell == "reset_before" else ResetAfterGRU(self.belief)

    @property
    def head(self) -> GaussianHead:
        return GaussianHead(self.hidden, self.stoch, self.min_std, self.activation)

    def init(self, key: Key, embedded: Array) -> Params:
        """Parameters {input, gru, prior, posterior} for embeddings [1, E]."""
        keys, state = jax.random.split(key, 4), self.initial(1)
        size = sum(space.size * (nets.class_count(space) or 1) for space in self.act_space.values())
        x = jnp.concatenate([state.sample, jnp.zeros((1, size))], -1)
        return {
            "input": self.input.init(keys[0], x)["params"],
            "gru": self.gru.init(keys[1], jnp.zeros((1, self.hidden)), state.belief)["params"],
            "prior": self.head.init(keys[2], state.belief)["params"],
            "posterior": self.head.init(keys[3], jnp.concatenate([state.belief, embedded], -1))["params"],
        }

    def initial(self, batch: int) -> GaussianLatent:
        """Zeros [batch, ...]."""
        return GaussianLatent(jnp.zeros((batch, self.stoch)), jnp.zeros((batch, self.belief)))

    def imagine(
        self,
        params: Params,
        state: GaussianLatent,
        action: dict[str, Array],
        key: Key,
        temperature: float | Array | None = None,
    ) -> GaussianLatent:
        """The next state as the prior dreams it; a `temperature` scales the noise of its sample."""
        belief, prior = self.predict(params, state, nets.concat_actions(self.act_space, action, jnp.float32))
        return GaussianLatent(draw(prior, key, temperature), belief)

    def predict(self, params: Params, state: GaussianLatent, action: Array) -> tuple[Array, Gaussian]:
        """Belief and prior after an action [..., A]."""
        x = nets.apply(self.input, params["input"], jnp.concatenate([state.sample, action], -1))
        belief = nets.apply(self.gru, params["gru"], x, state.belief)
        return belief, nets.apply(self.head, params["prior"], belief)

    def observe(
        self,
        params: Params,
        state: GaussianLatent,
        prev_action: dict[str, Array],
        embedded: Array,
        is_first: Array,
        key: Key,
    ) -> tuple[GaussianLatent, tuple[Gaussian, Gaussian]]:
        """Advances by the action, then corrects by what was seen; returns the state, the posterior and the prior."""
        clear = lambda x: jnp.where(is_first.reshape((-1,) + (1,) * (x.ndim - 1)), 0, x)
        action = clear(nets.concat_actions(self.act_space, prev_action, jnp.float32))
        belief, prior = self.predict(params, jax.tree.map(clear, state), action)
        state, posterior = self.correct(params, belief, embedded, key)
        return state, (posterior, prior)

    def correct(
        self, params: Params, belief: Array, embedded: Array, key: Key
    ) -> tuple[GaussianLatent, Gaussian]:
        """The state with a belief [..., D] once a row was seen, and the posterior that it is drawn from."""
        posterior = nets.apply(self.head, params["posterior"], jnp.concatenate([belief, embedded], -1))
        return GaussianLatent(draw(posterior, key), belief), posterior

    def observe_sequence(
        self,
        params: Params,
        state: GaussianLatent,
        prev_action: dict[str, Array],
        embedded: Array,
        is_first: Array,
        key: Key,
    ) -> tuple[GaussianLatent, tuple[Gaussian, Gaussian]]:
        """`observe` over axis T: states, posteriors and priors [B, T, ...]."""

        def step(state: GaussianLatent, row: Tree, key: Key) -> tuple[GaussianLatent, Any]:
            action, seen, first = row
            state, found = self.observe(params, state, action, seen, first, key)
            return state, (state, found)

        rows = (prev_action, embedded, is_first)
        return rollout.scan_rows(step, state, rows, jax.random.split(key, is_first.shape[1]))[1]


def feature(state: GaussianLatent) -> Array:
    """[sample, belief] [..., F]."""
    return jnp.concatenate([state.sample, state.belief], -1)


def draw(normal: Gaussian, key: Key, temperature: float | Array | None = None) -> Array:
    """A reparameterised sample."""
    noise = random.draw(jax.random.normal, key, normal.mean.shape)
    return normal.mean + normal.std * (noise if temperature is None else noise * temperature)


def kl(left: Gaussian, right: Gaussian) -> Array:
    """KL(left || right) summed over the latents, nats; [...]."""
    ratio = jnp.square(left.std / right.std)
    gap = jnp.square((left.mean - right.mean) / right.std)
    return 0.5 * (ratio + gap - 1 - jnp.log(ratio)).sum(-1)
