"""The options of Dreamer (Hafner et al., ICLR 2020, arXiv:1912.01603); the defaults are of its code. Loads no JAX."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from dreamworld.agents import AgentSpec
from dreamworld.limits import COUNT, EPS, FIXED, LAYERS, PERIOD, SCALE, SHARE, Range
from dreamworld.options import AgentConfig

RATE = Range(0, 10)


@dataclasses.dataclass(frozen=True)
class WorldConfig:
    stoch: Annotated[int, Range(1, 4096)] = 30
    """Size of the sampled part of the state."""
    belief: Annotated[int, COUNT] = 200
    """Size of the recurrent part of the state."""
    hidden: Annotated[int, COUNT] = 200
    """Width of the hidden layers of the dynamics, and of the encoder and decoder of vectors."""
    min_std: Annotated[float, Range(1e-6, 10)] = 0.1
    """Smallest standard deviation of prior and posterior."""
    depth: Annotated[int, Range(1, 1024)] = 32
    """Channels of the first convolution; each following one has twice as many."""
    reward_layers: Annotated[int, LAYERS] = 2
    """Hidden layers of the reward head."""
    reward_units: Annotated[int, COUNT] = 400
    """Width of the heads of rewards and ends."""
    cont_layers: Annotated[int, LAYERS] = 0
    """Hidden layers of the head of ends, 3 where tasks end (`pcont` in the paper's code); 0 for none."""


@dataclasses.dataclass(frozen=True)
class BehaviourConfig:
    actor_layers: Annotated[int, LAYERS] = 4
    """Hidden layers of the actor."""
    value_layers: Annotated[int, LAYERS] = 3
    """Hidden layers of the value."""
    units: Annotated[int, COUNT] = 400
    """Their width."""
    init_std: Annotated[float, Range(1e-3, 100)] = 5.0
    """Standard deviation of actions, before the tanh, that the actor begins with."""
    min_std: Annotated[float, Range(1e-6, 10)] = 1e-4
    """The smallest one."""
    mean_scale: Annotated[float, Range(1e-3, 100)] = 5.0
    """Means of actions, before the tanh, stay within this."""
    imag_length: Annotated[int, Range(2, 1000)] = 15
    """Imagined steps."""
    discount: Annotated[float, SHARE] = 0.99
    """Of later rewards, for each step."""
    lam: Annotated[float, SHARE] = 0.95
    """Mixes returns of all lengths: 0 is one step, 1 is the whole dream."""


@dataclasses.dataclass(frozen=True)
class AdamConfig:
    world_lr: Annotated[float, RATE] = 6e-4
    """Learning rate of the world model."""
    actor_lr: Annotated[float, RATE] = 8e-5
    """Learning rate of the actor."""
    value_lr: Annotated[float, RATE] = 8e-5
    """Learning rate of the value."""
    eps: Annotated[float, EPS] = 1e-7
    """Added by Adam to the root of the squared-gradient average."""
    clip: Annotated[float, Range(1e-9, 1e9)] = 100.0
    """Norm of the gradients of each of the three is clipped to this."""


@dataclasses.dataclass(frozen=True)
class DreamerV1Config(AgentConfig):
    name: Annotated[str, FIXED] = "dreamerv1"
    """The agent: a composition of a world model and a behaviour."""
    model: Annotated[WorldConfig, FIXED] = WorldConfig()
    behaviour: BehaviourConfig = BehaviourConfig()
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
    behaviour=BehaviourConfig(actor_layers=1, value_layers=1, units=8, imag_length=3),
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
