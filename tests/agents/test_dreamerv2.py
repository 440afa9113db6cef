"""DreamerV2: its numbers, its losses, which parameters learn from them, and when the target network is copied."""

import dataclasses
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dreamworld import cli
from dreamworld.agents import find, make_agent
from dreamworld.agents.dreamerv2.agent import make_loss
from dreamworld.agents.dreamerv2.config import TINY, DecayingAdamConfig, DreamerV2Config
from dreamworld.behaviours.mixed_gradient import MixedGradient
from dreamworld.config import Config, RunConfig
from dreamworld.models import rssm
from dreamworld.models.categorical_world import CategoricalWorld
from dreamworld.testing import random_batch, random_params
from dreamworld.types import Batch, Space

KEY = jax.random.PRNGKey(0)
OBS = {"speed": Space((3,), "float32")}
MOVE = {"move": Space((2,), "float32", low=-1.0, high=1.0)}
PICK = {"pick": Space((), "int32", classes=3)}


def config_of(context=0, **options):
    agent = dataclasses.replace(TINY, **options)
    return Config(agent=agent, run=RunConfig(batch_size=2, batch_length=4, replay_context=context))


def make_batch(act=None, context=0, seed=0) -> Any:
    latents = rssm.latent_space(8, 3, 4, "float32") if context else {}
    return random_batch(np.random.default_rng(seed), OBS, act or PICK, latents, config_of(context))


def losses_of(agent_config, batch=None, act=None):
    """Losses and metrics of one batch by name, the total, and all else that the loss returns; parameters of KEY."""
    options, act = agent_config.agent, act or PICK
    agent = make_agent(agent_config, OBS, act)
    state = agent.init(KEY)
    world = CategoricalWorld(options.model, OBS, act, cont_layers=options.model.cont_layers)
    behaviour = MixedGradient(options.behaviour, act)
    loss = jax.jit(make_loss(world, behaviour, options, agent_config.run.replay_context))
    batch = make_batch(act) if batch is None else batch
    total, out = loss(state.params, state.slow, (), (), batch, KEY)
    means = {name: float(value.mean()) for name, value in out.losses.items()}
    return means, float(total), out


@pytest.fixture(scope="module")
def learning():
    """(agent, its update compiled, its first state, a batch): one action of each kind, rates that differ, a decay."""
    optim = DecayingAdamConfig(world_lr=1e-2, actor_lr=1e-3, value_lr=1e-4, decay=0.125)
    behaviour = dataclasses.replace(TINY.behaviour, slow_every=3)
    agent = make_agent(config_of(optim=optim, behaviour=behaviour), OBS, PICK | MOVE)
    return agent, jax.jit(agent.phase.update), agent.init(KEY), make_batch(PICK | MOVE)


def test_the_defaults_are_the_published_numbers():
    options = DreamerV2Config()
    model, behaviour, optim = options.model, options.behaviour, options.optim
    assert (model.deter, model.hidden, model.stoch, model.classes, model.depth) == (1024, 1024, 32, 32, 48)
    assert (model.vector_layers, model.reward_layers, model.cont_layers, model.units) == (4, 4, 4, 400)
    assert (behaviour.actor_layers, behaviour.value_layers, behaviour.units) == (4, 4, 400)
    assert (behaviour.imag_length, behaviour.discount, behaviour.lam) == (15, 0.99, 0.95)
    assert (behaviour.entropy, behaviour.slow_every, behaviour.min_std) == (2e-3, 100, 0.1)
    assert (optim.world_lr, optim.actor_lr, optim.value_lr) == (1e-4, 8e-5, 2e-4)
    assert (optim.eps, optim.clip, optim.decay) == (1e-5, 100, 1e-6)
    assert (options.balance, options.free_nats, options.divergence_scale) == (0.8, 0, 1)
    assert (options.reward, options.cont_scale, options.random_steps, options.noise) == ("tanh", 1, 10_000, 0)
    assert not model.layer_norm


# deter = hidden, norm, KL scale, free nats, scale and layers of the head of ends
# rates of world, actor and value, entropy, discount, random steps, trained rows a step
TABLED = {
    "dreamerv2": (1024, False, 1, 0, 1, 4, 1e-4, 8e-5, 2e-4, 2e-3, 0.99, 1e4, 16 * 50 / 5),
    "dreamerv2_atari": (600, False, 0.1, 0, 5, 4, 2e-4, 4e-5, 1e-4, 1e-3, 0.999, 5e4, 16 * 50 / 16),
    "dreamerv2_crafter": (1024, True, 1, 0, 1, 4, 1e-4, 1e-4, 1e-4, 3e-3, 0.999, 1e4, 16 * 50 / 5),
    "dreamerv2_dmc": (200, False, 1, 1, 1, 0, 3e-4, 8e-5, 8e-5, 1e-4, 0.99, 1000, 16 * 50 / 5),
}


