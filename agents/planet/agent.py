"""PlaNet (Hafner et al., "Learning latent dynamics for planning from pixels", ICML 2019, arXiv:1811.04551).

A Gaussian RSSM with a decoder and a reward head; no actor: every action is planned by the cross-entropy method.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from dreamworld import nets, random, rollout
from dreamworld.agents.planet.config import PlaNetConfig
from dreamworld.behaviours.cem import CEM
from dreamworld.config import Config
from dreamworld.contract import Agent, Expected, Phase, Simulator, Stage, State, Window
from dreamworld.errors import UserError
from dreamworld.models.conv import ConvDecoder, ConvEncoder
from dreamworld.models.gaussian_rssm import GaussianLatent, GaussianRSSM, feature, kl
from dreamworld.training.step import LossOut, batch_mean, make_update
from dreamworld.types import Array, Batch, Carry, Key, Mode, Params, Spaces, TrainState, Tree

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class Layers(nn.Module):
    """`layers` hidden layers with ReLU and a linear one: [..., n] -> [..., out]."""

    layers: int
    units: int
    out: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for index in range(self.layers):
            x = jax.nn.relu(nn.Dense(self.units, name=f"layer{index}")(x))
        return nn.Dense(self.out, name="out")(x)


@dataclasses.dataclass(frozen=True)
class World:
    """The world model: encoder, dynamics, decoder, reward head. All images go together, and so do all vectors."""

    config: PlaNetConfig
    obs_space: Spaces
    act_space: Spaces

    @property
    def images(self) -> list[str]:
        return sorted(key for key, space in self.obs_space.items() if space.is_image)

    @property
    def vectors(self) -> list[str]:
        return sorted(key for key, space in self.obs_space.items() if not space.is_image)

    @property
    def dynamics(self) -> GaussianRSSM:
        model = self.config.model
        return GaussianRSSM(model.stoch, model.belief, model.hidden, model.min_std, self.act_space)

    @property
    def parts(self) -> dict[str, nn.Module]:
        """Encoders, decoders and the head, by name; those that these observations need."""
        model, found = self.config.model, {}
        if self.images:
            shapes = [self.obs_space[key].shape for key in self.images]
            size, channels = (shapes[0][0], shapes[0][1]), sum(shape[-1] for shape in shapes)
            found["image_encoder"] = ConvEncoder(model.depth)
            found["image_decoder"] = ConvDecoder(size, channels, model.depth)
        if self.vectors:
            found["vector_encoder"] = Layers(1, model.hidden, model.hidden)
            found["vector_decoder"] = Layers(2, model.hidden, self._vector_size())
        found["reward"] = Layers(model.reward_layers, model.reward_units, 1)
        return found

    def _vector_size(self) -> int:
        spaces = [self.obs_space[key] for key in self.vectors]
        return sum(space.size * (nets.class_count(space) or 1) for space in spaces)

    def init(self, key: Key) -> Params:
        """Parameters {dynamics, encoder, decoder, reward}; the middle ones by kind of observation."""
        keys = dict(zip([*self.parts, "dynamics"], jax.random.split(key, 6)))
        obs = {name: jnp.zeros((1, *space.shape), space.dtype) for name, space in self.obs_space.items()}
        seen = self.see(obs, key)
        size = jnp.zeros((1, self.config.model.stoch + self.config.model.belief))
        params: dict[str, Any] = {"encoder": {}, "decoder": {}}
        for name, part in self.parts.items():
            kind, _, role = name.rpartition("_")
            made = part.init(keys[name], seen[kind] if role == "encoder" else size)["params"]
            if kind:
                params[role][kind] = made
            else:
                params[name] = made
        return params | {"dynamics": self.dynamics.init(keys["dynamics"], self.encode(params, seen))}

    def see(self, obs: dict[str, Array], key: Key) -> dict[str, Array]:
        """Images with few bits, noise in the rest and centred; vectors as floats, classes one-hot."""
        seen = {}
        if self.images:
            steps = 2**self.config.bits
            image = jnp.concatenate([obs[name] for name in self.images], -1).astype(jnp.float32)
            image = jnp.floor(image / 2 ** (8 - self.config.bits)) / steps
            seen["image"] = image + random.draw(jax.random.uniform, key, image.shape) / steps - 0.5
        if self.vectors:
            flat = [nets.flat_input(self.obs_space[name], obs[name], jnp.float32) for name in self.vectors]
            seen["vector"] = jnp.concatenate(flat, -1)
        return seen

    def encode(self, params: Params, seen: dict[str, Array]) -> Array:
        """[..., E] of what `see` returned."""
        parts = self.parts
        found = [
            nets.apply(parts[f"{kind}_encoder"], params["encoder"][kind], value)
            for kind, value in seen.items()
        ]
        return jnp.concatenate(found, -1)

    def decode(self, params: Params, features: Array) -> dict[str, Array]:
        """Means of what `see` returns, without its noise."""
        return {
            kind: nets.apply(self.parts[f"{kind}_decoder"], own, features)
            for kind, own in params["decoder"].items()
        }

    def show(self, params: Params, features: Array) -> dict[str, Array]:
        """Observations as they are decoded: images in 0..1, of classes the likeliest."""
        found, shown = self.decode(params, features), {}
        begin = 0
        for name in self.images:
            channels = self.obs_space[name].shape[-1]
            shown[name] = jnp.clip(found["image"][..., begin : begin + channels] + 0.5, 0, 1)
            begin += channels
        begin = 0
        for name in self.vectors:
            space = self.obs_space[name]
            classes = nets.class_count(space)
            part = found["vector"][..., begin : begin + space.size * (classes or 1)]
            begin += part.shape[-1]
            part = part.reshape((*part.shape[:-1], *space.shape, *([classes] if classes else [])))
            shown[name] = (jnp.argmax(part, -1) if classes else part).astype(jnp.float32)
        return shown

    def reward(self, params: Params, features: Array) -> Array:
        """The mean of the reward that arrives with a state, [...]."""
        return nets.apply(self.parts["reward"], params["reward"], features)[..., 0]

    def loss(self, params: Params, batch: Batch, key: Key) -> tuple[dict[str, Array], Array]:
        """Losses {image, vector, reward, kl: [B, T]}, and the KL before its free nats."""
        see_key, observe_key = jax.random.split(key)
        seen = self.see(batch.obs, see_key)
        start = self.dynamics.initial(batch.reward.shape[0])
        embedded = self.encode(params, seen)
        states, (posterior, prior) = self.dynamics.observe_sequence(
            params["dynamics"], start, rollout.actions_before(batch), embedded, batch.is_first, observe_key
        )
        features, divergence = feature(states), kl(posterior, prior)
        rank = {"image": 3, "vector": 1}
        losses = {
            kind: _negative_log_likelihood(mean, seen[kind], rank[kind])
            for kind, mean in self.decode(params, features).items()
        }
        losses["reward"] = _negative_log_likelihood(self.reward(params, features), batch.reward, 0)
        losses["kl"] = jnp.maximum(divergence - self.config.free_nats, 0)
        return losses, divergence


def _negative_log_likelihood(mean: Array, target: Array, dims: int) -> Array:
    """Of a normal with standard deviation 1, summed over the last `dims` axes."""
    found = 0.5 * jnp.square(mean - jax.lax.stop_gradient(target)) + HALF_LOG_2PI
    return found.sum(tuple(range(found.ndim - dims, found.ndim))) if dims else found


def make_optimizer(options: PlaNetConfig) -> optax.GradientTransformation:
    """Adam behind a clipping of the norm of all gradients."""
    return optax.chain(optax.clip_by_global_norm(options.clip), optax.adam(options.lr, eps=options.eps))


def make(config: Config, obs_space: Spaces, act_space: Spaces) -> Agent:
    """Builds the record of pure functions; raises UserError for spaces that it can't take."""
    options, run = options_of(config), config.run
    world = World(options, obs_space, act_space)
    check(options, world)
    optimizer = make_optimizer(options)
    simulator, dynamics = make_simulator(world), world.dynamics
    planner = CEM(simulator, act_space, **dataclasses.asdict(options.planner))

    def init(key: Key) -> TrainState:
        world_key, learner_key = jax.random.split(key)
        params = {"world": world.init(world_key), "behaviour": {}}
        return TrainState(params, optimizer.init(params), {}, (), jnp.zeros((), jnp.int32), learner_key)

    def initial(params: Params, batch: int) -> Carry:
        dtype = lambda space: jnp.int32 if nets.class_count(space) else jnp.float32
        action = {name: jnp.zeros((batch, *space.shape), dtype(space)) for name, space in act_space.items()}
        return dynamics.initial(batch), action

    def act(
        params: Params, carry: Carry, obs: dict[str, Array], key: Key, *, mode: Mode = "sample"
    ) -> tuple[Any, Any, Any]:
        state, prev_action = carry
        observe_key, plan_key, noise_key = jax.random.split(key, 3)
        state = simulator.observe(params["world"], state, prev_action, obs, obs["is_first"], observe_key)
        action = planner.plan(params["world"], state, plan_key)
        if mode == "sample":
            action = explore(action, act_space, options.noise, noise_key)
        return (state, action), action, {}

    def loss(
        params: Params, slow: Params, stats: Tree, carry: Carry, batch: Batch, key: Key
    ) -> tuple[Array, LossOut]:
        losses, divergence = world.loss(params["world"], batch, key)
        scales = {"reward": options.reward_scale, "kl": options.divergence_scale}
        weigh = lambda name: scales.get(name, options.observation_scale)
        total = jnp.asarray(sum(weigh(name) * batch_mean(value, batch) for name, value in losses.items()))
        return total, LossOut(losses, stats, carry, {}, None, {"kl": divergence.mean()})

    update = make_update(loss, optimizer, lambda slow, params: slow)
    phase = Phase("update", Window(run.batch_size, run.batch_length), update, ratio=run.train_ratio)
    stages = (Stage("train", (phase,)),)
    if options.random_steps:
        stages = (Stage("random", (), collect="random", steps=options.random_steps), *stages)
    return Agent(
        obs_space,
        act_space,
        {},
        init=init,
        acting=lambda state: state.params,
        initial=initial,
        act=act,
        stages=stages,
        simulator=simulator,
        assignment={key: "image" if space.is_image else "vector" for key, space in obs_space.items()},
    )


