"""Dreamer: its numbers, its losses, and which parameters learn from them."""

import dataclasses
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamworld import cli
from dreamworld.agents import find, make_agent
from dreamworld.agents.dreamerv1.config import TINY, DreamerV1Config
from dreamworld.behaviours.dynamics_gradient import DynamicsGradient
from dreamworld.config import Config, RunConfig
from dreamworld.errors import UserError
from dreamworld.models.gaussian_rssm import ResetAfterGRU
from dreamworld.models.gaussian_world import GaussianWorld
from dreamworld.testing import random_batch
from dreamworld.types import Space

KEY = jax.random.PRNGKey(0)
OBS = {"image": Space((8, 8, 1), "uint8"), "speed": Space((3,), "float32")}
ACT = {"move": Space((2,), "float32", low=-1.0, high=1.0)}


def config_of(**options):
    agent = dataclasses.replace(TINY, **options)
    return Config(agent=agent, run=RunConfig(batch_size=2, batch_length=4, replay_context=0))


def make_batch() -> Any:
    return random_batch(np.random.default_rng(0), OBS, ACT, {}, config_of())


def test_the_defaults_are_the_published_numbers():
    options = DreamerV1Config()
    model, behaviour, optim = options.model, options.behaviour, options.optim
    assert (model.stoch, model.belief, model.hidden, model.min_std, model.depth) == (30, 200, 200, 0.1, 32)
    assert (model.reward_layers, model.reward_units, model.cont_layers) == (2, 400, 0)
    assert (behaviour.actor_layers, behaviour.value_layers, behaviour.units) == (4, 3, 400)
    assert (behaviour.init_std, behaviour.min_std, behaviour.mean_scale) == (5, 1e-4, 5)
    assert (behaviour.imag_length, behaviour.discount, behaviour.lam) == (15, 0.99, 0.95)
    assert (optim.world_lr, optim.actor_lr, optim.value_lr, optim.clip) == (6e-4, 8e-5, 8e-5, 100)
    assert (options.noise, options.free_nats, options.random_steps, options.cont_scale) == (0.3, 3, 2500, 10)


def test_its_parameters_are_as_many_as_the_published_layers_have():
    obs, act = {"image": Space((64, 64, 3), "uint8")}, {"move": Space((6,), "float32", low=-1.0, high=1.0)}
    agent = make_agent(Config(agent=find("dreamerv1").config), obs, act)
    params = jax.eval_shape(agent.init, KEY).params
    count = lambda tree: sum(leaf.size for leaf in jax.tree.leaves(tree))
    dense = lambda *sizes: sum((a + 1) * b for a, b in itertools.pairwise(sizes))
    dynamics = dense(36, 200) + 2 * dense(200, 600) + dense(200, 200, 60) + dense(1224, 200, 60)
    assert count(params["world"]["dynamics"]) == dynamics
    assert count(params["world"]["reward"]) == dense(230, 400, 400, 1)
    assert count(params["behaviour"]["actor"]) == dense(230, 400, 400, 400, 400, 12)
    assert count(params["behaviour"]["value"]) == dense(230, 400, 400, 400, 1)


def test_the_gru_resets_the_product_of_the_state():
    gru, x, h = ResetAfterGRU(4), jax.random.normal(KEY, (2, 3)), jax.random.normal(KEY, (2, 4))
    params = jax.tree.map(lambda leaf: leaf + 0.3, gru.init(KEY, x, h)["params"])
    own, back = (
        np.asarray(side, np.float64) @ np.asarray(params[name]["kernel"]) + np.asarray(params[name]["bias"])
        for side, name in ((x, "input"), (h, "state"))
    )
    sigmoid = lambda x: 1 / (1 + np.exp(-x))
    reset, update = sigmoid(own[:, :4] + back[:, :4]), sigmoid(own[:, 4:8] + back[:, 4:8])
    expected = update * h + (1 - update) * np.tanh(own[:, 8:] + reset * back[:, 8:])
    found: Any = gru.apply({"params": params}, x, h)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_images_are_centred_without_noise():
    obs = {key: space.sample(np.random.default_rng(0), 5) for key, space in OBS.items()}
    seen = GaussianWorld(TINY.model, OBS, ACT).see(obs, KEY)["image"]
    np.testing.assert_allclose(seen, np.asarray(obs["image"]) / 255 - 0.5, atol=1e-6)


@pytest.mark.parametrize("free", [0.0, 1e3])
def test_the_total_takes_free_nats_from_the_mean_of_the_kl(free):
    agent = make_agent(config_of(free_nats=free), OBS, ACT)
    _, _, output = jax.jit(agent.phase.update)(agent.init(KEY), (), make_batch())
    means = {name.removeprefix("loss/"): float(x) for name, x in output.metrics.items() if "loss/" in name}
    total = means.pop("total")
    assert set(means) == {"image", "vector", "reward", "cont", "kl", "actor", "value"}
    kl = max(means.pop("kl"), free)
    np.testing.assert_allclose(total, kl + 9 * means["cont"] + sum(means.values()), rtol=1e-5)


