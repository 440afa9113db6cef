"""World model of PlaNet and the first Dreamer: a Gaussian RSSM with encoders, decoders and heads around it.

Hafner et al., 2019, arXiv:1811.04551, and 2020, arXiv:1912.01603.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import flax.linen as nn

from dreamworld import layers
from dreamworld.models.conv import ConvDecoder, ConvEncoder
from dreamworld.models.gaussian_rssm import Cell, Gaussian, GaussianLatent, GaussianRSSM, feature, kl
from dreamworld.models.recurrent_world import RecurrentWorld
from dreamworld.options import GaussianWorldConfig
from dreamworld.types import Array, Key, Params


@dataclasses.dataclass(frozen=True)
class GaussianWorld(RecurrentWorld):
    """`activation` is that of all layers but convolutions, which have ReLU."""

    sizes: GaussianWorldConfig
    cell: Cell = "reset_before"

    @property
    def dynamics(self) -> GaussianRSSM:
        sizes = self.sizes
        size = (sizes.stoch, sizes.belief, sizes.hidden, sizes.min_std)
        return GaussianRSSM(*size, self.act_space, self.activation, self.cell)

    @property
    def heads(self) -> dict[str, nn.Module]:
        units, found = self.sizes.reward_units, {}
        found["reward"] = self._layers(self.sizes.reward_layers, units, 1)
        if self.cont_layers:
            found["cont"] = self._layers(self.cont_layers, units, 1)
        return found

    def image_coders(self, size: tuple[int, int], channels: int) -> tuple[nn.Module, nn.Module]:
        return ConvEncoder(self.sizes.depth), ConvDecoder(size, channels, self.sizes.depth)

    def vector_coders(self, size: int) -> tuple[nn.Module, nn.Module]:
        hidden = self.sizes.hidden
        return self._layers(1, hidden, hidden), self._layers(2, hidden, size)

    def feature(self, state: GaussianLatent) -> Array:
        return feature(state)

    def divergence(self, posterior: Gaussian, prior: Gaussian) -> Array:
        return kl(posterior, prior)

    def correct(self, params: Params, state: GaussianLatent, embedded: Array, key: Key) -> GaussianLatent:
        return self.dynamics.correct(params["dynamics"], state.belief, embedded, key)[0]

    @property
    def _layers(self) -> Callable[..., layers.Layers]:
        return functools.partial(layers.Layers, activation=self.activation)
