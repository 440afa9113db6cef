"""The categorical RSSM of DreamerV2 against NumPy, and which side of the KL learns how much."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamworld.models.categorical_rssm import CategoricalRSSM, NormGRU, draw
from dreamworld.models.categorical_world import CategoricalWorld
from dreamworld.models.rssm import Latent
from dreamworld.options import CategoricalWorldConfig
from dreamworld.testing import random_params
from dreamworld.types import Space

KEY = jax.random.PRNGKey(0)
ACT = {"move": Space((2,), "float32"), "pick": Space((), "int32", classes=3)}
MODEL = CategoricalRSSM(deter=5, hidden=6, stoch=3, classes=4, act_space=ACT)
PARAMS = random_params(lambda key: MODEL.init(key, jnp.zeros((1, 7))))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def elu(x):
    return np.where(x > 0, x, np.expm1(x))


def dense(params, x):
    return np.asarray(x, np.float64) @ params["kernel"] + params["bias"]


def layer_norm(params, x):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-3) * params["scale"] + params["bias"]


def gru(params, x, h):
    reset, candidate, update = np.split(
        layer_norm(params["norm"], dense(params["parts"], np.concatenate([x, h], -1))), 3, -1
    )
    update = sigmoid(update - 1)
    return update * np.tanh(sigmoid(reset) * candidate) + (1 - update) * h


def head(params, x):
    logits = dense(params["out"], elu(dense(params["layer0"], x))).reshape((-1, 3, 4))
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def advance(params, stoch, deter, action):
    x = elu(dense(params["input"]["layer0"], np.concatenate([stoch.reshape((-1, 12)), action], -1)))
    return gru(params["gru"], x, deter)


def inputs(seed=0, batch=4) -> Any:
    random = np.random.default_rng(seed)
    normal = lambda size: random.normal(size=(batch, size)).astype(np.float32)
    state = Latent(normal(5), np.eye(4, dtype=np.float32)[random.integers(4, size=(batch, 3))])
    action = {"move": normal(2), "pick": random.integers(3, size=batch).astype(np.int32)}
    return state, action, np.concatenate([action["move"], np.eye(3)[action["pick"]]], -1), normal(7)


def test_the_gru_normalises_its_three_parts_together_and_its_update_gate_begins_low():
    cell = NormGRU(5)
    params = random_params(lambda key: cell.init(key, jnp.zeros((1, 6)), jnp.zeros((1, 5)))["params"])
    assert params["parts"]["kernel"].shape == (11, 15) and params["norm"]["scale"].shape == (15,)
    random = np.random.default_rng(1)
    x, h = random.normal(size=(4, 6)), random.normal(size=(4, 5))
    found: Any = cell.apply({"params": params}, jnp.asarray(x), jnp.asarray(h))
    np.testing.assert_allclose(found, gru(params, x, h), rtol=1e-4, atol=1e-6)
    zeros = jax.tree.map(np.zeros_like, params)  # nothing but the constant: u = sigmoid(-1), c = 0
    kept: Any = cell.apply({"params": zeros}, jnp.asarray(x), jnp.asarray(h))
    np.testing.assert_allclose(kept, (1 - sigmoid(-1)) * h, rtol=1e-5)


def test_a_dreamt_step_is_the_prior():
    state, action, flat, _ = inputs()
    found = MODEL.imagine(PARAMS, state, action, KEY)
    deter = advance(PARAMS, state.stoch, state.deter, flat)
    np.testing.assert_allclose(found.deter, deter, rtol=1e-4, atol=1e-6)
    log_probs = head(PARAMS["prior"], deter)
    np.testing.assert_allclose(MODEL.prior(PARAMS, found.deter), log_probs, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found.stoch, draw(jnp.asarray(log_probs, jnp.float32), KEY))
    certain = MODEL.imagine(PARAMS, state, action, KEY, 0.0)
    np.testing.assert_array_equal(certain.stoch, np.eye(4)[log_probs.argmax(-1)])


def test_a_row_corrects_the_random_part_alone_by_its_own_head():
    state, action, flat, seen = inputs()
    first = np.array([True, False, False, True])
    found, (posterior, prior) = MODEL.observe(PARAMS, state, action, seen, first, KEY)
    clear = lambda x: np.where(first.reshape((-1,) + (1,) * (x.ndim - 1)), 0, x)
    deter = advance(PARAMS, clear(state.stoch), clear(state.deter), clear(flat))
    np.testing.assert_allclose(found.deter, deter, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(prior, head(PARAMS["prior"], deter), rtol=1e-4, atol=1e-5)
    expected = head(PARAMS["posterior"], np.concatenate([deter, seen], -1))
    np.testing.assert_allclose(posterior, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found.stoch.sum(-1), np.ones((4, 3)))


def test_a_sequence_is_one_step_after_another():
    rows = [inputs(seed)[1:] for seed in range(3)]
    first = np.array([[True, False, False], [True, False, True]] * 2)
    stack = lambda index: jax.tree.map(lambda *x: np.stack(x, 1), *[row[index] for row in rows])
    states, believed = MODEL.observe_sequence(PARAMS, MODEL.initial(4), stack(0), stack(2), first, KEY)
    state, keys = MODEL.initial(4), jax.random.split(KEY, 3)
    for time, (action, _, seen) in enumerate(rows):
        state, one = MODEL.observe(PARAMS, state, action, seen, first[:, time], keys[time])
        for found, expected in zip((*states, *believed), (*state, *one)):
            np.testing.assert_allclose(found[:, time], expected, rtol=1e-4, atol=1e-5)


def test_samples_have_the_gradient_of_their_probabilities():
    logits = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    weight = np.random.default_rng(1).normal(size=(2, 3, 4)).astype(np.float32)
    found = jax.grad(lambda x: (weight * draw(jax.nn.log_softmax(x), KEY)).sum())(logits)
    probs = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = probs * (weight - (probs * weight).sum(-1, keepdims=True))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("balance", [0.8, 0.3])
def test_the_kl_moves_the_prior_by_its_share_and_the_posterior_by_the_rest(balance):
    """d KL(p || q) is q - p by the logits of q, and p (ln p / q - KL) by those of p."""
    world = CategoricalWorld(CategoricalWorldConfig(), {}, ACT, balance=balance)
    left, right = np.random.default_rng(0).normal(size=(2, 5, 3, 4)).astype(np.float32)
    normal = lambda x: jax.nn.log_softmax(x)
    total = lambda left, right: world.divergence(normal(left), normal(right))
    p, q = (np.exp(x) / np.exp(x).sum(-1, keepdims=True) for x in (left, right))
    ratio = np.log(p / q)
    kl = (p * ratio).sum(-1, keepdims=True)
    np.testing.assert_allclose(total(left, right), kl.sum((-2, -1)), rtol=1e-4)
    to_posterior, to_prior = jax.grad(lambda *sides: total(*sides).sum(), (0, 1))(left, right)
    np.testing.assert_allclose(to_prior, balance * (q - p), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(to_posterior, (1 - balance) * p * (ratio - kl), rtol=1e-3, atol=1e-6)


def test_a_layer_norm_stands_before_every_activation_if_asked_for():
    model = CategoricalRSSM(deter=5, hidden=6, stoch=3, classes=4, act_space=ACT, norm=True)
    params = random_params(lambda key: model.init(key, jnp.zeros((1, 7))))
    deter = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    own = params["prior"]
    x = elu(layer_norm(own["norm0"], dense(own["layer0"], deter)))
    logits = dense(own["out"], x).reshape((4, 3, 4))
    expected = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    np.testing.assert_allclose(model.prior(params, deter), expected, rtol=1e-4, atol=1e-5)
    assert "norm0" in params["input"] and "norm0" in params["posterior"]
