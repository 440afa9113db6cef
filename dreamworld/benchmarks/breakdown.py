"""`dreamworld benchmark update --breakdown`: time and operations of a DreamerV3 update by part.

Every part is a program of its own, forward and backward, on states of the right shapes. What one program overlaps or
fuses across parts appears in none of them: `rest` is the whole update minus the parts, and may be negative.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from dreamworld import flops, optim
from dreamworld.agents import dreamerv3
from dreamworld.config import Config
from dreamworld.models.observations import target
from dreamworld.models.rssm import trained_rows
from dreamworld.types import Agent, Batch, WorldOut


def measure(
    config: Config, agent: Agent, batch: Batch, update_s: float, update_gflop: float, repeats: int
) -> dict[str, Any]:
    """{part: {seconds, gflop, share of the update}}; medians of `repeats` calls."""
    from dreamworld.benchmarks.update import time_calls

    state = jax.jit(agent.init)(jax.random.PRNGKey(0))
    carry = agent.initial_train(state.params, config.run.batch_size)
    parts = make_parts(config, agent, state, carry, batch)
    found = {}
    for name, (function, arguments) in parts.items():
        program = jax.jit(function).lower(*arguments).compile()
        seconds, _ = time_calls(functools.partial(program, *arguments), repeats)
        found[name] = (seconds, flops.count(function, *arguments) / 1e9)
    # The observe program begins with the encoder.
    seconds, gflop = found["observe_scan"]
    found["observe_scan"] = (seconds - found["encoder"][0], gflop - found["encoder"][1])
    found["rest"] = (
        update_s - sum(part[0] for part in found.values()),
        update_gflop - sum(part[1] for part in found.values()),
    )
    return {
        name: {"seconds": round(s, 5), "gflop": round(g, 3), "share": round(s / update_s, 3)}
        for name, (s, g) in found.items()
    }


def make_parts(
    config: Config, agent: Agent, state: Any, carry: Any, batch: Batch
) -> dict[str, tuple[Callable[..., Any], tuple[Any, ...]]]:
    """{part: (function, arguments)}; functions return gradients, so that nothing of them is left out."""
    world, behaviour = dreamerv3.make_parts(config, agent.obs_space, agent.act_space)
    optimizer = optim.make_optimizer(config.agent.optim)
    key = jax.random.PRNGKey(1)

    def total(tree: Any) -> Any:
        return sum(jnp.square(leaf.astype(jnp.float32)).mean() for leaf in jax.tree.leaves(tree))

    def encode(params: Any, batch: Batch) -> Any:
        return total(world.encoder(params["encoder"], trained_rows(batch, world.context).obs))

    def observe(params: Any, batch: Batch) -> Any:
        start, prev_action = world.start(batch, carry)
        rows = trained_rows(batch, world.context)
        return world.observe_sequence(params, start, prev_action, rows.obs, rows.is_first, key)[0]

    def decode(params: Any, states: Any, batch: Batch) -> Any:
        obs = trained_rows(batch, world.context).obs
        found = world.decode(params, states).items()
        return total([dist.loss(target(agent.obs_space[name], obs[name])) for name, dist in found])

    def heads(params: Any, features: Any, batch: Batch) -> Any:
        rows = trained_rows(batch, world.context)
        reward, cont = world.predict(params, features)
        return total([reward.loss(rows.reward), cont.loss(1.0 - rows.is_terminal)])

    def imagine(params: Any, states: Any) -> Any:
        out = WorldOut(states, world.feature(params, states), carry, {}, {})
        return behaviour.dream(params, world, out, key)

    def behave(params: Any, features: Any, states: Any, dream: Any, slow: Any, batch: Batch) -> Any:
        out = WorldOut(states, features, carry, {}, {})
        rows = trained_rows(batch, world.context)
        return total(behaviour.learn(params, slow, state.stats, world, out, rows, *dream)[0])

    def optimise(grads: Any, state: Any) -> Any:
        changes, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = jax.tree.map(jnp.add, state.params, changes)
        return params, opt_state, behaviour.update_slow(state.slow, params)

    params = state.params
    states = jax.jit(observe)(params, batch)
    features = world.feature(params, states)
    dream = jax.jit(imagine)(params, states)
    observed = jax.grad(lambda params, batch: total(observe(params, batch)))
    return {
        "encoder": (jax.grad(encode), (params, batch)),
        "observe_scan": (observed, (params, batch)),
        "decoder": (jax.grad(decode, (0, 1)), (params, states, batch)),
        "heads": (jax.grad(heads, (0, 1)), (params, features, batch)),
        "imagination": (imagine, (params, states)),
        "behaviour_losses": (jax.grad(behave, (0, 1)), (params, features, states, dream, state.slow, batch)),
        "optimizer": (optimise, (params, state)),
    }
