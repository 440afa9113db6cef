"""PlaNet: its losses, shapes and settings to the number."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamworld import cli
from dreamworld.agents import find, make_agent
from dreamworld.agents.planet.config import TINY, PlaNetConfig
from dreamworld.behaviours.exploration import explore
from dreamworld.config import Config, RunConfig
from dreamworld.contract import modules
from dreamworld.errors import UserError
from dreamworld.models.conv import ConvDecoder, ConvEncoder
from dreamworld.models.gaussian_world import GaussianWorld
from dreamworld.testing import random_batch, random_params
from dreamworld.types import Space

KEY = jax.random.PRNGKey(0)
OBS = {
    "image": Space((8, 8, 1), "uint8"),
    "speed": Space((3,), "float32"),
    "door": Space((), "int32", classes=2),
}
ACT = {"move": Space((2,), "float32", low=-1.0, high=1.0)}
CONFIG = Config(agent=TINY, run=RunConfig(batch_size=2, batch_length=4, replay_context=0))


def make_batch() -> Any:
    return random_batch(np.random.default_rng(0), OBS, ACT, {}, CONFIG)


def test_the_defaults_are_the_published_numbers():
    options = PlaNetConfig()
    model, planner = options.model, options.planner
    assert (model.stoch, model.belief, model.hidden, model.min_std, model.depth) == (30, 200, 200, 0.1, 32)
    assert (model.reward_layers, model.reward_units, options.reward_scale, options.free_nats) == (
        3,
        300,
        10,
        3,
    )
    assert (planner.horizon, planner.candidates, planner.iterations, planner.elites) == (12, 1000, 10, 100)
    assert (options.lr, options.eps, options.clip, options.noise, options.bits) == (1e-3, 1e-4, 1000, 0.3, 5)


def test_the_encoder_and_the_decoder_have_the_published_shapes():
    image = jnp.zeros((2, 64, 64, 3))
    encoder, decoder = ConvEncoder(32), ConvDecoder((64, 64), 3, 32)
    params = jax.eval_shape(encoder.init, KEY, image)["params"]
    count = lambda tree: sum(leaf.size for leaf in jax.tree.leaves(tree))
    assert count(params) == 16 * (3 * 32 + 32 * 64 + 64 * 128 + 128 * 256) + 32 + 64 + 128 + 256
    assert jax.eval_shape(encoder.apply, {"params": params}, image).shape == (2, 1024)
    params = jax.eval_shape(decoder.init, KEY, jnp.zeros((2, 230)))["params"]
    expected = 231 * 1024 + 25 * (1024 * 128 + 128 * 64) + 36 * (64 * 32 + 32 * 3) + 128 + 64 + 32 + 3
    assert count(params) == expected
    assert jax.eval_shape(decoder.apply, {"params": params}, jnp.zeros((2, 5, 230))).shape == (
        2,
        5,
        64,
        64,
        3,
    )


def test_losses_are_negative_log_likelihoods():
    world = GaussianWorld(TINY.model, OBS, ACT, bits=5)
    params, batch = random_params(world.init), make_batch()
    losses, divergence, _ = jax.jit(world.loss)(params, batch, KEY)
    assert {name: loss.shape for name, loss in losses.items()} == dict.fromkeys(
        ("image", "vector", "reward"), (2, 4)
    )
    assert losses["image"].min() > 32 * np.log(2 * np.pi)  # 64 pixels of half of it, and the squares
    assert divergence.shape == (2, 4) and divergence.min() > 0


def test_free_nats_are_taken_from_the_kl_of_every_row():
    def kl(free):
        agent = make_agent(
            dataclasses.replace(CONFIG, agent=dataclasses.replace(TINY, free_nats=free)), OBS, ACT
        )
        state = agent.init(KEY)
        return float(jax.jit(agent.phase.update)(state, (), make_batch())[2].metrics["loss/kl"]), state

    whole, state = kl(0.0)
    world = GaussianWorld(TINY.model, OBS, ACT, bits=5)
    key = jax.random.fold_in(state.key, state.step)
    divergence = np.asarray(jax.jit(world.loss)(state.params["world"], make_batch(), key).divergence)
    np.testing.assert_allclose(whole, divergence.mean(), rtol=1e-4)
    limit = float(np.median(divergence))
    found, _ = kl(limit)
    np.testing.assert_allclose(found, np.maximum(divergence - limit, 0).mean(), rtol=1e-3)
    assert found > max(divergence.mean() - limit, 0) + 1e-4  # not taken from the mean


@pytest.mark.parametrize("scales", [(10.0, 1.0, 1.0), (3.0, 100.0, 0.5)])
def test_the_total_weighs_the_reward_by_ten_unless_told_otherwise(scales):
    reward, seen, divergence = scales
    options: dict[str, float] = {}
    if scales != (10.0, 1.0, 1.0):
        options = {"reward_scale": reward, "observation_scale": seen, "divergence_scale": divergence}
    config = dataclasses.replace(CONFIG, agent=dataclasses.replace(TINY, **options))
    agent = make_agent(config, OBS, ACT)
    _, _, output = jax.jit(agent.phase.update)(agent.init(KEY), (), make_batch())
    means = {
        key.removeprefix("loss/"): float(value) for key, value in output.metrics.items() if "loss/" in key
    }
    total = means.pop("total")
    assert set(means) == {"image", "vector", "reward", "kl"}
    expected = seen * (means["image"] + means["vector"]) + reward * means["reward"] + divergence * means["kl"]
    np.testing.assert_allclose(total, expected, rtol=1e-5)


def test_images_keep_five_bits_with_noise_in_the_rest():
    world = GaussianWorld(TINY.model, OBS, ACT, bits=5)
    obs = {key: space.sample(np.random.default_rng(0), 50) for key, space in OBS.items()}
    seen = np.asarray(world.see(obs, KEY)["image"]) + 0.5
    kept = np.floor(seen * 32)
    np.testing.assert_array_equal(kept, np.asarray(obs["image"]) // 8)
    rest = seen * 32 - kept
    assert rest.min() >= 0 and rest.max() < 1 and abs(rest.mean() - 0.5) < 0.02
    assert world.see(obs, KEY)["vector"].shape == (50, 5)


def test_what_it_shows_is_in_the_form_of_the_observations():
    world = GaussianWorld(TINY.model, OBS, ACT, bits=5)
    params = random_params(world.init)
    shown = world.show(params, jnp.ones((2, 3, 12)))
    assert {key: value.shape for key, value in shown.items()} == {
        key: (2, 3, *space.shape) for key, space in OBS.items()
    }
    assert ((shown["image"] >= 0) & (shown["image"] <= 1)).all() and set(np.unique(shown["door"])) <= {
        0.0,
        1.0,
    }


def test_exploring_adds_noise_within_the_bounds_and_evaluations_have_none():
    spaces = {**ACT, "pick": Space((), "int32", classes=5)}
    action = {"move": jnp.zeros((4000, 2)), "pick": jnp.zeros(4000, jnp.int32)}
    found = explore(action, spaces, 0.3, KEY)
    assert abs(float(found["move"].std()) - 0.3) < 0.02 and jnp.abs(found["move"]).max() <= 1
    assert abs(float((found["pick"] != 0).mean()) - 0.3 * 0.8) < 0.03
    agent = make_agent(CONFIG, OBS, ACT)
    params = agent.acting(agent.init(KEY))
    obs = {key: np.stack([space.zeros()] * 2) for key, space in OBS.items()} | {"is_first": np.ones(2, bool)}
    act = jax.jit(agent.act, static_argnames="mode")
    greedy, sampled = (
        act(params, agent.initial(params, 2), obs, KEY, mode=mode)[1] for mode in ("greedy", "sample")
    )
    assert np.abs(np.asarray(greedy["move"]) - np.asarray(sampled["move"])).max() > 0.01


def test_its_modules_and_its_stages():
    agent = make_agent(Config(agent=find("planet").config), {"image": Space((64, 64, 3), "uint8")}, ACT)
    params = jax.eval_shape(agent.init, KEY).params
    assert set(modules(params)) == {"encoder", "decoder", "reward", "dynamics"}
    assert [(stage.name, stage.collect, stage.steps) for stage in agent.stages] == [
        ("random", "random", 625), ("train", "policy", None),
    ]  # fmt: skip
    assert agent.stages[1].phases[0].window is not None and agent.stages[1].phases[0].window.context == 0


@pytest.mark.parametrize(
    ("words", "obs", "message"),
    [
        (["--agent.planner.elites", "2000"], OBS, "elites 2000: more than the 1000"),
        ([], {"image": Space((10, 8, 1), "uint8")}, "image 'image' is 10x8; planet takes multiples of 4"),
        ([], {"a": Space((8, 8, 1), "uint8"), "b": Space((16, 16, 1), "uint8")}, "images of different sizes"),
    ],
)
def test_what_it_can_not_take_is_one_line(words, obs, message):
    with pytest.raises(UserError, match=message):
        make_agent(cli.parse(["--agent", "planet", *words]), obs, ACT)
