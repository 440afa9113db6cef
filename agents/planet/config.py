"""The options of PlaNet (Hafner et al., 2019, arXiv:1811.04551); the defaults are those of its code. Loads no JAX."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from dreamworld.agents import AgentSpec
from dreamworld.limits import EPS, FIXED, PERIOD, SCALE, Range
from dreamworld.options import AgentConfig, GaussianWorldConfig


@dataclasses.dataclass(frozen=True)
class PlannerConfig:
    horizon: Annotated[int, Range(1, 1000)] = 12
    """Steps that a plan looks ahead."""
    candidates: Annotated[int, Range(2, 1e6)] = 1000
    """Plans that are tried in every iteration."""
    iterations: Annotated[int, Range(1, 1000)] = 10
    """How often the distribution of plans is fitted to the best ones."""
    elites: Annotated[int, Range(1, 1e6)] = 100
    """The best plans, to which it is fitted."""


@dataclasses.dataclass(frozen=True)
class PlaNetConfig(AgentConfig):
    name: Annotated[str, FIXED] = "planet"
    """The agent: a composition of a world model and a behaviour."""
    model: Annotated[GaussianWorldConfig, FIXED] = GaussianWorldConfig()
    planner: PlannerConfig = PlannerConfig()
    noise: Annotated[float, SCALE] = 0.3
    """Standard deviation of the noise that collecting adds to a planned action."""
    random_steps: Annotated[int, PERIOD] = 625
    """Agent steps of random actions at the beginning: five episodes, with an action repeat of 8."""
    reward_scale: Annotated[float, SCALE] = 10.0
    """Weight of the reward loss."""
    observation_scale: Annotated[float, SCALE] = 1.0
    """Weight of the losses of images and vectors; 100 is a standard deviation of 0.1 in place of 1."""
    divergence_scale: Annotated[float, SCALE] = 1.0
    """Weight of the KL."""
    free_nats: Annotated[float, Range(0, 1000)] = 3.0
    """Subtracted from the KL of every row; what is below zero then counts as zero."""
    bits: Annotated[int, Range(1, 8)] = 5
    """Bits of every colour of an image that are kept."""
    lr: Annotated[float, Range(0, 10)] = 1e-3
    """Learning rate."""
    eps: Annotated[float, EPS] = 1e-4
    """Added by Adam to the root of the squared-gradient average."""
    clip: Annotated[float, Range(1e-9, 1e9)] = 1000.0
    """Norm of all gradients together is clipped to this."""

    @property
    def width(self) -> int:
        """The recurrent part of the state."""
        return self.model.belief


TINY = PlaNetConfig(
    precision="float32",
    model=GaussianWorldConfig(stoch=4, belief=8, hidden=8, depth=4, reward_layers=1, reward_units=8),
    planner=PlannerConfig(horizon=3, candidates=8, iterations=2, elites=3),
    random_steps=8,
)
"""Compiles in seconds: for tests."""

SPEC = AgentSpec(
    config=PlaNetConfig(),
    tiny=TINY,
    make="dreamworld.agents.planet.agent:make",
    paper="Hafner et al., Learning latent dynamics for planning from pixels, ICML 2019 (arXiv:1811.04551)",
    observations="images, vectors, classes",
    actions="continuous, discrete",
    acts="planner",
    can=("decode", "plan", "play", "edit"),
)