def options_of(config: Config) -> PlaNetConfig:
    """The options of this agent; TypeError for those of another one."""
    if not isinstance(config.agent, PlaNetConfig):
        raise TypeError(f"the options are a {type(config.agent).__name__}")
    return config.agent


def check(options: PlaNetConfig, world: World) -> None:
    """UserError for a planner that can't choose, and for images that the decoder can't make."""
    planner = options.planner
    if planner.elites > planner.candidates:
        raise UserError(
            f"--agent.planner.elites {planner.elites}: more than the {planner.candidates} of --agent.planner.candidates"
        )
    sizes = {key: world.obs_space[key].shape[:2] for key in world.images}
    for key, size in sizes.items():
        if min(size) < 4 or size[0] % 4 or size[1] % 4:
            raise UserError(
                f"image {key!r} is {size[0]}x{size[1]}; planet takes multiples of 4, 64x64 as published: "
                "--env.resize True --env.size 64 64"
            )
    if len(set(sizes.values())) > 1:
        raise UserError(
            f"images of different sizes can't be decoded together: {sizes}. Use --env.resize True"
        )


def explore(action: dict[str, Array], spaces: Spaces, noise: float, key: Key) -> dict[str, Array]:
    """Normal noise on continuous actions, clipped to [-1, 1]; a share `noise` of discrete ones drawn uniformly."""
    found = {}
    for index, (name, value) in enumerate(sorted(action.items())):
        own, choose = jax.random.split(jax.random.fold_in(key, index))
        if classes := nets.class_count(spaces[name]):
            other = jax.random.randint(own, value.shape, 0, classes)
            found[name] = jnp.where(jax.random.uniform(choose, value.shape) < noise, other, value)
        else:
            found[name] = jnp.clip(value + noise * jax.random.normal(own, value.shape), -1, 1)
    return found


