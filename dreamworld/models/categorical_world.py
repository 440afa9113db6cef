"""World model of DreamerV2 (Hafner et al., 2021, arXiv:2010.02193): encoders, decoders and heads around an RSSM."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from dreamworld import dists, layers
from dreamworld.models.categorical_rssm import CategoricalRSSM, flat
from dreamworld.models.conv import ConvDecoder, ConvEncoder
from dreamworld.models.recurrent_world import RecurrentWorld
from dreamworld.models.rssm import Latent
from dreamworld.options import CategoricalWorldConfig
from dreamworld.types import Array, Key, Params

sg = jax.lax.stop_gradient


@dataclasses.dataclass(frozen=True)
class CategoricalWorld(RecurrentWorld):
    """All layers have ELU."""

    sizes: CategoricalWorldConfig
    activation: str = "elu"
    balance: float = 0.8  # share of the KL's gradient that trains the prior

    @property
    def dynamics(self) -> CategoricalRSSM:
        sizes = self.sizes
        size = (sizes.deter, sizes.hidden, sizes.stoch, sizes.classes)
        return CategoricalRSSM(*size, self.act_space, sizes.layer_norm)

    @property
    def heads(self) -> dict[str, nn.Module]:
        units, found = self.sizes.units, {}
        found["reward"] = self._layers(self.sizes.reward_layers, units, 1)
        if self.cont_layers:
            found["cont"] = self._layers(self.cont_layers, units, 1)
        return found

    def image_coders(self, size: tuple[int, int], channels: int) -> tuple[nn.Module, nn.Module]:
        depth, form = self.sizes.depth, (self.activation, self.sizes.layer_norm)
        return ConvEncoder(depth, *form), ConvDecoder(size, channels, depth, *form)

    def vector_coders(self, size: int) -> tuple[nn.Module, nn.Module]:
        form = self.sizes.vector_layers, self.sizes.units
        return self._layers(*form, 0), self._layers(*form, size)

    def feature(self, state: Latent) -> Array:
        """[stoch, deter] [..., F]."""
        return jnp.concatenate([flat(state.stoch), state.deter], -1)

    def divergence(self, posterior: Array, prior: Array) -> Array:
        """KL(posterior || prior), nats, [...]: `balance` of its gradient to the prior, the rest to the posterior."""
        kl = lambda left, right: dists.categorical_kl(left, right).sum(-1)
        return self.balance * kl(sg(posterior), prior) + (1 - self.balance) * kl(posterior, sg(prior))

    def correct(self, params: Params, state: Latent, embedded: Array, key: Key) -> Latent:
        return self.dynamics.correct(params["dynamics"], state.deter, embedded, key)[0]

    @property
    def _layers(self) -> Callable[..., layers.Layers]:
        return functools.partial(layers.Layers, activation=self.activation, norm=self.sizes.layer_norm)
