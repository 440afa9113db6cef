"""The plain form of everything that was rewritten for speed: `python -m dreamworld.benchmarks.plain_forms train ...`.

The plain forms are the specification: what the rewritten ones must equal (`tests/test_plain_forms.py`), and what
`dreamworld benchmark plain` compares them with.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from dreamworld import convnets, nets, ops, random, rollout
from dreamworld.models import rssm
from dreamworld.models.rssm import RSSM, Latent
from dreamworld.types import Array, Key, Params


def conv(x: Array, kernel: Array, padding: Any) -> Array:
    """A convolution whose gradients are JAX's own."""
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=numbers)


def conv_pool(x: Array, kernel: Array, *, phases: bool) -> Array:
    """A convolution, then the largest of every 2 x 2 outputs."""
    y = conv(x, kernel.astype(x.dtype), "SAME")
    return jax.lax.reduce_window(y, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def upsample_conv_phases(x: Array, kernel: Array) -> Array:
    """Every pixel doubled along both axes, then a convolution."""
    doubled = jnp.repeat(jnp.repeat(x, 2, 1), 2, 2)
    return ops.to_phases(conv(doubled, kernel.astype(x.dtype), "SAME"))


def block_product(x: Array, kernel: Array) -> Array:
    """One product per block, in the layout of the arguments."""
    return jnp.einsum("...bi,bio->...bo", x, kernel)


class NormSilu(nn.Module):
    """A norm whose gradient keeps what JAX keeps."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],), jnp.float32)
        return nn.silu(nets.rms_norm(x, scale))


def observe_sequence(
    self: RSSM,
    params: Params,
    state: Latent,
    prev_action: dict[str, Array],
    obs: dict[str, Array],
    is_first: Array,
    key: Key,
) -> tuple[Latent, Array]:
    """One whole `observe` per row: encoder, action embedding and all."""
    keys = jax.random.split(key, is_first.shape[1])

    def step(state: Latent, row: Any, key: Key) -> tuple[Latent, tuple[Latent, Array]]:
        prev_action, obs, is_first = row
        state, post = self.observe(params, state, prev_action, obs, is_first, key)
        return state, (state, post)

    return rollout.scan_rows(step, state, (prev_action, obs, is_first), keys)[1]


def draw(sample: Callable[[Key, tuple[int, ...]], Array], key: Key, shape: tuple[int, ...]) -> Array:
    """Noise in the shape in which it is wanted."""
    return sample(key, shape)


def by_step(function: Callable[[Any], Any], rows: Any, *, at_once: bool) -> Any:
    """All imagined steps at once."""
    return function(rows)


def in_blocks(self: RSSM, state: Latent) -> Latent:
    """The recurrent state is flat in dreams, too."""
    return state


def install(put: Callable[[Any, str, Any], object] = setattr) -> None:
    """Puts the plain forms in place, by `put(object, name, value)`."""
    for module, form in (
        *((ops, conv), (ops, conv_pool), (ops, upsample_conv_phases)),
        *((nets, block_product), (convnets, NormSilu), (random, draw), (rollout, by_step)),
        *((rssm.RSSM, observe_sequence), (rssm.RSSM, in_blocks)),
    ):
        put(module, form.__name__, form)


if __name__ == "__main__":
    from dreamworld.__main__ import main

    install()
    sys.exit(main(sys.argv[1:]))
