"""Linen leaf modules of DreamerV3: (block-)linear layers, RMSNorm, MLPs, image encoder and decoder, heads.

Every leaf has one `__call__`. Parameters are float32; `dtype` is the precision of the matrix products.
RMSNorm and every distribution compute in float32.
"""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from dreamworld import dists
from dreamworld.types import Array, DType, Params, Space, Spaces

silu = jax.nn.silu
NORM_EPS = 1e-4


def kernel_init(scale: float = 1.0, *, in_axis: int | tuple[int, ...] = -2) -> nn.initializers.Initializer:
    """Normal truncated at 2 sigma, fan-in, corrected to variance scale^2 / fan-in."""
    if scale == 0:
        return nn.initializers.zeros_init()
    return nn.initializers.variance_scaling(
        scale**2, "fan_in", "truncated_normal", in_axis=in_axis, out_axis=-1
    )


class Linear(nn.Module):
    """[..., in] -> [..., units].

    `known` [..., units] is the product of further inputs, whose rows of the kernel come after those of x
    (`known_product`): inputs of a whole sequence, say, multiplied before the scan over time.
    """

    units: int
    dtype: DType
    scale: float = 1.0

    @nn.compact
    def __call__(self, x: Array, known: Array | None = None) -> Array:
        if known is None:
            kernel = self.param("kernel", kernel_init(self.scale), (x.shape[-1], self.units), jnp.float32)
        else:
            kernel = self.get_variable("params", "kernel")[: x.shape[-1]]
        bias = self.param("bias", nn.initializers.zeros_init(), (self.units,), jnp.float32)
        y = x.astype(self.dtype) @ kernel.astype(self.dtype)
        return add_bias(y if known is None else y + known, bias)


class BlockLinear(nn.Module):
    """Block-diagonal linear layer: [..., blocks, in/blocks] -> [..., blocks, units/blocks].

    `shared` [..., n] are further inputs that every block sees: one dense product instead of `blocks` copies.
    """

    units: int
    blocks: int
    dtype: DType

    @nn.compact
    def __call__(self, x: Array, shared: Array | None = None) -> Array:
        own, width = x.shape[-1], self.units // self.blocks
        inputs = own + (0 if shared is None else shared.shape[-1])
        # The initial scale takes the whole input as fan-in, as the reference does.
        shape = (self.blocks, inputs, width)
        kernel = self.param("kernel", kernel_init(in_axis=(0, 1)), shape, jnp.float32).astype(self.dtype)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.units,), jnp.float32)
        y = block_product(x.astype(self.dtype), kernel[:, :own])
        if shared is not None:
            dense = kernel[:, own:].swapaxes(0, 1).reshape((-1, self.units))
            y += (shared.astype(self.dtype) @ dense).reshape(y.shape)
        return y + bias.astype(self.dtype).reshape((1,) * (y.ndim - 2) + y.shape[-2:])


