"""Dreamer (Hafner et al., "Dream to control: learning behaviors by latent imagination", ICLR 2020, arXiv:1912.01603).

The world model of PlaNet, with an actor that learns by gradients of imagined returns through the dynamics.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from dreamworld import nets
from dreamworld.agents.dreamerv1.config import DreamerV1Config
from dreamworld.behaviours.dynamics_gradient import DynamicsGradient
from dreamworld.behaviours.exploration import explore, stages
from dreamworld.config import Config
from dreamworld.contract import Agent, Phase, Window
from dreamworld.errors import UserError
from dreamworld.models.gaussian_world import GaussianWorld
from dreamworld.models.recurrent_simulator import Dream, make_simulator
from dreamworld.optim import make_adams
from dreamworld.training.step import LossFn, LossOut, batch_mean, free_mean, make_update
from dreamworld.types import Array, Batch, Carry, Key, Mode, Params, Spaces, TrainState, Tree

sg = jax.lax.stop_gradient


def make(config: Config, obs_space: Spaces, act_space: Spaces) -> Agent:
    """Builds the record of pure functions; raises UserError for spaces that it can't take."""
    options, run = options_of(config), config.run
    check(act_space)
    sizes = options.model
    world = GaussianWorld(
        sizes, obs_space, act_space, activation="elu", cell="reset_after", cont_layers=sizes.cont_layers
    )
    world.check("dreamerv1")
    behaviour, optimizer = DynamicsGradient(options.behaviour, act_space), make_adams(options.optim)
    discount = options.behaviour.discount
    simulator, dynamics = make_simulator(world, discount), world.dynamics

    def init(key: Key) -> TrainState:
        world_key, behaviour_key, learner_key = jax.random.split(key, 3)
        own = behaviour.init(world.feature(dynamics.initial(1)), behaviour_key)
        params = {"world": world.init(world_key), "behaviour": own}
        return TrainState(params, optimizer.init(params), {}, (), jnp.zeros((), jnp.int32), learner_key)

    def initial(params: Params, batch: int) -> Carry:
        return dynamics.initial(batch), nets.zero_actions(act_space, batch)

    def act(
        params: Params, carry: Carry, obs: dict[str, Array], key: Key, *, mode: Mode = "sample"
    ) -> tuple[Any, Any, Any]:
        state, prev_action = carry
        observe_key, act_key, noise_key = jax.random.split(key, 3)
        state = simulator.observe(params["world"], state, prev_action, obs, obs["is_first"], observe_key)
        action = behaviour.choose(params["behaviour"], world.feature(state), act_key, mode=mode)
        if mode == "sample":
            action = explore(action, act_space, options.noise, noise_key)
        return (state, action), action, {}

    def value(params: Params, feature: Array) -> Array:
        return behaviour.value(params["behaviour"], feature) - world.reward(params["world"], feature)

    def choose(params: Params, feature: Array, key: Key, *, mode: Mode = "sample") -> dict[str, Array]:
        return behaviour.choose(params["behaviour"], feature, key, mode=mode)

    update = make_update(make_loss(world, behaviour, options), optimizer, lambda slow, params: slow)
    phase = Phase("update", Window(run.batch_size, run.batch_length), update, ratio=run.train_ratio)
    return Agent(
        obs_space,
        act_space,
        {},
        init=init,
        acting=lambda state: state.params,
        initial=initial,
        act=act,
        stages=stages(options.random_steps, phase),
        simulator=simulator,
        assignment={key: "image" if space.is_image else "vector" for key, space in obs_space.items()},
        value=value,  # the critic's own begins with the reward of the state
        choose=choose,
        discount=discount,
    )


def make_loss(world: GaussianWorld, behaviour: DynamicsGradient, options: DreamerV1Config) -> LossFn:
    """The sum of the losses of world, actor and value, none of which reaches the parameters of another."""
    discount = options.behaviour.discount

    def loss(
        params: Params, slow: Params, stats: Tree, carry: Carry, batch: Batch, key: Key
    ) -> tuple[Array, LossOut]:
        world_key, dream_key = jax.random.split(key)
        losses, divergence, states = world.loss(params["world"], batch, world_key, discount)
        weigh = lambda name: {"reward": 1.0, "cont": options.cont_scale}.get(name, options.observation_scale)
        total = jnp.asarray(sum(weigh(name) * batch_mean(value, batch) for name, value in losses.items()))
        total += options.divergence_scale * free_mean(options.free_nats, divergence, batch)

        start = jax.tree.map(lambda x: x.reshape((-1, *x.shape[2:])), states)
        dream = Dream(world, sg(params["world"]), discount)
        imagined = behaviour.loss(params["behaviour"], dream, start, dream_key)
        ends = batch.is_terminal & bool(world.cont_layers)
        for name in ("actor", "value"):  # no dream begins at an end
            losses[name] = jnp.where(ends, 0, getattr(imagined, name).reshape(batch.reward.shape))
            total += batch_mean(losses[name], batch)
        losses["kl"] = divergence
        return total, LossOut(losses, stats, carry, {}, None, imagined.metrics)

    return loss


def options_of(config: Config) -> DreamerV1Config:
    """The options of this agent; TypeError for those of another one."""
    if not isinstance(config.agent, DreamerV1Config):
        raise TypeError(f"the options are a {type(config.agent).__name__}")
    return config.agent


def check(act_space: Spaces) -> None:
    """UserError for actions that are not continuous."""
    for key, space in act_space.items():
        if nets.class_count(space):
            raise UserError(
                f"action {key!r} is discrete; dreamerv1 learns by gradients through actions, which must be continuous. "
                "For discrete ones: --agent dreamerv3, or planet"
            )
