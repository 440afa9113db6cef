"""PlaNet (Hafner et al., "Learning latent dynamics for planning from pixels", ICML 2019, arXiv:1811.04551).

A Gaussian RSSM with a decoder and a reward head; no actor: every action is planned by the cross-entropy method.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from dreamworld import nets
from dreamworld.agents.planet.config import PlaNetConfig
from dreamworld.behaviours.cem import CEM
from dreamworld.behaviours.exploration import explore, stages
from dreamworld.behaviours.plans import Returns, Vectors
from dreamworld.config import Config
from dreamworld.contract import Agent, Phase, Simulator, Window
from dreamworld.models.gaussian_world import GaussianWorld
from dreamworld.models.recurrent_simulator import make_simulator
from dreamworld.plan_options import PlanConfig, check
from dreamworld.training.step import LossOut, batch_mean, make_update
from dreamworld.types import Array, Batch, Carry, Key, Mode, Params, Spaces, TrainState, Tree


def make_optimizer(options: PlaNetConfig) -> optax.GradientTransformation:
    """Adam behind a clipping of the norm of all gradients."""
    return optax.chain(optax.clip_by_global_norm(options.clip), optax.adam(options.lr, eps=options.eps))


def make(config: Config, obs_space: Spaces, act_space: Spaces) -> Agent:
    """Builds the record of pure functions; raises UserError for spaces that it can't take."""
    options, run = options_of(config), config.run
    check(PlanConfig(**dataclasses.asdict(options.planner)), "--agent.planner.")
    world = GaussianWorld(options.model, obs_space, act_space, bits=options.bits)
    world.check("planet")
    optimizer = make_optimizer(options)
    simulator, dynamics = make_simulator(world), world.dynamics
    planner = make_planner(options, simulator, act_space)

    def init(key: Key) -> TrainState:
        world_key, learner_key = jax.random.split(key)
        params = {"world": world.init(world_key), "behaviour": {}}
        return TrainState(params, optimizer.init(params), {}, (), jnp.zeros((), jnp.int32), learner_key)

    def initial(params: Params, batch: int) -> Carry:
        return dynamics.initial(batch), nets.zero_actions(act_space, batch)

    def act(
        params: Params, carry: Carry, obs: dict[str, Array], key: Key, *, mode: Mode = "sample"
    ) -> tuple[Any, Any, Any]:
        state, prev_action = carry
        observe_key, plan_key, noise_key = jax.random.split(key, 3)
        state = simulator.observe(params["world"], state, prev_action, obs, obs["is_first"], observe_key)
        nothing = planner.initial(len(obs["is_first"]))
        _, action = planner.plan(params, state, nothing, plan_key)
        if mode == "sample":
            action = explore(action, act_space, options.noise, noise_key)
        return (state, action), action, {}

    def loss(
        params: Params, slow: Params, stats: Tree, carry: Carry, batch: Batch, key: Key
    ) -> tuple[Array, LossOut]:
        losses, divergence, _ = world.loss(params["world"], batch, key)
        losses["kl"] = jnp.maximum(divergence - options.free_nats, 0)
        scales = {"reward": options.reward_scale, "kl": options.divergence_scale}
        weigh = lambda name: scales.get(name, options.observation_scale)
        total = jnp.asarray(sum(weigh(name) * batch_mean(value, batch) for name, value in losses.items()))
        return total, LossOut(losses, stats, carry, {}, None, {"kl": divergence.mean()})

    update = make_update(loss, optimizer, lambda slow, params: slow)
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
    )


def make_planner(options: PlaNetConfig, simulator: Simulator, act_space: Spaces) -> CEM:
    """As published: every step begins anew, and returns are sums of expected rewards over one dream."""
    own = PlanConfig(**dataclasses.asdict(options.planner), warm=False, min_std=0.0)
    return CEM(simulator, Vectors(act_space), Returns(simulator, ends=False), own)


def options_of(config: Config) -> PlaNetConfig:
    """The options of this agent; TypeError for those of another one."""
    if not isinstance(config.agent, PlaNetConfig):
        raise TypeError(f"the options are a {type(config.agent).__name__}")
    return config.agent
