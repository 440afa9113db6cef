"""Agents whose policy is known: one steers ball 0 to the middle now and then, the others push it somewhere."""

from typing import Any

import jax
import jax.numpy as jnp

from dreamworld.contract import Agent


def make_agent(env):
    """Acts as the environment's heuristic with probability `params["behaviour"]["skill"]`, else pushes left."""

    def act(params, carry, obs, key, *, mode="sample"):
        table = obs["vector"].reshape(-1, env.n, 4)
        wish = 0.1 * (0.5 - table[:, 0, :2]) - 0.6 * table[:, 0, 2:]
        axis = jnp.argmax(jnp.abs(wish), -1)
        push = 1 + 2 * axis + (jnp.take_along_axis(wish, axis[:, None], 1)[:, 0] > 0)
        good = jax.random.uniform(key, push.shape) < params["behaviour"]["skill"]
        return carry, {"action": jnp.where(good, push, 1).astype(jnp.int32)}, {}

    unused: Any = lambda *args: ()
    return Agent(
        env.obs_space, env.act_space, {}, unused, unused, lambda params, batch: (), act, (), None, {}
    )


def policy_params(skill, world):
    return {"world": world, "behaviour": {"skill": jnp.float32(skill)}}