@pytest.mark.parametrize("name", TABLED)
def test_the_presets_are_as_tabled(name):
    config = cli.parse(["--configs", name])
    agent, run = config.agent, config.run
    model, optim, behaviour = agent.model, agent.optim, agent.behaviour
    found = (model.deter, model.layer_norm, agent.divergence_scale, agent.free_nats, agent.cont_scale)
    found += (model.cont_layers, optim.world_lr, optim.actor_lr, optim.value_lr, behaviour.entropy)
    assert (*found, behaviour.discount, agent.random_steps, run.train_ratio) == TABLED[name]
    assert model.hidden == model.deter and (run.batch_size, run.batch_length) == (16, 50)
    assert agent.reward == ("identity" if name == "dreamerv2_dmc" else "tanh")
    assert config.replay.capacity_steps == 2e6 and config.env.size == (64, 64)
    if name == "dreamerv2_atari":
        assert config.env.atari.gray and config.env.atari.repeat == 4
        assert config.env.atari.max_frames == 4 * 27_000
    assert config.env.repeat == (2 if name == "dreamerv2_dmc" else 1)


def dense(*sizes):
    return sum((a + 1) * b for a, b in itertools.pairwise(sizes))


@pytest.mark.parametrize("norm", [False, True])
def test_its_parameters_are_as_many_as_the_published_layers_have(norm):
    obs, act = {"image": Space((64, 64, 3), "uint8")}, {"pick": Space((), "int32", classes=17)}
    options = find("dreamerv2").config
    model = dataclasses.replace(options.model, layer_norm=norm)
    agent = make_agent(Config(agent=dataclasses.replace(options, model=model)), obs, act)
    params = jax.eval_shape(agent.init, KEY).params
    count = lambda tree: sum(leaf.size for leaf in jax.tree.leaves(tree))
    normed = lambda *widths: 2 * sum(widths) * norm  # scale and bias of each
    feature, embed = 1024 + 32 * 32, 2 * 2 * 8 * 48
    dynamics = dense(1024 + 17, 1024) + dense(1024 + 1024, 3 * 1024) + 2 * 3 * 1024
    dynamics += dense(1024, 1024, 1024) + dense(1024 + embed, 1024, 1024) + normed(1024, 1024, 1024)
    assert count(params["world"]["dynamics"]) == dynamics
    channels = [3, 48, 96, 192, 384]
    encoder = sum(16 * a * b + b for a, b in itertools.pairwise(channels)) + normed(*channels[1:])
    assert count(params["world"]["encoder"]) == encoder
    steps = list(zip([(1536, 192), (192, 96), (96, 48), (48, 3)], [5, 5, 6, 6]))
    decoder = dense(feature, 1536) + sum(size**2 * a * b + b for (a, b), size in steps)
    assert count(params["world"]["decoder"]) == decoder + normed(192, 96, 48)
    for part, name, out in (("world", "reward", 1), ("world", "cont", 1), ("behaviour", "value", 1)):
        assert count(params[part][name]) == dense(feature, *[400] * 4, out) + normed(*[400] * 4)
    assert count(params["behaviour"]["actor"]) == dense(feature, *[400] * 4, 17) + normed(*[400] * 4)
    vectors = make_agent(Config(agent=options), {"speed": Space((3,), "float32")}, act)
    world = jax.eval_shape(vectors.init, KEY).params["world"]
    assert count(world["encoder"]) == dense(3, *[400] * 4)  # the last hidden layer is what is embedded
    assert count(world["decoder"]) == dense(feature, *[400] * 4, 3)


@pytest.mark.parametrize("free", [0.0, 1e3])
def test_the_total_weighs_its_parts_and_takes_free_nats_from_the_mean_of_the_kl(free):
    means, total, _ = losses_of(config_of(free_nats=free, divergence_scale=0.1, cont_scale=5.0))
    assert set(means) == {"vector", "reward", "cont", "kl", "actor", "value"}
    kl = 0.1 * max(means.pop("kl"), free)
    np.testing.assert_allclose(total, kl + 4 * means["cont"] + sum(means.values()), rtol=1e-5)


