"""Draws are JAX's own, whatever their shape."""

import jax
import numpy as np
import pytest

from dreamworld import random

KEY = jax.random.PRNGKey(7)


@pytest.mark.parametrize("shape", [(1,), (7,), (3, 5), (16, 32, 4), (2, 3, 4, 5)])
def test_bits_are_those_of_jax(shape):
    np.testing.assert_array_equal(
        random.draw(jax.random.bits, KEY, shape), jax.random.bits(KEY, shape, np.uint32)
    )


@pytest.mark.parametrize("sample", [jax.random.gumbel, jax.random.normal])
def test_draws_are_those_of_jax(sample):
    draw = jax.jit(lambda key: random.draw(sample, key, (9, 4, 3)))
    np.testing.assert_allclose(draw(KEY), sample(KEY, (9, 4, 3)), rtol=1e-6)


def test_draws_of_many_keys_at_once_are_those_of_each():
    keys = jax.random.split(KEY, 5)
    found = jax.vmap(lambda key: random.draw(jax.random.gumbel, key, (3, 2)))(keys)
    want = [random.draw(jax.random.gumbel, key, (3, 2)) for key in keys]
    np.testing.assert_allclose(found, np.stack(want), rtol=1e-6)


def test_every_group_of_rounds_is_written_out_as_published():
    """Test vector of the Random123 library: all words zero."""
    high, low = 0x6B200159, 0x99BA4EFE
    found = random.threefry(np.zeros(2, np.uint32), np.zeros(1, np.uint32))
    assert int(found[0]) == high ^ low


def test_a_key_that_draws_is_not_split():
    def sample(key, shape):
        return jax.random.uniform(jax.random.split(key)[0], shape)

    with pytest.raises(TypeError, match="only draws"):
        random.draw(sample, KEY, (3,))


@pytest.mark.parametrize("count", [0, 7, (1 << 32) - 1])
def test_counts_of_32_bits_make_the_keys_of_jax(count):
    np.testing.assert_array_equal(
        jax.random.fold_in(KEY, random.as_uint32(count)), jax.random.fold_in(KEY, count)
    )


def test_larger_counts_begin_again():
    assert random.as_uint32((1 << 32) + 7) == 7 and random.as_uint32(10**13) < 1 << 32
