"""Fast forms of convolution, pooling and upsampling; each equals its plain form, which the tests keep.

Phases are the four pixels of a 2x2 block in row-major order: an image [N, 2H, 2W, C] is [N, H, W, 4C] in phases.
Work on phases stays at half the resolution, where matrix products are wide and pixels few.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from dreamworld.types import Array

Padding = tuple[tuple[int, int], tuple[int, int]]  # (top, bottom), (left, right)

# Images whose patches are multiplied at a time: few enough to stay in the cache.
CHUNK = 32


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def conv(x: Array, kernel: Array, padding: Padding) -> Array:
    """Convolution of stride 1: [N, H, W, in], [kh, kw, in, out] -> [N, H', W', out].

    The weight gradient has a CPU form of its own: XLA's runs at a tenth of the speed of a matrix product there.
    """
    return _conv(x, kernel, padding)


def _conv(x: Array, kernel: Array, padding: Padding) -> Array:
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=numbers)


def _conv_forward(x: Array, kernel: Array, padding: Padding) -> tuple[Array, tuple[Array, Array]]:
    return _conv(x, kernel, padding), (x, kernel)


def _conv_backward(padding: Padding, residuals: tuple[Array, Array], grad: Array) -> tuple[Array, Array]:
    x, kernel = residuals

    def plain(x: Array, kernel: Array, grad: Array) -> tuple[Array, Array]:
        dx = jax.linear_transpose(lambda x: _conv(x, kernel, padding), x)(grad)[0]
        return dx, jax.linear_transpose(lambda k: _conv(x, k, padding), kernel)(grad)[0]

    def fast(x: Array, kernel: Array, grad: Array) -> tuple[Array, Array]:
        weight = conv_weight_gradient(x, grad, kernel.shape[:2], padding).astype(kernel.dtype)
        return conv_input_gradient(grad, kernel, padding), weight

    dx, weight = jax.lax.platform_dependent(x, kernel, grad, cpu=fast, default=plain)
    return dx, weight


conv.defvjp(_conv_forward, _conv_backward)


def conv_input_gradient(grad: Array, kernel: Array, padding: Padding) -> Array:
    """dX of `conv` as a convolution with the turned kernel: [N, H', W', out] -> [N, H, W, in].

    XLA-CPU brings convolutions into the form that its library takes outside of loops only; in a `scan` one whose
    kernel is transposed takes ten times as long. The barrier keeps XLA from taking the transposition into it.
    """
    turned = jax.lax.optimization_barrier(kernel[::-1, ::-1].swapaxes(2, 3))
    rest = [(size - 1 - low, size - 1 - high) for size, (low, high) in zip(kernel.shape[:2], padding)]
    return _conv(grad, turned, (rest[0], rest[1]))


def conv_weight_gradient(x: Array, grad: Array, size: tuple[int, int], padding: Padding) -> Array:
    """dK[i, j] = sum over n, h, w of x[n, h + i - top, w + j - left] grad[n, h, w], float32 [kh, kw, in, out].

    Shifting x along W and grad along H makes it one product [kw in, kh out] over all pixels of x, for a few
    images at a time.
    """
    count = x.shape[0]
    chunk = chunk_size(count)
    split = lambda a: a.reshape((count // chunk, chunk, *a.shape[1:]))
    total = jnp.zeros((size[1], x.shape[-1], size[0], grad.shape[-1]), jnp.float32)

    def add(total: Array, pair: tuple[Array, Array]) -> tuple[Array, None]:
        x, grad = pair
        left = jnp.stack(_shifts(x, 2, size[1], grad.shape[2], padding[1]), 3)
        (top, bottom) = padding[0]
        # Row h of grad meets row h + i - top of x: shift i from the end, so that rows are those of x.
        shifted = _shifts(grad, 1, size[0], x.shape[1], (size[0] - 1 - top, size[0] - 1 - bottom))
        right = jnp.stack(shifted[::-1], 3)
        product = jax.lax.dot_general(
            left, right, (((0, 1, 2), (0, 1, 2)), ((), ())), preferred_element_type=jnp.float32
        )
        return total + product, None

    total, _ = jax.lax.scan(add, total, (split(x), split(grad)))
    return total.transpose((2, 0, 1, 3))


def _shifts(x: Array, axis: int, count: int, length: int, padding: tuple[int, int]) -> list[Array]:
    """The `count` windows of `length` along a spatial axis of x [N, H, W, C], padded: each [N, H, W, C]."""
    pads = [(0, 0)] * 4
    pads[axis] = padding
    x = jnp.pad(x, pads)
    return [jax.lax.slice_in_dim(x, start, start + length, axis=axis) for start in range(count)]


def same_padding(size: int) -> tuple[int, int]:
    """Padding of a convolution that keeps the size, as XLA's SAME."""
    return (size - 1) // 2, size // 2