def make_simulator(world: World) -> Simulator:
    """The RSSM to step through. It knows no ends of episodes: they go on."""
    dynamics = world.dynamics

    def observed(
        params: Params, state: State, prev_action: Tree, obs: Tree, is_first: Array, key: Key
    ) -> tuple[GaussianLatent, Any]:
        see_key, key = jax.random.split(key)
        embedded = world.encode(params, world.see(obs, see_key))
        return dynamics.observe(params["dynamics"], state, prev_action, embedded, is_first, key)

    def observe(
        params: Params, state: State, prev_action: Tree, obs: Tree, is_first: Array, key: Key
    ) -> State:
        return observed(params, state, prev_action, obs, is_first, key)[0]

    def surprise(
        params: Params, state: State, prev_action: Tree, obs: Tree, is_first: Array, key: Key
    ) -> Array:
        return kl(*observed(params, state, prev_action, obs, is_first, key)[1])

    def imagine(
        params: Params,
        state: State,
        action: dict[str, Array],
        key: Key,
        temperature: float | Array | None = None,
    ) -> State:
        return dynamics.imagine(params["dynamics"], state, action, key, temperature)

    def edit(params: Params, state: GaussianLatent, obs: dict[str, Array], key: Key) -> GaussianLatent:
        see_key, key = jax.random.split(key)
        embedded = world.encode(params, world.see(obs, see_key))
        return dynamics.correct(params["dynamics"], state.belief, embedded, key)[0]

    def predict(params: Params, feature: Array) -> Expected:
        return Expected(world.reward(params, feature), jnp.ones(feature.shape[:-1]))

    def reward_nll(params: Params, feature: Array, reward: Array) -> Array:
        return _negative_log_likelihood(world.reward(params, feature), reward, 0)

    def decode(params: Params, feature: Array) -> dict[str, Array]:
        return world.show(params, feature)

    return Simulator(
        initial=lambda params, batch: dynamics.initial(batch),
        observe=observe,
        imagine=imagine,
        feature=lambda params, state: feature(state),
        predict=predict,
        decode=decode,
        surprise=surprise,
        edit=edit,
        reward_nll=reward_nll,
    )
