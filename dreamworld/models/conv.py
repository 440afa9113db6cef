"""Convolutional encoder and decoder of images as in PlaNet and the first Dreamers (arXiv:1803.10122, appendix)."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from dreamworld import layers, nets, ops
from dreamworld.types import Array

KERNEL, STAGES = 4, 4
PUBLISHED = (64, 64)
DECODER_KERNELS = (5, 5, 6, 6)  # from 1x1 to 64x64
NUMBERS = ("NHWC", "HWIO", "NHWC")


class HalvingConv(nn.Module):
    """Unpadded convolution of stride 2, even kernel: [N, H, W, in] -> [N, (H - k) // 2 + 1, ..., channels]."""

    channels: int
    kernel: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shape = (self.kernel, self.kernel, x.shape[-1], self.channels)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        return nets.add_bias(halve(x, kernel), self.param("bias", nn.initializers.zeros, (self.channels,)))


class DoublingConv(nn.Module):
    """Transposed convolution of stride 2: [N, H, W, in] -> [N, 2 H + k - 2, ..., channels]; [N, 2 H, ...] for SAME."""

    channels: int
    kernel: int
    padding: str

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shape = (self.kernel, self.kernel, x.shape[-1], self.channels)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        if x.shape[1:3] == (1, 1):  # a matrix product
            y = jax.lax.conv_transpose(x, kernel, (2, 2), self.padding, dimension_numbers=NUMBERS)
        else:
            y = double(x, kernel)
            if self.padding == "SAME":
                begin = (self.kernel - 1) // 2
                y = y[:, begin : begin + 2 * x.shape[1], begin : begin + 2 * x.shape[2]]
        return nets.add_bias(y, self.param("bias", nn.initializers.zeros, (self.channels,)))


def halve(x: Array, kernel: Array) -> Array:
    """Unpadded convolution of stride 2 with an even kernel, as one of stride 1 over the phases of the image.

    XLA-CPU takes twice as long for the weight gradient of the plain form where the channels are few.
    """
    size, _, channels, out = kernel.shape
    half = size // 2
    height, width = ((length - size) // 2 * 2 + size for length in x.shape[1:3])
    phases = ops.to_phases(x[:, :height, :width])
    kernel = kernel.reshape((half, 2, half, 2, channels, out)).transpose((0, 2, 1, 3, 4, 5))
    phases = phases.reshape((*phases.shape[:3], 4 * channels))
    return ops.conv(phases, kernel.reshape((half, half, 4 * channels, out)), ((0, 0), (0, 0)))


def double(x: Array, kernel: Array) -> Array:
    """Unpadded transposed convolution of stride 2, as one of stride 1 whose channels are the phases of the result.

    y[2 m + a] = sum over j of x[m - j] flipped[2 j + a]. The plain form takes XLA-CPU 3 to 16 times as long.
    """
    size, _, channels, out = kernel.shape
    half = -(-size // 2)
    rest = (0, 2 * half - size)
    flipped = jnp.pad(kernel[::-1, ::-1], (rest, rest, (0, 0), (0, 0)))
    taps = flipped.reshape((half, 2, half, 2, channels, out))[::-1, :, ::-1].transpose((0, 2, 4, 1, 3, 5))
    y: Array = ops.conv(x, taps.reshape((half, half, channels, 4 * out)), ((half - 1, half - 1),) * 2)
    y = ops.from_phases(y.reshape((*y.shape[:3], 4, out)))
    return y[:, : 2 * x.shape[1] + size - 2, : 2 * x.shape[2] + size - 2]


class ConvEncoder(nn.Module):
    """Images [..., H, W, C] of floats -> [..., E]: up to four unpadded convolutions of stride 2, each with ReLU.

    Every stage has twice the channels of the one before. 64x64 becomes 2x2; smaller images have fewer stages. DreamerV2
    has another activation, and may have a LayerNorm over the channels before each.
    """

    depth: int
    activation: str = "relu"
    norm: bool = False

    @nn.compact
    def __call__(self, image: Array) -> Array:
        leading, x = image.shape[:-3], image.reshape((-1, *image.shape[-3:]))
        for index in range(STAGES):
            if min(x.shape[1:3]) < KERNEL:
                break
            x = HalvingConv(self.depth << index, KERNEL, name=f"conv{index}")(x)
            x = layers.LayerNorm(name=f"norm{index}")(x) if self.norm else x
            x = layers.ACTIVATIONS[self.activation](x)
        return x.reshape((*leading, -1))


class ConvDecoder(nn.Module):
    """Feature [..., F] -> images [..., H, W, C].

    For 64x64 as published: a linear layer to 1x1, then four unpadded transposed convolutions. Images of other sizes
    begin from a grid a fourth of their size, and are doubled twice.
    """

    size: tuple[int, int]
    channels: int
    depth: int
    activation: str = "relu"
    norm: bool = False

    @nn.compact
    def __call__(self, feature: Array) -> Array:
        leading, x = feature.shape[:-1], feature.reshape((-1, feature.shape[-1]))
        if self.size == PUBLISHED:
            x = nn.Dense(32 * self.depth, name="space")(x).reshape((-1, 1, 1, 32 * self.depth))
            widths, kernels, padding = (4, 2, 1), DECODER_KERNELS, "VALID"
        else:
            height, width = self.size[0] // 4, self.size[1] // 4
            x = nn.Dense(height * width * 4 * self.depth, name="space")(x)
            x = x.reshape((-1, height, width, 4 * self.depth))
            widths, kernels, padding = (2,), (KERNEL, KERNEL), "SAME"
        sizes = [*(width * self.depth for width in widths), self.channels]
        for index, (channels, kernel) in enumerate(zip(sizes, kernels, strict=True)):
            x = DoublingConv(channels, kernel, padding, name=f"deconv{index}")(x)
            if index < len(sizes) - 1:
                x = layers.LayerNorm(name=f"norm{index}")(x) if self.norm else x
                x = layers.ACTIVATIONS[self.activation](x)
        return x.reshape((*leading, *x.shape[1:]))
