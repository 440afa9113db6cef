"""Each fast form against the plain one, which is written out here: values and gradients."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamworld import ops


def normals(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def plain_conv(x, kernel):
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def plain_pool(x):
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def plain_upsample(x):
    return jnp.repeat(jnp.repeat(x, 2, 1), 2, 2)


def value_and_gradients(function, *inputs, seed=9):
    """The value, and the gradients of its sum with random weights by every input."""

    @jax.jit
    def compute(*inputs):
        value, backward = jax.vjp(function, *inputs)
        return value, backward(normals(seed, *value.shape))

    return compute(*inputs)


def assert_equal(fast, plain, *inputs):
    found, expected = value_and_gradients(fast, *inputs), value_and_gradients(plain, *inputs)
    for one, two in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-4 * np.abs(two).max())


def fast_conv(x, kernel):
    return ops.conv(x, kernel, (ops.same_padding(kernel.shape[0]), ops.same_padding(kernel.shape[1])))


@pytest.mark.parametrize("size", [(5, 5), (3, 3), (4, 4), (5, 3)])
def test_conv_has_the_value_and_gradients_of_lax(size):
    assert_equal(fast_conv, plain_conv, normals(0, 6, 6, 8, 3), normals(1, *size, 3, 4))


def test_conv_weight_gradient_sums_over_chunks_of_images(monkeypatch):
    monkeypatch.setattr(ops, "CHUNK", 4)
    assert_equal(fast_conv, plain_conv, normals(0, 6, 4, 4, 2), normals(1, 5, 5, 2, 3))


@pytest.mark.parametrize("padding", [((0, 0), (1, 2)), ((2, 1), (0, 1))])
def test_conv_weight_gradient_with_uneven_padding(padding):
    plain = lambda x, kernel: jax.lax.conv_general_dilated(
        x, kernel, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    fast = lambda x, kernel: ops.conv(x, kernel, padding)
    assert_equal(fast, plain, normals(0, 3, 5, 6, 2), normals(1, 3, 3, 2, 4))


def test_in_a_loop_no_convolution_has_a_form_that_is_slow_there():
    """XLA-CPU's library takes NHWC and HWIO; other forms are brought into these outside of loops only."""

    def loss(x, kernel):
        return jnp.square(fast_conv(fast_conv(x, kernel), kernel)).sum()

    def descend(x, kernel):
        down = lambda kernel, _: (kernel - 1e-3 * jax.grad(loss, 1)(x, kernel), None)
        return jax.lax.scan(down, kernel, None, length=3)[0]

    text = jax.jit(descend).lower(normals(0, 2, 8, 8, 4), normals(1, 3, 3, 4, 4)).compile().as_text()
    forms = re.findall(r" convolution\(.*dim_labels=(\S+),", text or "")
    assert len(forms) >= 3 and set(forms) == {"b01f_01io->b01f"}


@pytest.mark.parametrize("size", [3, 4, 5, 7])
def test_conv_in_phases_equals_conv(size):
    def fast(x, kernel):
        phases = ops.to_phases(x)
        return ops.from_phases(ops.conv_phases(phases.reshape((*phases.shape[:-2], -1)), kernel))

    assert_equal(fast, plain_conv, normals(0, 2, 8, 12, 3), normals(1, size, size, 3, 2))


@pytest.mark.parametrize("size", [3, 4, 5, 7])
def test_upsampling_conv_in_phases_equals_conv_of_the_doubled_image(size):
    fast = lambda x, kernel: ops.from_phases(ops.upsample_conv_phases(x, kernel))
    plain = lambda x, kernel: plain_conv(plain_upsample(x), kernel)
    assert_equal(fast, plain, normals(0, 2, 3, 5, 3), normals(1, size, size, 3, 2))


def test_phases_are_the_pixels_of_each_block_in_row_major_order():
    x = jnp.arange(16).reshape(1, 4, 4, 1)
    np.testing.assert_array_equal(ops.to_phases(x)[0, :, :, :, 0][1, 0], [8, 9, 12, 13])
    np.testing.assert_array_equal(ops.from_phases(ops.to_phases(x)), x)


def test_pooling_of_phases_equals_max_pool_with_ties():
    x = jnp.round(normals(0, 3, 6, 4, 5))  # small integers: most windows have equals
    assert_equal(lambda x: ops.max_phases(ops.to_phases(x)), plain_pool, x)


@pytest.mark.parametrize("phases", [True, False])
def test_conv_and_pool_equal_lax(phases):
    fast = lambda x, kernel: ops.conv_pool(x, kernel, phases=phases)
    plain = lambda x, kernel: plain_pool(plain_conv(x, kernel))
    assert_equal(fast, plain, normals(0, 6, 8, 4, 3), normals(1, 5, 5, 3, 4))


def test_pooling_passes_nan_on():
    x = normals(0, 1, 2, 2, 3).at[0, 1, 0, 1].set(jnp.nan)
    np.testing.assert_array_equal(np.isnan(ops.max_phases(ops.to_phases(x)))[0, 0, 0], [False, True, False])


def test_a_bfloat16_convolution_sums_its_kernel_in_float32():
    x, kernel = normals(0, 1, 3, 3, 2).astype(jnp.bfloat16), normals(1, 5, 5, 2, 2)
    found = jax.jit(ops.upsample_conv_phases)(x, kernel)
    exact = plain_conv(plain_upsample(x.astype(jnp.float32)), kernel)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(
        ops.from_phases(found).astype(jnp.float32), exact, atol=0.03 * np.abs(exact).max()
    )
