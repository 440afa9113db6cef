"""A tiny agent that learns in four stages, as one would write it outside of the package: `--agent staged:SPEC`.

It remembers nothing and acts at random; its parameters count what its phases were given.
"""

import dataclasses

import jax.numpy as jnp

from dreamworld.agents import AgentSpec
from dreamworld.contract import Agent, Phase, Stage, Window
from dreamworld.options import AgentConfig
from dreamworld.types import Output, TrainState


@dataclasses.dataclass(frozen=True)
class StagedConfig(AgentConfig):
    name: str = "staged"
    rate: float = 1.0
    """What an update adds."""
    plain: bool = False
    """Whether all phases draw their windows anywhere, as the fused mode needs it."""
    random_steps: int = 40
    """Steps of the first stage."""
    encodes: bool = True
    """Whether it has its second stage."""


SPEC = AgentSpec(StagedConfig(), StagedConfig(), "staged:make", "none", "any", "any", "actor")


def make(config, obs_space, act_space):
    """See AgentSpec."""
    return Agent(
        obs_space,
        act_space,
        {},
        init=lambda key: TrainState(
            {"world": {"rows": {"count": jnp.zeros(3)}}, "behaviour": {}}, (), {}, (), jnp.int32(0), key
        ),
        acting=lambda state: state.params,
        initial=lambda params, batch: (),
        act=act_of(act_space),
        stages=(
            Stage("random", (), collect="random", steps=config.agent.random_steps),
            *[Stage("encode", (encode(config),), collect="none")] * config.agent.encodes,
            Stage(
                "train",
                (
                    phase("short", 1, Window(4, 4), config),
                    phase("whole", 2, Window(2, 6, align="row" if config.agent.plain else "episode"), config),
                ),
                steps=40,
            ),
            Stage("tail", (phase("tail", 2, None, config, at_most=3),), collect="none"),
        ),
        simulator=None,
        assignment={},
    )


def encode(config):
    if config.agent.plain:
        return phase("encode", 0, Window(2, 4), config, at_most=5)
    return phase("encode", 0, Window(2, 4, order="sweep"), config)


def act_of(act_space):
    def act(params, carry, obs, key, *, mode="sample"):
        count = obs["is_first"].shape[0]
        action = {name: jnp.zeros((count, *space.shape), space.dtype) for name, space in act_space.items()}
        return carry, action, {}

    return act


def phase(name, index, window, config, **limits):
    """Counts the trained rows that it is given, or its updates where it reads none."""

    def update(state, carry, batch):
        rows = 1.0 if batch is None else jnp.float32(batch.reward.size)
        count = state.params["world"]["rows"]["count"].at[index].add(config.agent.rate * rows)
        new = state._replace(
            params={"world": {"rows": {"count": count}}, "behaviour": {}}, step=state.step + 1
        )
        total = jnp.float32(0) if batch is not None else jnp.float32(0) / config.agent.rate
        metrics = {"loss/total": total, f"{name}_rows": rows}
        return new, carry, Output(metrics, {}, None, {"loss/total": jnp.isfinite(total)})

    return Phase(name, window, update, ratio=4.0, **limits)
