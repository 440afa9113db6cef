import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

import dreamworld
from dreamworld import cli
from dreamworld.envs import make_env
from dreamworld.envs.finite import NotFinite
from dreamworld.envs.spaces import make_act_codec, make_obs_codec
from dreamworld.errors import UserError
from dreamworld.types import Space


def assert_fits(obs, obs_space):
    assert obs.keys() == obs_space.keys()
    for key, space in obs_space.items():
        value = obs[key]
        assert value.shape == space.shape and value.dtype == space.dtype, key
        if space.discrete:
            assert (value >= 0).all() and (value < space.classes).all()
        else:
            assert (value >= space.low).all() and (value <= space.high).all()


leaf_obs = st.one_of(
    st.builds(lambda n, start: spaces.Discrete(n, start=start), st.integers(1, 9), st.integers(-3, 3)),
    st.builds(spaces.MultiBinary, st.integers(1, 4)),
    st.builds(lambda n: spaces.MultiDiscrete(n), st.lists(st.integers(2, 5), min_size=1, max_size=4)),
    st.builds(lambda shape: spaces.Box(-2, 3, tuple(shape)), st.lists(st.integers(1, 4), max_size=3)),
    st.builds(
        lambda c, w: spaces.Box(0, 255, (32, 16 * w, c), np.uint8), st.integers(1, 4), st.integers(1, 4)
    ),
    st.builds(lambda c: spaces.Box(0.0, 1.0, (c, 32, 48)), st.integers(1, 3)),
)
leaf_act = st.one_of(
    st.builds(lambda n, start: spaces.Discrete(n, start=start), st.integers(1, 9), st.integers(-3, 3)),
    st.builds(spaces.MultiBinary, st.integers(1, 4)),
    st.builds(
        lambda n, s: spaces.MultiDiscrete(n, start=[s] * len(n)),
        st.lists(st.integers(2, 5), min_size=1, max_size=4),
        st.integers(-2, 2),
    ),
    st.builds(
        lambda low, width, shape: spaces.Box(low, low + width, tuple(shape)),
        st.floats(-5, 5),
        st.floats(0, 7),
        st.lists(st.integers(1, 3), max_size=2),
    ),
    st.builds(
        lambda low, n: spaces.Box(low, low + n, (2,), np.int64), st.integers(-3, 3), st.integers(1, 400)
    ),
)


def nested(leaves):
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.builds(lambda x: spaces.Dict(dict(zip("abc", x))), st.lists(inner, min_size=1, max_size=3)),
            st.builds(lambda x: spaces.Tuple(x), st.lists(inner, min_size=1, max_size=3)),
        ),
        max_leaves=5,
    )


@settings(max_examples=60, deadline=None)
@given(nested(leaf_obs), st.integers(0, 100))
def test_every_sample_of_a_nested_space_fits_its_flat_spaces(space, seed):
    space.seed(seed)
    codec = make_obs_codec(space)
    for _ in range(3):
        assert_fits(codec.encode(space.sample()), codec.spaces)


@settings(max_examples=60, deadline=None)
@given(nested(leaf_act), st.integers(0, 100))
def test_every_flat_action_decodes_into_the_space(space, seed):
    codec = make_act_codec(space)
    random = np.random.default_rng(seed)
    for scale in (1.0, 1.0, 5.0):  # 5: policies sample unclipped
        action = {
            key: flat.sample(random) if flat.discrete else flat.sample(random) * np.float32(scale)
            for key, flat in codec.spaces.items()
        }
        assert space.contains(codec.decode(action))


def test_discrete_spaces_count_from_zero_whatever_their_start():
    obs = make_obs_codec(spaces.Discrete(4, start=10))
    assert obs.spaces == {"vector": Space((), "int32", classes=4)}
    assert obs.encode(12)["vector"] == 2
    act = make_act_codec(spaces.Discrete(4, start=10))
    assert act.decode({"action": np.array(3)}) == 13


def test_multi_discrete_is_one_key_when_equal_and_one_per_element_when_not():
    assert make_act_codec(spaces.MultiDiscrete([3, 3])).spaces == {"action": Space((2,), "int32", classes=3)}
    unequal = make_act_codec(spaces.MultiDiscrete([3, 2]))
    assert unequal.spaces == {
        "action/0": Space((), "int32", classes=3),
        "action/1": Space((), "int32", classes=2),
    }
    decoded = unequal.decode({"action/0": np.array(2), "action/1": np.array(1)})
    np.testing.assert_array_equal(decoded, [2, 1])
    obs = make_obs_codec(spaces.Dict(k=spaces.MultiDiscrete([3, 2])))
    assert {k: int(v) for k, v in obs.encode({"k": np.array([2, 1])}).items()} == {"k/0": 2, "k/1": 1}