@functools.cache
def _phase_taps(size: int) -> tuple[np.ndarray, tuple[int, int]]:
    """Where the taps of a kernel fall on the coarse grid: 0/1 [phase out, tap, coarse tap, phase in], padding.

    Tap i of output pixel 2y + p reads pixel 2y + p + i - pad, which is phase s of coarse pixel y + a.
    """
    pixel = np.arange(2)[:, None] + np.arange(size)[None] - same_padding(size)[0]  # [p, i]
    coarse, phase = pixel // 2, pixel % 2
    low, high = coarse.min(), coarse.max()
    taps = np.zeros((2, size, high - low + 1, 2), np.float32)
    taps[np.arange(2)[:, None], np.arange(size)[None], coarse - low, phase] = 1
    return taps, (int(-low), int(high))


def conv_phases(x: Array, kernel: Array) -> Array:
    """Same convolution of an image in phases: [N, H, W, 4 in] -> [N, H, W, 4, out]."""
    size = kernel.shape[0]
    taps, pad = _phase_taps(size)
    coarse = jnp.einsum("piau,qjbv,ijcd->abuvcpqd", taps, taps, kernel)
    return _coarse_conv(x, coarse, pad)


def conv_pool(x: Array, kernel: Array, *, phases: bool) -> Array:
    """Same convolution and 2x2 max-pooling: [N, 2H, 2W, in], [k, k, in, out] -> [N, H, W, out]."""
    if phases:
        x = to_phases(x)
        return max_phases(conv_phases(x.reshape((*x.shape[:-2], -1)), kernel))
    padding = same_padding(kernel.shape[0])
    return max_phases(to_phases(conv(x, kernel.astype(x.dtype), (padding, padding))))


def chunk_size(count: int) -> int:
    """The largest divisor of a number of images up to CHUNK."""
    return max(size for size in range(1, min(CHUNK, count) + 1) if count % size == 0)


def upsample_conv_phases(x: Array, kernel: Array) -> Array:
    """Nearest doubling, then same convolution, in phases: [N, H, W, in] -> [N, H, W, 4, out].

    The four taps that would read copies of one pixel are added up first: 36 products per pixel of x, not 100.
    """
    taps, pad = _phase_taps(kernel.shape[0])
    taps = taps.sum(-1)
    return _coarse_conv(x, jnp.einsum("pia,qjb,ijcd->abcpqd", taps, taps, kernel), pad)


def _coarse_conv(x: Array, kernel: Array, pad: tuple[int, int]) -> Array:
    """Convolves with [a, b, ..., p, q, out]; [N, H, W, in] -> [N, H, W, 4, out]."""
    height, width, channels = *kernel.shape[:2], kernel.shape[-1]
    kernel = kernel.reshape((height, width, x.shape[-1], 4 * channels)).astype(x.dtype)
    y: Array = conv(x, kernel, (pad, pad))
    return y.reshape((*y.shape[:-1], 4, channels))


def to_phases(x: Array) -> Array:
    """[..., 2H, 2W, C] -> [..., H, W, 4, C]."""
    *leading, height, width, channels = x.shape
    x = x.reshape((*leading, height // 2, 2, width // 2, 2, channels))
    return jnp.swapaxes(x, -4, -3).reshape((*leading, height // 2, width // 2, 4, channels))


def from_phases(x: Array) -> Array:
    """[..., H, W, 4, C] -> [..., 2H, 2W, C]."""
    *leading, height, width, _, channels = x.shape
    x = x.reshape((*leading, height, width, 2, 2, channels))
    return jnp.swapaxes(x, -4, -3).reshape((*leading, 2 * height, 2 * width, channels))


@jax.custom_vjp
def max_phases(x: Array) -> Array:
    """2x2 max-pooling in phases, [..., 4, C] -> [..., C]; the gradient goes to the first of equals.

    Keeps one byte per output for the gradient, where max_pool keeps its whole input, and scatters nothing.
    """
    return x.max(-2)


def _max_forward(x: Array) -> tuple[Array, Array]:
    top = x.max(-2)
    winner = jnp.full(top.shape, 3, jnp.uint8)
    for phase in (2, 1, 0):
        winner = jnp.where(x[..., phase, :] == top, jnp.uint8(phase), winner)
    return top, winner


def _max_backward(winner: Array, grad: Array) -> tuple[Array]:
    return (jnp.stack([jnp.where(winner == phase, grad, 0) for phase in range(4)], -2),)


max_phases.defvjp(_max_forward, _max_backward)
