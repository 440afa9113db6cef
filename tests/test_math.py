import math as pymath

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamworld import math

BINS = math.symexp_bins(255)


def test_symlog_values_by_hand():
    e = pymath.e
    np.testing.assert_allclose(
        math.symlog(jnp.array([0.0, e - 1, 1 - e, e**3 - 1])), [0, 1, -1, 3], rtol=1e-6
    )


def test_symexp_values_by_hand():
    e = pymath.e
    np.testing.assert_allclose(
        math.symexp(jnp.array([0.0, 1, -1, 3])), [0, e - 1, 1 - e, e**3 - 1], rtol=1e-6
    )


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e3, 1e6])
def test_symexp_inverts_symlog(scale):
    x = jnp.linspace(-scale, scale, 41)
    np.testing.assert_allclose(math.symexp(math.symlog(x)), x, rtol=1e-5, atol=1e-9)


def test_bins_are_exactly_antisymmetric_symexp_of_an_even_grid():
    bins = np.asarray(BINS, np.float64)
    assert bins.shape == (255,)
    np.testing.assert_array_equal(bins, -bins[::-1])
    grid = np.linspace(-20, 20, 255)
    np.testing.assert_allclose(bins, np.sign(grid) * np.expm1(np.abs(grid)), rtol=1e-5)
    assert bins[127] == 0


def test_an_even_number_of_bins_is_refused():
    with pytest.raises(ValueError, match="254"):
        math.symexp_bins(254)


def test_two_hot_interpolates_raw_values():
    bins = jnp.array([-2.0, 0.0, 4.0])
    weights = math.two_hot(jnp.array([1.0, -0.5, 0.0, 4.0]), bins)
    expected = [[0, 0.75, 0.25], [0.25, 0.75, 0], [0, 1, 0], [0, 0, 1]]
    np.testing.assert_allclose(weights, expected, rtol=1e-6)


def test_two_hot_clamps_to_the_end_bins():
    bins = jnp.array([-2.0, 0.0, 4.0])
    weights = math.two_hot(jnp.array([-100.0, 100.0, -jnp.inf, jnp.inf]), bins)
    np.testing.assert_array_equal(weights, [[1, 0, 0], [0, 0, 1], [1, 0, 0], [0, 0, 1]])


def test_two_hot_equals_a_plain_loop():
    bins = np.asarray(BINS, np.float64)
    targets = np.random.default_rng(0).normal(size=64) * np.logspace(-3, 8, 64)
    weights = math.two_hot(jnp.asarray(targets, jnp.float32), BINS)
    for x, row in zip(targets.astype(np.float32).astype(np.float64), np.asarray(weights)):
        expected = np.zeros(255)
        for index in range(254):
            if bins[index] <= x < bins[index + 1]:
                part = (x - bins[index]) / (bins[index + 1] - bins[index])
                expected[index : index + 2] = 1 - part, part
        np.testing.assert_allclose(row, expected, atol=2e-5)


def test_two_hot_keeps_leading_axes_and_averages_to_its_value():
    x = jnp.array([[0.3, -7.0, 1e4], [0.0, 123.0, -1e-3]])
    weights = math.two_hot(x, BINS)
    assert weights.shape == (2, 3, 255)
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-6)
    np.testing.assert_allclose(
        np.asarray(weights, np.float64) @ np.asarray(BINS, np.float64), x, rtol=1e-5, atol=1e-7
    )


@pytest.mark.parametrize("transform", [jax.jit, lambda f: f], ids=["jit", "eager"])
def test_symmetric_probabilities_average_to_exactly_zero(transform):
    half = jax.nn.softmax(jax.random.normal(jax.random.PRNGKey(0), (5, 127)))
    probs = jnp.concatenate([half, jnp.ones((5, 1)), half[:, ::-1]], -1) / 3
    mean = transform(lambda p: math.two_hot_mean(p, BINS))
    np.testing.assert_array_equal(mean(probs), np.zeros(5))
    np.testing.assert_array_equal(mean(jnp.full((2, 255), 1 / 255)), np.zeros(2))


