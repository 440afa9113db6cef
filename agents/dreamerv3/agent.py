"""DreamerV3 (Hafner et al., "Mastering diverse control tasks through world models", Nature 2025).

arXiv:2301.04104. An RSSM and an actor-critic, trained by one optimiser on the sum of their losses.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dreamworld import nets, optim, rollout
from dreamworld.agents.dreamerv3.config import DreamerV3Config
from dreamworld.behaviours.actor_critic import ActorCritic
from dreamworld.config import Config, RunConfig
from dreamworld.contract import Agent, Expected, Memory, Phase, Simulator, Stage, State, Window
from dreamworld.errors import UserError
from dreamworld.models.rssm import RSSM, Heads, Latent, make_rssm
from dreamworld.options import LossConfig
from dreamworld.precision import compute_dtype
from dreamworld.training.step import LossFn, LossOut, batch_mean, make_update
from dreamworld.types import Array, Batch, Carry, Key, Mode, Params, Spaces, TrainState, Tree

CODERS, HEADS = ("agent.encoder.depth", "agent.encoder.units"), ("agent.behaviour.units", "agent.rssm.deter")
WIDTHS = {
    **dict.fromkeys(("encoder", "decoder"), CODERS),
    "dynamics": ("agent.rssm.deter", "agent.rssm.hidden"),
    **dict.fromkeys(("reward", "cont", "actor", "critic"), HEADS),
}
"""Options that the size of a module's parameters follows from."""
CACHE_BYTES = 4 << 20
"""Logits of all imagined states up to this size are made at once on a CPU."""


def make(config: Config, obs_space: Spaces, act_space: Spaces) -> Agent:
    """Builds the record of pure functions; raises UserError for spaces that the model can't take."""
    return join(config, obs_space, act_space, *make_parts(config, obs_space, act_space))


def join(config: Config, obs_space: Spaces, act_space: Spaces, world: RSSM, behaviour: ActorCritic) -> Agent:
    """The agent of a world model and a behaviour."""
    options, run = options_of(config), config.run
    optimizer = optim.make_optimizer(options.optim)

    def init(key: Key) -> TrainState:
        world_key, behaviour_key, learner_key = jax.random.split(key, 3)
        model = world.init(world_key)
        feature = world.feature(model, world.initial(model, 1))
        params = {"world": model, "behaviour": behaviour.init(feature, behaviour_key)}
        slow = {"behaviour": behaviour.init_slow(params["behaviour"])}
        step = jnp.zeros((), jnp.int32)
        return TrainState(params, optimizer.init(params), slow, behaviour.init_stats(), step, learner_key)

    def initial(params: Params, batch: int) -> Carry:
        action = nets.zero_actions(act_space, batch)
        return world.initial(params["world"], batch), action, behaviour.initial(params["behaviour"], batch)

    def act(
        params: Params, carry: Carry, obs: dict[str, Array], key: Key, *, mode: Mode = "sample"
    ) -> tuple[Any, Any, Any]:
        state, prev_action, own = carry
        observe_key, act_key = jax.random.split(key)
        model = params["world"]
        state, _ = world.observe(model, state, prev_action, obs, obs["is_first"], observe_key)
        feature = world.feature(model, state)
        own, action = behaviour.act(params["behaviour"], own, feature, act_key, mode=mode)
        return (state, action, own), action, world.entries(state)

    def value(params: Params, feature: Array) -> Array:
        _, cont = world.predict(params["world"], feature)  # the chance of going on times the discount
        return cont.mean() * behaviour.value(params["behaviour"], feature).mean()

    def choose(params: Params, feature: Array, key: Key, *, mode: Mode = "sample") -> dict[str, Array]:
        return behaviour.choose(params["behaviour"], feature, key, mode=mode)

    update = make_update(make_loss(world, behaviour, options.loss), optimizer, make_update_slow(behaviour))
    window = Window(run.batch_size, run.batch_length, run.replay_context)
    phase = Phase("update", window, update, ratio=run.train_ratio)
    return Agent(
        obs_space,
        act_space,
        world.latent_space,
        init=init,
        acting=lambda state: state.params,
        initial=initial,
        act=act,
        stages=(Stage("train", (phase,)),),
        simulator=make_simulator(world),
        assignment=world.encoder.assignment,
        memory=(dream_memory(world, behaviour, window),),
        widths={name: keys for name, keys in WIDTHS.items() if name != "decoder" or world.decoder},
        value=value,
        choose=choose,
        discount=world.discount,
    )


def options_of(config: Config) -> DreamerV3Config:
    """The options of this agent; TypeError for those of another one."""
    if not isinstance(config.agent, DreamerV3Config):
        raise TypeError(f"the options are a {type(config.agent).__name__}")
    return config.agent


def dream_memory(world: RSSM, behaviour: ActorCritic, window: Window) -> Memory:
    """The imagined states of an update, all of which exist at once."""
    config, steps = world.config, behaviour.config.imag_length + 1
    width = (config.deter + config.stoch * config.classes) * np.dtype(world.dtype).itemsize
    options = ("run.batch_size", "run.batch_length", "agent.behaviour.imag_length", "agent.rssm.deter")
    return Memory("imagined states", window.rows * steps * width, options)


