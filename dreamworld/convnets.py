"""Linen leaf modules for images: the encoder, the decoder and their convolutions; see dreamworld.nets."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from dreamworld import ops
from dreamworld.nets import BlockLinear, DenseNorm, Linear, add_bias, kernel_init, rms_norm, silu, to_blocks
from dreamworld.types import Array, DType

# Up to these channels, a convolution with max-pooling is faster on phases, in spite of 1.4 times the products.
PHASE_INPUTS, PHASE_OUTPUTS = 8, 16


class NormSilu(nn.Module):
    """RMSNorm and SiLU of images: computed again for the gradient, which keeps their input only."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        scale = self.param("scale", nn.initializers.ones_init(), (x.shape[-1],), jnp.float32)
        return jax.checkpoint(lambda x, scale: silu(rms_norm(x, scale)))(x, scale)


class ImageEncoder(nn.Module):
    """uint8 [..., H, W, C] -> [..., H/2^n * W/2^n * depth * mults[-1]] in n stages.

    Each stage: 5x5 convolution, 2x2 max-pool, RMSNorm over channels, SiLU.
    """

    depth: int
    mults: tuple[int, ...]
    kernel: int
    dtype: DType

    @nn.compact
    def __call__(self, image: Array) -> Array:
        leading = image.shape[:-3]
        x = image.reshape((-1, *image.shape[-3:])).astype(self.dtype) / 255 - 0.5
        for index, mult in enumerate(self.mults):
            x = ConvPool(self.depth * mult, self.kernel, self.dtype, name=f"conv{index}")(x)
            x = NormSilu(name=f"norm{index}")(x)
        return x.reshape((*leading, -1))


class Conv(nn.Module):
    """Same-padded convolution [B, H, W, in] -> [B, H, W, channels]."""

    channels: int
    kernel: int
    dtype: DType

    def weights(self, inputs: int) -> tuple[Array, Array]:
        """Kernel and bias, float32; called by the form of the convolution, within its `__call__`."""
        shape = (self.kernel, self.kernel, inputs, self.channels)
        kernel = self.param("kernel", kernel_init(), shape, jnp.float32)
        return kernel, self.param("bias", nn.initializers.zeros_init(), (self.channels,), jnp.float32)

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel, bias = self.weights(x.shape[-1])
        padding = ops.same_padding(self.kernel)
        return add_bias(ops.conv(x.astype(self.dtype), kernel.astype(self.dtype), (padding, padding)), bias)


class ConvPool(Conv):
    """Same-padded convolution and 2x2 max-pooling [B, H, W, in] -> [B, H/2, W/2, channels]."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel, bias = self.weights(x.shape[-1])
        phases = x.shape[-1] <= PHASE_INPUTS and self.channels <= PHASE_OUTPUTS
        return add_bias(ops.conv_pool(x.astype(self.dtype), kernel, phases=phases), bias)


class UpsampleConv(Conv):
    """Nearest doubling and same-padded convolution, in phases: [B, H, W, in] -> [B, H, W, 4, channels]."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel, bias = self.weights(x.shape[-1])
        return add_bias(ops.upsample_conv_phases(x.astype(self.dtype), kernel), bias)


class ImageDecoder(nn.Module):
    """Feature [N, F] -> sigmoid image in phases [N, H/2, W/2, 4, C] (`ops.from_phases`).

    Its first `grouped` entries (the recurrent state of an RSSM) enter by a block-linear layer whose blocks are groups
    of channels, the others by two linear layers; then nearest upsampling and 5x5 convolutions.
    """

    size: tuple[int, int]
    channels: int
    depth: int
    mults: tuple[int, ...]
    kernel: int
    units: int
    grouped: int
    blocks: int
    dtype: DType

    @nn.compact
    def __call__(self, feature: Array) -> Array:
        stages = len(self.mults)
        height, width = self.size[0] >> stages, self.size[1] >> stages
        depth = self.depth * self.mults[-1]
        count, group = height * width * depth, depth // self.blocks
        x = DenseNorm(2 * self.units, self.dtype, name="space_stoch")(feature[..., self.grouped :])
        x = Linear(count, self.dtype, name="space_stoch_out")(x).reshape((-1, height, width, depth))
        if self.grouped:
            y = to_blocks(feature[..., : self.grouped], self.blocks)
            y = BlockLinear(count, self.blocks, self.dtype, name="space_deter")(y)
            y = y.reshape((-1, self.blocks, height, width, group)).transpose((0, 2, 3, 1, 4))
            x = y.reshape(x.shape) + x
        x = NormSilu(name="space_norm")(x)
        for index in reversed(range(stages - 1)):
            x = UpsampleConv(self.depth * self.mults[index], self.kernel, self.dtype, name=f"conv{index}")(x)
            # Phases are put in place first: a CPU would compute norm and SiLU in the order of the pixels, in scalars.
            x = NormSilu(name=f"norm{index}")(ops.from_phases(x))
        return jax.nn.sigmoid(UpsampleConv(self.channels, self.kernel, self.dtype, name="image")(x))
