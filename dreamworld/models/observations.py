"""Which observation goes to which encoder, the encoders, and the decoders (arXiv:2301.04104, appendix B)."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import jax
import jax.numpy as jnp

from dreamworld import convnets, dists, math, nets
from dreamworld.errors import UserError
from dreamworld.options import EncoderConfig
from dreamworld.types import FLAGS, Array, DType, Key, Params, Space, Spaces


def assign(spaces: Spaces, config: EncoderConfig) -> dict[str, str]:
    """Maps observation keys to `vector` or `image`, by shape or by the patterns of the config.

    Raises UserError for a key that no encoder takes, and for images that don't fit together.
    """
    chosen = {}
    for key in sorted(spaces):
        if key in FLAGS:
            raise UserError(f"observation key {key!r} is reserved; rename it in the environment")
        name = _choose(key, spaces[key], config)
        if name:
            chosen[key] = name
    if not chosen:
        raise UserError(f"no observation key is left to learn from; the environment has {sorted(spaces)}")
    _check_images({key: spaces[key] for key, name in chosen.items() if name == "image"}, len(config.mults))
    return chosen


def _choose(key: str, space: Space, config: EncoderConfig) -> str:
    if not space.size:
        return ""  # there is nothing to learn from
    patterns = {"vector": config.vector_keys, "image": config.image_keys}
    for name, pattern in patterns.items():
        if pattern not in ("auto", "") and re.fullmatch(pattern, key):
            if name == "image" and not space.is_image:
                raise UserError(
                    f"observation {key!r} is {space.dtype} {space.shape}; the image encoder takes uint8 "
                    f"[height, width, channels]. --env.image_keys {key} makes that of a Box with finite bounds"
                )
            return name
    if space.is_image:
        return "image" if config.image_keys == "auto" else ""
    if len(space.shape) <= 2:
        return "vector" if config.vector_keys == "auto" else ""
    raise UserError(
        f"observation {key!r} is {space.dtype} {space.shape}; supported are uint8 images [height, width, "
        f"channels] and vectors of rank 0 to 2. To flatten it, name it in --agent.encoder.vector_keys"
    )


def _check_images(spaces: Spaces, stages: int) -> None:
    multiple = 1 << stages
    sizes = {key: space.shape[:2] for key, space in spaces.items()}
    for key, (height, width) in sizes.items():
        if height % multiple or width % multiple or not height or not width:
            raise UserError(
                f"image {key!r} is {height}x{width}; the encoder takes multiples of {multiple} "
                f"(such as 64x64 or 96x96). Use --env.resize True --env.size 64 64; or, if it is no picture but a "
                f"table, --env.vector_keys {key}"
            )
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{key} {height}x{width}" for key, (height, width) in sizes.items())
        raise UserError(f"images of different sizes can't share the encoder: {listed}. Use --env.resize True")


@dataclasses.dataclass(frozen=True)
class Encoder:
    """Observations -> tokens [..., Z]: the vector embedding, then the image embedding."""

    config: EncoderConfig
    spaces: Spaces
    assignment: dict[str, str]
    dtype: DType

    def keys(self, name: str) -> list[str]:
        """Sorted keys of one encoder."""
        return sorted(key for key, value in self.assignment.items() if value == name)

    @property
    def vector(self) -> nets.VectorEncoder:
        return nets.VectorEncoder(self.config.layers, self.config.units, self.dtype)

    @property
    def image(self) -> convnets.ImageEncoder:
        return convnets.ImageEncoder(self.config.depth, self.config.mults, self.config.kernel, self.dtype)

    def init(self, key: Key) -> Params:
        obs = {name: jnp.zeros((1, *space.shape), space.dtype) for name, space in self.spaces.items()}
        keys, params = jax.random.split(key), {}
        if self.keys("vector"):
            params["vector"] = self.vector.init(keys[0], self._vectors(obs))["params"]
        if self.keys("image"):
            params["image"] = self.image.init(keys[1], self._images(obs))["params"]
        return params

    def __call__(self, params: Params, obs: dict[str, Array]) -> Array:
        tokens = []
        if self.keys("vector"):
            tokens.append(nets.apply(self.vector, params["vector"], self._vectors(obs)))
        if self.keys("image"):
            tokens.append(nets.apply(self.image, params["image"], self._images(obs)))
        return jnp.concatenate(tokens, -1)

    def _vectors(self, obs: dict[str, Array]) -> Array:
        """Discrete keys one-hot, the others through symlog, concatenated in the order of their names."""
        parts = []
        for key in self.keys("vector"):
            space = self.spaces[key]
            flat = nets.flat_input(space, obs[key], jnp.float32)
            squash = self.config.symlog and not nets.class_count(space)
            parts.append(math.symlog(flat) if squash else flat)
        return jnp.concatenate(parts, -1)

    def _images(self, obs: dict[str, Array]) -> Array:
        return jnp.concatenate([obs[key] for key in self.keys("image")], -1)


@dataclasses.dataclass(frozen=True)
class ObservationDecoder:
    """Feature [..., F] -> one distribution per observation key."""

    encoder: Encoder
    grouped: int = 0  # entries at the front of a feature that enter images by a block-linear layer
    blocks: int = 1  # of that layer

    @property
    def vector(self) -> nets.VectorDecoder:
        config, spaces = self.encoder.config, self.encoder.spaces
        heads = tuple((key, spaces[key]) for key in self.encoder.keys("vector"))
        return nets.VectorDecoder(heads, config.layers, config.units, config.symlog, self.encoder.dtype)

    @property
    def image(self) -> convnets.ImageDecoder:
        config, spaces = self.encoder.config, self.encoder.spaces
        shapes = [spaces[key].shape for key in self.encoder.keys("image")]
        channels = sum(shape[-1] for shape in shapes)
        height, width = shapes[0][:2]
        return convnets.ImageDecoder(
            (height, width), channels, config.depth, config.mults, config.kernel, config.units, self.grouped,
            self.blocks, self.encoder.dtype,
        )  # fmt: skip

    def init(self, key: Key, feature: Array) -> Params:
        keys, params = jax.random.split(key), {}
        if self.encoder.keys("vector"):
            params["vector"] = self.vector.init(keys[0], self._turned(feature))["params"]
        if self.encoder.keys("image"):
            params["image"] = self.image.init(keys[1], feature)["params"]
        return params

    def __call__(self, params: Params, feature: Array) -> dict[str, Any]:
        """[..., F] -> {key: distribution over [..., *shape]}; images in 0..1."""
        out: dict[str, Any] = {}
        if self.encoder.keys("vector"):
            out |= nets.apply(self.vector, params["vector"], self._turned(feature))
        keys = self.encoder.keys("image")
        if keys:
            images = nets.apply(self.image, params["image"], feature.reshape((-1, feature.shape[-1])))
            images = images.reshape((*feature.shape[:-1], *images.shape[1:]))
            start = 0
            for key in keys:
                channels = self.encoder.spaces[key].shape[-1]
                out[key] = dists.SquaredImage(images[..., start : start + channels])
                start += channels
        return out

    def _turned(self, feature: Array) -> Array:
        """The grouped entries last, where the reference has them."""
        return jnp.concatenate([feature[..., self.grouped :], feature[..., : self.grouped]], -1)
