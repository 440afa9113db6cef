"""`dreamworld benchmark act`: latency of the policy, from observations on the host to actions on the host."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np

from dreamworld import cli
from dreamworld.benchmarks import update
from dreamworld.benchmarks.machine import load_average
from dreamworld.benchmarks.printing import print_row
from dreamworld.config import Config
from dreamworld.contract import Agent
from dreamworld.limits import COUNT, Range
from dreamworld.types import TimeStep


@dataclasses.dataclass(frozen=True)
class Flags:
    obs: str = "image:64x64x3"
    """Observations, as of `dreamworld benchmark update`."""
    act: str = "continuous:6"
    """Actions, as of `dreamworld benchmark update`."""
    envs: Annotated[tuple[int, ...], COUNT] = (1, 16)
    """Numbers of environments."""
    calls: Annotated[int, Range(1, 1e6)] = 200
    """Timed calls for each."""
    json: bool = False
    """One JSON line instead of a table."""


def main(argv: Sequence[str]) -> int:
    """Parses, measures, prints."""
    load = load_average()
    config, flags = cli.parse_with(
        argv, Flags(), prog="dreamworld benchmark act", description="Time the policy."
    )
    agent = update.make_synthetic_agent(config, update.Flags(obs=flags.obs, act=flags.act))
    row = {"obs": flags.obs, "act": flags.act, **measure(config, agent, flags)}
    print_row(row, load, as_json=flags.json)
    return 0


def measure(config: Config, agent: Agent, flags: Flags) -> dict[str, Any]:
    """Milliseconds of one call for each number of environments, as the training loop calls the policy."""
    import jax

    from dreamworld.precision import precision_name
    from dreamworld.training.learner import Learner

    latency = {}
    for count in flags.envs:
        learner = Learner(agent, 0, num_envs=count, batch_size=1)
        act = functools.partial(choose, learner, make_step(agent, count))
        seconds, cpu_s = update.time_calls(act, flags.calls)
        latency[str(count)] = {"ms": round(1000 * seconds, 3), "cpu_ms": round(1000 * cpu_s, 3)}
    device = jax.devices()[0].device_kind
    return {"latency": latency, "dtype": precision_name(config.agent.precision), "device": device}


def choose(learner: Any, step: TimeStep) -> dict[str, np.ndarray]:
    """Actions on the host."""
    action, _ = learner.act(step, 0)
    return {key: np.asarray(value) for key, value in action.items()}


def make_step(agent: Agent, count: int) -> Any:
    """Made-up rows of `count` environments."""
    from dreamworld.types import TimeStep

    random = np.random.default_rng(0)
    obs = {key: space.sample(random, count) for key, space in agent.obs_space.items()}
    no = np.zeros(count, bool)
    return TimeStep(obs, np.zeros(count, np.float32), no, no, no)