class RMSNorm(nn.Module):
    """x / sqrt(mean x^2 + 1e-4) * scale over the last axis, in float32 (arXiv:1910.07467)."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        scale = self.param("scale", nn.initializers.ones_init(), (x.shape[-1],), jnp.float32)
        return rms_norm(x, scale)


class DenseNorm(nn.Module):
    """Linear, RMSNorm, SiLU."""

    units: int
    dtype: DType

    @nn.compact
    def __call__(self, x: Array, known: Array | None = None) -> Array:
        return silu(RMSNorm(name="norm")(Linear(self.units, self.dtype, name="linear")(x, known)))


class MLP(nn.Module):
    """`layers` times Linear, RMSNorm, SiLU of width `units`; `known` belongs to the first (see Linear)."""

    layers: int
    units: int
    dtype: DType

    @nn.compact
    def __call__(self, x: Array, known: Array | None = None) -> Array:
        for index in range(self.layers):
            x = DenseNorm(self.units, self.dtype, name=f"layer{index}")(x, known if index == 0 else None)
        return x


class VectorEncoder(nn.Module):
    """Concatenated vector observations -> [..., units]."""

    layers: int
    units: int
    dtype: DType

    @nn.compact
    def __call__(self, x: Array) -> Array:
        return MLP(self.layers, self.units, self.dtype, name="mlp")(x)


class VectorDecoder(nn.Module):
    """[stoch, deter] [..., F] -> one distribution per vector key."""

    spaces: tuple[tuple[str, Space], ...]
    layers: int
    units: int
    symlog: bool
    dtype: DType

    @nn.compact
    def __call__(self, x: Array) -> dict[str, dists.Prediction]:
        x = MLP(self.layers, self.units, self.dtype, name="mlp")(x)
        return {key: self._head(key, space, x) for key, space in self.spaces}

    def _head(self, key: str, space: Space, x: Array) -> dists.Prediction:
        rank = len(space.shape)
        classes = class_count(space)
        shape = (*space.shape, classes) if classes else space.shape
        y = Linear(math.prod(shape), self.dtype, name=key.replace("/", "_"))(x).reshape(
            (*x.shape[:-1], *shape)
        )
        if classes:
            return dists.Categorical(y, rank)
        return (dists.SymlogSquared if self.symlog else dists.Squared)(y, rank)


class TwoHotHead(nn.Module):
    """MLP and a zero-initialised symexp two-hot output: predicts exactly 0 at first."""

    layers: int
    units: int
    bins: int
    dtype: DType

    @nn.compact
    def __call__(self, x: Array) -> dists.TwoHot:
        x = MLP(self.layers, self.units, self.dtype, name="mlp")(x)
        return dists.TwoHot(Linear(self.bins, self.dtype, 0.0, name="out")(x).astype(jnp.float32))


class BernoulliHead(nn.Module):
    """MLP and one logit."""

    layers: int
    units: int
    dtype: DType

    @nn.compact
    def __call__(self, x: Array) -> dists.Bernoulli:
        x = MLP(self.layers, self.units, self.dtype, name="mlp")(x)
        return dists.Bernoulli(Linear(1, self.dtype, name="out")(x)[..., 0].astype(jnp.float32))


class PolicyHead(nn.Module):
    """MLP and one distribution per action key: categorical, or Normal(tanh(mean), std) with a bounded std."""

    spaces: tuple[tuple[str, Space], ...]
    layers: int
    units: int
    std_min: float
    std_max: float
    dtype: DType
    scale: float = 0.01

    @nn.compact
    def __call__(self, x: Array) -> dict[str, dists.Policy]:
        x = MLP(self.layers, self.units, self.dtype, name="mlp")(x)
        return {key: self._head(key.replace("/", "_"), space, x) for key, space in self.spaces}

    def _head(self, name: str, space: Space, x: Array) -> dists.Policy:
        rank = len(space.shape)
        if classes := class_count(space):
            shape = (*space.shape, classes)
            logits = Linear(math.prod(shape), self.dtype, self.scale, name=name)(x)
            return dists.Categorical(logits.reshape((*x.shape[:-1], *shape)).astype(jnp.float32), rank)
        mean = Linear(space.size, self.dtype, self.scale, name=f"{name}_mean")(x).astype(jnp.float32)
        std = Linear(space.size, self.dtype, self.scale, name=f"{name}_std")(x).astype(jnp.float32)
        std = (self.std_max - self.std_min) * jax.nn.sigmoid(std + 2.0) + self.std_min
        shape = (*x.shape[:-1], *space.shape)
        return dists.Normal(jnp.tanh(mean).reshape(shape), std.reshape(shape), rank)


def apply(module: nn.Module, params: Params, *args: Any, **options: Any) -> Any:
    """Calls a leaf with its parameters."""
    return module.apply({"params": params}, *args, **options)


def cast_kernels(params: Params, dtype: DType) -> Params:
    """Params with the kernels in `dtype`, to which every layer casts its own: here once, before a scan.

    XLA leaves the casts in the scan, where a step would read all of the float32 kernels again.
    """
    return jax.tree.map(lambda x: x.astype(dtype) if x.ndim > 1 else x, params)


def add_bias(x: Array, bias: Array) -> Array:
    """x [..., C] + bias [C] in the dtype of x."""
    return x + bias.astype(x.dtype).reshape((1,) * (x.ndim - 1) + bias.shape)


def known_product(params: Params, x: Array) -> Array:
    """What Linear takes as `known`: x [..., n] times the last n rows of its kernel, [..., units]."""
    return x @ params["kernel"][-x.shape[-1] :].astype(x.dtype)


def block_product(x: Array, kernel: Array) -> Array:
    """[..., blocks, in], [blocks, in, out] -> [..., blocks, out].

    With the blocks outermost and x first, every product reads consecutive rows; the layout that XLA chooses for
    the einsum doubles the time of the whole recurrence on a CPU.
    """
    rows = x.reshape((-1, *x.shape[-2:])).swapaxes(0, 1)
    y = jax.lax.dot_general(rows, kernel, (((2,), (1,)), ((0,), (0,))))
    return y.swapaxes(0, 1).reshape((*x.shape[:-1], kernel.shape[-1]))


def rms_norm(x: Array, scale: Array) -> Array:
    """RMS normalisation over the last axis in float32, returned in the dtype of x."""
    wide = x.astype(jnp.float32)
    inverse = jax.lax.rsqrt(jnp.mean(jnp.square(wide), -1, keepdims=True) + NORM_EPS)
    return (wide * inverse * scale.reshape((1,) * (x.ndim - 1) + scale.shape)).astype(x.dtype)


def to_blocks(x: Array, blocks: int) -> Array:
    """[..., D] -> [..., blocks, D/blocks]."""
    return x.reshape((*x.shape[:-1], blocks, -1))


def class_count(space: Space) -> int:
    """Classes of a discrete or bool space, otherwise 0."""
    if space.classes is not None:
        return space.classes
    return 2 if space.dtype == "bool" else 0


def zero_actions(spaces: Spaces, batch: int) -> dict[str, Array]:
    """Zeros {key: [batch, *shape]}, as `Agent.act` returns actions: what an agent did before it did anything."""
    dtype = lambda space: jnp.int32 if class_count(space) else jnp.float32
    return {name: jnp.zeros((batch, *space.shape), dtype(space)) for name, space in spaces.items()}


def concat_actions(spaces: Spaces, action: dict[str, Array], dtype: DType) -> Array:
    """Actions {key: [..., *shape]} -> one vector [..., A]: discrete ones one-hot, sorted by key."""
    return jnp.concatenate([flat_input(spaces[key], action[key], dtype) for key in sorted(spaces)], -1)


def flat_input(space: Space, value: Array, dtype: DType) -> Array:
    """[..., *shape] -> [..., n]: one-hot when discrete or bool, otherwise flattened."""
    if classes := class_count(space):
        value = jax.nn.one_hot(value.astype(jnp.int32), classes, dtype=dtype)
        rank = len(space.shape) + 1
    else:
        value, rank = value.astype(dtype), len(space.shape)
    leading = value.shape[: value.ndim - rank]
    return value.reshape((*leading, -1))


def target(space: Space, value: Array) -> Array:
    """What a decoder is compared with: images scaled to 0..1, everything else as it is."""
    return value.astype(jnp.float32) / 255 if space.is_image else value
