"""Convolutional encoder and decoder of images as in PlaNet and the first Dreamers (arXiv:1803.10122, appendix)."""

from __future__ import annotations

import flax.linen as nn
import jax

from dreamworld.types import Array

KERNEL, STRIDE, STAGES = 4, 2, 4
PUBLISHED = (64, 64)
DECODER_KERNELS = (5, 5, 6, 6)  # from 1x1 to 64x64


class ConvEncoder(nn.Module):
    """Images [..., H, W, C] of floats -> [..., E]: up to four unpadded convolutions of stride 2, each with ReLU.

    Every stage has twice the channels of the one before. 64x64 becomes 2x2; smaller images have fewer stages.
    """

    depth: int

    @nn.compact
    def __call__(self, image: Array) -> Array:
        leading, x = image.shape[:-3], image.reshape((-1, *image.shape[-3:]))
        for index in range(STAGES):
            if min(x.shape[1:3]) < KERNEL:
                break
            channels = self.depth << index
            x = nn.Conv(channels, (KERNEL,) * 2, (STRIDE,) * 2, padding="VALID", name=f"conv{index}")(x)
            x = jax.nn.relu(x)
        return x.reshape((*leading, -1))


class ConvDecoder(nn.Module):
    """Feature [..., F] -> images [..., H, W, C].

    For 64x64 as published: a linear layer to 1x1, then four unpadded transposed convolutions. Images of other sizes
    begin from a grid a fourth of their size, and are doubled twice.
    """

    size: tuple[int, int]
    channels: int
    depth: int

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
            layer = nn.ConvTranspose(
                channels, (kernel,) * 2, (STRIDE,) * 2, padding=padding, name=f"deconv{index}"
            )
            x = layer(x)
            x = x if index == len(sizes) - 1 else jax.nn.relu(x)
        return x.reshape((*leading, *x.shape[1:]))
