"""Agents: a world model and a behaviour, joined. `make_agent` builds the one that a config names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dreamworld.config import Config
from dreamworld.types import Agent, Spaces

if TYPE_CHECKING:
    from collections.abc import Callable

AGENTS = ("dreamerv3",)


def make_agent(config: Config, obs_space: Spaces, act_space: Spaces) -> Agent:
    """The agent of `config.agent.name` for these spaces."""
    from dreamworld.agents import dreamerv3

    makers: dict[str, Callable[[Config, Spaces, Spaces], Agent]] = {"dreamerv3": dreamerv3.make_dreamerv3}
    return makers[config.agent.name](config, obs_space, act_space)