def make_simulator(world: RSSM) -> Simulator:
    """The RSSM to step through."""

    def predict(params: Params, feature: Array) -> Expected:
        reward, cont = world.predict(params, feature)
        return Expected(reward.mean(), jnp.minimum(cont.mean() / world.discount, 1.0))

    def observe(
        params: Params,
        state: State,
        prev_action: dict[str, Array],
        obs: dict[str, Array],
        is_first: Array,
        key: Key,
    ) -> Latent:
        return world.observe(params, state, prev_action, obs, is_first, key)[0]

    def surprise(
        params: Params,
        state: State,
        prev_action: dict[str, Array],
        obs: dict[str, Array],
        is_first: Array,
        key: Key,
    ) -> Array:
        return world.surprise(params, *world.observe(params, state, prev_action, obs, is_first, key))

    def decode(params: Params, feature: Array) -> dict[str, Array]:
        return {name: dist.mean().astype(jnp.float32) for name, dist in world.decode(params, feature).items()}

    def reward_nll(params: Params, feature: Array, reward: Array) -> Array:
        return world.predict(params, feature)[0].loss(reward)

    return Simulator(
        world.initial,
        observe,
        world.imagine,
        world.feature,
        predict,
        decode if world.decoder else None,
        surprise,
        edit=world.correct,
        reward_nll=reward_nll,
    )


def make_update_slow(behaviour: ActorCritic) -> Callable[[Params, Params], Params]:
    """The slow critic, which is all that follows slowly."""
    return lambda slow, params: {"behaviour": behaviour.update_slow(slow["behaviour"], params["behaviour"])}


def make_parts(config: Config, obs_space: Spaces, act_space: Spaces) -> tuple[RSSM, ActorCritic]:
    """The world model and the behaviour that `make` joins."""
    options, run = options_of(config), config.run
    if run.batch_length < 2:
        raise UserError(f"--run.batch_length {run.batch_length}: needs at least 2 rows to learn from")
    if run.replay_context not in (0, 1):
        raise UserError(f"--run.replay_context {run.replay_context}: takes 0 or 1")
    behaviour = options.behaviour
    if behaviour.bins % 2 == 0 or behaviour.bins < 3:
        raise UserError(f"--agent.behaviour.bins {behaviour.bins}: takes odd numbers from 3, such as 255")
    dtype = compute_dtype(options.precision)
    heads = Heads(
        behaviour.units,
        behaviour.reward_layers,
        behaviour.cont_layers,
        behaviour.bins,
        discount=1 - 1 / behaviour.horizon,
    )
    at_once = gradients_at_once(options)
    world = make_rssm(
        options.rssm,
        options.encoder,
        heads,
        obs_space,
        act_space,
        context=run.replay_context,
        dtype=dtype,
        at_once=at_once,
    )
    return world, ActorCritic(behaviour, act_space, dtype, at_once or heads_at_once(options, run))


def make_loss(world: RSSM, behaviour: ActorCritic, scales: LossConfig) -> LossFn:
    """One scalar from the losses of both, as `make_update` wants it."""

    def loss(
        params: Params, slow: Params, stats: Tree, carry: Carry, batch: Batch, key: Key
    ) -> tuple[Array, LossOut]:
        world_key, behaviour_key = jax.random.split(key)
        with jax.named_scope("world_model"):
            losses, out = world.loss(params["world"], batch, world_key)
        rows = rollout.trained_rows(batch, world.context)
        own, own_slow = params["behaviour"], slow["behaviour"]
        with jax.named_scope("behaviour"):
            more, stats, metrics = behaviour.loss(
                own, own_slow, stats, world, params["world"], out, rows, behaviour_key
            )
        losses |= more
        priorities = jax.lax.stop_gradient(losses["dyn"])
        found = LossOut(losses, stats, carry, out.entries, priorities, out.metrics | metrics)
        return sum_losses(losses, scales, batch), found

    return loss


def sum_losses(losses: dict[str, Array], scales: LossConfig, batch: Batch) -> Array:
    """Sum over names of scale times mean over the batch; every `obs/<key>` has the scale `obs`."""
    scale = dataclasses.asdict(scales)
    mean = lambda value: batch_mean(value, batch)
    return jnp.asarray(sum(scale[name.split("/")[0]] * mean(value) for name, value in losses.items()))


def heads_at_once(options: DreamerV3Config, run: RunConfig) -> bool:
    """Whether the heads see all imagined states at once, too, since what they make of them stays in the cache."""
    behaviour = options.behaviour
    rows = run.batch_size * run.batch_length * (behaviour.imag_length + 1)
    return options.weight_gradients == "auto" and 4 * rows * behaviour.bins <= CACHE_BYTES


def gradients_at_once(config: DreamerV3Config) -> bool:
    """Whether the observe scan leaves its weight gradients for after it. CPUs gain nothing: they start fast."""
    if config.weight_gradients == "auto":
        return jax.default_backend() != "cpu"
    return config.weight_gradients == "at_once"
