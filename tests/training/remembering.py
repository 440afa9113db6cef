"""A tiny agent that keeps extras in replay and whose phases read it by mixtures of their own: `remembering:SPEC`.

Acting stores what it saw (`extra/seen`); updates count how often a row was trained on (`extra/visits`). Parameters
count what the phases were given.
"""

import dataclasses

import jax.numpy as jnp

from dreamworld.agents import AgentSpec
from dreamworld.contract import Agent, Mix, Phase, Stage, Window
from dreamworld.options import AgentConfig
from dreamworld.types import Output, Space, TrainState


@dataclasses.dataclass(frozen=True)
class RememberingConfig(AgentConfig):
    name: str = "remembering"


SPEC = AgentSpec(RememberingConfig(), RememberingConfig(), "remembering:make", "none", "any", "any", "actor")
NAMES = ("rows", "seen", "unseen", "wrong", "visits", "weight")


def make(config, obs_space, act_space):
    """See AgentSpec."""
    zeros = {name: jnp.zeros(2) for name in NAMES}
    return Agent(
        obs_space,
        act_space,
        {"latent/code": Space((), "float32")},
        init=lambda key: TrainState(
            {"world": {"count": zeros}, "behaviour": {}}, (), {}, (), jnp.int32(0), key
        ),
        acting=lambda state: state.params,
        initial=lambda params, batch: (),
        act=act_of(act_space),
        stages=(
            Stage("random", (), collect="random", steps=40),
            Stage(
                "train",
                (
                    phase("visit", 0, Window(4, 5, 1, mix=Mix(1.0, 2.0, online=True))),
                    phase("recent", 1, Window(2, 3, 1, mix=Mix(0.0, 0.0, 1.0))),
                ),
            ),
        ),
        simulator=None,
        assignment={},
        extra_space={"extra/seen": Space((2,), "float32"), "extra/visits": Space((), "float32")},
    )


def look(obs):
    """[..., 2] of observations that are vectors [..., n]; never zero."""
    total = sum(value.astype(jnp.float32) @ jnp.arange(value.shape[-1]) for value in obs.values())
    return jnp.stack([total + 1, total + 2], -1)


def act_of(act_space):
    def act(params, carry, obs, key, *, mode="sample"):
        count = obs["is_first"].shape[0]
        action = {name: jnp.zeros((count, *space.shape), space.dtype) for name, space in act_space.items()}
        seen = look({key: value for key, value in obs.items() if key != "is_first"})
        return (
            carry,
            action,
            {"latent/code": seen[:, 0], "extra/seen": seen, "extra/visits": jnp.zeros(count)},
        )

    return act


def phase(name, index, window):
    """The first phase writes back latents and visits and gives priorities; the second one writes back nothing."""

    def update(state, carry, batch):
        seen, visits = batch.extras["extra/seen"], batch.extras["extra/visits"][:, 1:]
        right, zero = (seen == look(batch.obs)).all(-1), (seen == 0).all(-1)
        weight = batch.extras.get("weight", jnp.zeros(1))
        found = {
            "rows": seen[..., 0].size,
            "seen": right.sum(),
            "unseen": zero.sum(),
            "wrong": (~right & ~zero).sum(),
            "visits": visits.sum(),
            "weight": weight.sum(),
        }
        count = {
            key: value.at[index].add(found[key]) for key, value in state.params["world"]["count"].items()
        }
        new = state._replace(params={"world": {"count": count}, "behaviour": {}}, step=state.step + 1)
        writeback, priorities = {}, None
        if index == 0:
            writeback = {"latent/code": visits * 0, "extra/visits": visits + 1}
            priorities = 1 / (1 + visits)
        total = 0.0 * weight.sum()
        return (
            new,
            carry,
            Output({"loss/total": total}, writeback, priorities, {"loss/total": jnp.isfinite(total)}),
        )

    return Phase(name, window, update, ratio=4.0)
