"""Pictures keep their contrast whatever their bounds; tables and pictures that look like the other are told by key."""

import functools
from typing import Any, NamedTuple

import gymnasium
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from gymnasium import spaces

from dreamworld.config import Config, EnvConfig
from dreamworld.envs import make_env, make_vector_env
from dreamworld.envs.check import check_env
from dreamworld.envs.jax import from_gymnax
from dreamworld.envs.pictures import Reading, notes_on
from dreamworld.envs.spaces import make_obs_codec
from dreamworld.errors import UserError
from dreamworld.models.observations import assign
from dreamworld.options import EncoderConfig
from dreamworld.types import Space


def encoded(box, value, key="image", reading=None):
    codec = make_obs_codec(box, *([reading] if reading else []))
    return codec.encode(np.broadcast_to(value, box.shape))[key]


@pytest.mark.parametrize("shape", [(32, 32), (32, 48, 3), (3, 32, 48), (2, 32, 32, 3)])
@pytest.mark.parametrize(
    ("low", "high", "values", "pixels"),
    [
        (0, 1, (0, 1), (0, 255)), (0, 5, (0, 1, 5), (0, 51, 255)), (10, 20, (10, 15, 20), (0, 128, 255)),
        (0, 255, (0, 1, 7, 255), (0, 1, 7, 255)), (3, 3, (3,), (0,)),
    ],
)  # fmt: skip
def test_byte_planes_are_scaled_by_their_bounds(shape, low, high, values, pixels):
    for value, pixel in zip(values, pixels):
        for dtype in (np.uint8, np.int64, np.float32):  # whatever the environment returns
            assert (encoded(spaces.Box(low, high, shape, np.uint8), np.asarray(value, dtype)) == pixel).all()


def test_channels_of_a_byte_picture_may_have_bounds_of_their_own():
    high = np.broadcast_to(np.array([1, 10, 255], np.uint8), (32, 48, 3))
    image = encoded(spaces.Box(np.zeros_like(high), high, dtype=np.uint8), np.array([1, 5, 255], np.uint8))
    assert (image == [255, 128, 255]).all()


def test_full_byte_pictures_are_unchanged():
    box = spaces.Box(0, 255, (32, 48, 3), np.uint8)
    value = box.sample()
    np.testing.assert_array_equal(encoded(box, value), value)


@pytest.mark.parametrize(
    ("dtype", "value", "pixel"), [(np.float32, 0.5, 128), (np.uint8, 1, 255), (bool, True, 255)]
)
def test_float_pictures_are_scaled_whatever_is_returned(dtype, value, pixel):
    assert (encoded(spaces.Box(0.0, 1.0, (32, 48, 3)), np.asarray(value, dtype)) == pixel).all()


def test_bytes_in_a_float_space_that_can_not_hold_them_stay_bytes():
    assert (encoded(spaces.Box(0.0, 1.0, (32, 48, 3)), np.uint8(200)) == 200).all()


TABLES = spaces.Dict(
    chars=spaces.Box(0, 255, (55, 80), np.uint8),  # NetHack's
    matrix=spaces.Box(-1.0, 1.0, (32, 32)),
    depth=spaces.Box(0.0, 10.0, (32, 32, 1)),
    small=spaces.Box(0, 255, (7, 9, 3), np.uint8),
    board=spaces.Box(0.0, 10.0, (9, 9)),
    unbounded=spaces.Box(-np.inf, np.inf, (64, 64, 3)),
    flag=spaces.Discrete(2),
)


def test_a_key_is_read_as_the_user_says():
    reading = Reading(image_keys="depth|small|board", vector_keys="chars|matrix")
    codec = make_obs_codec(TABLES, reading)
    image = lambda *shape: Space(shape, "uint8", low=0, high=255)
    assert codec.spaces == {
        "chars": Space((55, 80), "float32", low=0, high=255),
        "matrix": Space((32, 32), "float32", low=-1, high=1),
        "depth": image(32, 32, 1),
        "small": image(7, 9, 3),
        "board": image(9, 9, 1),
        "unbounded": Space((12288,), "float32"),
        "flag": Space((), "int32", classes=2),
    }
    value: dict[str, Any] = {key: np.full(box.shape or (), 1) for key, box in TABLES.spaces.items()}
    obs = codec.encode(
        {**value, "matrix": np.full((32, 32), 0.3, np.float32), "depth": np.full((32, 32), 10.0)}
    )
    assert (obs["chars"] == 1).all() and (obs["matrix"] == np.float32(0.3)).all()
    assert (obs["depth"] == 255).all() and (obs["small"] == 1).all() and (obs["board"] == 26).all()


def test_an_unnamed_observation_is_named_by_what_it_is_or_becomes():
    box = spaces.Box(0.0, 1.0, (40, 40))
    for pattern in ("image", "vector"):
        assert list(make_obs_codec(box, Reading(vector_keys=pattern)).spaces) == ["vector"]
        assert list(make_obs_codec(spaces.Box(0.0, 9.0, (40, 40)), Reading(image_keys=pattern)).spaces) == [
            "image"
        ]


@pytest.mark.parametrize(
    ("reading", "text"),
    [
        (Reading(image_keys="unbounded"), "observation 'unbounded' has no finite bounds"),
        (
            Reading(vector_keys="charz"),
            "env.vector_keys 'charz' names no Box observation; there are chars, matrix, depth",
        ),
        (Reading(image_keys="flag"), "env.image_keys 'flag' names no Box observation"),
        (Reading("chars", "chars"), "env.image_keys and env.vector_keys both name the observation 'chars'"),
    ],
)
def test_what_can_not_be_read_so_is_one_line(reading, text):
    with pytest.raises(UserError) as error:
        make_obs_codec(TABLES, reading)
    assert text in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"has the shape \(5,\): env.image_keys takes"):
        make_obs_codec(spaces.Dict(a=spaces.Box(0, 1, (5,))), Reading(image_keys="a"))


