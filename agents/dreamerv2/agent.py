"""DreamerV2 (Hafner et al., "Mastering Atari with discrete world models", ICLR 2021, arXiv:2010.02193).

A categorical RSSM with balanced KL, and an actor-critic that learns in its dreams, held to a target network.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from dreamworld import nets
from dreamworld.agents.dreamerv2.config import DreamerV2Config
from dreamworld.behaviours.exploration import explore, stages
from dreamworld.behaviours.mixed_gradient import MixedGradient
from dreamworld.config import Config
from dreamworld.contract import (
    Act,
    Agent,
    Expected,
    InitialCarry,
    Phase,
    Simulator,
    Update,
    Window,
)
from dreamworld.models import rssm
from dreamworld.models.categorical_world import CategoricalWorld
from dreamworld.models.recurrent_simulator import Dream, make_simulator
from dreamworld.optim import make_adams
from dreamworld.rollout import trained_rows
from dreamworld.training.step import LossFn, LossOut, batch_mean, free_mean, make_update
from dreamworld.types import Array, Batch, Carry, Key, Mode, Output, Params, Spaces, TrainState, Tree

sg = jax.lax.stop_gradient
LARGEST = 0.999  # squashed reward that is told apart from 1 where it is shown in the environment's units


def make(config: Config, obs_space: Spaces, act_space: Spaces) -> Agent:
    """Builds the record of pure functions; raises UserError for spaces that it can't take."""
    options, run = options_of(config), config.run
    sizes = options.model
    world = CategoricalWorld(
        sizes, obs_space, act_space, cont_layers=sizes.cont_layers, balance=options.balance
    )
    world.check("dreamerv2")
    behaviour = MixedGradient(options.behaviour, act_space, sizes.layer_norm)
    optimizer, dynamics = make_adams(options.optim, options.optim.decay), world.dynamics
    simulator = make_simulator(world, options.behaviour.discount)
    if options.reward == "tanh":
        simulator = in_own_units(simulator)
    stored = run.replay_context > 0
    initial, act = make_act(world, behaviour, simulator, noise=options.noise, stored=stored)

    def init(key: Key) -> TrainState:
        world_key, behaviour_key, learner_key = jax.random.split(key, 3)
        own = behaviour.init(world.feature(dynamics.initial(1)), behaviour_key)
        params = {"world": world.init(world_key), "behaviour": own}
        slow = {"behaviour": {"value": jax.tree.map(jnp.copy, own["value"])}}
        return TrainState(params, optimizer.init(params), slow, (), jnp.zeros((), jnp.int32), learner_key)

    # The value of its critic begins with the reward of the state itself, and is a sum of rewards as they were learnt.
    def value(params: Params, feature: Array) -> Array:
        return behaviour.value(params["behaviour"], feature) - world.reward(params["world"], feature)

    def choose(params: Params, feature: Array, key: Key, *, mode: Mode = "sample") -> dict[str, Array]:
        return behaviour.choose(params["behaviour"], feature, key, mode=mode)

    update = copy_value(
        make_update(
            make_loss(world, behaviour, options, run.replay_context), optimizer, lambda slow, params: slow
        ),
        options.behaviour.slow_every,
    )
    window = Window(run.batch_size, run.batch_length, run.replay_context)
    return Agent(
        obs_space,
        act_space,
        rssm.latent_space(sizes.deter, sizes.stoch, sizes.classes, "float32") if stored else {},
        init=init,
        acting=lambda state: state.params,
        initial=initial,
        act=act,
        stages=stages(options.random_steps, Phase("update", window, update, ratio=run.train_ratio)),
        simulator=simulator,
        assignment={key: "image" if space.is_image else "vector" for key, space in obs_space.items()},
        value=value if options.reward == "identity" else None,
        choose=choose,
        discount=options.behaviour.discount,
    )