def test_box_actions_map_minus_one_to_low_zero_to_middle_one_to_high_and_clip():
    codec = make_act_codec(spaces.Box(np.array([-2.0, 0.0], np.float32), np.array([2.0, 10.0], np.float32)))
    assert codec.spaces == {"action": Space((2,), "float32", low=-1.0, high=1.0)}
    for value, expected in ((-1, [-2, 0]), (0, [0, 5]), (1, [2, 10]), (9, [2, 10]), (-9, [-2, 0])):
        np.testing.assert_allclose(codec.decode({"action": np.full(2, value, np.float32)}), expected)


def test_integer_boxes_are_classes_when_short_and_rounded_when_long():
    short = make_act_codec(spaces.Box(-1, 2, (2,), np.int64))
    assert short.spaces["action"] == Space((2,), "int32", classes=4)
    np.testing.assert_array_equal(short.decode({"action": np.array([0, 3])}), [-1, 2])
    long = make_act_codec(spaces.Box(0, 1000, (1,), np.int64))
    assert long.spaces["action"].dtype == "float32"
    assert long.decode({"action": np.array([0.0012])}).tolist() == [501]


@pytest.mark.parametrize(
    ("box", "shape"),
    [
        (spaces.Box(0, 255, (64, 96, 3), np.uint8), (64, 96, 3)),
        (spaces.Box(0, 255, (64, 96), np.uint8), (64, 96, 1)),
        (spaces.Box(0, 255, (3, 64, 96), np.uint8), (64, 96, 3)),
        (spaces.Box(0, 255, (4, 64, 96, 3), np.uint8), (64, 96, 12)),
        (spaces.Box(0.0, 1.0, (64, 96, 3)), (64, 96, 3)),
        (spaces.Box(-1.0, 1.0, (64, 96, 1)), (64, 96, 1)),
    ],
)
def test_images_of_every_layout_become_uint8_height_width_channels(box, shape):
    codec = make_obs_codec(box)
    assert codec.spaces == {"image": Space(shape, "uint8", low=0, high=255)}
    assert codec.spaces["image"].is_image
    assert codec.encode(box.sample())["image"].shape == shape


def test_stacked_frames_keep_their_order_on_channels():
    frames = np.stack([np.full((32, 32, 3), i, np.uint8) for i in range(4)])
    image = make_obs_codec(spaces.Box(0, 255, (4, 32, 32, 3), np.uint8)).encode(frames)["image"]
    assert image[0, 0].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]


def test_float_images_scale_their_bounds_to_black_and_white():
    codec = make_obs_codec(spaces.Box(-1.0, 1.0, (32, 32, 1)))
    for value, pixel in ((-1.0, 0), (0.0, 128), (1.0, 255)):
        assert (codec.encode(np.full((32, 32, 1), value, np.float32))["image"] == pixel).all()


def test_small_pictures_and_arrays_of_unknown_range_are_vectors():
    symbols = make_obs_codec(spaces.Box(0, 255, (7, 7, 3), np.uint8)).spaces
    assert symbols == {"vector": Space((147,), "float32", low=0, high=255)}
    unbounded = make_obs_codec(spaces.Box(-np.inf, np.inf, (32, 32, 3))).spaces
    assert unbounded["vector"].shape == (3072,)


def test_keys_are_paths_and_flag_names_are_kept_free():
    space = spaces.Dict(
        a=spaces.Dict(b=spaces.Tuple([spaces.Discrete(2), spaces.Box(0, 1, (3,))])),
        reward=spaces.Box(0, 1, ()),
    )
    codec = make_obs_codec(space)
    assert set(codec.spaces) == {"a/b/0", "a/b/1", "obs_reward"}
    obs = codec.encode({"a": {"b": (1, np.ones(3))}, "reward": 0.5})
    assert obs["a/b/0"] == 1 and obs["obs_reward"] == 0.5


def test_colliding_keys_are_refused():
    space = spaces.Dict({"a/b": spaces.Discrete(2), "a": spaces.Dict(b=spaces.Discrete(2))})
    with pytest.raises(UserError, match="same key 'a/b'"):
        make_obs_codec(space)
    with pytest.raises(UserError, match="same key 'a/b'"):
        make_act_codec(space)


def test_encoded_arrays_do_not_alias_the_environments_buffers():
    for box in (spaces.Box(0, 255, (32, 32, 3), np.uint8), spaces.Box(-1, 1, (4,)), spaces.MultiBinary(3)):
        buffer = box.sample()
        (encoded,) = make_obs_codec(box).encode(buffer).values()
        before = encoded.copy()
        buffer[...] = 1 - buffer
        np.testing.assert_array_equal(encoded, before)