def test_two_hot_mean_is_the_expected_bin():
    probs = jax.nn.softmax(jax.random.normal(jax.random.PRNGKey(1), (3, 4, 7)))
    bins = math.symexp_bins(7)
    expected = (np.asarray(probs, np.float64) * np.asarray(bins, np.float64)).sum(-1)
    np.testing.assert_allclose(math.two_hot_mean(probs, bins), expected, rtol=1e-5)


def test_lambda_return_by_hand():
    reward, cont, value = jnp.array([9.0, 1, 2]), jnp.array([9.0, 0.5, 0.8]), jnp.array([9.0, 3, 4])
    # R[2] = 4; R[1] = 2 + 0.8 (0.1 * 4 + 0.9 * 4) = 5.2; R[0] = 1 + 0.5 (0.1 * 3 + 0.9 * 5.2) = 3.49
    np.testing.assert_allclose(
        math.lambda_return(reward, cont, value, value[-1], 0.9), [3.49, 5.2], rtol=1e-6
    )


def test_lambda_return_never_reads_row_zero():
    rows = jnp.arange(12.0).reshape(3, 4)
    poison = rows.at[:, 0].set(jnp.nan)
    returns = lambda x: math.lambda_return(x[0], x[1], x[2], x[2, -1], 0.5)
    np.testing.assert_array_equal(returns(poison), returns(rows))


def returns_by_loop(reward, cont, value, bootstrap, lam):
    returns, following = [], bootstrap
    for t in reversed(range(len(reward) - 1)):
        mixed = (1 - lam[t + 1]) * value[t + 1] + lam[t + 1] * following
        following = reward[t + 1] + cont[t + 1] * mixed
        returns.insert(0, following)
    return np.stack(returns)


@pytest.mark.parametrize("varying", [False, True])
def test_lambda_return_equals_a_plain_loop(varying):
    random = np.random.default_rng(2)
    reward, value = random.normal(size=(2, 6, 3))
    cont, lam = random.random((2, 6, 3))
    bootstrap = random.normal(size=3)
    lam = lam if varying else np.full((6, 3), 0.95)
    r, c, v, boot = (jnp.asarray(x, jnp.float32) for x in (reward, cont, value, bootstrap))
    found = math.lambda_return(r, c, v, boot, jnp.asarray(lam, jnp.float32) if varying else 0.95)
    assert found.shape == (5, 3)
    np.testing.assert_allclose(
        found, returns_by_loop(reward, cont, value, bootstrap, lam), rtol=1e-5, atol=1e-6
    )


def test_percentiles_move_from_zero_by_their_rate_without_debiasing():
    update = lambda state, x: math.update_percentiles(state, x, rate=0.01, low=5.0, high=95.0)
    state = math.init_percentiles()
    assert (float(state.low), float(state.high)) == (0, 0)
    state = update(state, jnp.arange(101.0).reshape(101, 1))  # percentiles 5 and 95
    np.testing.assert_allclose(state, [0.05, 0.95], rtol=1e-6)
    state = update(state, -jnp.arange(101.0))  # percentiles -95 and -5
    np.testing.assert_allclose(state, [0.99 * 0.05 - 0.95, 0.99 * 0.95 - 0.05], rtol=1e-5)


@pytest.mark.parametrize(("low", "high", "scale"), [(0.0, 0.2, 1.0), (-3.0, 4.0, 7.0), (2.0, 3.5, 1.5)])
def test_the_percentile_range_has_a_lower_limit(low, high, scale):
    assert float(math.percentile_scale(math.Percentiles(jnp.float32(low), jnp.float32(high)), 1.0)) == scale


def test_percentiles_carry_no_gradient():
    def through(x):
        state = math.update_percentiles(math.init_percentiles(), x, rate=0.5, low=5.0, high=95.0)
        return state.low + state.high

    np.testing.assert_array_equal(jax.grad(through)(jnp.arange(10.0)), np.zeros(10))
