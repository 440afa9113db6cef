"""Distributions of DreamerV3 (arXiv:2301.04104). All compute in float32, whatever the network's precision."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp

from dreamworld import math, ops, random
from dreamworld.types import Array, Key

f32 = jnp.float32
EDGE = 1e-6  # that samples of a truncated normal keep from its ends
sg = jax.lax.stop_gradient


class Prediction(Protocol):
    """What a head returns: a point estimate, and a loss against targets."""

    def mean(self) -> Array: ...
    def loss(self, target: Array) -> Array: ...


class Policy(Protocol):
    """A distribution over one action key."""

    def sample(self, key: Key) -> Array: ...
    def mode(self) -> Array: ...
    def log_prob(self, action: Array) -> Array: ...
    def entropy(self) -> Array: ...


def log_unimix(logits: Array, unimix: float) -> Array:
    """Log-probabilities of (1 - unimix) softmax(logits) + unimix / classes, over the last axis."""
    logits = logits.astype(f32)
    if not unimix:
        return jax.nn.log_softmax(logits)
    probs = (1 - unimix) * jax.nn.softmax(logits) + unimix / logits.shape[-1]
    return jnp.log(probs)


def sample_onehot(log_probs: Array, gumbel: Array) -> Array:
    """One-hot samples [..., K] from log-probabilities and Gumbel noise of equal shape, straight-through.

    Forward: exactly one-hot. Backward: the gradient of the probabilities (arXiv:2010.02193, algorithm 1).
    """
    hard = jax.nn.one_hot(jnp.argmax(log_probs + gumbel, -1), log_probs.shape[-1], dtype=f32)
    probs = jnp.exp(log_probs)
    return hard + (probs - sg(probs))


def categorical_kl(left: Array, right: Array) -> Array:
    """KL(left || right) of log-probabilities [..., K], nats, [...]."""
    return jnp.sum(jnp.exp(left) * (left - right), -1)


class TwoHot(NamedTuple):
    """Symexp two-hot regression ("Critic learning"): a categorical over exponentially spaced values."""

    logits: Array  # [..., bins]

    def mean(self) -> Array:
        """Expected value, exactly 0 for equal logits; [...]."""
        logits = self.logits.astype(f32)
        return math.two_hot_mean(jax.nn.softmax(logits), math.symexp_bins(logits.shape[-1]))

    def loss(self, target: Array) -> Array:
        """Cross-entropy against the two-hot encoding of target [...]."""
        logits = self.logits.astype(f32)
        weights = math.two_hot(sg(target), math.symexp_bins(logits.shape[-1]))
        return -jnp.sum(weights * jax.nn.log_softmax(logits), -1)


class Bernoulli(NamedTuple):
    """Probability of continuing; targets may be soft."""

    logit: Array  # [...]

    def mean(self) -> Array:
        return jax.nn.sigmoid(self.logit.astype(f32))

    def loss(self, target: Array) -> Array:
        """-(t ln p + (1-t) ln(1-p))."""
        logit = self.logit.astype(f32)
        return -(target * jax.nn.log_sigmoid(logit) + (1 - target) * jax.nn.log_sigmoid(-logit))


class SymlogSquared(NamedTuple):
    """Squared error in symlog space, summed over `dims` trailing axes, without the factor 1/2 (eq. 2)."""

    output: Array  # [..., *shape]
    dims: int

    def mean(self) -> Array:
        return math.symexp(self.output.astype(f32))

    def loss(self, target: Array) -> Array:
        error = self.output.astype(f32) - math.symlog(sg(target).astype(f32))
        return _sum_last(jnp.square(error), self.dims)


class Squared(NamedTuple):
    """Squared error summed over `dims` trailing axes, without the factor 1/2."""

    output: Array  # [..., *shape]
    dims: int

    def mean(self) -> Array:
        return self.output.astype(f32)

    def loss(self, target: Array) -> Array:
        return _sum_last(jnp.square(self.output.astype(f32) - sg(target).astype(f32)), self.dims)


class SquaredImage(NamedTuple):
    """`Squared` of an image that the decoder made in phases: the target is rearranged, not the prediction."""

    phases: Array  # [..., H/2, W/2, 4, C]

    def mean(self) -> Array:
        """[..., H, W, C]."""
        return ops.from_phases(self.phases.astype(f32))

    def loss(self, target: Array) -> Array:
        return _sum_last(jnp.square(self.phases.astype(f32) - ops.to_phases(sg(target).astype(f32))), 4)


class Categorical(NamedTuple):
    """Independent categoricals [..., *shape, classes]; log_prob and entropy sum over `dims` shape axes."""

    logits: Array
    dims: int

    def mean(self) -> Array:
        """The most probable class, int32: what a reconstruction shows."""
        return self.mode()

    def mode(self) -> Array:
        return jnp.argmax(self.logits, -1).astype(jnp.int32)

    def sample(self, key: Key) -> Array:
        noise = random.draw(jax.random.gumbel, key, self.logits.shape)
        return jnp.argmax(self.logits.astype(f32) + noise, -1).astype(jnp.int32)

    def log_prob(self, action: Array) -> Array:
        log_probs = jax.nn.log_softmax(self.logits.astype(f32))
        chosen = jnp.take_along_axis(log_probs, action.astype(jnp.int32)[..., None], -1)[..., 0]
        return _sum_last(chosen, self.dims)

    def entropy(self) -> Array:
        log_probs = jax.nn.log_softmax(self.logits.astype(f32))
        return _sum_last(-jnp.sum(jnp.exp(log_probs) * log_probs, -1), self.dims)

    def loss(self, target: Array) -> Array:
        return -self.log_prob(sg(target))


class Normal(NamedTuple):
    """Diagonal normal; log-probability and entropy are summed over `dims` trailing axes."""

    mu: Array  # [..., *shape]
    std: Array
    dims: int

    def mode(self) -> Array:
        return self.mu.astype(f32)

    def sample(self, key: Key) -> Array:
        noise = random.draw(jax.random.normal, key, self.mu.shape)
        return self.mu.astype(f32) + self.std.astype(f32) * noise

    def log_prob(self, action: Array) -> Array:
        std = self.std.astype(f32)
        z = (action.astype(f32) - self.mu.astype(f32)) / std
        return _sum_last(-0.5 * jnp.square(z) - jnp.log(std) - 0.5 * jnp.log(2 * jnp.pi), self.dims)

    def entropy(self) -> Array:
        return _sum_last(jnp.log(self.std.astype(f32)) + 0.5 * jnp.log(2 * jnp.pi * jnp.e), self.dims)


class TruncatedNormal(NamedTuple):
    """A normal cut off at -1 and 1, as DreamerV2 has it; log-probability and entropy are summed over `dims` axes."""

    mu: Array  # [..., *shape], within -1 and 1
    std: Array
    dims: int

    def mode(self) -> Array:
        return self.mu

    def sample(self, key: Key) -> Array:
        """Reparameterised: the quantile of a uniform number."""
        uniform = random.draw(jax.random.uniform, key, self.mu.shape)
        below, above = (jax.scipy.special.ndtr(end) for end in self._ends())
        share = jnp.clip(below + uniform * (above - below), EDGE, 1 - EDGE)
        action = self.mu + self.std * jax.scipy.special.ndtri(share)
        return action + sg(jnp.clip(action, EDGE - 1, 1 - EDGE) - action)

    def log_prob(self, action: Array) -> Array:
        inside = Normal(self.mu, self.std, 0).log_prob(action)
        return _sum_last(inside - jnp.log(self._mass()), self.dims)

    def entropy(self) -> Array:
        """ln(sqrt(2 pi e) std Z) + (a phi(a) - b phi(b)) / 2 Z, with the ends a, b and the mass Z between them."""
        low, high = self._ends()
        weigh = lambda x: x * jnp.exp(-0.5 * jnp.square(x)) / jnp.sqrt(2 * jnp.pi)
        mass = self._mass()
        whole = jnp.log(self.std * mass) + 0.5 * jnp.log(2 * jnp.pi * jnp.e)
        return _sum_last(whole + (weigh(low) - weigh(high)) / (2 * mass), self.dims)

    def _ends(self) -> tuple[Array, Array]:
        """Of -1 and 1, in standard deviations from the mean."""
        return (-1 - self.mu) / self.std, (1 - self.mu) / self.std

    def _mass(self) -> Array:
        low, high = self._ends()
        return jax.scipy.special.ndtr(high) - jax.scipy.special.ndtr(low)


class TanhNormal(NamedTuple):
    """tanh of a normal over the last axis: actions within -1 and 1 (arXiv:1912.01603, "Action model").

    Its mode has no closed form: `likeliest` draws.
    """

    mu: Array  # [..., n], before the tanh
    sigma: Array

    def sample(self, key: Key) -> Array:
        """Reparameterised, [..., n]."""
        return jnp.tanh(self.mu + self.sigma * random.draw(jax.random.normal, key, self.mu.shape))

    def likeliest(self, key: Key, count: int = 100) -> Array:
        """The sample of `count` that has the highest density, [..., n]."""
        noise = random.draw(jax.random.normal, key, (count, *self.mu.shape))
        inner = self.mu[None] + self.sigma[None] * noise
        best = jnp.argmax(self.log_density(noise), 0)
        return jnp.tanh(jnp.take_along_axis(inner, best[None, ..., None], 0)[0])

    def log_density(self, noise: Array) -> Array:
        """Of the actions tanh(mu + sigma noise), noise [K, ..., n]; [K, ...]."""
        mu, sigma = self.mu[None], self.sigma[None]
        inner = mu + sigma * noise
        normal = -0.5 * jnp.square(noise) - jnp.log(sigma) - 0.5 * jnp.log(2 * jnp.pi)
        slope = 2 * (jnp.log(2.0) - inner - jax.nn.softplus(-2 * inner))  # log(1 - tanh^2)
        return (normal - slope).sum(-1)


def unit_normal_nll(mean: Array, target: Array, dims: int) -> Array:
    """Of a normal with standard deviation 1, summed over the last `dims` axes."""
    found = 0.5 * jnp.square(mean - sg(target)) + 0.5 * jnp.log(2 * jnp.pi)
    return found.sum(tuple(range(found.ndim - dims, found.ndim))) if dims else found


def _sum_last(x: Array, dims: int) -> Array:
    return x.sum(tuple(range(x.ndim - dims, x.ndim))) if dims else x
