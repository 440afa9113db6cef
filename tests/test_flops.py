"""Operations are counted by hand, loops and devices included."""

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, AxisType, PartitionSpec

from dreamworld import flops

X, W = jnp.ones((6, 4)), jnp.ones((4, 5))


def test_a_matrix_product_is_a_multiply_and_an_add_per_term():
    assert flops.count(lambda x, w: x @ w, X, W) == 2 * 6 * 4 * 5


def test_the_body_of_a_scan_counts_once_per_step():
    body = lambda x, _: (x @ jnp.ones((4, 4)), None)
    assert flops.count(lambda x: jax.lax.scan(body, x, None, length=7)[0], X) == 7 * 2 * 6 * 4 * 4


def test_a_convolution_counts_what_falls_on_every_output_pixel():
    def conv(x, k):
        return jax.lax.conv_general_dilated(x, k, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    assert flops.count(conv, jnp.ones((2, 8, 8, 3)), jnp.ones((5, 5, 3, 4))) == 2 * (2 * 8 * 8 * 4) * (
        5 * 5 * 3
    )


def test_the_work_of_every_device_counts():
    mesh = AbstractMesh((3,), ("data",), axis_types=(AxisType.Auto,))
    specs = (PartitionSpec("data"), PartitionSpec())
    product = jax.shard_map(lambda x, w: x @ w, mesh=mesh, in_specs=specs, out_specs=PartitionSpec("data"))
    assert flops.count(product, X, W) == 2 * 6 * 4 * 5


def test_gradients_through_functions_with_their_own_count():
    @jax.custom_vjp
    def product(x, w):
        return x @ w

    product.defvjp(lambda x, w: (x @ w, (x, w)), lambda kept, g: (g @ kept[1].T, kept[0].T @ g))
    assert flops.count(jax.grad(lambda x, w: product(x, w).sum(), (0, 1)), X, W) == 3 * 2 * 6 * 4 * 5


def test_the_peak_of_the_cpu_is_measured():
    peak = flops.peak("float32")
    assert peak and 1e8 < peak < 1e14
