"""`python tests/plain_forms.py train ...`: dreamworld with the plain form of everything that was rewritten for speed.

The plain forms are the specification: what the rewritten ones must equal, here over whole trainings.
"""

import sys

import flax.linen as nn
import jax
import jax.numpy as jnp

from dreamworld import convnets, nets, ops, random, rollout
from dreamworld.models import rssm


def conv(x, kernel, padding):
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=numbers)


def conv_pool(x, kernel, *, phases):
    y = conv(x, kernel.astype(x.dtype), "SAME")
    return jax.lax.reduce_window(y, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def upsample_conv_phases(x, kernel):
    doubled = jnp.repeat(jnp.repeat(x, 2, 1), 2, 2)
    return ops.to_phases(conv(doubled, kernel.astype(x.dtype), "SAME"))


def block_product(x, kernel):
    return jnp.einsum("...bi,bio->...bo", x, kernel)


class NormSilu(nn.Module):
    @nn.compact
    def __call__(self, x):
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],), jnp.float32)
        return nn.silu(nets.rms_norm(x, scale))


def observe_sequence(self, params, state, prev_action, obs, is_first, key):
    """One whole `observe` per row: encoder, action embedding and all."""
    keys = jax.random.split(key, is_first.shape[1])

    def step(state, row, key):
        state, post = self.observe(params, state, *row, key)
        return state, (state, post)

    return rollout.scan_rows(step, state, (prev_action, obs, is_first), keys)[1]


def draw(sample, key, shape):
    return sample(key, shape)


def install(put=setattr):
    """Puts the plain forms in place, by `put(object, name, value)`."""
    for module, form in (
        *((ops, conv), (ops, conv_pool), (ops, upsample_conv_phases)),
        *((nets, block_product), (convnets, NormSilu), (random, draw)),
    ):
        put(module, form.__name__, form)
    put(rssm.RSSM, "observe_sequence", observe_sequence)


if __name__ == "__main__":
    from dreamworld.__main__ import main

    install()
    sys.exit(main(sys.argv[1:]))
