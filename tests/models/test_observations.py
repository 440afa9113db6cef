import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamworld import nets, ops
from dreamworld.errors import UserError
from dreamworld.models import observations
from dreamworld.options import EncoderConfig
from dreamworld.testing import random_params
from dreamworld.types import Space

CONFIG = EncoderConfig(depth=4, mults=(1, 2), layers=1, units=8)
SPACES = {
    "b/speed": Space((2,), "float32"),
    "a_level": Space((), "int32", classes=3),
    "c_door": Space((), "bool"),
    "grid": Space((2, 2), "int32"),
    "right": Space((8, 8, 1), "uint8"),
    "left": Space((8, 8, 3), "uint8"),
}


def encoder(config=CONFIG):
    return observations.Encoder(config, SPACES, observations.assign(SPACES, config), jnp.float32)


def random_obs() -> Any:
    random = np.random.default_rng(0)
    obs = {key: space.sample(random, 4) for key, space in SPACES.items()}
    return obs | {"b/speed": random.normal(0, 50, (4, 2)).astype(np.float32)}


def test_keys_go_to_encoders_by_shape():
    expected = dict.fromkeys(["a_level", "b/speed", "c_door", "grid"], "vector") | {
        "left": "image",
        "right": "image",
    }
    assert observations.assign(SPACES, CONFIG) == expected


def test_patterns_choose_keys():
    config = EncoderConfig(depth=4, mults=(1, 2), vector_keys="b/.*|grid", image_keys="")
    assert observations.assign(SPACES, config) == {"b/speed": "vector", "grid": "vector"}


def test_tokens_are_the_vector_embedding_and_then_the_image_embedding():
    enc, obs = encoder(), random_obs()
    params = random_params(enc.init)
    speed = np.sign(obs["b/speed"]) * np.log1p(np.abs(obs["b/speed"]))
    grid = obs["grid"].reshape(4, 4).astype(np.float64)
    level, door = np.eye(3)[obs["a_level"]], np.eye(2)[obs["c_door"].astype(int)]
    vectors = [level, speed, door, np.sign(grid) * np.log1p(np.abs(grid))]
    vector = nets.apply(enc.vector, params["vector"], np.concatenate(vectors, -1).astype(np.float32))
    image = nets.apply(enc.image, params["image"], np.concatenate([obs["left"], obs["right"]], -1))
    tokens = jax.jit(enc.__call__)(params, obs)
    assert tokens.shape == (4, 8 + 2 * 2 * 8)
    np.testing.assert_allclose(tokens, np.concatenate([vector, image], -1), rtol=1e-3, atol=1e-4)


def test_symlog_of_vectors_can_be_switched_off():
    enc, obs = encoder(dataclasses.replace(CONFIG, symlog=False)), random_obs()
    params = random_params(enc.init)
    level, door = np.eye(3)[obs["a_level"]], np.eye(2)[obs["c_door"].astype(int)]
    vectors = [level, obs["b/speed"], door, obs["grid"].reshape(4, 4)]
    expected = nets.apply(enc.vector, params["vector"], np.concatenate(vectors, -1).astype(np.float32))
    np.testing.assert_allclose(jax.jit(enc.__call__)(params, obs)[:, :8], expected, rtol=1e-3, atol=1e-4)


def test_decoder_reconstructs_every_key_in_its_own_shape():
    decoder = observations.ObservationDecoder(encoder(), grouped=16, blocks=4)
    feature = np.random.default_rng(1).normal(size=(4, 5, 32)).astype(np.float32)
    params = random_params(lambda key: decoder.init(key, feature[0]))
    out = jax.jit(lambda p, f: {key: dist.mean() for key, dist in decoder(p, f).items()})(params, feature)
    assert set(out) == set(SPACES)
    for key, space in SPACES.items():
        assert out[key].shape == (4, 5, *space.shape), key
    phases = nets.apply(decoder.image, params["image"], feature.reshape(20, 32))
    flat = ops.from_phases(phases)
    np.testing.assert_allclose(out["left"].reshape(20, 8, 8, 3), flat[..., :3], rtol=1e-3)
    np.testing.assert_allclose(out["right"].reshape(20, 8, 8, 1), flat[..., 3:], rtol=1e-3)
    obs: Any = {key: np.stack([value] * 5, 1) for key, value in random_obs().items()}
    dists = decoder(params, jnp.asarray(feature))
    losses = {key: dist.loss(nets.target(SPACES[key], obs[key])) for key, dist in dists.items()}
    assert {loss.shape for loss in losses.values()} == {(4, 5)}
    expected = np.square(np.asarray(out["left"], np.float64) - obs["left"] / 255).sum((-3, -2, -1))
    np.testing.assert_allclose(losses["left"], expected, rtol=1e-4)


def test_only_images_are_scaled_as_targets():
    np.testing.assert_allclose(nets.target(SPACES["left"], jnp.array([0, 51, 255], jnp.uint8)), [0, 0.2, 1])
    np.testing.assert_array_equal(nets.target(SPACES["grid"], jnp.array([0, 51])), [0, 51])


@pytest.mark.parametrize(
    ("spaces", "words"),
    [
        ({"reward": Space((), "float32")}, "'reward' is reserved"),
        ({"x": Space((20, 16, 3), "uint8")}, "20x16; the encoder takes multiples of 16"),
        ({"x": Space((2, 2, 2), "float32")}, r"'x' is float32 \(2, 2, 2\); supported are"),
        ({"x": Space((16, 16, 3), "uint8"), "y": Space((32, 32, 3), "uint8")}, "different sizes"),
        ({}, "no observation key is left"),
        ({"x": Space((0, 3), "float32")}, "no observation key is left"),
    ],
)
def test_observations_that_do_not_fit_are_refused(spaces, words):
    with pytest.raises(UserError, match=words):
        observations.assign(spaces, EncoderConfig())


def test_a_vector_named_for_the_image_encoder_is_refused():
    with pytest.raises(UserError, match=r"'b/speed' is float32 \(2,\); the image encoder takes uint8"):
        observations.assign(SPACES, EncoderConfig(image_keys="b/speed", vector_keys=""))
