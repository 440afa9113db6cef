"""Scalar transforms, returns and running percentiles of DreamerV3 (Hafner et al., 2023, arXiv:2301.04104)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from dreamworld.types import Array


def symlog(x: Array) -> Array:
    """sign(x) ln(1 + |x|): compresses large magnitudes, near the identity at 0 (eq. 1)."""
    return jnp.sign(x) * jnp.log1p(jnp.abs(x))


def symexp(x: Array) -> Array:
    """sign(x) (exp|x| - 1): the inverse of symlog (eq. 1)."""
    return jnp.sign(x) * jnp.expm1(jnp.abs(x))


def symexp_bins(count: int) -> Array:
    """`count` (odd) values symexp(-20 .. 20) on an even grid, exactly antisymmetric; float32 [count]."""
    if count % 2 == 0:
        raise ValueError(f"the number of two-hot bins must be odd, got {count}")
    half = symexp(jnp.linspace(-20.0, 0.0, (count - 1) // 2 + 1, dtype=jnp.float32))
    return jnp.concatenate([half, -half[:-1][::-1]])


def two_hot(x: Array, bins: Array) -> Array:
    """Weights [..., bins] on the two bins around x [...] that average to x (eq. 9).

    Interpolation is linear in the raw values of the bins, not in symlog space, and clamped to the end bins.
    """
    last = bins.shape[0] - 1
    x = jnp.clip(x.astype(jnp.float32), bins[0], bins[-1])
    below = jnp.clip(jnp.sum(jnp.expand_dims(x, -1) >= _like(bins, x), -1) - 1, 0, last)
    above = jnp.minimum(below + 1, last)
    span = jnp.where(above == below, 1.0, bins[above] - bins[below])
    weight_above = jnp.where(above == below, 0.0, (x - bins[below]) / span)
    onehot = lambda index: jax.nn.one_hot(index, bins.shape[0], dtype=jnp.float32)
    return onehot(below) * (1 - weight_above)[..., None] + onehot(above) * weight_above[..., None]


def two_hot_mean(probs: Array, bins: Array) -> Array:
    """sum_i probs[..., i] bins[i] of antisymmetric bins, exactly 0 for symmetric probabilities.

    The halves are paired as differences of probabilities: in a sum of products a fused multiply-add may round
    p b and p (-b) apart.
    """
    middle = bins.shape[0] // 2
    surplus = probs[..., middle + 1 :] - probs[..., :middle][..., ::-1]
    return jnp.sum(surplus * _like(bins[middle + 1 :], probs[..., 0]), -1)


def _like(bins: Array, x: Array) -> Array:
    """Bins with leading axes of size 1, so that they broadcast against [..., bins] at equal rank."""
    return bins.reshape((1,) * x.ndim + bins.shape)


def lambda_return(reward: Array, cont: Array, value: Array, bootstrap: Array, lam: Array | float) -> Array:
    """R[t] = r[t+1] + c[t+1] ((1-lam[t+1]) v[t+1] + lam[t+1] R[t+1]), R[H] = bootstrap; time first (eq. 7).

    Args:
        reward, cont, value: [H+1, ...]; row t holds predictions at state t, so row 0 is never read.
        bootstrap: [...], the return after the last row.
        lam: a number, or [H+1, ...] where it varies (0 where an episode was cut).

    Returns: [H, ...].
    """
    chex.assert_equal_shape((reward, cont, value))
    mixes = jnp.asarray(lam, reward.dtype)
    mixes = mixes if mixes.ndim else jnp.broadcast_to(mixes, reward.shape)

    def backup(following: Array, row: tuple[Array, Array, Array, Array]) -> tuple[Array, Array]:
        r, c, v, mix = row
        current = r + c * ((1 - mix) * v + mix * following)
        return current, current

    def back(unroll: int) -> Callable[..., Array]:
        return lambda last, rows: jax.lax.scan(backup, last, rows, reverse=True, unroll=unroll)[1]

    # 16 steps at a time are one loop of code, and one kernel on a GPU; on a CPU they are 16 to compile.
    rows = (reward[1:], cont[1:], value[1:], mixes[1:])
    return jax.lax.platform_dependent(bootstrap, rows, cpu=back(1), default=back(16))


class Percentiles(NamedTuple):
    """Moving averages of a low and a high percentile; both start at 0 and are not debiased."""

    low: Array  # []
    high: Array  # []


def init_percentiles() -> Percentiles:
    """Both at 0."""
    return Percentiles(jnp.zeros(()), jnp.zeros(()))


def update_percentiles(state: Percentiles, x: Array, *, rate: float, low: float, high: float) -> Percentiles:
    """Moves both towards the `low`-th and `high`-th percentile (in %) of all elements of x by `rate`."""
    now = jnp.percentile(jax.lax.stop_gradient(x).astype(jnp.float32).reshape(-1), jnp.array([low, high]))
    mix = lambda old, new: (1 - rate) * old + rate * new
    return Percentiles(mix(state.low, now[0]), mix(state.high, now[1]))


def percentile_scale(state: Percentiles, limit: float) -> Array:
    """max(limit, high - low): what advantages are divided by (eq. 12)."""
    return jnp.maximum(limit, state.high - state.low)
