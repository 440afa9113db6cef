"""Losses that stand in for a decoder, against plain forms, and what learns from them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamworld.models.representation import Representation, infonce, redundancy

KEY = jax.random.PRNGKey(0)
RANDOM = np.random.default_rng(0)
FEATURES = RANDOM.normal(size=(3, 4, 5)).astype(np.float32)
TOKENS = RANDOM.normal(1.0, 2.0, size=(3, 4, 6)).astype(np.float32)


def plain(one, other, off_diagonal):
    """By loops, as the fact sheet has it: N = 12 rows, unbiased deviations."""
    normal = lambda x: np.array([(column - column.mean()) / (column.std(ddof=1) + 1e-8) for column in x.T])
    one, other, total = normal(one), normal(other), 0.0
    for i, left in enumerate(one):
        for j, right in enumerate(other):
            c = np.dot(left, right) / len(left)
            total += (c - 1) ** 2 if i == j else off_diagonal * c**2
    return total


@pytest.mark.parametrize("off_diagonal", [5e-4, 0.5])
def test_redundancy_by_loops(off_diagonal):
    own = Representation("r2", off_diagonal, jnp.float32)
    params = own.init(KEY, FEATURES[0, :1], TOKENS[0, :1])
    assert {name: value.shape for name, value in params.items()} == {"kernel": (5, 6)}
    projected = FEATURES.reshape((12, 5)) @ np.asarray(params["kernel"])
    wanted = plain(projected, TOKENS.reshape((12, 6)), off_diagonal)
    np.testing.assert_allclose(own.loss(params, FEATURES, TOKENS), wanted, rtol=1e-4)


def test_the_same_without_redundancy_costs_nothing_but_the_unbiased_deviation():
    """Orthogonal columns: C_ii = (N - 1) / N, C_ij = 0."""
    rows = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]], np.float32)
    np.testing.assert_allclose(redundancy(rows, 3 * rows + 7, 1.0), 2 * (1 - 3 / 4) ** 2, rtol=1e-5)
    np.testing.assert_allclose(redundancy(rows, rows[:, ::-1], 0.5), 2 + 0.5 * 2 * (3 / 4) ** 2, rtol=1e-5)


def test_a_dimension_that_never_changes_is_no_division_by_zero():
    constant = np.ones((4, 2), np.float32)
    found, grad = jax.value_and_grad(lambda x: redundancy(x, constant, 1.0))(
        jnp.asarray(RANDOM.normal(size=(4, 2)), jnp.float32)
    )
    assert found == 2 and np.isfinite(grad).all()


def test_infonce_by_hand():
    one, other = np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([[1.0, 0.0], [1.0, 1.0]])
    wanted = np.mean([-np.log(np.e / (np.e + np.e)), -np.log(np.exp(2) / (1 + np.exp(2)))])
    np.testing.assert_allclose(infonce(one, other), wanted, rtol=1e-6)
    large = infonce(1e3 * one, other)  # a row's largest product is taken from it first
    assert np.isfinite(large) and large < 1e-6 + np.log(2) / 2


@pytest.mark.parametrize("kind", ["r2", "infonce"])
def test_tokens_learn_nothing_from_it(kind):
    own = Representation(kind, 5e-4, jnp.float32)
    params = own.init(KEY, FEATURES[0, :1], TOKENS[0, :1])
    grads = jax.grad(own.loss, argnums=(0, 1, 2))(params, jnp.asarray(FEATURES), jnp.asarray(TOKENS))
    assert (grads[0]["kernel"] != 0).any() and (grads[1] != 0).any() and not grads[2].any()
