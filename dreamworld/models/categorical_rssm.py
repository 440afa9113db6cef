"""Recurrent state-space model with categorical latents and a layer-norm GRU (Hafner et al., 2021, arXiv:2010.02193)."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from dreamworld import dists, layers, nets, random, rollout
from dreamworld.models.rssm import Latent
from dreamworld.types import Array, Key, Params, Spaces, Tree


class NormGRU(nn.Module):
    """(inputs [..., n], state [..., D]) -> state; one layer for all three parts, normalised together.

    r, c, u = LayerNorm(W [x, h] + b); h' = sigmoid(u - 1) tanh(sigmoid(r) c) + (1 - sigmoid(u - 1)) h.
    """

    units: int

    @nn.compact
    def __call__(self, x: Array, h: Array) -> Array:
        parts = nn.Dense(3 * self.units, name="parts")(jnp.concatenate([x, h], -1))
        reset, candidate, update = jnp.split(layers.LayerNorm(name="norm")(parts), 3, -1)
        # The bias of -1 keeps the gate mostly closed at first: the state is remembered.
        update = jax.nn.sigmoid(update - 1)
        return update * jnp.tanh(jax.nn.sigmoid(reset) * candidate) + (1 - update) * h


class Believed(NamedTuple):
    """Log-probabilities of both sides."""

    posterior: Array  # [..., S, K]
    prior: Array


@dataclasses.dataclass(frozen=True)
class CategoricalRSSM:
    """Dynamics alone: encoders, decoders and heads belong to the world. `embedded` is what an encoder made of a row."""

    deter: int
    hidden: int
    stoch: int
    classes: int
    act_space: Spaces
    norm: bool = False  # LayerNorm in the hidden layers; the GRU always has one

    @property
    def input(self) -> layers.Layers:
        return layers.Layers(1, self.hidden, 0, "elu", self.norm)

    @property
    def gru(self) -> NormGRU:
        return NormGRU(self.deter)

    @property
    def head(self) -> layers.Layers:
        """Of prior and posterior."""
        return layers.Layers(1, self.hidden, self.stoch * self.classes, "elu", self.norm)

    def init(self, key: Key, embedded: Array) -> Params:
        """Parameters {input, gru, prior, posterior} for embeddings [1, E]."""
        keys, state = jax.random.split(key, 4), self.initial(1)
        size = sum(space.size * (nets.class_count(space) or 1) for space in self.act_space.values())
        x = jnp.concatenate([flat(state.stoch), jnp.zeros((1, size))], -1)
        return {
            "input": self.input.init(keys[0], x)["params"],
            "gru": self.gru.init(keys[1], jnp.zeros((1, self.hidden)), state.deter)["params"],
            "prior": self.head.init(keys[2], state.deter)["params"],
            "posterior": self.head.init(keys[3], jnp.concatenate([state.deter, embedded], -1))["params"],
        }

    def initial(self, batch: int) -> Latent:
        """Zeros [batch, ...]."""
        return Latent(jnp.zeros((batch, self.deter)), jnp.zeros((batch, self.stoch, self.classes)))

    def imagine(
        self,
        params: Params,
        state: Latent,
        action: dict[str, Array],
        key: Key,
        temperature: float | Array | None = None,
    ) -> Latent:
        """The next state as the prior dreams it; a `temperature` scales the noise of its samples."""
        deter = self.advance(params, state, nets.concat_actions(self.act_space, action, jnp.float32))
        return Latent(deter, draw(self.prior(params, deter), key, temperature))

    def advance(self, params: Params, state: Latent, action: Array) -> Array:
        """The recurrent state [..., D] after an action [..., A]."""
        x = nets.apply(self.input, params["input"], jnp.concatenate([flat(state.stoch), action], -1))
        return nets.apply(self.gru, params["gru"], x, state.deter)

    def prior(self, params: Params, deter: Array) -> Array:
        """Log-probabilities [..., S, K] before a row is seen."""
        return self._log_probs(nets.apply(self.head, params["prior"], deter))

    def correct(self, params: Params, deter: Array, embedded: Array, key: Key) -> tuple[Latent, Array]:
        """The state with a recurrent part [..., D] once a row was seen, and the log-probabilities it is drawn from."""
        both = jnp.concatenate([deter, embedded], -1)
        posterior = self._log_probs(nets.apply(self.head, params["posterior"], both))
        return Latent(deter, draw(posterior, key)), posterior

    def observe(
        self,
        params: Params,
        state: Latent,
        prev_action: dict[str, Array],
        embedded: Array,
        is_first: Array,
        key: Key,
    ) -> tuple[Latent, Believed]:
        """Advances by the action, then corrects by what was seen; `is_first` [B] clears state and action."""
        state, posterior = self._observe(params, state, prev_action, embedded, is_first, key)
        return state, Believed(posterior, self.prior(params, state.deter))

    def observe_sequence(
        self,
        params: Params,
        state: Latent,
        prev_action: dict[str, Array],
        embedded: Array,
        is_first: Array,
        key: Key,
    ) -> tuple[Latent, Believed]:
        """`observe` over axis T: states and log-probabilities [B, T, ...]."""

        def step(state: Latent, row: Tree, key: Key) -> tuple[Latent, tuple[Latent, Array]]:
            action, seen, first = row
            state, posterior = self._observe(params, state, action, seen, first, key)
            return state, (state, posterior)

        rows = (prev_action, embedded, is_first)
        keys = jax.random.split(key, is_first.shape[1])
        states, posterior = rollout.scan_rows(step, state, rows, keys)[1]
        return states, Believed(posterior, self.prior(params, states.deter))

    def _observe(
        self,
        params: Params,
        state: Latent,
        prev_action: dict[str, Array],
        embedded: Array,
        is_first: Array,
        key: Key,
    ) -> tuple[Latent, Array]:
        clear = lambda x: jnp.where(is_first.reshape((-1,) + (1,) * (x.ndim - 1)), 0, x)
        action = clear(nets.concat_actions(self.act_space, prev_action, jnp.float32))
        deter = self.advance(params, jax.tree.map(clear, state), action)
        return self.correct(params, deter, embedded, key)

    def _log_probs(self, logits: Array) -> Array:
        return jax.nn.log_softmax(logits.reshape((*logits.shape[:-1], self.stoch, self.classes)))


def flat(stoch: Array) -> Array:
    """[..., S, K] -> [..., S*K]."""
    return stoch.reshape((*stoch.shape[:-2], -1))


def draw(log_probs: Array, key: Key, temperature: float | Array | None = None) -> Array:
    """Straight-through one-hot samples [..., S, K]."""
    noise = random.draw(jax.random.gumbel, key, log_probs.shape)
    return dists.sample_onehot(log_probs, noise if temperature is None else noise * temperature)
