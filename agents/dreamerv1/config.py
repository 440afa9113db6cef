"""The options of Dreamer (Hafner et al., ICLR 2020, arXiv:1912.01603); the defaults are of its code. Loads no JAX."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from dreamworld.agents import AgentSpec
from dreamworld.limits import COUNT, FIXED, LAYERS, PERIOD, SCALE, Range
from dreamworld.options import AdamConfig, AgentConfig, DynamicsGradientConfig, GaussianWorldConfig


@dataclasses.dataclass(frozen=True)
class WorldConfig(GaussianWorldConfig):
    reward_layers: Annotated[int, LAYERS] = 2
    """Hidden layers of the reward head."""
    reward_units: Annotated[int, COUNT] = 400
    """Width of the heads of rewards and ends."""
    cont_layers: Annotated[int, LAYERS] = 0
    """Hidden layers of the head of ends, 3 where tasks end (`pcont` in the paper's code); 0 for none."""


@dataclasses.dataclass(frozen=True)
class DreamerV1Config(AgentConfig):
    name: Annotated[str, FIXED] = "dreamerv1"
    """The agent: a composition of a world model and a behaviour."""
    model: Annotated[WorldConfig, FIXED] = WorldConfig()
    behaviour: DynamicsGradientConfig = DynamicsGradientConfig()
    optim: AdamConfig = AdamConfig()
    noise: Annotated[float, SCALE] = 0.3
    """Standard deviation of the noise that collecting adds to an action."""
    random_steps: Annotated[int, PERIOD] = 2500
    """Agent steps of random actions at the beginning: 5,000 frames, with an action repeat of 2."""
    observation_scale: Annotated[float, SCALE] = 1.0
    """Weight of the losses of images and vectors; 100 is a standard deviation of 0.1 in place of 1."""
    divergence_scale: Annotated[float, SCALE] = 1.0
    """Weight of the KL."""
    cont_scale: Annotated[float, SCALE] = 10.0
    """Weight of the loss of ends."""
    free_nats: Annotated[float, Range(0, 1000)] = 3.0
    """The mean of the KL over a batch has no gradient below this."""

    @property
    def width(self) -> int:
        """The recurrent part of the state."""
        return self.model.belief


TINY = DreamerV1Config(
    precision="float32",
    model=WorldConfig(stoch=4, belief=8, hidden=8, depth=4, reward_layers=1, reward_units=8, cont_layers=1),
    behaviour=DynamicsGradientConfig(actor_layers=1, value_layers=1, units=8, imag_length=3),
    random_steps=8,
)
"""Compiles in seconds: for tests."""

SPEC = AgentSpec(
    config=DreamerV1Config(),
    tiny=TINY,
    make="dreamworld.agents.dreamerv1.agent:make",
    paper="Hafner et al., Dream to control: learning behaviors by latent imagination, ICLR 2020 (arXiv:1912.01603)",
    observations="images, vectors, classes",
    actions="continuous",
    acts="actor",
    can=("decode", "plan", "play", "edit"),
)
