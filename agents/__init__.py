"""The registry of agents: a name, `module:SPEC`, or an entry point of the group `dreamworld.agents`. Loads no JAX.

An agent is a folder `agents/<name>/`: `config.py` holds its options and an `AgentSpec`, `agent.py` the function that
builds it. Outside of this package, the same object anywhere serves: `--agent my_package.config:SPEC`.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import importlib.metadata
import pkgutil
import sys
from typing import TYPE_CHECKING, Literal

from dreamworld import words
from dreamworld.errors import UserError
from dreamworld.limits import show
from dreamworld.options import AgentConfig

if TYPE_CHECKING:
    from dreamworld.config import Config
    from dreamworld.contract import Agent
    from dreamworld.types import Spaces

GROUP = "dreamworld.agents"  # of entry points, each of which names an AgentSpec


@dataclasses.dataclass(frozen=True)
class AgentSpec:
    """What is known of an agent without building it, and where it is built.

    `make` names a function `(config: Config, obs_space: Spaces, act_space: Spaces) -> Agent`, as `module:function`;
    it is imported when an agent is built. `tiny` compiles in seconds: for tests.
    """

    config: AgentConfig
    tiny: AgentConfig
    make: str
    paper: str
    observations: str
    actions: str
    acts: Literal["actor", "planner"]
    can: tuple[str, ...] = ()  # of decode, plan, play, edit
    needs: tuple[str, ...] = (
        "reward",
        "action",
    )  # of what a data set may lack; "environment": it can't learn from one

    @property
    def name(self) -> str:
        """The name by which it is chosen."""
        return self.config.name


def built_in() -> dict[str, str]:
    """The agents of this package, a folder each: {name: `module:SPEC`}."""
    folders = [item.name for item in pkgutil.iter_modules(__path__) if item.ispkg]
    return {name: f"dreamworld.agents.{name}.config:SPEC" for name in sorted(folders)}


def names() -> list[str]:
    """Names of the agents that are built in or installed; UserError where two have the same."""
    found = list(built_in())
    for entry in importlib.metadata.entry_points(group=GROUP):
        if entry.name in found:
            raise UserError(
                f"two installed packages bring an agent {entry.name!r} (one of them: {entry.value}); remove one"
            )
        found.append(entry.name)
    return found


def find(name: str, *, trusted: bool = True) -> AgentSpec:
    """The agent of a name, or of `module:SPEC`, which is imported if `trusted`; UserError where there is none."""
    if ":" in name:
        if not trusted and name.partition(":")[0] not in sys.modules:
            raise UserError(
                f"names the agent {name!r}, and nothing was imported. If you trust it: --trust (in Python: trust=True)"
            )
        spec = _load(name)
        rename = lambda config: dataclasses.replace(
            config, name=name
        )  # so that a stored config leads back here
        return dataclasses.replace(spec, config=rename(spec.config), tiny=rename(spec.tiny))
    known = names()
    if name not in known:
        best = words.nearest(name, known)
        raise UserError(
            f"no agent {show(name)}; did you mean {best}? There are: {', '.join(known)} (or module:SPEC)"
        )
    if name in built_in():
        return _load(built_in()[name])
    (entry,) = importlib.metadata.entry_points(group=GROUP, name=name)
    spec = _load(entry.value)
    if spec.name != name:
        raise UserError(
            f"agent {name!r}: {entry.value} calls itself {spec.name!r}; its config must have that name"
        )
    return spec


@functools.cache
def _load(path: str) -> AgentSpec:
    """The spec that `module:SPEC` names."""
    from dreamworld.envs.modules import import_user_module
    from dreamworld.envs.spelling import require_module

    module, _, attribute = path.partition(":")
    if not module or not attribute.isidentifier():
        raise UserError(f"agent {path!r}: write module:SPEC, such as my_agent:SPEC")
    require_module(module, attribute, f"agent {path!r}")
    found = import_user_module(module, f"agent {path!r}")
    if not hasattr(found, attribute):
        raise UserError(f"agent {path!r}: {module} has no {attribute!r}; write module:SPEC")
    spec = getattr(found, attribute)
    if not isinstance(spec, AgentSpec):
        raise UserError(
            f"agent {path!r} is {words.type_of(spec)}, no AgentSpec (dreamworld.agents.AgentSpec)"
        )
    return spec


def make_agent(config: Config, obs_space: Spaces, act_space: Spaces) -> Agent:
    """The agent of `config.agent.name` for these spaces, with a probe if that is asked for.

    UserError for spaces that it can't take, and for a probe of an agent that needs none.
    """
    for key, space in act_space.items():
        if not space.size:
            raise UserError(f"action {key!r} has the shape {space.shape}: there is nothing to choose in it")
    module, _, function = find(config.agent.name).make.partition(":")
    agent: Agent = getattr(importlib.import_module(module), function)(config, obs_space, act_space)
    if agent.simulator:
        agent = agent._replace(simulator=agent.simulator._replace(act_space=act_space))
    if not config.agent.probe:
        return agent
    from dreamworld.probe import with_probe

    return with_probe(agent, config.agent.name)
