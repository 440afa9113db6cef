"""Planning by the cross-entropy method (Hafner et al., 2019, arXiv:1811.04551, algorithm 2)."""

from __future__ import annotations

import jax.numpy as jnp

from dreamworld.behaviours.planner import Fit, Planner
from dreamworld.types import Array, Key


class CEM(Planner):
    """All elites weigh the same, and the mean of the last fit is the plan.

    With coloured noise and kept elites (`options.color`, `options.keep`) most of iCEM (Pinneri et al., 2020,
    arXiv:2008.06389); its shrinking number of candidates is not there.
    """

    def weigh(self, returns: Array) -> Array:
        return jnp.full(returns.shape, 1 / len(returns))

    def decide(self, fit: Fit, key: Key) -> Array:
        return fit.mean
