import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamworld import dists, math

KEY = jax.random.PRNGKey(0)


def softmax(x):
    e = np.exp(np.asarray(x, np.float64) - np.max(x, -1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_unimix_by_hand():
    logits = jnp.log(jnp.array([0.5, 0.25, 0.25]))
    probs = jnp.exp(dists.log_unimix(logits, 0.3))
    np.testing.assert_allclose(probs, [0.7 * 0.5 + 0.1, 0.7 * 0.25 + 0.1, 0.7 * 0.25 + 0.1], rtol=1e-6)


def test_unimix_bounds_the_log_probability_of_an_impossible_class():
    log_probs = dists.log_unimix(jnp.array([0.0, 1e6, 0.0, 0.0]), 0.01)
    np.testing.assert_allclose(log_probs[0], np.log(0.01 / 4), rtol=1e-5)


def test_without_unimix_log_probabilities_are_log_softmax():
    logits = jax.random.normal(KEY, (3, 5)) * 4
    np.testing.assert_allclose(dists.log_unimix(logits, 0.0), np.log(softmax(logits)), rtol=1e-5)


def test_samples_are_exactly_one_hot():
    log_probs = dists.log_unimix(jax.random.normal(KEY, (200, 6, 4)), 0.01)
    sample = dists.sample_onehot(log_probs, jax.random.gumbel(KEY, log_probs.shape))
    assert sample.dtype == jnp.float32
    assert set(np.unique(sample)) == {0.0, 1.0}
    np.testing.assert_array_equal(sample.sum(-1), np.ones((200, 6)))


def test_samples_follow_the_mixed_probabilities():
    logits = jnp.array([3.0, 0.0, -30.0, 1.0])
    log_probs = jnp.broadcast_to(dists.log_unimix(logits, 0.2), (40_000, 4))
    sample = dists.sample_onehot(log_probs, jax.random.gumbel(KEY, log_probs.shape))
    np.testing.assert_allclose(sample.mean(0), 0.8 * softmax(logits) + 0.05, atol=0.01)


def test_straight_through_gradient_is_that_of_the_mixed_probabilities():
    logits = jax.random.normal(KEY, (5, 4)) * 2
    direction = jax.random.normal(jax.random.PRNGKey(1), (5, 4))
    gumbel = jax.random.gumbel(KEY, (5, 4))

    def through_sample(logits):
        return jnp.sum(direction * dists.sample_onehot(dists.log_unimix(logits, 0.01), gumbel))

    p = softmax(logits)
    expected = 0.99 * p * (direction - (p * direction).sum(-1, keepdims=True))  # Jacobian of 0.99 softmax
    np.testing.assert_allclose(jax.grad(through_sample)(logits), expected, rtol=1e-4, atol=1e-6)


def test_kl_by_hand():
    left, right = jnp.log(jnp.array([0.5, 0.5])), jnp.log(jnp.array([0.9, 0.1]))
    expected = 0.5 * np.log(0.5 / 0.9) + 0.5 * np.log(0.5 / 0.1)
    np.testing.assert_allclose(dists.categorical_kl(left, right), expected, rtol=1e-6)
    np.testing.assert_allclose(dists.categorical_kl(left, left), 0, atol=1e-7)


def test_two_hot_with_equal_logits_predicts_exactly_zero():
    np.testing.assert_array_equal(
        jax.jit(lambda x: dists.TwoHot(x).mean())(jnp.full((3, 255), 0.7)), np.zeros(3)
    )


def test_two_hot_loss_equals_plain_cross_entropy():
    logits = jax.random.normal(KEY, (6, 255))
    target = jnp.array([0.0, 1.0, -3.7, 250.0, -1e-2, 1e9])
    weights = np.asarray(math.two_hot(target, math.symexp_bins(255)), np.float64)
    expected = -(weights * np.log(softmax(logits))).sum(-1)
    np.testing.assert_allclose(dists.TwoHot(logits).loss(target), expected, rtol=1e-5)


def test_two_hot_mean_equals_the_probability_weighted_bins():
    logits = 3 * jax.random.normal(KEY, (6, 15))
    expected = softmax(logits) @ np.asarray(math.symexp_bins(15), np.float64)
    np.testing.assert_allclose(dists.TwoHot(logits).mean(), expected, rtol=1e-4)


def test_bernoulli_with_soft_targets():
    logit, target = jnp.array([0.3, -2.0, 50.0, -50.0]), jnp.array([0.997, 0.0, 1.0, 0.0])
    p = 1 / (1 + np.exp(-np.asarray(logit, np.float64)))
    expected = [-(0.997 * np.log(p[0]) + 0.003 * np.log(1 - p[0])), -np.log(1 - p[1]), 0, 0]
    np.testing.assert_allclose(dists.Bernoulli(logit).loss(target), expected, rtol=1e-4, atol=1e-8)
    np.testing.assert_allclose(dists.Bernoulli(logit).mean(), p, rtol=1e-5, atol=1e-9)


def test_symlog_squared_sums_squares_of_symlog_differences_without_a_half():
    dist = dists.SymlogSquared(jnp.array([[0.5, 1.0], [0.0, -1.0]]), 1)
    target = jnp.array([[np.e - 1, 1 - np.e], [0.0, np.e**2 - 1]])  # symlog: [1, -1], [0, 2]
    np.testing.assert_allclose(dist.loss(target), [0.25 + 4.0, 9.0], rtol=1e-5)
    np.testing.assert_allclose(dist.mean()[0, 1], np.e - 1, rtol=1e-6)


def test_squared_sums_over_its_trailing_axes_without_a_half():
    output = jnp.arange(24.0).reshape(2, 2, 3, 2)
    np.testing.assert_allclose(dists.Squared(output, 3).loss(output - 2), [48.0, 48.0])
    assert dists.Squared(output, 2).loss(output).shape == (2, 2)


def test_categorical_sums_log_probability_and_entropy_over_its_shape():
    logits = jax.random.normal(KEY, (5, 2, 3))
    action = jnp.array([[0, 2], [1, 1], [2, 0], [0, 0], [2, 2]])
    logp = np.log(softmax(logits))
    expected = [sum(logp[n, i, action[n, i]] for i in range(2)) for n in range(5)]
    dist = dists.Categorical(logits, 1)
    np.testing.assert_allclose(dist.log_prob(action), expected, rtol=1e-5)
    np.testing.assert_allclose(dist.loss(action), np.negative(expected), rtol=1e-5)
    np.testing.assert_allclose(dist.entropy(), -(np.exp(logp) * logp).sum((1, 2)), rtol=1e-5)
    np.testing.assert_array_equal(dist.mode(), np.argmax(logits, -1))


def test_categorical_samples_follow_unmixed_probabilities():
    logits = jnp.array([2.0, 0.0, -40.0])
    sample = dists.Categorical(jnp.broadcast_to(logits, (20_000, 3)), 0).sample(KEY)
    assert sample.dtype == jnp.int32
    np.testing.assert_allclose(np.bincount(sample, minlength=3) / 20_000, softmax(logits), atol=0.01)
    assert not (sample == 2).any()


def test_normal_sums_log_probability_and_entropy_over_its_shape():
    mu, std, x = jax.random.normal(KEY, (3, 4, 2))
    std = jnp.abs(std) + 0.1
    mu64, std64, x64 = (np.asarray(value, np.float64) for value in (mu, std, x))
    logp = -0.5 * ((x64 - mu64) / std64) ** 2 - np.log(std64 * np.sqrt(2 * np.pi))
    dist = dists.Normal(mu, std, 1)
    np.testing.assert_allclose(dist.log_prob(x), logp.sum(-1), rtol=1e-5)
    np.testing.assert_allclose(dist.entropy(), (0.5 * np.log(2 * np.pi * np.e * std64**2)).sum(-1), rtol=1e-5)
    np.testing.assert_array_equal(dist.mode(), mu)


def test_normal_samples_have_its_mean_and_deviation():
    sample = dists.Normal(jnp.full((20_000, 1), 0.4), jnp.full((20_000, 1), 0.3), 1).sample(KEY)
    np.testing.assert_allclose([sample.mean(), sample.std()], [0.4, 0.3], atol=0.01)


@pytest.mark.parametrize(
    ("dist", "target"),
    [
        (dists.TwoHot(jnp.ones((2, 255), jnp.bfloat16)), jnp.ones(2)),
        (dists.Bernoulli(jnp.ones(2, jnp.bfloat16)), jnp.ones(2)),
        (dists.SymlogSquared(jnp.ones((2, 3), jnp.bfloat16), 1), jnp.ones((2, 3))),
        (dists.Squared(jnp.ones((2, 3), jnp.bfloat16), 1), jnp.ones((2, 3))),
        (dists.Categorical(jnp.ones((2, 3), jnp.bfloat16), 0), jnp.ones(2, jnp.int32)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_losses_of_bfloat16_networks_are_float32(dist, target):
    assert dist.loss(target).dtype == jnp.float32


def test_policies_of_bfloat16_networks_are_float32():
    wide = dists.Normal(jnp.zeros((2, 3), jnp.bfloat16), jnp.ones((2, 3), jnp.bfloat16), 1)
    for value in (wide.sample(KEY), wide.log_prob(jnp.ones((2, 3))), wide.entropy(), wide.mode()):
        assert value.dtype == jnp.float32
    assert dists.Categorical(jnp.ones((2, 3), jnp.bfloat16), 0).entropy().dtype == jnp.float32
    assert dists.log_unimix(jnp.ones((2, 3), jnp.bfloat16), 0.01).dtype == jnp.float32


@pytest.mark.parametrize(
    "make",
    [
        lambda target: dists.TwoHot(jnp.arange(15.0)).loss(target[0]),
        lambda target: dists.SymlogSquared(jnp.ones(3), 1).loss(target),
        lambda target: dists.Squared(jnp.ones(3), 1).loss(target),
    ],
)
def test_targets_carry_no_gradient(make):
    np.testing.assert_array_equal(jax.grad(make)(jnp.array([0.3, -2.0, 5.0])), np.zeros(3))
