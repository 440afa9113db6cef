"""The behaviour of DreamerV2: its indices by hand numbers, its gradients against a plain loop, its distributions."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamworld import dists
from dreamworld.behaviours.mixed_gradient import MixedGradient
from dreamworld.options import MixedGradientConfig
from dreamworld.types import Space

KEY = jax.random.PRNGKey(3)
PICK = {"pick": Space((), "int32", classes=2)}
MOVE = {"move": Space((2,), "float32", low=-1.0, high=1.0), "arm": Space((), "float32", low=-1.0, high=1.0)}
STEPS, LAM, ENTROPY = 3, 0.5, 0.1
TABLES = MixedGradient(
    MixedGradientConfig(actor_layers=0, value_layers=0, imag_length=STEPS, lam=LAM, entropy=ENTROPY), PICK
)
REWARD, CONT = np.array([1.0, 2.0, 4.0, 8.0]), np.array([0.5, 0.9, 0.8, 0.7])
SLOW, LOGITS = np.array([10.0, 20.0, 30.0, 40.0]), np.array([0.3, -0.2, 0.5, 0.1])


@dataclasses.dataclass(frozen=True)
class Clock:
    """A state [N, 4] says what time it is, and that is all: what follows can be computed by hand."""

    def imagine(self, state, action, key):
        return jnp.roll(state, 1, -1)

    def feature(self, state):
        return state

    def reward(self, feature):
        return feature @ jnp.asarray(REWARD, jnp.float32)

    def cont(self, feature):
        return feature @ jnp.asarray(CONT, jnp.float32)


def table(values, bias=0.0):
    """Of a linear network: its outputs at each time."""
    kernel = np.asarray(values, np.float32).reshape((4, -1))
    return {"out": {"kernel": kernel, "bias": np.full(kernel.shape[-1], bias, np.float32)}}


def hand_targets(first):
    """Lambda-returns and weights of the four states, the discount after the first being `first`."""
    cont = [first, *CONT[1:]]
    last = REWARD[2] + cont[2] * SLOW[3]  # bootstraps at the last state: its own reward is never read
    middle = REWARD[1] + cont[1] * ((1 - LAM) * SLOW[2] + LAM * last)
    returns = [REWARD[0] + cont[0] * ((1 - LAM) * SLOW[1] + LAM * middle), middle, last]
    return np.array(returns), np.array([1, cont[0], cont[0] * cont[1]])


@pytest.mark.parametrize("first", [0.99, 0.0])
def test_an_action_is_judged_by_the_return_of_the_next_state_and_the_last_two_states_learn_nothing(first):
    value = np.array([3.0, 1.0, 4.0, 1.0])
    params = {"actor": table(np.stack([LOGITS, 0 * LOGITS], -1)), "value": table(value)}
    start, cont = jnp.eye(4)[:1], jnp.full(1, first)

    def losses(params):
        found = TABLES.loss(params, {"value": table(SLOW)}, Clock(), start, cont, KEY)
        return found.actor.sum(), found.value.sum()

    (actor_loss, value_loss), grads = jax.jit(lambda params: (losses(params), jax.jacrev(losses)(params)))(
        params
    )
    returns, weight = hand_targets(first)
    expected = (weight * (0.5 * (value[:3] - returns) ** 2 + 0.5 * np.log(2 * np.pi))).mean()
    np.testing.assert_allclose(value_loss, expected, rtol=1e-5)
    to_value = grads[1]["value"]["out"]["kernel"][:, 0]
    np.testing.assert_allclose(to_value, [*(weight * (value[:3] - returns) / 3), 0], rtol=1e-4)

    keys = jax.random.split(KEY, STEPS + 1)  # the actions that were drawn at the first two states
    looks = [jax.random.split(keys[time])[0] for time in range(2)]
    feature = lambda time: jnp.eye(4)[time : time + 1]
    drawn = [int(TABLES.choose(params, feature(time), look)["pick"][0]) for time, look in enumerate(looks)]
    logits = np.stack([LOGITS, 0 * LOGITS], -1)[:2]
    probs = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    log_prob, entropy = np.log(probs[[0, 1], drawn]), -(probs * np.log(probs)).sum(-1)
    advantage = returns[1:] - SLOW[:2]
    actor = -(weight[:2] * (log_prob * advantage + ENTROPY * entropy)).mean()
    np.testing.assert_allclose(actor_loss, actor, rtol=1e-5)
    to_logits = grads[0]["actor"]["out"]["kernel"]
    slope = (np.eye(2)[drawn] - probs) * advantage[:, None]
    slope -= ENTROPY * probs * (np.log(probs) + entropy[:, None])
    expected = np.concatenate([-weight[:2, None] * slope / 2, np.zeros((2, 2))])
    np.testing.assert_allclose(to_logits, expected, rtol=1e-4, atol=1e-6)


def test_the_target_network_gets_no_gradient_and_each_loss_moves_its_own_network():
    params = {"actor": table(np.stack([LOGITS, 0 * LOGITS], -1)), "value": table(SLOW / 2)}
    loss = lambda params, slow, name: getattr(
        TABLES.loss(params, slow, Clock(), jnp.eye(4)[:1], jnp.ones(1), KEY), name
    ).sum()
    for name, other in (("actor", "value"), ("value", "actor")):
        own, slow = jax.grad(loss, (0, 1))(params, {"value": table(SLOW)}, name)
        assert float(jnp.abs(own[name]["out"]["kernel"]).max()) > 1e-3
        assert all((leaf == 0).all() for leaf in jax.tree.leaves((own[other], slow)))


@dataclasses.dataclass(frozen=True)
class Line:
    """A state [N, 2] that actions push; the reward of a state is its sum, and going on depends on it."""

    def imagine(self, state, action, key):
        push = action["move"] + action["pick"][..., None]
        return jnp.tanh(state + 0.5 * push) + 0.01 * jax.random.normal(key, state.shape)

    def feature(self, state):
        return 2 * state

    def reward(self, feature):
        return feature.sum(-1)

    def cont(self, feature):
        return 0.9 * jax.nn.sigmoid(3 + feature[..., 0])


def test_continuous_actions_learn_through_the_dream_and_discrete_ones_beside_them_as_in_a_plain_loop():
    config = MixedGradientConfig(actor_layers=1, value_layers=1, units=8, imag_length=3, lam=0.8, entropy=0.3)
    behaviour, world, sg = (
        MixedGradient(config, {"move": MOVE["move"], **PICK}),
        Line(),
        jax.lax.stop_gradient,
    )
    shake = lambda x: x + 0.3 * jax.random.normal(KEY, x.shape)
    params = jax.tree.map(shake, behaviour.init(jnp.zeros((1, 2)), KEY))
    slow = {"value": jax.tree.map(shake, params["value"])}
    start, first = jax.random.normal(KEY, (5, 2)), jnp.array([0.9, 0.9, 0.0, 0.9, 0.9])

    def plain(params, slow):
        state, features, picks = start, [world.feature(start)], []
        keys = jax.random.split(KEY, config.imag_length + 1)
        for step in range(config.imag_length):
            look, dream = jax.random.split(keys[step])
            action = behaviour.choose(params, sg(features[-1]), look)
            picks.append(action["pick"])
            state = world.imagine(state, action, dream)
            features.append(world.feature(state))
        conts = [first, *(world.cont(feature) for feature in features[1:])]
        values = [behaviour.value(slow, feature) for feature in features]
        returns, following = {}, values[-1]
        for t in reversed(range(config.imag_length)):
            mixed = (1 - config.lam) * values[t + 1] + config.lam * following
            returns[t] = following = world.reward(features[t]) + conts[t] * mixed
        weight, actor, value = jnp.ones(5), jnp.zeros(5), jnp.zeros(5)
        for t in range(config.imag_length):
            error = behaviour.value(params, sg(features[t])) - sg(returns[t])
            value += weight * 0.5 * (error**2 + jnp.log(2 * jnp.pi)) / config.imag_length
            if t < config.imag_length - 1:
                policy = behaviour.policy(params, sg(features[t]))
                entropy = sum(dist.entropy() for dist in policy.values())
                judged = policy["pick"].log_prob(picks[t]) * sg(returns[t + 1] - values[t])
                gain = judged + returns[t + 1] + config.entropy * entropy
                actor -= weight * gain / (config.imag_length - 1)
            weight *= sg(conts[t])
        return actor, value

    def ours(params, slow):
        found = behaviour.loss(params, slow, world, start, first, KEY)
        return found.actor, found.value

    def graded(losses):
        total = lambda *params: (sum(loss.mean() for loss in losses(*params)), losses(*params))
        return jax.jit(jax.grad(total, (0, 1), has_aux=True))(params, slow)

    (found, to_slow), values = graded(ours)
    (expected, _), others = graded(plain)
    for one, other in zip(values, others, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), found, expected)
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(found["actor"])) > 1e-2
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(to_slow))


def test_the_policy_has_the_published_form_for_every_kind_of_action():
    behaviour = MixedGradient(MixedGradientConfig(actor_layers=0, value_layers=0), {**MOVE, **PICK})
    params: Any = {"actor": behaviour.init(jnp.zeros((1, 3)), KEY)["actor"]}
    feature = jax.random.normal(KEY, (4, 3))
    own = params["actor"]["out"]
    raw = np.asarray(feature @ own["kernel"] + own["bias"].reshape((1, -1)), np.float64)
    assert raw.shape == (4, 2 + 4 + 2)  # arm, move, pick: in the order of their names
    policy: Any = behaviour.policy(params, feature)
    std = lambda x: 2 / (1 + np.exp(-x / 2)) + 0.1
    np.testing.assert_allclose(policy["arm"].mu, np.tanh(raw[:, 0]), rtol=1e-4)
    np.testing.assert_allclose(policy["arm"].std, std(raw[:, 1]), rtol=1e-4)
    np.testing.assert_allclose(policy["move"].mu, np.tanh(raw[:, 2:4]), rtol=1e-4)
    np.testing.assert_allclose(policy["move"].std, std(raw[:, 4:6]), rtol=1e-4)
    np.testing.assert_allclose(policy["pick"].logits, raw[:, 6:], rtol=1e-4)
    greedy = behaviour.choose(params, feature, KEY, mode="greedy")
    np.testing.assert_array_equal(greedy["move"], policy["move"].mu)
    np.testing.assert_array_equal(greedy["pick"], raw[:, 6:].argmax(-1))


@pytest.mark.parametrize(("mu", "std"), [(0.3, 0.4), (-0.98, 0.1), (0.7, 2.0)])
def test_a_truncated_normal_is_one(mu, std):
    """Density, entropy, moments and the gradient of a sample by its mean, against integrals and differences."""
    normal = dists.TruncatedNormal(jnp.array([mu]), jnp.array([std]), 1)
    grid = np.linspace(-1, 1, 20001)
    density = np.exp(np.asarray(jax.vmap(normal.log_prob)(jnp.asarray(grid, jnp.float32)[:, None])))
    np.testing.assert_allclose(np.trapezoid(density, grid), 1, rtol=1e-3)
    entropy = -np.trapezoid(density * np.log(np.maximum(density, 1e-30)), grid)
    np.testing.assert_allclose(normal.entropy(), entropy, rtol=1e-3, atol=1e-3)
    mean = np.trapezoid(density * grid, grid)
    deviation = np.sqrt(np.trapezoid(density * (grid - mean) ** 2, grid))
    count = 40_000
    many = lambda mu: dists.TruncatedNormal(jnp.full(count, mu), jnp.full(count, std), 0)
    samples = np.asarray(many(mu).sample(KEY))
    assert np.abs(samples).max() < 1
    np.testing.assert_allclose(samples.mean(), mean, atol=5 * deviation / np.sqrt(count))
    np.testing.assert_allclose(samples.std(), deviation, rtol=0.02)
    slope = jax.grad(lambda mu: many(mu).sample(KEY).mean())(mu)
    shift = 1e-2
    difference = (many(mu + shift).sample(KEY).mean() - many(mu - shift).sample(KEY).mean()) / (2 * shift)
    np.testing.assert_allclose(slope, difference, rtol=0.02)
