"""The actor-critic against NumPy, in a world that is simple enough to recompute."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamworld import math, nets, rollout
from dreamworld.behaviours.actor_critic import ActorCritic
from dreamworld.contract import WorldOut
from dreamworld.options import ActorCriticConfig
from dreamworld.testing import centre_bins, random_params
from dreamworld.types import Batch, Space

KEY = jax.random.PRNGKey(0)
B, T, H, F = 2, 5, 4, 6
ACT = {"move": Space((2,), "float32"), "pick": Space((), "int32", classes=3)}
CONFIG = ActorCriticConfig(units=8, actor_layers=1, critic_layers=1, imag_length=H, entropy=0.1)
BINS = np.sign(np.linspace(-20, 20, 255)) * np.expm1(np.abs(np.linspace(-20, 20, 255)))


class Point(NamedTuple):
    """A prediction that is a number."""

    value: Any

    def mean(self):
        return self.value


class Toy:
    """The state is the feature; actions push it. Reward and continuation are read off two of its entries."""

    def feature(self, params, state):
        return state

    def imagine(self, params, state, action, key):
        push = nets.concat_actions(ACT, action, jnp.float32)  # [N, 5]
        return params * state + jnp.pad(push, ((0, 0), (0, F - 5)))

    def predict(self, params, feature):
        return Point(3 * feature[..., 0]), Point(jax.nn.sigmoid(params * feature[..., 1]))


def make(**changes):
    return ActorCritic(dataclasses.replace(CONFIG, **changes), ACT, jnp.float32)


BEHAVIOUR = make()


def init_random(seed, at):
    """Random parameters, with values of the order of 1: near bin `at` of 255."""
    params: Any = random_params(lambda key: BEHAVIOUR.init(jnp.zeros((1, F)), key), seed)
    centre_bins(params["critic"], at)
    return params


PARAMS = init_random(0, 131)
WORLD = np.float32(0.9)  # the parameter of the toy world
SLOW = init_random(1, 118)
STATS = math.Percentiles(jnp.float32(-1.0), jnp.float32(2.0))


def make_batch() -> Any:
    random = np.random.default_rng(0)
    flags = np.zeros((B, T), bool)
    last, terminal = flags.copy(), flags.copy()
    last[0, 1] = terminal[0, 1] = True  # a true end
    last[1, 1] = True  # a time limit
    reward: Any = random.normal(size=(B, T)).astype(np.float32)
    features: Any = random.normal(size=(B, T, F)).astype(np.float32)
    batch = Batch({}, {}, reward, *(jnp.asarray(x) for x in (flags, last, terminal)), extras={})
    return batch, WorldOut(features, features, {}, {})


BATCH, OUT = make_batch()


def make_loss(behaviour):
    toy: Any = Toy()

    def loss(params, slow, stats, out, batch, world=WORLD):
        return behaviour.loss(params, slow, stats, toy, world, out, batch, KEY)

    return jax.jit(loss)


LOSS = make_loss(BEHAVIOUR)


def dream():
    """The trajectory that the loss imagines: features [H+1, N, F] and actions, in float64."""

    def look(state, key):
        action = BEHAVIOUR.choose(PARAMS, state, key)
        return action, (state, action)

    advance = lambda state, action, key: Toy().imagine(WORLD, state, action, key)
    roll = jax.jit(lambda start: rollout.append(*rollout.imagine(advance, look, start, H, KEY)))
    return roll(OUT.states.reshape(-1, F))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def log_probs(params, features):
    return np.log(softmax(np.asarray(BEHAVIOUR.value(params, features).logits, np.float64)))


def cross_entropy(logp, target):
    weights = np.stack([np.interp(target, BINS, row) for row in np.eye(255)], -1)
    return -(weights * logp).sum(-1)


def imagined(slow_target=False):
    """{name: [H+1, N]} or [H, N]: everything the losses are made of, by plain recomputation."""
    features, actions = dream()
    x = np.asarray(features, np.float64)
    reward, cont = 3 * x[..., 0], 1 / (1 + np.exp(-0.9 * x[..., 1]))
    logp = log_probs(PARAMS, features)
    slow = np.exp(log_probs(SLOW, features)) @ BINS
    value = slow if slow_target else np.exp(logp) @ BINS
    returns, following = [], value[-1]
    for t in reversed(range(H)):
        following = reward[t + 1] + cont[t + 1] * (0.05 * value[t + 1] + 0.95 * following)
        returns.insert(0, following)
    weight = np.cumprod(cont, 0)[:-1]
    return {"features": features, "actions": actions, "logp": logp, "value": value, "slow": slow} | {
        "returns": np.stack(returns), "weight": weight}  # fmt: skip


def policy_terms(features, actions):
    """Log-probability and entropy [H, N], summed over dimensions and keys."""
    policy = BEHAVIOUR.policy(PARAMS, features)
    mu, std = (np.asarray(x, np.float64) for x in (policy["move"].mu, policy["move"].std))
    normal = -0.5 * ((np.asarray(actions["move"]) - mu) / std) ** 2 - np.log(std * np.sqrt(2 * np.pi))
    p = softmax(np.asarray(policy["pick"].logits, np.float64))
    chosen = np.take_along_axis(np.log(p), np.asarray(actions["pick"])[..., None], -1)[..., 0]
    entropy = (0.5 * np.log(2 * np.pi * np.e * std**2)).sum(-1) - (p * np.log(p)).sum(-1)
    return normal.sum(-1) + chosen, entropy


def expected_actor(scale, data):
    logp, entropy = policy_terms(data["features"][:-1], jax.tree.map(lambda a: a[:-1], data["actions"]))
    advantage = (data["returns"] - data["value"][:-1]) / scale
    return (-data["weight"] * (logp * advantage + 0.1 * entropy)).mean(0).reshape(B, T)


def new_percentiles(data):
    return [0.99 * old + 0.01 * np.percentile(data["returns"], q) for old, q in ((-1.0, 5), (2.0, 95))]


def test_actor_loss_equals_numpy():
    losses, stats, _ = LOSS(PARAMS, SLOW, STATS, OUT, BATCH)
    data = imagined()
    low, high = new_percentiles(data)
    assert high - low > 1
    np.testing.assert_allclose(stats, [low, high], rtol=1e-4)
    # Scaled by percentiles that this batch has moved, weighted by all continuations from c[0] on.
    np.testing.assert_allclose(losses["actor"], expected_actor(high - low, data), rtol=1e-3, atol=1e-5)


def test_small_return_ranges_leave_the_advantage_unscaled():
    losses, _, _ = LOSS(PARAMS, SLOW, math.Percentiles(jnp.float32(0), jnp.float32(0)), OUT, BATCH)
    np.testing.assert_allclose(losses["actor"], expected_actor(1.0, imagined()), rtol=1e-3, atol=1e-5)


def test_critic_loss_equals_numpy():
    losses, _, _ = LOSS(PARAMS, SLOW, STATS, OUT, BATCH)
    data = imagined()
    logp = data["logp"][:-1]
    expected = cross_entropy(logp, data["returns"]) + cross_entropy(logp, data["slow"][:-1])
    np.testing.assert_allclose(losses["critic"], (data["weight"] * expected).mean(0).reshape(B, T), rtol=1e-3)


def test_slow_targets_replace_the_critic_in_returns_and_advantages():
    losses, _, _ = make_loss(make(slow_target=True))(PARAMS, SLOW, STATS, OUT, BATCH)
    data = imagined(slow_target=True)
    low, high = new_percentiles(data)
    np.testing.assert_allclose(losses["actor"], expected_actor(high - low, data), rtol=1e-3, atol=1e-5)
    plain = imagined()["returns"]
    assert np.abs(plain - data["returns"]).max() > 0.5


def test_replay_value_loss_equals_numpy():
    losses, _, _ = LOSS(PARAMS, SLOW, STATS, OUT, BATCH)
    boot = imagined()["returns"][0].reshape(B, T)
    reward, last, terminal = (
        np.asarray(x, np.float64) for x in (BATCH.reward, BATCH.is_last, BATCH.is_terminal)
    )
    returns, following = np.zeros((B, T - 1)), boot[:, -1]
    for t in reversed(range(T - 1)):
        going = 0.95 * (1 - last[:, t + 1])
        mixed = (1 - going) * boot[:, t + 1] + going * following
        following = reward[:, t + 1] + (1 - terminal[:, t + 1]) * (1 - 1 / 333) * mixed
        returns[:, t] = following
    np.testing.assert_allclose(returns[0, 0], reward[0, 1])  # nothing after a true end
    np.testing.assert_allclose(
        returns[1, 0], reward[1, 1] + (1 - 1 / 333) * boot[1, 1]
    )  # a time limit bootstraps
    logp = log_probs(PARAMS, OUT.features[:, :-1])
    slow = np.exp(log_probs(SLOW, OUT.features[:, :-1])) @ BINS
    expected = (1 - last[:, :-1]) * (cross_entropy(logp, returns) + cross_entropy(logp, slow))
    assert losses["replay_value"].shape == (B, T - 1)
    np.testing.assert_allclose(losses["replay_value"], expected, rtol=1e-4)


@pytest.fixture(scope="module")
def gradients():
    """{loss: (gradient by parameters, by slow critic, by features of the world model, by its parameter)}."""
    loss = make_loss(BEHAVIOUR)

    @jax.jit
    def compute(params, slow, features, world):
        def total(params, slow, features, world, name):
            out = OUT._replace(states=features, features=features)
            return loss(params, slow, STATS, out, BATCH, world)[0][name].mean()

        names = ("actor", "critic", "replay_value")
        return {name: jax.grad(total, (0, 1, 2, 3))(params, slow, features, world, name) for name in names}

    return compute(PARAMS, SLOW, OUT.features, WORLD)


def test_heads_at_once_and_step_by_step_are_equal():
    """Losses and their gradients; the rows of all steps at once are for accelerators."""

    def found(at_once):
        loss = make_loss(ActorCritic(CONFIG, ACT, jnp.float32, at_once))

        def total(params):
            losses, _, metrics = loss(params, SLOW, STATS, OUT, BATCH)
            return sum((i + 1) * losses[name].mean() for i, name in enumerate(sorted(losses))), (
                losses,
                metrics,
            )

        return jax.value_and_grad(total, has_aux=True)(PARAMS)

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), found(False), found(True)
    )


def moves(tree):
    return any(np.any(leaf) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    ("name", "learns", "rests"),
    [("actor", "actor", "critic"), ("critic", "critic", "actor"), ("replay_value", "critic", "actor")],
)
def test_each_loss_teaches_its_own_network_and_never_the_slow_critic(gradients, name, learns, rests):
    params, slow, _, _ = gradients[name]
    assert moves(params[learns])
    assert not moves(params[rests])
    assert not moves(slow)


def test_only_the_replay_value_loss_reaches_the_world_model(gradients):
    for name in ("actor", "critic"):
        _, _, features, world = gradients[name]
        assert not moves(features) and not moves(world)
    _, _, features, world = gradients["replay_value"]
    assert np.abs(features[:, :-1]).max() > 0
    assert not moves(features[:, -1:]) and not moves(world)
    assert not moves(features[0, 1]) and not moves(features[1, 1])  # last rows of episodes have no weight


def test_actor_gradient_is_reinforce_with_fixed_actions(gradients):
    """For continuous actions, too: no gradient flows through the sampled action or the dynamics."""
    data = imagined()
    low, high = new_percentiles(data)
    advantage = ((data["returns"] - data["value"][:-1]) / (high - low)).astype(np.float32)
    weight = data["weight"].astype(np.float32)
    actions = jax.tree.map(lambda a: a[:-1], data["actions"])

    @jax.jit
    def surrogate(actor):
        policy = BEHAVIOUR.policy({"actor": actor}, data["features"][:-1])
        logp = policy["move"].log_prob(actions["move"]) + policy["pick"].log_prob(actions["pick"])
        entropy = policy["move"].entropy() + policy["pick"].entropy()
        return -(weight * (advantage * logp + 0.1 * entropy)).mean()

    expected = jax.grad(surrogate)(PARAMS["actor"])
    for found, want in zip(jax.tree.leaves(gradients["actor"][0]["actor"]), jax.tree.leaves(expected)):
        np.testing.assert_allclose(found, want, rtol=1e-2, atol=1e-4)


def test_the_slow_critic_starts_as_a_copy_and_moves_by_its_rate():
    slow = BEHAVIOUR.init_slow({"critic": {"w": jnp.array([1.0, 2.0])}, "actor": {}})
    np.testing.assert_array_equal(slow["critic"]["w"], [1, 2])
    moved = BEHAVIOUR.update_slow(slow, {"critic": {"w": jnp.array([2.0, 0.0])}, "actor": {}})
    np.testing.assert_allclose(moved["critic"]["w"], [1.02, 1.96], rtol=1e-6)


def test_greedy_actions_are_modes_and_sampled_ones_vary():
    feature = jnp.asarray(np.tile(OUT.features[0, 0], (200, 1)))
    policy = BEHAVIOUR.policy(PARAMS, feature)
    greedy = BEHAVIOUR.choose(PARAMS, feature, KEY, mode="greedy")
    np.testing.assert_array_equal(greedy["move"], policy["move"].mu)
    np.testing.assert_array_equal(greedy["pick"], np.argmax(policy["pick"].logits, -1))
    sampled = BEHAVIOUR.choose(PARAMS, feature, KEY)
    assert np.std(sampled["move"], 0).min() > 0.05 and len(np.unique(sampled["pick"])) > 1
    assert sampled["pick"].dtype == jnp.int32 and sampled["move"].dtype == jnp.float32


def test_action_keys_are_sampled_from_different_noise():
    twins = {"a": Space((3,), "float32"), "b": Space((3,), "float32")}
    behaviour = ActorCritic(CONFIG, twins, jnp.float32)
    params = jax.tree.map(np.zeros_like, random_params(lambda key: behaviour.init(jnp.zeros((1, F)), key)))
    action = behaviour.choose(params, jnp.zeros((1, F)), KEY)
    assert not np.array_equal(action["a"], action["b"])


def test_a_new_critic_values_everything_at_zero():
    params = jax.jit(lambda key: BEHAVIOUR.init(jnp.zeros((1, F)), key))(KEY)
    np.testing.assert_array_equal(BEHAVIOUR.value(params, OUT.features).mean(), np.zeros((B, T)))
