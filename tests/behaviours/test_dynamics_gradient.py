"""Dreamer's behaviour: indices, weights and where gradients stop, against plain loops."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamworld import dists
from dreamworld.behaviours.dynamics_gradient import DynamicsGradient, targets
from dreamworld.options import DynamicsGradientConfig
from dreamworld.types import Space

KEY = jax.random.PRNGKey(3)
ACT = {"move": Space((2,), "float32", low=-1.0, high=1.0), "arm": Space((), "float32", low=-1.0, high=1.0)}
BEHAVIOUR = DynamicsGradient(
    DynamicsGradientConfig(actor_layers=1, value_layers=1, units=8, imag_length=4, discount=0.9, lam=0.8), ACT
)


@dataclasses.dataclass(frozen=True)
class Line:
    """A state [N, 3] that actions push; the reward of a state is its sum, and going on depends on it."""

    def imagine(self, state, action, key):
        push = jnp.concatenate([action["arm"][..., None], action["move"]], -1)
        return jnp.tanh(state + 0.5 * push) + 0.01 * jax.random.normal(key, state.shape)

    def feature(self, state):
        return 2 * state

    def reward(self, feature):
        return feature.sum(-1)

    def cont(self, feature):
        return 0.9 * jax.nn.sigmoid(3 + feature[..., 0])


def params_of(behaviour):
    params = behaviour.init(jnp.zeros((1, 3)), KEY)
    return jax.tree.map(lambda x: x + 0.1 * jax.random.normal(KEY, x.shape), params)


def test_the_reward_is_that_of_the_state_itself_and_the_first_weight_is_one():
    """By hand: lambda 0.5, a discount of 0.9 that ends at the second state."""
    reward = jnp.array([1.0, 2.0, 4.0, 8.0])[:, None]
    cont = jnp.array([0.9, 0.0, 0.9, 0.9])[:, None]
    value = jnp.array([10.0, 20.0, 30.0, 40.0])[:, None]
    returns, weight = targets(reward, cont, value, 0.5)
    last = 4 + 0.9 * 40  # bootstraps at the last state: its own reward is never read
    second = 2 + 0.0
    first = 1 + 0.9 * (0.5 * 20 + 0.5 * second)
    np.testing.assert_allclose(returns[:, 0], [first, second, last], rtol=1e-6)
    np.testing.assert_allclose(weight[:, 0], [1, 0.9, 0.0])


def test_losses_and_gradients_equal_a_plain_loop():
    params, start = params_of(BEHAVIOUR), jax.random.normal(KEY, (5, 3))
    config, world, sg = BEHAVIOUR.config, Line(), jax.lax.stop_gradient

    def plain(params):
        state, features = start, []
        keys = jax.random.split(KEY, config.imag_length + 1)
        for step in range(config.imag_length):
            look, dream = jax.random.split(keys[step])
            action = BEHAVIOUR.choose(params, sg(world.feature(state)), look)
            state = world.imagine(state, action, dream)
            features.append(world.feature(state))
        values = [BEHAVIOUR.value({"value": sg(params["value"])}, feature) for feature in features]
        following, actor, value, weights = values[-1], 0.0, 0.0, [jnp.ones(5)]
        for feature in features[:-2]:
            weights.append(weights[-1] * sg(world.cont(feature)))
        for t in reversed(range(config.imag_length - 1)):
            mixed = (1 - config.lam) * values[t + 1] + config.lam * following
            following = world.reward(features[t]) + world.cont(features[t]) * mixed
            actor -= weights[t] * following
            error = BEHAVIOUR.value(params, sg(features[t])) - sg(following)
            value += weights[t] * 0.5 * (error**2 + jnp.log(2 * jnp.pi))
        count = config.imag_length - 1
        return actor / count, value / count

    def ours(params):
        found = BEHAVIOUR.loss(params, world, start, KEY)
        return found.actor, found.value

    for one, other in zip(ours(params), plain(params), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)
    total = lambda losses: lambda params: sum(loss.mean() for loss in losses(params))
    found, expected = (jax.jit(jax.grad(total(losses)))(params) for losses in (ours, plain))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), found, expected)


def test_each_loss_moves_its_own_network_alone():
    params, start = params_of(BEHAVIOUR), jax.random.normal(KEY, (5, 3))
    loss = lambda params, name: getattr(BEHAVIOUR.loss(params, Line(), start, KEY), name).mean()
    for name, other in (("actor", "value"), ("value", "actor")):
        grads = jax.grad(loss)(params, name)
        assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(grads[name])) > 1e-3
        assert all((leaf == 0).all() for leaf in jax.tree.leaves(grads[other]))


def test_the_policy_is_a_tanh_normal_in_the_published_form():
    params, feature = params_of(BEHAVIOUR), jax.random.normal(KEY, (4, 3))
    raw = np.asarray(BEHAVIOUR.actor.apply({"params": params["actor"]}, feature), np.float64)
    policy = BEHAVIOUR.policy(params, feature)
    np.testing.assert_allclose(policy.mu, 5 * np.tanh(raw[:, :3] / 5), rtol=1e-5)
    np.testing.assert_allclose(
        policy.sigma, np.log1p(np.exp(raw[:, 3:] + np.log(np.exp(5) - 1))) + 1e-4, rtol=1e-5
    )
    action = BEHAVIOUR.choose(params, feature, KEY)
    assert {name: value.shape for name, value in action.items()} == {"move": (4, 2), "arm": (4,)}
    both = np.concatenate([action["arm"][:, None], action["move"]], -1)  # keys in order
    np.testing.assert_array_equal(both, policy.sample(KEY))


@pytest.mark.parametrize(("mu", "sigma"), [(0.3, 0.4), (-1.0, 0.2)])
def test_the_density_of_an_action_integrates_to_one_and_the_likeliest_is_at_its_top(mu, sigma):
    normal = dists.TanhNormal(jnp.array([mu]), jnp.array([sigma]))
    inner = np.linspace(mu - 8 * sigma, mu + 8 * sigma, 20001)
    log_prob = np.asarray(normal.log_density(jnp.asarray((inner - mu) / sigma)[:, None]))
    action = np.tanh(inner)
    np.testing.assert_allclose(np.trapezoid(np.exp(log_prob), action), 1, rtol=1e-3)
    likeliest = np.asarray(jax.vmap(lambda key: normal.likeliest(key, 1000))(jax.random.split(KEY, 20)))
    assert np.abs(likeliest - action[np.argmax(log_prob)]).max() < 0.05
