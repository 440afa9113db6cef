"""The Gaussian RSSM against NumPy."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dreamworld import nets
from dreamworld.models.gaussian_rssm import GRU, Gaussian, GaussianLatent, GaussianRSSM, feature, kl
from dreamworld.testing import random_params
from dreamworld.types import Space

KEY = jax.random.PRNGKey(0)
ACT = {"move": Space((2,), "float32"), "pick": Space((), "int32", classes=3)}
MODEL = GaussianRSSM(stoch=3, belief=4, hidden=5, min_std=0.1, act_space=ACT)
PARAMS = random_params(lambda key: MODEL.init(key, jnp.zeros((1, 6))))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def dense(params, x):
    return x @ params["kernel"] + params["bias"]


def gru(params, x, h):
    reset, update = np.split(sigmoid(dense(params["gates"], np.concatenate([x, h], -1))), 2, -1)
    candidate = np.tanh(dense(params["candidate"], np.concatenate([x, reset * h], -1)))
    return update * h + (1 - update) * candidate


def head(params, x):
    x = np.maximum(dense(params["hidden"], x), 0)
    return dense(params["mean"], x), np.log1p(np.exp(dense(params["std"], x))) + 0.1


def prior(params, sample, belief, action):
    x = np.maximum(dense(params["input"]["hidden"], np.concatenate([sample, action], -1)), 0)
    belief = gru(params["gru"], x, belief)
    return belief, head(params["prior"], belief)


def inputs(seed=0, batch=4) -> Any:
    random = np.random.default_rng(seed)
    normal = lambda size: random.normal(size=(batch, size)).astype(np.float32)
    state = GaussianLatent(normal(3), normal(4))
    action = {"move": normal(2), "pick": random.integers(3, size=batch).astype(np.int32)}
    flat = np.concatenate([action["move"], np.eye(3)[action["pick"]]], -1)
    return state, action, flat, normal(6)


def test_gates_begin_with_a_bias_of_one():
    params = GRU(4).init(KEY, jnp.zeros((1, 5)), jnp.zeros((1, 4)))["params"]
    np.testing.assert_array_equal(params["gates"]["bias"], np.ones(8))
    np.testing.assert_array_equal(params["candidate"]["bias"], np.zeros(4))


def test_a_dreamt_step_is_the_prior():
    state, action, flat, _ = inputs()
    belief, (mean, std) = prior(PARAMS, state.sample, state.belief, flat)
    dreamt = jax.jit(MODEL.imagine)(PARAMS, state, action, KEY, 0.0)
    np.testing.assert_allclose(dreamt.belief, belief, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(dreamt.sample, mean, rtol=1e-4, atol=1e-5)
    draws = jax.vmap(lambda key: MODEL.imagine(PARAMS, state, action, key).sample)(
        jax.random.split(KEY, 3000)
    )
    np.testing.assert_allclose(draws.mean(0), mean, atol=0.15)
    np.testing.assert_allclose(draws.std(0), std, rtol=0.08)


def test_an_observed_step_is_the_posterior_and_a_first_row_has_no_past():
    state, action, flat, embedded = inputs()
    first = np.array([False, True, False, True])
    found, (post, pri) = jax.jit(MODEL.observe)(PARAMS, state, action, embedded, first, KEY)
    keep = (~first)[:, None]
    belief, (mean, std) = prior(PARAMS, state.sample * keep, state.belief * keep, flat * keep)
    np.testing.assert_allclose(found.belief, belief, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(pri.mean, mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(pri.std, std, rtol=1e-4, atol=1e-5)
    expected = head(PARAMS["posterior"], np.concatenate([belief, embedded], -1))
    np.testing.assert_allclose(post.mean, expected[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(post.std, expected[1], rtol=1e-4, atol=1e-5)


def test_a_dream_that_is_corrected_is_what_was_observed():
    state, action, _, embedded = inputs()
    dreamt = MODEL.imagine(PARAMS, state, action, jax.random.PRNGKey(1))
    corrected, post = jax.jit(MODEL.correct)(PARAMS, dreamt.belief, embedded, KEY)
    observed, (expected, _) = MODEL.observe(PARAMS, state, action, embedded, np.zeros(4, bool), KEY)
    np.testing.assert_array_equal(corrected.belief, dreamt.belief)
    np.testing.assert_allclose(corrected.sample, observed.sample, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(post.std, expected.std, rtol=1e-5)


def test_a_sequence_is_its_steps():
    state, _, _, _ = inputs(batch=2)
    random = np.random.default_rng(1)
    action = {key: space.sample(random, 2, 5) for key, space in ACT.items()}
    embedded, first = random.normal(size=(2, 5, 6)).astype(np.float32), random.random((2, 5)) < 0.3
    states, (posts, _) = jax.jit(MODEL.observe_sequence)(PARAMS, state, action, embedded, first, KEY)
    keys = jax.random.split(KEY, 5)
    for t in range(5):
        act, seen, begins = jax.tree.map(lambda x, t=t: x[:, t], (action, embedded, first))
        state, (post, _) = MODEL.observe(PARAMS, state, act, seen, begins, keys[t])
        np.testing.assert_allclose(posts.mean[:, t], post.mean, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(states.sample[:, t], state.sample, rtol=1e-4, atol=1e-5)


def test_the_kl_is_that_of_normals_summed_over_latents():
    random = np.random.default_rng(2)
    one, two = (Gaussian(random.normal(size=(4, 3)), random.uniform(0.5, 2, (4, 3))) for _ in range(2))
    grid = np.linspace(-12, 12, 20001)
    density = lambda normal: (
        np.exp(-0.5 * ((grid - normal.mean[..., None]) / normal.std[..., None]) ** 2)
        / (normal.std[..., None] * np.sqrt(2 * np.pi))
    )
    p, q = density(one), density(two)
    expected = np.trapezoid(p * np.log(p / q), grid).sum(-1)
    np.testing.assert_allclose(kl(one, two), expected, rtol=1e-4)
    np.testing.assert_allclose(kl(one, one), np.zeros(4), atol=1e-6)


def test_a_feature_is_sample_and_belief():
    state, *_ = inputs()
    np.testing.assert_array_equal(feature(state), np.concatenate([state.sample, state.belief], -1))
    assert nets.class_count(ACT["pick"]) == 3
