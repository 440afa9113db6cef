"""The options of R2-Dreamer (arXiv:2603.18202): those of DreamerV3, and what replaces its decoder. Loads no JAX."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from dreamworld.agents import AgentSpec
from dreamworld.agents.dreamerv3.config import TINY as DREAMERV3_TINY
from dreamworld.agents.dreamerv3.config import DreamerV3Config
from dreamworld.limits import FIXED, SCALE
from dreamworld.options import LossConfig


@dataclasses.dataclass(frozen=True)
class R2LossConfig(LossConfig):
    representation: Annotated[float, SCALE] = 0.05
    """Scale of the representation loss; 1 was used with infonce."""


@dataclasses.dataclass(frozen=True)
class R2DreamerConfig(DreamerV3Config):
    name: Annotated[str, FIXED] = "r2dreamer"
    """The agent: a composition of a world model and a behaviour."""
    representation: Annotated[Literal["r2", "infonce"], FIXED] = "r2"
    """What features learn to tell of the encoder's tokens: all of them without redundancy, or which ones they are."""
    off_diagonal: Annotated[float, SCALE] = 5e-4
    """Of r2: weight of the squared correlations between different dimensions."""
    loss: R2LossConfig = R2LossConfig()


TINY = R2DreamerConfig(
    **{
        field.name: getattr(DREAMERV3_TINY, field.name)
        for field in dataclasses.fields(DreamerV3Config)
        if field.name not in ("name", "loss")
    }
)
"""Compiles in seconds: for tests."""

SPEC = AgentSpec(
    config=R2DreamerConfig(),
    tiny=TINY,
    make="dreamworld.agents.r2dreamer.agent:make",
    paper="R2-Dreamer, 2026 (arXiv:2603.18202)",
    observations="images, vectors, classes",
    actions="continuous, discrete",
    acts="actor",
    can=("plan", "play", "edit"),
)
