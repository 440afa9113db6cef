"""The convolutions of PlaNet against flax's own."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamworld.models.conv import DoublingConv, HalvingConv

KEY = jax.random.PRNGKey(0)
CASES = [
    pytest.param(HalvingConv(5, 4), nn.Conv(5, (4, 4), 2, padding="VALID"), (9, 12), id="halving"),
    *(
        pytest.param(
            DoublingConv(5, kernel, padding), nn.ConvTranspose(5, (kernel,) * 2, (2, 2), padding), size,
            id=f"doubling-{kernel}-{padding}-{size[0]}",
        )
        for kernel, padding, size in [
            (5, "VALID", (1, 1)), (5, "VALID", (4, 3)), (6, "VALID", (4, 3)), (4, "SAME", (4, 3)), (4, "SAME", (1, 1)),
        ]
    ),
]  # fmt: skip


@pytest.mark.parametrize(("own", "plain", "size"), CASES)
def test_parameters_values_and_gradients_are_those_of_flax(own, plain, size):
    x = jax.random.normal(KEY, (2, *size, 3))
    variables = plain.init(KEY, x)
    mine = own.init(KEY, x)
    jax.tree.map(np.testing.assert_array_equal, mine, variables)

    def value_and_gradients(module):
        run = lambda variables, x: jnp.square(module.apply(variables, x) - 1).sum()
        return jax.jit(jax.value_and_grad(run, (0, 1)))(variables, x)

    found, expected = value_and_gradients(own), value_and_gradients(plain)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4), found, expected)
    assert own.apply(variables, x).shape == plain.apply(variables, x).shape
