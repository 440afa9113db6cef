"""DreamerV3, tiny, whose simulator decodes nothing, as an agent outside of the package: `--agent blind:SPEC`."""

import dataclasses

from dreamworld.agents import AgentSpec
from dreamworld.agents.dreamerv3 import agent as dreamerv3
from dreamworld.agents.dreamerv3.config import TINY, DreamerV3Config
from dreamworld.contract import Agent

SPEC = AgentSpec(
    dataclasses.replace(TINY, name="blind"), TINY, "blind:make", "none", "any", "any", "actor", ("plan",)
)


def make(config, obs_space, act_space) -> Agent:
    """See AgentSpec."""
    agent = dreamerv3.make(config, obs_space, act_space)
    assert agent.simulator is not None and isinstance(config.agent, DreamerV3Config)
    return agent._replace(simulator=agent.simulator._replace(decode=None))
