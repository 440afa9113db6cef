"""LaProp (arXiv:2002.04839) behind adaptive gradient clipping (arXiv:2102.06171), as in DreamerV3."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dreamworld.errors import UserError
from dreamworld.options import AdamConfig, OptimConfig
from dreamworld.types import Array, Tree

ANNEALED = 0.1  # of the learning rate, once it has fallen


def clip_by_agc(clip: float, floor: float) -> optax.GradientTransformation:
    """Scales each tensor's gradient so that |g| <= clip * max(floor, |p|), norms over the whole tensor."""

    def update(updates: Tree, state: Any, params: Tree = None) -> tuple[Any, Any]:
        def clip_one(grad: Array, param: Array) -> Array:
            limit = clip * jnp.maximum(floor, _norm(param))
            return grad / jnp.maximum(1.0, _norm(grad) / limit)

        return jax.tree.map(clip_one, updates, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


class LaPropState(NamedTuple):
    count: Array  # int32 []
    nu: Tree  # second moments of the gradient, float32
    mu: Tree  # first moments of the normalised gradient, float32


def scale_by_laprop(beta1: float, beta2: float, eps: float) -> optax.GradientTransformation:
    """Normalises first, then applies momentum; both moments are bias-corrected.

    nu <- b2 nu + (1-b2) g^2;  u = g / (sqrt(nu / (1-b2^t)) + eps)
    mu <- b1 mu + (1-b1) u;  out = mu / (1-b1^t)
    """

    def init(params: Tree) -> LaPropState:
        zeros = lambda: jax.tree.map(lambda p: jnp.zeros(p.shape, jnp.float32), params)
        return LaPropState(jnp.zeros((), jnp.int32), zeros(), zeros())

    def update(updates: Tree, state: Any, params: Tree = None) -> tuple[Any, LaPropState]:
        count = state.count + 1
        time = count.astype(jnp.float32)
        correct1, correct2 = 1 - beta1**time, 1 - beta2**time
        nu = jax.tree.map(lambda v, g: beta2 * v + (1 - beta2) * jnp.square(g), state.nu, updates)
        # nu >= (1-b2) g^2 by definition, but squares of gradients below 1e-19 underflow: without this floor such
        # gradients would be divided by eps alone, and take steps hundreds of times too large.
        floor = jnp.sqrt((1 - beta2) / correct2)
        root = lambda g, v: jnp.maximum(jnp.sqrt(v / correct2), floor * jnp.abs(g))
        scaled = jax.tree.map(lambda g, v: g / (root(g, v) + eps), updates, nu)
        mu = jax.tree.map(lambda m, u: beta1 * m + (1 - beta1) * u, state.mu, scaled)
        return jax.tree.map(lambda m: m / correct1, mu), LaPropState(count, nu, mu)

    return optax.GradientTransformation(init, update)


def make_optimizer(config: OptimConfig) -> optax.GradientTransformation:
    """AGC, LaProp, then the learning rate of `make_rate`."""
    rate = make_rate(config)
    return optax.chain(
        clip_by_agc(config.agc, config.agc_floor),
        scale_by_laprop(config.beta1, config.beta2, config.eps),
        optax.scale_by_learning_rate(rate),
    )


def make_rate(config: OptimConfig) -> optax.ScalarOrSchedule:
    """Warms up linearly, the first update at rate 0; then constant, or falling to a tenth until update `anneal`."""
    warm = optax.linear_schedule(0.0, config.lr, config.warmup)
    if not config.anneal:
        return warm if config.warmup else config.lr
    if config.anneal <= config.warmup:
        raise UserError(
            f"agent.optim.anneal {config.anneal}: must come after the warm-up, agent.optim.warmup {config.warmup}"
        )
    fall = optax.linear_schedule(config.lr, ANNEALED * config.lr, config.anneal - config.warmup)
    return optax.join_schedules([warm, fall], [config.warmup])


def make_adams(config: AdamConfig, decay: float = 0.0) -> optax.GradientTransformation:
    """Adam for the world, the actor and the value, each with its rate, and clipped by its own norm.

    Every update multiplies all parameters by 1 - `decay` before the step, whatever the rate.
    """
    rates = {"world": config.world_lr, "actor": config.actor_lr, "value": config.value_lr}
    parts: dict[Hashable, optax.GradientTransformation] = {
        name: optax.chain(
            optax.clip_by_global_norm(config.clip),
            optax.adam(rate, eps=config.eps),
            optax.add_decayed_weights(-decay) if decay else optax.identity(),
        )
        for name, rate in rates.items()
    }
    return optax.partition(parts, {"world": "world", "behaviour": {"actor": "actor", "value": "value"}})


def _norm(x: Array) -> Array:
    return jnp.sqrt(jnp.sum(jnp.square(x.astype(jnp.float32))))
