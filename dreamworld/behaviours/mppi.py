"""Planning by model predictive path integrals, as TD-MPC2 does (Hansen et al., 2024, arXiv:2310.16828, section 3.2)."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from dreamworld.behaviours.planner import Fit, Planner
from dreamworld.types import Array, Key


class MPPI(Planner):
    """Elites weigh exp(temperature x return), and one of them, drawn by these weights, is the plan."""

    def weigh(self, returns: Array) -> Array:
        return jax.nn.softmax(self.options.temperature * (returns - returns[0]))

    def decide(self, fit: Fit, key: Key) -> Array:
        return fit.elites[jax.random.categorical(key, jnp.log(fit.weights))]