def test_boxes_of_booleans_are_acted_on_as_two_classes():
    codec = make_act_codec(spaces.Box(0, 1, (3,), bool))  # pyright: ignore[reportCallIssue, reportArgumentType]
    assert codec.spaces["action"].shape == (3,) and codec.spaces["action"].classes == 2
    found = codec.decode({"action": np.array([0, 1, 0], np.int32)})
    assert found.dtype == bool and found.tolist() == [False, True, False]


def test_unsupported_spaces_are_named_with_what_is_supported():
    with pytest.raises(UserError, match=r"'mission'.*Text.*supported are Box, Discrete"):
        make_obs_codec(spaces.Dict(mission=spaces.Text(10), x=spaces.Discrete(2)))
    with pytest.raises(UserError, match=r"action 'a'.*Sequence"):
        make_act_codec(spaces.Dict(a=spaces.Sequence(spaces.Discrete(2))))


@pytest.mark.parametrize("high", [np.inf, 1e10])
def test_unbounded_actions_are_refused_in_one_line(high):
    with pytest.raises(UserError, match="'action' has no finite bounds") as error:
        make_act_codec(spaces.Box(-high, high, (2,), np.float64))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("space", "value"),
    [
        (spaces.Box(0, 1, (16, 16, 3), np.float32), np.full((16, 16, 3), np.nan, np.float32)),
        (spaces.Box(0, 255, (16, 16, 3), np.float32), np.full((16, 16, 3), np.inf, np.float32)),
        (spaces.MultiDiscrete([3, 3]), np.array([1, np.nan])),
        (spaces.MultiDiscrete([3, 4]), np.array([1, np.nan])),
        (spaces.MultiBinary(2), np.array([np.inf, 0])),
        (spaces.Discrete(3), np.nan),
    ],
)
def test_what_is_not_finite_never_passes_as_a_whole_number(space, value):
    with pytest.raises(NotFinite, match=r"observation '(image|vector)(/0)?' (holds|is) (nan|inf)"):
        make_obs_codec(space).encode(value)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-1, 1, (0,)),
        spaces.Box(-1, 1, (2, 0)),
        spaces.Dict(a=spaces.Box(-1, 1, (0,))),
    ],
    ids=str,
)
def test_an_action_without_elements_is_refused_by_name(space):
    with pytest.raises(UserError, match=r"action '(action|a)' holds no elements"):
        make_act_codec(space)


class Wide(gymnasium.Env):
    """One number at a time, each under a name of its own."""

    action_space = spaces.Discrete(2)

    def __init__(self, keys=1001):
        self.observation_space = spaces.Dict({f"k{index}": spaces.Box(-1, 1, ()) for index in range(keys)})

    def reset(self, *, seed=None, options=None): ...
    def step(self, action): ...


class JaxWide:
    act_space = {"action": Space((), "int32", classes=2)}  # noqa: RUF012
    obs_space = {f"k{index}": Space((), "float32") for index in range(1001)}  # noqa: RUF012

    def reset(self, key): ...
    def step(self, state, action, key): ...


def test_more_observations_than_an_agent_is_compiled_for_are_one_line(tmp_path):
    words = [
        "--configs",
        "debug",
        "--env.num",
        "1",
        "--logdir",
        str(tmp_path / "run"),
        "--run.progress",
        "False",
    ]
    for make in (
        lambda: make_env(Wide),
        lambda: dreamworld.train(cli.parse(words), env=Wide),
        lambda: dreamworld.train(cli.parse([*words, "--env.engine", "jax"]), env=JaxWide()),
        lambda: dreamworld.train(cli.parse([*words, "--run.mode", "fused"]), env=JaxWide()),
    ):
        with pytest.raises(
            UserError, match="has 1,001 observations, of at most 1,000: join them into arrays"
        ):
            make()
    assert len(make_env(Wide(1000)).obs_space) == 1000 and not (tmp_path / "run").exists()


def test_a_number_beyond_float32_is_an_infinity_without_a_warning():
    codec = make_obs_codec(spaces.Box(-1, 1, (2,), np.float32))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert codec.encode(np.array([1e300, 0]))["vector"].tolist() == [np.inf, 0]


def test_too_many_classes_are_told_with_how_many_there_can_be():
    with pytest.raises(UserError, match="classes=1000000000000: int32 holds at most 2,147,483,648"):
        make_obs_codec(spaces.Discrete(10**12))
