"""Linen layers of PlaNet and the first two Dreamers: ReLU or ELU, and at most a LayerNorm; see dreamworld.nets."""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax

from dreamworld.types import Array

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"relu": jax.nn.relu, "elu": jax.nn.elu}


class Layers(nn.Module):
    """`layers` hidden layers and a linear one: [..., n] -> [..., out]; without it for `out` 0.

    With `norm`, hidden layers have a LayerNorm before the activation.
    """

    layers: int
    units: int
    out: int
    activation: str = "relu"
    norm: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for index in range(self.layers):
            x = nn.Dense(self.units, name=f"layer{index}")(x)
            x = LayerNorm(name=f"norm{index}")(x) if self.norm else x
            x = ACTIVATIONS[self.activation](x)
        return nn.Dense(self.out, name="out")(x) if self.out else x


class LayerNorm(nn.LayerNorm):
    """(x - mean) / sqrt(variance + 1e-3) * scale + bias over the last axis (arXiv:1607.06450), as in DreamerV2."""

    epsilon: float = 1e-3
