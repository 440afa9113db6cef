"""The options of DreamerV2 (Hafner et al., ICLR 2021, arXiv:2010.02193); the defaults are of its code. Loads no JAX."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from dreamworld.agents import AgentSpec
from dreamworld.limits import DECAY, EPS, FIXED, PERIOD, SCALE, SHARE, Range
from dreamworld.options import AdamConfig, AgentConfig, CategoricalWorldConfig, MixedGradientConfig


@dataclasses.dataclass(frozen=True)
class DecayingAdamConfig(AdamConfig):
    world_lr: Annotated[float, Range(0, 10)] = 1e-4
    """Learning rate of the world model."""
    value_lr: Annotated[float, Range(0, 10)] = 2e-4
    """Learning rate of the value."""
    eps: Annotated[float, EPS] = 1e-5
    """Added by Adam to the root of the squared-gradient average."""
    decay: Annotated[float, DECAY] = 1e-6
    """Share of every parameter that an update takes away, whatever the learning rate."""


@dataclasses.dataclass(frozen=True)
class DreamerV2Config(AgentConfig):
    name: Annotated[str, FIXED] = "dreamerv2"
    """The agent: a composition of a world model and a behaviour."""
    model: Annotated[CategoricalWorldConfig, FIXED] = CategoricalWorldConfig()
    behaviour: MixedGradientConfig = MixedGradientConfig()
    optim: DecayingAdamConfig = DecayingAdamConfig()
    reward: Annotated[Literal["tanh", "identity"], FIXED] = "tanh"
    """What rewards pass before anything learns from them; identity as published for the DeepMind Control Suite."""
    noise: Annotated[float, SCALE] = 0.0
    """Of the noise that collecting adds: its standard deviation, or the share of discrete actions drawn uniformly."""
    random_steps: Annotated[int, PERIOD] = 10_000
    """Agent steps of random actions at the beginning."""
    observation_scale: Annotated[float, SCALE] = 1.0
    """Weight of the losses of images and vectors; 100 is a standard deviation of 0.1 in place of 1."""
    divergence_scale: Annotated[float, SCALE] = 1.0
    """Weight of the KL; 0.1 as published for Atari."""
    balance: Annotated[float, SHARE] = 0.8
    """Share of the KL's gradient that moves the prior to the posterior; the rest moves the posterior to the prior."""
    free_nats: Annotated[float, Range(0, 1000)] = 0.0
    """The mean of the KL over a batch has no gradient below this."""
    cont_scale: Annotated[float, SCALE] = 1.0
    """Weight of the loss of ends; 5 as published for Atari."""

    @property
    def width(self) -> int:
        """The recurrent part of the state."""
        return self.model.deter


TINY = DreamerV2Config(
    precision="float32",
    model=CategoricalWorldConfig(
        deter=8,
        hidden=8,
        stoch=3,
        classes=4,
        depth=4,
        vector_layers=1,
        reward_layers=1,
        cont_layers=1,
        units=8,
    ),
    behaviour=MixedGradientConfig(actor_layers=1, value_layers=1, units=8, imag_length=3, slow_every=2),
    reward="identity",
    random_steps=8,
)
"""Compiles in seconds: for tests."""

SPEC = AgentSpec(
    config=DreamerV2Config(),
    tiny=TINY,
    make="dreamworld.agents.dreamerv2.agent:make",
    paper="Hafner et al., Mastering Atari with discrete world models, ICLR 2021 (arXiv:2010.02193)",
    observations="images, vectors, classes",
    actions="continuous, discrete",
    acts="actor",
    can=("decode", "plan", "play", "edit"),
)