def test_rewards_are_squashed_before_they_are_learnt_and_shown_in_their_own_units():
    batch = make_batch()
    squashed = batch._replace(reward=np.tanh(batch.reward))
    configs = plain, tanh = config_of(reward="identity"), config_of(reward="tanh")
    found = losses_of(tanh, batch)[0]["reward"]
    np.testing.assert_allclose(found, losses_of(plain, squashed)[0]["reward"], rtol=1e-6)
    assert abs(found - losses_of(plain, batch)[0]["reward"]) > 0.1
    plain, tanh = (make_agent(config, OBS, PICK).simulator for config in configs)
    world = random_params(CategoricalWorld(TINY.model, OBS, PICK, cont_layers=1).init)
    features = np.random.default_rng(0).normal(size=(50, 20)).astype(np.float32)
    predict = lambda simulator: np.asarray(simulator.predict(world, features).reward)
    np.testing.assert_allclose(np.tanh(predict(tanh)), np.clip(predict(plain), -0.999, 0.999), rtol=1e-4)
    nll = lambda simulator, reward: simulator.reward_nll(world, features, reward)
    np.testing.assert_allclose(nll(tanh, jnp.ones(50)), nll(plain, jnp.full(50, np.tanh(1))), rtol=1e-5)


@pytest.mark.parametrize("balance", [1.0, 0.0])
def test_the_kl_reaches_the_prior_by_the_balance_and_what_sees_by_the_rest(balance):
    """On first rows alone, where no earlier sample leads from one side to the other."""
    world = CategoricalWorld(TINY.model, OBS, PICK, cont_layers=1, balance=balance)
    params = random_params(world.init)
    batch: Batch = make_batch()._replace(is_first=np.ones((2, 4), bool))
    grads = jax.grad(lambda params: world.loss(params, batch, KEY).divergence.mean())(params)
    largest = lambda tree: max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(tree))
    seeing = [largest(tree) for tree in (grads["dynamics"]["posterior"], grads["encoder"])]
    believing = largest(grads["dynamics"]["prior"])
    assert (believing > 1e-4) == (balance == 1) and all((x > 1e-4) == (balance == 0) for x in seeing)
    assert believing == 0 or max(seeing) == 0


def test_each_network_learns_at_its_own_rate_and_every_parameter_decays_by_the_same_share(learning):
    _, update, state, batch = learning
    state = state._replace(params=jax.tree.map(lambda x: x + 1, state.params))
    new, _, _ = update(state, (), batch)
    for part, name in (
        ("world", "dynamics"),
        ("world", "reward"),
        ("behaviour", "actor"),
        ("behaviour", "value"),
    ):
        gaps = jax.tree.map(
            lambda a, b: np.abs(a - 0.875 * b).max(), new.params[part][name], state.params[part][name]
        )
        rate = {"actor": 1e-3, "value": 1e-4}.get(name, 1e-2)  # Adam's first step is the rate
        np.testing.assert_allclose(max(jax.tree.leaves(gaps)), rate, rtol=0.03, err_msg=name)


def test_the_target_network_is_a_copy_after_the_first_update_and_every_few_after_it(learning):
    _, update, state, batch = learning
    same = lambda a, b: all((x == y).all() for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)))
    copied = []
    for _ in range(7):
        state = update(state, (), batch)[0]
        copied.append(same(state.slow["behaviour"]["value"], state.params["behaviour"]["value"]))
    assert copied == [True, False, False, True, False, False, True]
    state = update(state, (), batch)[0]
    broken = batch._replace(obs={"speed": np.full_like(batch.obs["speed"], np.nan)})
    again = update(state, (), broken)[0]  # not applied: no copy either
    jax.tree.map(np.testing.assert_array_equal, again, state)


def test_the_world_learns_nothing_from_the_behaviour(learning):
    """Another target network makes another objective, of both kinds of actions."""
    _, update, state, batch = learning
    one = update(state, (), batch)[0].params
    other = update(state._replace(slow=jax.tree.map(lambda x: x + 1, state.slow)), (), batch)[0].params
    jax.tree.map(np.testing.assert_array_equal, one["world"], other["world"])
    for name in ("actor", "value"):
        pairs = zip(jax.tree.leaves(one["behaviour"][name]), jax.tree.leaves(other["behaviour"][name]))
        assert any((a != b).any() for a, b in pairs)


