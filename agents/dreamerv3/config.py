"""The options of DreamerV3 (Hafner et al., Nature 2025); the defaults are size200m as published. Loads no JAX."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from dreamworld.agents import AgentSpec
from dreamworld.limits import FIXED
from dreamworld.options import (
    ActorCriticConfig,
    AgentConfig,
    EncoderConfig,
    LossConfig,
    OptimConfig,
    RSSMConfig,
)


@dataclasses.dataclass(frozen=True)
class DreamerV3Config(AgentConfig):
    name: Annotated[str, FIXED] = "dreamerv3"
    """The agent: a composition of a world model and a behaviour."""
    weight_gradients: Literal["auto", "per_step", "at_once"] = "auto"
    """Of the recurrence and of heads in dreams: step by step, or all at once; auto is at_once on accelerators."""
    encoder: Annotated[EncoderConfig, FIXED] = EncoderConfig()
    rssm: Annotated[RSSMConfig, FIXED] = RSSMConfig()
    behaviour: ActorCriticConfig = ActorCriticConfig()
    loss: LossConfig = LossConfig()
    optim: OptimConfig = OptimConfig()

    @property
    def width(self) -> int:
        """The recurrent state."""
        return self.rssm.deter


TINY = DreamerV3Config(
    precision="float32",
    encoder=EncoderConfig(depth=4, mults=(1, 2), kernel=5, layers=1, units=8),
    rssm=RSSMConfig(deter=16, hidden=8, stoch=4, classes=4, blocks=4, prior_layers=1),
    behaviour=ActorCriticConfig(units=8, actor_layers=1, critic_layers=1, imag_length=3),
    optim=OptimConfig(warmup=0),
)
"""Compiles in seconds: for tests."""

SPEC = AgentSpec(
    config=DreamerV3Config(),
    tiny=TINY,
    make="dreamworld.agents.dreamerv3.agent:make",
    paper="Hafner et al., Mastering diverse control tasks through world models, Nature 2025 (arXiv:2301.04104)",
    observations="images, vectors, classes",
    actions="continuous, discrete",
    acts="actor",
    can=("decode", "plan", "play", "edit"),
)
