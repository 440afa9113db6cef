"""R2-Dreamer (arXiv:2603.18202): DreamerV3 whose world model has no decoder.

Its features learn to tell what the encoder saw by redundancy reduction, or by InfoNCE; all else is DreamerV3.
"""

from __future__ import annotations

import dataclasses

from dreamworld.agents.dreamerv3.agent import join, make_parts
from dreamworld.agents.r2dreamer.config import R2DreamerConfig
from dreamworld.config import Config
from dreamworld.contract import Agent
from dreamworld.models.representation import Representation
from dreamworld.types import Spaces


def make(config: Config, obs_space: Spaces, act_space: Spaces) -> Agent:
    """Builds the record of pure functions; raises UserError for spaces that the model can't take."""
    options = options_of(config)
    world, behaviour = make_parts(config, obs_space, act_space)
    representation = Representation(options.representation, options.off_diagonal, world.dtype)
    world = dataclasses.replace(world, decoder=None, representation=representation)
    return join(config, obs_space, act_space, world, behaviour)


def options_of(config: Config) -> R2DreamerConfig:
    """The options of this agent; TypeError for those of another one."""
    if not isinstance(config.agent, R2DreamerConfig):
        raise TypeError(f"the options are a {type(config.agent).__name__}")
    return config.agent
