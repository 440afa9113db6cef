"""Encoders, decoders and heads around an RSSM, as PlaNet and the first two Dreamers have them.

Hafner et al., 2019, arXiv:1811.04551; 2020, arXiv:1912.01603; 2021, arXiv:2010.02193.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, NamedTuple, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from dreamworld import dists, nets, random, rollout
from dreamworld.contract import State
from dreamworld.errors import UserError
from dreamworld.types import Array, Batch, Key, Params, Spaces, Tree


class Seen(NamedTuple):
    """What the loss of a batch goes through."""

    losses: dict[str, Array]  # {image, vector, reward, cont: [B, T]}, those that there are
    divergence: Array  # KL(posterior || prior), nats, [B, T]
    states: State  # [B, T, ...], gradients not stopped


class Dynamics(Protocol):
    """What an RSSM does for its world."""

    def init(self, key: Key, embedded: Array) -> Params: ...
    def initial(self, batch: int) -> Tree: ...
    def imagine(
        self,
        params: Params,
        state: State,
        action: dict[str, Array],
        key: Key,
        temperature: float | Array | None = None,
    ) -> Tree: ...
    def observe(
        self,
        params: Params,
        state: State,
        prev_action: dict[str, Array],
        embedded: Array,
        is_first: Array,
        key: Key,
    ) -> tuple[Any, Any]:
        """The state, and the pair of posterior and prior."""
        ...

    def observe_sequence(
        self,
        params: Params,
        state: State,
        prev_action: dict[str, Array],
        embedded: Array,
        is_first: Array,
        key: Key,
    ) -> tuple[Any, Any]: ...


@dataclasses.dataclass(frozen=True)
class RecurrentWorld(abc.ABC):
    """Encoders, dynamics, decoders, and heads of rewards and ends. All images go together, and so do all vectors."""

    sizes: Any
    obs_space: Spaces
    act_space: Spaces
    activation: str = "relu"
    cont_layers: int = 0  # hidden layers of the head of ends; 0 for none: episodes go on
    bits: int | None = (
        None  # of every colour that are kept, with noise in the rest; None: all of them, no noise
    )

    @property
    @abc.abstractmethod
    def dynamics(self) -> Dynamics:
        """The RSSM."""

    @property
    @abc.abstractmethod
    def heads(self) -> dict[str, nn.Module]:
        """{reward: features to [..., 1]}, and cont where there is a head of ends."""

    @abc.abstractmethod
    def image_coders(self, size: tuple[int, int], channels: int) -> tuple[nn.Module, nn.Module]:
        """Encoder and decoder of images [..., H, W, channels]."""

    @abc.abstractmethod
    def vector_coders(self, size: int) -> tuple[nn.Module, nn.Module]:
        """Encoder and decoder of vectors [..., size]."""

    @abc.abstractmethod
    def feature(self, state: State) -> Array:
        """[..., F], what heads and behaviours see of a state."""

    @abc.abstractmethod
    def divergence(self, posterior: Tree, prior: Tree) -> Array:
        """KL(posterior || prior), nats, [...]."""

    @abc.abstractmethod
    def correct(self, params: Params, state: State, embedded: Array, key: Key) -> State:
        """The state once a row was seen in it, embedded: no time passes."""

    @property
    def images(self) -> list[str]:
        return sorted(key for key, space in self.obs_space.items() if space.is_image)

    @property
    def vectors(self) -> list[str]:
        return sorted(key for key, space in self.obs_space.items() if not space.is_image)

    @property
    def parts(self) -> dict[str, nn.Module]:
        """Encoders, decoders and heads, by name; those that these observations need."""
        found: dict[str, nn.Module] = {}
        if self.images:
            shapes = [self.obs_space[key].shape for key in self.images]
            size, channels = (shapes[0][0], shapes[0][1]), sum(shape[-1] for shape in shapes)
            found["image_encoder"], found["image_decoder"] = self.image_coders(size, channels)
        if self.vectors:
            found["vector_encoder"], found["vector_decoder"] = self.vector_coders(self._vector_size())
        return found | self.heads

    def _vector_size(self) -> int:
        spaces = [self.obs_space[key] for key in self.vectors]
        return sum(space.size * (nets.class_count(space) or 1) for space in spaces)

    def check(self, agent: str) -> None:
        """UserError for images that the decoder of an agent can't make."""
        sizes = {key: self.obs_space[key].shape[:2] for key in self.images}
        for key, size in sizes.items():
            if min(size) < 4 or size[0] % 4 or size[1] % 4:
                raise UserError(
                    f"image {key!r} is {size[0]}x{size[1]}; {agent} takes multiples of 4, 64x64 as published: "
                    "--env.resize True --env.size 64 64"
                )
        if len(set(sizes.values())) > 1:
            raise UserError(
                f"images of different sizes can't be decoded together: {sizes}. Use --env.resize True"
            )

    def init(self, key: Key) -> Params:
        """Parameters {dynamics, encoder, decoder, reward}, and cont; of encoder and decoder by kind of observation."""
        keys = dict(zip([*self.parts, "dynamics"], jax.random.split(key, 7 if self.cont_layers else 6)))
        obs = {name: jnp.zeros((1, *space.shape), space.dtype) for name, space in self.obs_space.items()}
        seen = self.see(obs, key)
        size = self.feature(self.dynamics.initial(1))
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
        """Images centred, of few bits with noise in the rest; vectors as floats, classes one-hot."""
        seen = {}
        if self.images:
            image = jnp.concatenate([obs[name] for name in self.images], -1).astype(jnp.float32)
            if self.bits is None:
                seen["image"] = image / 255 - 0.5
            else:
                steps = 2**self.bits
                image = jnp.floor(image / 2 ** (8 - self.bits)) / steps
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

    def cont_logit(self, params: Params, features: Array) -> Array:
        """Of the chance that the episode goes on after a state, times what the target has as its discount; [...]."""
        return nets.apply(self.parts["cont"], params["cont"], features)[..., 0]

    def loss(
        self,
        params: Params,
        batch: Batch,
        key: Key,
        discount: float = 1.0,
        before: tuple[State, dict[str, Array]] | None = None,
    ) -> Seen:
        """Losses of every row; the head of ends learns (1 - is_terminal) times the discount.

        `before` is the state before the first row and the actions that led to each; without it zeros, and the actions
        of the batch.
        """
        see_key, observe_key = jax.random.split(key)
        seen = self.see(batch.obs, see_key)
        if before is None:
            before = self.dynamics.initial(batch.reward.shape[0]), rollout.actions_before(batch)
        embedded = self.encode(params, seen)
        states, (posterior, prior) = self.dynamics.observe_sequence(
            params["dynamics"], *before, embedded, batch.is_first, observe_key
        )
        features, rank = self.feature(states), {"image": 3, "vector": 1}
        losses = {
            kind: dists.unit_normal_nll(mean, seen[kind], rank[kind])
            for kind, mean in self.decode(params, features).items()
        }
        losses["reward"] = dists.unit_normal_nll(self.reward(params, features), batch.reward, 0)
        if self.cont_layers:
            target = discount * (1 - batch.is_terminal.astype(jnp.float32))
            losses["cont"] = optax.sigmoid_binary_cross_entropy(self.cont_logit(params, features), target)
        return Seen(losses, self.divergence(posterior, prior), states)