class Table(toys.Counter):
    """Shows a table that looks like a picture."""

    def __init__(self, box: Any = None):
        super().__init__()
        self.observation_space = spaces.Box(0, 255, (55, 80), np.uint8) if box is None else box

    def _obs(self):
        return np.zeros(self.observation_space.shape or (), self.observation_space.dtype)


@pytest.mark.parametrize("engine", ["inprocess", "process"])
def test_the_option_reaches_the_environment_on_every_engine(engine):
    config = EnvConfig(engine=engine, workers=1, vector_keys="vector")
    env = make_vector_env("toys:Table", config, seed=0, num=2)
    assert env.obs_space == {"vector": Space((55, 80), "float32", low=0, high=255)}
    assert env.reset(0).obs["vector"].shape == (2, 55, 80)
    env.close()


def test_messages_name_the_option():
    plain = make_env(Table)
    with pytest.raises(UserError, match=r"image 'image' is 55x80;.* --env.vector_keys image$"):
        assign(plain.obs_space, EncoderConfig())
    assert assign(make_env(Table, EnvConfig(vector_keys="image")).obs_space, EncoderConfig()) == {
        "vector": "vector"
    }
    (problem,) = check_env(lambda: make_env(Table), steps=5).problems
    assert problem.endswith("if it is no picture but a table, say --env.vector_keys image")
    depth = make_env(functools.partial(Table, spaces.Box(0.0, 10.0, (64, 64, 1))))
    with pytest.raises(UserError, match=r"--env.image_keys vector makes that of a Box with finite bounds"):
        assign(depth.obs_space, EncoderConfig(image_keys="vector"))


@pytest.mark.parametrize(
    "name", ["jax_catch", "crafter_reward", "toys:Own", "dreamworld.envs.jax.catch:Catch"]
)
def test_environments_with_observations_of_their_own_refuse_it(name):
    with pytest.raises(
        UserError, match=r"env\.image_keys is for Box observations.*agent\.encoder\.image_keys"
    ):
        make_env(name, EnvConfig(image_keys="x"))
    if "jax" in name:
        with pytest.raises(UserError, match=r"env\.image_keys is for Box observations"):
            make_vector_env(name, EnvConfig(image_keys="x"), seed=0, num=2)


def test_a_large_vector_without_bounds_gets_a_note():
    make = functools.partial(Table, spaces.Box(-np.inf, np.inf, (64, 64, 3), np.float32))
    report = check_env(lambda: make_env(make), steps=5)
    (note,) = (text for text in report.notes if "picture, give" in text)
    assert note.startswith("observation 'vector' is a vector of 12,288 values without bounds")
    assert notes_on(make_obs_codec(spaces.Box(-np.inf, np.inf, (300,))).spaces) == []
    depth = make_obs_codec(spaces.Box(0, 65535, (64, 64, 1), np.uint16)).spaces
    assert notes_on(depth) == [
        "observation 'vector' is a vector of 4,096 values; if it is a picture, say --env.image_keys vector"
    ]
    assert notes_on(depth, Reading(vector_keys="vector")) == []


def test_fractions_in_a_picture_of_bytes_are_said_once(capfd):
    codec = make_obs_codec(spaces.Dict(view=spaces.Box(0, 255, (32, 32, 3), np.uint8)))
    for value in (3.0, 0.25, 0.75):
        codec.encode({"view": np.full((32, 32, 3), value, np.float32)})
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(
        "note: observation 'view' holds fractions, and its space says uint8: they are rounded"
    )


class JaxBox(NamedTuple):
    low: float
    high: float
    shape: tuple[int, ...]
    dtype: Any = np.float32


class Planes:
    """In the style of gymnax."""

    default_params = None

    def __init__(self, box):
        self.box = box

    def observation_space(self, params):
        return self.box

    def action_space(self, params):
        return JaxBox(-1.0, 1.0, (1,))

    def reset(self, key, params):
        return jnp.full(self.box.shape, self.box.high, self.box.dtype), jnp.zeros(())

    def step(self, key, state, action, params):
        return *self.reset(key, params), 0.0, False, {}


def test_gymnax_pictures_are_read_alike():
    for box, reading in (
        (JaxBox(0, 1, (32, 32), np.uint8), Reading()),
        (JaxBox(0, 5, (32, 32, 2), np.uint8), Reading()),
        (JaxBox(0.0, 5.0, (9, 9, 2)), Reading(image_keys="image")),
    ):
        env = from_gymnax(Planes(box), reading=reading)
        assert env.obs_space["image"].is_image and (env.reset(None)[1]["image"] == 255).all()
    table = from_gymnax(Planes(JaxBox(0.0, 1.0, (32, 32))), reading=Reading(vector_keys="image"))
    assert table.obs_space == {"vector": Space((32, 32), "float32", low=0, high=1)}
    with pytest.raises(UserError, match="names no Box observation; there are image, vector"):
        from_gymnax(Planes(JaxBox(0.0, 1.0, (32, 32))), reading=Reading(vector_keys="z"))


def test_a_run_can_not_change_how_it_reads_observations():
    from dreamworld import schema
    from dreamworld.limits import FIXED

    assert {"env.image_keys", "env.vector_keys"} <= set(schema.marked(Config, FIXED))
    assert Config().env.image_keys == Config().env.vector_keys == "auto"
    assert isinstance(TABLES, gymnasium.Space)