def make_act(
    world: CategoricalWorld, behaviour: MixedGradient, simulator: Simulator, *, noise: float, stored: bool
) -> tuple[InitialCarry, Act]:
    """The carry before the first row, and the policy; it returns the state with each row if that is `stored`."""

    def initial(params: Params, batch: int) -> Carry:
        return world.dynamics.initial(batch), nets.zero_actions(world.act_space, batch)

    def act(
        params: Params, carry: Carry, obs: dict[str, Array], key: Key, *, mode: Mode = "sample"
    ) -> tuple[Any, Any, Any]:
        state, prev_action = carry
        observe_key, act_key, noise_key = jax.random.split(key, 3)
        state = simulator.observe(params["world"], state, prev_action, obs, obs["is_first"], observe_key)
        action = behaviour.choose(params["behaviour"], world.feature(state), act_key, mode=mode)
        if mode == "sample" and noise:
            action = explore(action, world.act_space, noise, noise_key)
        return (state, action), action, rssm.entries(state) if stored else {}

    return initial, act


def make_loss(
    world: CategoricalWorld, behaviour: MixedGradient, options: DreamerV2Config, context: int
) -> LossFn:
    """The sum of the losses of world, actor and value, none of which reaches the parameters of another."""
    discount = options.behaviour.discount

    def loss(
        params: Params, slow: Params, stats: Tree, carry: Carry, batch: Batch, key: Key
    ) -> tuple[Array, LossOut]:
        world_key, dream_key = jax.random.split(key)
        rows = trained_rows(batch, context)
        if options.reward == "tanh":
            rows = rows._replace(reward=jnp.tanh(rows.reward))
        before = rssm.before(batch, context - 1, options.model.classes, "float32") if context else None
        losses, divergence, states = world.loss(params["world"], rows, world_key, discount, before)
        weigh = lambda name: {"reward": 1.0, "cont": options.cont_scale}.get(name, options.observation_scale)
        total = jnp.asarray(sum(weigh(name) * batch_mean(value, batch) for name, value in losses.items()))
        total += options.divergence_scale * free_mean(options.free_nats, divergence, batch)

        start = jax.tree.map(lambda x: x.reshape((-1, *x.shape[2:])), states)
        going = 1 - rows.is_terminal.astype(jnp.float32).reshape(-1) * bool(world.cont_layers)
        dream = Dream(world, sg(params["world"]), discount)
        imagined = behaviour.loss(
            params["behaviour"], slow["behaviour"], dream, start, discount * going, dream_key
        )
        for name in ("actor", "value"):
            losses[name] = getattr(imagined, name).reshape(rows.reward.shape)
            total += batch_mean(losses[name], batch)
        losses["kl"] = divergence
        entries = rssm.entries(states) if context else {}
        return total, LossOut(losses, stats, carry, entries, None, imagined.metrics)

    return loss


def copy_value(update: Update, every: int) -> Update:
    """`update`, after the first of which, and every `every` after that, the target network is a copy of the value."""

    def copying(state: TrainState, carry: Carry, batch: Batch) -> tuple[TrainState, Carry, Output]:
        new, carry, output = update(state, carry, batch)
        due = (new.step - 1) % every == 0  # an update that was not applied changes neither steps nor values
        value = {"value": new.params["behaviour"]["value"]}
        slow = jax.tree.map(lambda fresh, old: jnp.where(due, fresh, old), value, new.slow["behaviour"])
        return new._replace(slow={"behaviour": slow}), carry, output

    return jax.jit(copying, inline=True)


def in_own_units(simulator: Simulator) -> Simulator:
    """A simulator whose world learnt from tanh(reward), with rewards as the environment has them."""
    predict, reward_nll = simulator.predict, simulator.reward_nll
    assert predict and reward_nll

    def unsquashed(params: Params, feature: Array) -> Expected:
        reward, cont = predict(params, feature)
        return Expected(jnp.arctanh(jnp.clip(reward, -LARGEST, LARGEST)), cont)

    def squashed_nll(params: Params, feature: Array, reward: Array) -> Array:
        return reward_nll(params, feature, jnp.tanh(reward))

    return simulator._replace(predict=unsquashed, reward_nll=squashed_nll)


def options_of(config: Config) -> DreamerV2Config:
    """The options of this agent; TypeError for those of another one."""
    if not isinstance(config.agent, DreamerV2Config):
        raise TypeError(f"the options are a {type(config.agent).__name__}")
    return config.agent