def step_of(agent, batch=None):
    """Changes of one update by module."""
    state = agent.init(KEY)
    new, _, _ = jax.jit(agent.phase.update)(state, (), make_batch() if batch is None else batch)
    changes = jax.tree.map(lambda a, b: np.abs(a - b).max(), new.params, state.params)
    flat = {**changes["world"], **changes["behaviour"]}
    return {name: max(jax.tree.leaves(tree)) for name, tree in flat.items()}


def test_each_network_learns_at_its_own_rate():
    optim = dataclasses.replace(TINY.optim, world_lr=1e-2, actor_lr=1e-3, value_lr=1e-4)
    found = step_of(make_agent(config_of(optim=optim), OBS, ACT))
    for name, change in found.items():  # Adam's first step is the rate
        rate = {"actor": 1e-3, "value": 1e-4}.get(name, 1e-2)
        np.testing.assert_allclose(change, rate, rtol=0.02, err_msg=name)


def test_the_world_learns_nothing_from_the_behaviour():
    agent, other = (
        make_agent(config_of(behaviour=dataclasses.replace(TINY.behaviour, imag_length=length)), OBS, ACT)
        for length in (3, 5)
    )
    states = [jax.jit(a.phase.update)(a.init(KEY), (), make_batch())[0] for a in (agent, other)]
    close = lambda a, b: np.testing.assert_allclose(a, b, atol=1e-8, rtol=1e-5)  # of steps of 6e-4
    jax.tree.map(close, states[0].params["world"], states[1].params["world"])
    assert any(
        (a != b).any()
        for a, b in zip(*(jax.tree.leaves(state.params["behaviour"]["actor"]) for state in states))
    )


def test_no_dream_begins_where_an_episode_ended():
    agent = make_agent(config_of(), OBS, ACT)
    ends = np.zeros((2, 4), bool)
    losses = []
    for row in (None, 2):
        marked = ends.copy()
        if row is not None:
            marked[0, row] = True
        batch = make_batch()._replace(is_terminal=marked)
        losses.append(jax.jit(agent.phase.update)(agent.init(KEY), (), batch)[2].metrics["loss/value"])
    assert losses[1] < losses[0]  # a square and a constant less


def test_its_value_leaves_out_the_reward_of_the_state_itself():
    agent = make_agent(config_of(), OBS, ACT)
    params = agent.acting(agent.init(KEY))
    feature = jax.random.normal(KEY, (3, TINY.model.stoch + TINY.model.belief))
    own = DynamicsGradient(TINY.behaviour, ACT).value(params["behaviour"], feature)
    simulator, value = agent.simulator, agent.value
    assert simulator and simulator.predict and value
    reward = simulator.predict(params["world"], feature).reward
    assert (jnp.abs(reward) > 1e-3).all() and agent.discount == TINY.behaviour.discount
    np.testing.assert_allclose(value(params, feature), own - reward, rtol=1e-5)


def test_exploring_is_noise_on_the_action_and_greedy_has_none():
    agent = make_agent(config_of(noise=0.0), OBS, ACT)
    noisy = make_agent(config_of(noise=0.3), OBS, ACT)
    state = agent.init(KEY)
    obs = {key: np.stack([space.zeros()] * 2) for key, space in OBS.items()} | {"is_first": np.ones(2, bool)}
    acts = lambda agent, mode: jax.jit(agent.act, static_argnames="mode")(
        agent.acting(state), agent.initial(state.params, 2), obs, KEY, mode=mode
    )[1]["move"]
    np.testing.assert_array_equal(acts(agent, "greedy"), acts(noisy, "greedy"))
    assert np.abs(acts(agent, "sample") - acts(noisy, "sample")).max() > 0.01
    assert np.abs(acts(noisy, "sample")).max() <= 1


def test_without_a_head_of_ends_dreams_go_on():
    model = dataclasses.replace(TINY.model, cont_layers=0)
    agent = make_agent(config_of(model=model), OBS, ACT)
    state = agent.init(KEY)
    assert "cont" not in state.params["world"] and agent.simulator and agent.simulator.predict
    feature = jnp.ones((3, 12))
    assert (agent.simulator.predict(state.params["world"], feature).cont == 1).all()
    _, _, output = jax.jit(agent.phase.update)(state, (), make_batch())
    np.testing.assert_allclose(output.metrics["continue"], 0.99, rtol=1e-6)


def test_discrete_actions_are_refused_in_one_line():
    with pytest.raises(UserError, match=r"action 'pick' is discrete; dreamerv1 learns by gradients through"):
        make_agent(cli.parse(["--agent", "dreamerv1"]), OBS, {"pick": Space((), "int32", classes=3)})
