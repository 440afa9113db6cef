"""Random draws: JAX's bits to the last, those of the whole batch wherever its rows lie, and faster on CPUs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.extend.random import define_prng_impl

from dreamworld import parallel
from dreamworld.types import Array, Key

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def draw(sample: Callable[..., Array], key: Key, shape: tuple[int, ...]) -> Array:
    """`sample(key, shape)` for rows [N, ...], where sample is `jax.random.gumbel`, `jax.random.normal` or the like.

    Inside of `parallel.per_shard` it is this device's part of the draw for all rows.
    """
    # The same bits as in that shape, but XLA-CPU's inner loops run over the last axis, and that of latents is short.
    return sample(jax.random.wrap_key_data(key, impl=_THREEFRY), (math.prod(shape),)).reshape(shape)


def as_uint32(count: int) -> np.uint32:
    """A count as keys take it in `fold_in`; after 2^32 it begins again at 0."""
    return np.uint32(count & 0xFFFFFFFF)


def threefry(key: Key, counts: Array) -> Array:
    """32 bits for each of the uint32 counters: Threefry-2x32 of (0, count), both words combined by xor.

    Equal to `jax.random.bits`, but with the 20 rounds written out, which XLA-CPU computes in one loop and in
    vectors; JAX's own are five loops there (Salmon et al., 2011, "Parallel random numbers: as easy as 1, 2, 3").
    """
    keys = (key[0], key[1], key[0] ^ key[1] ^ np.uint32(0x1BD11BDA))
    high, low = keys[0], counts + keys[1]
    for group in range(5):
        for bits in ROTATIONS[group % 2]:
            high = high + low
            low = ((low << np.uint32(bits)) | (low >> np.uint32(32 - bits))) ^ high
        high = high + keys[(group + 1) % 3]
        low = low + keys[(group + 2) % 3] + np.uint32(group + 1)
    return high ^ low


def _bits(key: Array, bit_width: int, shape: tuple[int, ...]) -> Array:
    """32 random bits per element [N]: hashes of its index in the array or, per shard, in the array of all shards."""
    (size,) = shape
    assert bit_width == 32 and size * parallel.shards() < 1 << 32, (bit_width, shape)
    first = np.uint32(0)
    if parallel.shards() > 1:
        first = jax.lax.axis_index("data").astype(np.uint32) * np.uint32(size)

    def at_once() -> Array:
        return threefry(key, first + jax.lax.iota(np.uint32, size))

    def in_halves() -> Array:
        half = -(-size // 2)
        index = first + jax.lax.iota(np.uint32, 2 * half).reshape((2, half))
        return jax.lax.map(lambda part: threefry(key, part), index).reshape(-1)[:size]

    # XLA-CPU would fuse rounds and logarithms into a loop without vectors; it does not fuse across loops.
    return jax.lax.platform_dependent(cpu=in_halves, default=at_once)


def _only_draws(*_: object) -> Any:
    raise TypeError("this key only draws; split the one it was made from")


_THREEFRY = define_prng_impl(
    key_shape=(2,),
    seed=_only_draws,
    split=_only_draws,
    random_bits=_bits,
    fold_in=_only_draws,
    name="threefry_written_out",
    tag="threefry_written_out",
)