def test_its_value_leaves_out_the_reward_of_the_state_itself_and_is_not_given_in_units_of_squashed_ones():
    assert make_agent(config_of(reward="tanh"), OBS, PICK).value is None
    agent = make_agent(config_of(reward="identity"), OBS, PICK)
    value = agent.value
    assert value
    params = {
        "world": random_params(lambda key: agent.init(key).params["world"]),
        "behaviour": random_params(lambda key: agent.init(key).params["behaviour"]),
    }
    features = np.random.default_rng(0).normal(size=(3, 20)).astype(np.float32)
    own = MixedGradient(TINY.behaviour, PICK).value(params["behaviour"], features)
    world = CategoricalWorld(TINY.model, OBS, PICK, cont_layers=1)
    left_out = world.reward(params["world"], features)
    assert (np.abs(left_out) > 1e-3).all() and agent.discount == TINY.behaviour.discount
    np.testing.assert_allclose(value(params, features), own - left_out, rtol=1e-4, atol=1e-6)


def test_the_discount_after_the_start_of_a_dream_is_that_of_the_real_row():
    none = np.zeros((2, 4), bool)
    means = []
    for ends in (none, ~none):
        batch = make_batch()._replace(is_terminal=ends, is_first=none, is_last=none)
        means.append(float(losses_of(config_of(), batch)[2].metrics["continue"]))
    np.testing.assert_allclose(means[0] - means[1], 0.99 / 4, rtol=1e-5)  # of the first of four states


def test_without_a_head_of_ends_dreams_go_on():
    config = config_of(model=dataclasses.replace(TINY.model, cont_layers=0))
    agent = make_agent(config, OBS, PICK)
    world = agent.init(KEY).params["world"]
    assert "cont" not in world and agent.simulator and agent.simulator.predict
    assert (agent.simulator.predict(world, jnp.ones((3, 20))).cont == 1).all()
    np.testing.assert_allclose(losses_of(config)[2].metrics["continue"], 0.99, rtol=1e-6)


def test_chunks_begin_with_the_state_of_the_row_before_if_replay_keeps_it():
    assert make_agent(config_of(0), OBS, PICK).latent_space == {}
    assert make_agent(config_of(1), OBS, PICK).latent_space["latent/deter"].shape == (8,)
    batch = make_batch(context=1)._replace(is_first=np.zeros((2, 5), bool))
    deter = batch.extras["latent/deter"]

    def kl(changed):
        moved = deter.copy()
        moved[:, changed] += 1
        changed_batch = batch._replace(extras=batch.extras | {"latent/deter": moved})
        means, _, out = losses_of(config_of(1), changed_batch)
        assert out.entries["latent/stoch"].shape == (2, 4, 3)
        return means["kl"]

    none, before, trained = kl(slice(0)), kl(slice(1)), kl(slice(1, None))
    assert abs(before - none) > 1e-5 and trained == none  # trained rows have states of their own


def paid(random, shift):
    """Rows whose reward is the number of the action before them; with a `shift`, each has the action of another row."""
    config = Config(agent=TINY, run=RunConfig(batch_size=16, batch_length=8, replay_context=0))
    batch = random_batch(random, OBS, PICK, {}, config)
    action = np.roll(batch.action["pick"], shift, 1)
    reward = np.where(batch.is_first, 0, np.roll(batch.action["pick"], 1, 1)).astype(np.float32)
    return batch._replace(reward=reward, action={"pick": action})


@pytest.mark.parametrize(("shift", "learnt"), [(0, True), (1, False), (-1, False)])
def test_the_reward_of_the_previous_action_is_learnt_unless_rows_are_off_by_one(shift, learnt):
    world = CategoricalWorld(TINY.model, OBS, PICK, cont_layers=1)
    optimizer = optax.adam(1e-2)

    @jax.jit
    def learn(params, opt_state, batch, key):
        def total(params):
            losses, kl, _ = world.loss(params, batch, key)
            return sum(loss.mean() for loss in losses.values()) + kl.mean(), losses["reward"].mean()

        grads, error = jax.grad(total, has_aux=True)(params)
        moves, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, moves), opt_state, error

    params = jax.jit(world.init)(KEY)
    opt_state, random, errors = optimizer.init(params), np.random.default_rng(0), []
    for step in range(250):
        batch = paid(random, shift)
        params, opt_state, error = learn(params, opt_state, batch, jax.random.fold_in(KEY, step))
        errors.append(2 * (float(error) - 0.5 * np.log(2 * np.pi)))  # mean squared error
    assert (np.mean(errors[-20:]) < 0.02) == learnt
