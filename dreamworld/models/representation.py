"""What a world model without a decoder learns to see by: its features must tell what its encoder saw.

Redundancy reduction (R2-Dreamer, arXiv:2603.18202) and InfoNCE (van den Oord et al., 2018, arXiv:1807.03748). Both
compare a projection of the features with the tokens of the encoder, whose gradient is stopped: the encoder learns
through the features, and by the KL.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp

from dreamworld import parallel
from dreamworld.types import Array, DType, Key, Params

EPS = 1e-8
sg = jax.lax.stop_gradient


@dataclasses.dataclass(frozen=True)
class Representation:
    """The projection, and the loss between it and the tokens."""

    kind: Literal["r2", "infonce"]
    off_diagonal: float  # weight of the correlations between different dimensions, of r2
    dtype: DType

    def init(self, key: Key, feature: Array, tokens: Array) -> Params:
        """Parameters of the projection of features [1, F] to the size of tokens [1, E]; it has no bias."""
        return {"kernel": jax.nn.initializers.lecun_normal()(key, (feature.shape[-1], tokens.shape[-1]))}

    def loss(self, params: Params, feature: Array, tokens: Array) -> Array:
        """One number of features [B, T, F] and tokens [B, T, E], of the rows of all devices together."""
        projected = feature.astype(self.dtype) @ params["kernel"].astype(self.dtype)
        both = [projected.astype(jnp.float32), sg(tokens).astype(jnp.float32)]
        one, other = (x.reshape((-1, x.shape[-1])) for x in parallel.all_rows(both, axis=0))
        if self.kind == "infonce":
            return infonce(one, other)
        return redundancy(one, other, self.off_diagonal)


def redundancy(one: Array, other: Array, off_diagonal: float) -> Array:
    """sum_i (C_ii - 1)^2 + off_diagonal sum_{i != j} C_ij^2 of rows [N, E] each (arXiv:2103.03230, eq. 1).

    C_ij is the mean over rows of the product of dimension i of one and j of the other, each with mean 0 and standard
    deviation 1 over the rows (unbiased).
    """
    normal = lambda x: (x - x.mean(0, keepdims=True)) / (x.std(0, ddof=1, keepdims=True) + EPS)
    correlation = normal(one).T @ normal(other) / len(one)
    squares, diagonal = jnp.square(correlation), jnp.diagonal(correlation)
    return jnp.square(diagonal - 1).sum() + off_diagonal * (squares.sum() - jnp.square(diagonal).sum())


def infonce(one: Array, other: Array) -> Array:
    """Cross-entropy, in nats, of finding each row of `one` [N, E] among those of `other` by their inner products."""
    return -jnp.diagonal(jax.nn.log_softmax(one @ other.T, -1)).mean()
