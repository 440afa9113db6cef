"""DreamerV3 (Hafner et al., "Mastering diverse control tasks through world models", Nature 2025).

arXiv:2301.04104. An RSSM and an actor-critic, trained by one optimiser on the sum of their losses.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from dreamworld import optim, rollout
from dreamworld.behaviours.actor_critic import ActorCritic
from dreamworld.config import AgentConfig, Config, LossConfig
from dreamworld.errors import UserError
from dreamworld.models.observations import target
from dreamworld.models.rssm import RSSM, Latent, make_rssm, trained_rows
from dreamworld.nets import class_count
from dreamworld.training.step import LossFn, LossOut, make_update
from dreamworld.types import Agent, Array, Batch, Key, Mode, Params, Spaces, TrainState


def make_dreamerv3(config: Config, obs_space: Spaces, act_space: Spaces) -> Agent:
    """Builds the record of pure functions; raises UserError for spaces that the model can't take."""
    world, behaviour = make_parts(config, obs_space, act_space)
    optimizer = optim.make_optimizer(config.agent.optim)

    def init(key: Key) -> TrainState:
        world_key, behaviour_key, learner_key = jax.random.split(key, 3)
        params = world.init(world_key)
        params |= behaviour.init(world.feature(params, world.initial(params, 1)), behaviour_key)
        slow, stats = behaviour.init_slow(params), behaviour.init_stats()
        return TrainState(params, optimizer.init(params), slow, stats, jnp.zeros((), jnp.int32), learner_key)

    def initial(params: Params, batch: int) -> tuple[Latent, dict[str, Array]]:
        dtype = lambda space: jnp.int32 if class_count(space) else jnp.float32  # what `act` returns
        action = {name: jnp.zeros((batch, *space.shape), dtype(space)) for name, space in act_space.items()}
        return world.initial(params, batch), action

    def act(
        params: Params, carry: Any, obs: dict[str, Array], key: Key, *, mode: Mode = "sample"
    ) -> tuple[Any, Any, Any]:
        state, prev_action = carry
        observe_key, act_key = jax.random.split(key)
        seen = {name: obs[name] for name in world.encoder.spaces}
        state, _ = world.observe(params, state, prev_action, seen, obs["is_first"], observe_key)
        action = behaviour.act(params, world.feature(params, state), act_key, mode=mode)
        return (state, action), action, world.entries(state)

    return Agent(
        init=init,
        initial=initial,
        act=act,
        initial_train=world.initial,
        update=make_update(make_loss(world, behaviour, config.agent.loss), optimizer, behaviour.update_slow),
        report=lambda params, batch, key: open_loop_report(world, params, batch, key),
        obs_space=obs_space,
        act_space=act_space,
        latent_space=world.latent_space,
        assignment=world.encoder.assignment,
        modules=lambda params: dict(params),
    )


def make_parts(config: Config, obs_space: Spaces, act_space: Spaces) -> tuple[RSSM, ActorCritic]:
    """The world model and the behaviour that `make_dreamerv3` joins."""
    if config.run.batch_length < 2:
        raise UserError(f"--run.batch_length {config.run.batch_length}: needs at least 2 rows to learn from")
    if config.run.replay_context not in (0, 1):
        raise UserError(f"--run.replay_context {config.run.replay_context}: takes 0 or 1")
    if config.agent.behaviour.bins % 2 == 0 or config.agent.behaviour.bins < 3:
        raise UserError(
            f"--agent.behaviour.bins {config.agent.behaviour.bins}: takes odd numbers from 3, such as 255"
        )
    dtype, context = compute_dtype(config.agent.precision), config.run.replay_context
    at_once = gradients_at_once(config.agent)
    world = make_rssm(config.agent, obs_space, act_space, context=context, dtype=dtype, at_once=at_once)
    return world, ActorCritic(config.agent.behaviour, act_space, dtype)


def make_loss(world: RSSM, behaviour: ActorCritic, scales: LossConfig) -> LossFn:
    """One scalar from the losses of both, as `make_update` wants it."""

    def loss(
        params: Params, slow: Params, stats: Any, carry: Latent, batch: Batch, key: Key
    ) -> tuple[Array, LossOut]:
        world_key, behaviour_key = jax.random.split(key)
        losses, out = world.loss(params, batch, carry, world_key)
        rows = trained_rows(batch, world.context)
        more, stats, metrics = behaviour.loss(params, slow, stats, world, out, rows, behaviour_key)
        losses |= more
        priorities = jax.lax.stop_gradient(losses["dyn"])
        found = LossOut(losses, stats, out.carry, out.entries, priorities, out.metrics | metrics)
        return sum_losses(losses, scales), found

    return loss


def sum_losses(losses: dict[str, Array], scales: LossConfig) -> Array:
    """Sum over names of scale times mean; every `obs/<key>` has the scale `obs`."""
    scale = dataclasses.asdict(scales)
    return jnp.asarray(sum(scale[name.split("/")[0]] * value.mean() for name, value in losses.items()))


def open_loop_report(world: RSSM, params: Params, batch: Batch, key: Key) -> dict[str, Array]:
    """`truth/<key>` and `dream/<key>` [B, T, *shape]; the first T/2 rows are observed, the rest imagined."""
    observe_key, imagine_key = jax.random.split(key)
    # Without the carry of the chunk before, every chunk starts from its own stored latents.
    batch = batch._replace(extras=batch.extras | {"consec": jnp.zeros_like(batch.extras["consec"])})
    state, prev_action = world.start(batch, world.initial(params, batch.reward.shape[0]))
    rows = trained_rows(batch, world.context)
    half = report_context(rows.reward.shape[1])
    action, obs, is_first = jax.tree.map(lambda x: x[:, :half], (prev_action, rows.obs, rows.is_first))
    states, _ = world.observe_sequence(params, state, action, obs, is_first, observe_key)
    last = jax.tree.map(lambda x: x[:, -1], states)
    advance = lambda state, action, key: world.imagine(params, state, action, key)
    dreamt = rollout.open_loop(
        advance, last, {name: x[:, half:] for name, x in prev_action.items()}, imagine_key
    )
    states = jax.tree.map(lambda a, b: jnp.concatenate([a, b], 1), states, dreamt)
    report = {}
    for name, dist in world.decode(params, states).items():
        report[f"truth/{name}"] = target(world.encoder.spaces[name], rows.obs[name]).astype(jnp.float32)
        report[f"dream/{name}"] = dist.mean().astype(jnp.float32)
    return report


def report_context(length: int) -> int:
    """Observed rows of an open-loop report over `length` rows."""
    return length // 2


def compute_dtype(precision: str) -> Any:
    """jnp dtype of a precision option; `auto` is bfloat16 on accelerators and float32 on CPU."""
    if precision == "auto":
        precision = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return jnp.dtype(precision)


def gradients_at_once(config: AgentConfig) -> bool:
    """Whether the observe scan leaves its weight gradients for after it. CPUs gain nothing: they start fast."""
    if config.weight_gradients == "auto":
        return jax.default_backend() != "cpu"
    return config.weight_gradients == "at_once"


def precision_name(config: AgentConfig) -> str:
    """The resolved precision, for the log."""
    return compute_dtype(config.precision).name
