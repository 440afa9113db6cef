"""Values of size 1 in every wrapping are taken; what is no number, flag or array of its space is named in a line."""

import decimal
from typing import NamedTuple

import gymnasium
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from gymnasium import spaces

from dreamworld.config import EnvConfig
from dreamworld.envs import make_env, make_vector_env, notices
from dreamworld.envs.adapters.dm import DmEnv
from dreamworld.envs.adapters.gym import GymEnv, info_log
from dreamworld.envs.adapters.gym_vector import info_logs
from dreamworld.envs.scalars import Misfit, fit, flag, number, whole
from dreamworld.envs.spaces import make_obs_codec
from dreamworld.envs.vector import EnvFailure
from dreamworld.errors import UserError


class Tensor:
    """As a torch tensor that requires a gradient: numpy can't read it until it is detached and on the CPU."""

    def __init__(self, array, detached=False, local=False, dtype="torch.float32"):
        self.array, self.detached, self.local, self.dtype = np.asarray(array), detached, local, dtype

    @property
    def shape(self):
        return self.array.shape

    def detach(self):
        return Tensor(self.array, True, self.local, self.dtype)

    def cpu(self):
        return Tensor(self.array, self.detached, True, self.dtype)

    def float(self):
        return Tensor(self.array, self.detached, self.local)

    def __array__(self, dtype=None, copy=None):
        if not (self.detached and self.local and self.dtype == "torch.float32"):
            raise TypeError("can't convert this tensor to numpy")
        return np.array(self.array, dtype)


ONES = [
    1, 1.0, True, np.bool_(True), np.float16(1), np.int8(1), np.array(1.0), np.array([1.0]), np.array([[1]]), [1.0],
    (1,), jnp.ones(()), jnp.ones(1, jnp.bfloat16), decimal.Decimal(1), np.array([1], object), Tensor([1.0]),
    Tensor(1.0, dtype="torch.bfloat16"),
]  # fmt: skip
MISFITS = [
    None, "1", b"1", {"r": 1.0}, [], [1, 2], [[1], [2, 3]], np.zeros(0), np.ones(2), 1j, np.complex64(1), object(),
    np.datetime64("2024-01-01"), np.timedelta64(1), np.array(["1"]), np.array([None]), Tensor([1.0, 2.0]),
]  # fmt: skip


@pytest.mark.parametrize("one", ONES)
def test_one_number_in_any_wrapping_is_a_number_a_flag_and_an_whole(one):
    assert (number("x", one), flag("x", one), whole("x", one)) == (1.0, True, 1)
    assert [type(read("x", one)) for read in (number, flag, whole)] == [float, bool, int]


@pytest.mark.parametrize("value", MISFITS)
def test_what_is_not_one_number_is_named_in_one_line(value):
    with pytest.raises(Misfit, match=r"^reward is .*, not one number$") as error:
        number("reward", value)
    assert "\n" not in str(error.value) and len(str(error.value)) < 150
    if value is not None:
        with pytest.raises(Misfit, match=r"^truncated is .*, not True or False$"):
            flag("truncated", value)


def test_a_nan_is_no_flag_and_a_number_beyond_all_floats_is_infinite():
    for nan in (float("nan"), np.float32("nan"), np.array([np.nan])):
        with pytest.raises(Misfit, match=r"^terminated is .*nan.*, not True or False$"):
            flag("terminated", nan)
    assert (number("reward", 10**400), number("reward", -(10**400))) == (np.inf, -np.inf)


def test_none_is_a_flag_that_is_not_set_and_a_fraction_no_whole():
    assert flag("truncated", None) is False
    with pytest.raises(Misfit, match=r"x is 1\.5, not a whole number"):
        whole("x", np.array([1.5]))


def test_axes_of_length_one_may_be_missing_or_too_many():
    for value, shape in (
        (np.ones((1, 4)), (4,)),
        (np.ones((4, 1)), (4,)),
        (3.0, (1,)),
        ([3.0], ()),
        (np.ones(4), (1, 4)),
    ):
        assert fit("x", value, shape).shape == shape
    for value, shape in (
        (np.ones((3, 2)), (2, 3)),
        (np.ones(6), (2, 3)),
        (np.ones(2), ()),
        ([[1], [2, 3]], (3,)),
    ):
        with pytest.raises(Misfit, match=r"^x (has the shape .*, its space|is a list of 2)"):
            fit("x", value, shape)


def first_step(**returns):
    env = GymEnv(toys.Odd(**returns))
    return env.reset(0), env.step({"action": np.array(0)})


@pytest.mark.parametrize("one", ONES[1:])
def test_an_environment_may_return_any_of_them(one):
    reset, step = first_step(
        obs=[3], reward=one, terminated=one, info={"log/x": one, "episode": {"r": one, "l": [1]}}
    )
    assert reset.obs["vector"] == step.obs["vector"] == 1
    assert step[1:5] == (1.0, False, True, True)
    assert reset.log == step.log == {"log/x": 1.0, "log/episode_return": 1.0, "log/episode_length": 1.0}


@pytest.mark.parametrize(
    ("returns", "text"),
    [
        ({"reward": np.ones(2)}, r"^reward is an array of shape \(2,\) \(\[1\.0, 1\.0\]\), not one number$"),
        ({"reward": {"a": 1.0}}, r"^reward is a dict of 1 \(\{'a': 1\.0\}\), not one number$"),
        ({"terminated": {"a": True}}, "^terminated is a dict of 1"),
        ({"truncated": "no"}, "^truncated is a str"),
        ({"obs": [1, 2]}, r"^observation 'vector' has the shape \(2,\), its space \(\)$"),
        ({"obs": np.array(2.5)}, r"^observation 'vector' is 2\.5, not a whole number$"),
    ],
)
def test_what_can_not_be_taken_names_what_it_was(returns, text):
    with pytest.raises(Misfit, match=text):
        first_step(**returns)


@pytest.mark.parametrize(
    ("reset", "step", "text"),
    [
        (
            (2, {}),
            (2, 1.0, False, {}),
            r"step\(\) returned a tuple of 4; gymnasium wants .*the old gym API is not",
        ),
        (2, (2, 1.0, False, False, {}), r"reset\(\) returned an int; gymnasium wants \(obs, info\)"),
        ({"a": 1, "b": 2}, None, r"reset\(\) returned a dict of 2; gymnasium wants"),
        ((2, {}), None, r"step\(\) returned None"),
    ],
)
def test_another_number_of_results_is_named(reset, step, text):
    class Short(toys.Odd):
        def reset(self, *, seed=None, options=None):
            return reset

        def step(self, action):
            return step

    env = GymEnv(Short())
    with pytest.raises(Misfit, match=text):
        env.reset(0)
        env.step({"action": np.array(0)})


@pytest.mark.parametrize(
    "info", [None, [], "text", {"episode": None}, {"episode": {"r": "x", "l": None}}, {3: 4}], ids=repr
)
def test_any_info_is_survived(info):
    assert info_log(info) == {}


def test_a_bad_log_value_costs_that_value_and_is_said_once(capfd):
    notices.say_once.cache_clear()
    info = {
        "log/bad": "text",
        "log/good": np.array([2.0]),
        "log/none": None,
        "log/map": {},
        "log/two": [1, 2],
        "log/b": True,
    }
    for step in range(3):
        assert info_log({**info, "log/bad": f"text {step}"}) == {"log/good": 2.0, "log/b": 1.0}
    said = capfd.readouterr().err.splitlines()
    assert (
        len(said) == 4
        and "note: log/bad of an environment is a str, not one number: it is not logged" in said
    )


def test_vector_environments_log_what_can_be_logged():
    log = info_logs(
        {"log/a": ["x", 2.0], "log/b": np.array([[1.0], [2.0]]), "log/c": "x", "_log/b": [True, False]}, 2
    )
    np.testing.assert_array_equal(log["log/a"], [np.nan, 2])
    np.testing.assert_array_equal(log["log/b"], [1, np.nan])
    assert "log/c" not in log


def test_dm_environments_may_wrap_reward_and_discount():
    class Wrapped(toys.DmCounter):
        def step(self, action):
            row = super().step(action)
            return row._replace(reward=np.array([row.reward]), discount=np.array([row.discount]))

    env = DmEnv(Wrapped(length=2))
    env.reset()
    rows = [env.step({"action": np.zeros(2, np.float32)}) for _ in range(2)]
    assert [row[1:5] for row in rows] == [(1.0, False, False, False), (1.0, False, True, True)]


class Wide(toys.Own):
    """An Env of our own contract that wraps its reward and logs what can't be logged."""

    def step(self, action):
        return (
            super()
            .step(action)
            ._replace(reward=np.array([2.0]), log={"log/x": "text", "log/y": np.array([3])})
        )  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{}, {"repeat": 2}, {"clip_reward": 5.0}], ids=str)
def test_environments_of_our_own_contract_may_wrap_too(options):
    env = make_vector_env(Wide, EnvConfig(engine="inprocess", **options), seed=0, num=1)
    env.reset(0)
    row = env.step({key: space.zeros(1) for key, space in env.act_space.items()})
    assert row.reward == [2.0 * options.get("repeat", 1)]
    assert row.log["log/y"] == [3] and "log/x" not in row.log


@pytest.mark.parametrize("engine", ["inprocess", "process"])
def test_a_reward_vector_ends_the_run_with_one_line_that_names_it(engine):
    config = EnvConfig(engine=engine, workers=1, max_failures=2, options="reward=[1.0,2.0]")
    env = make_vector_env("toys:Odd", config, seed=0, num=1)
    env.reset(0)
    with pytest.raises(EnvFailure) as error:
        for _ in range(9):
            env.step({"action": np.zeros(1, np.int32)})
    env.close()
    assert isinstance(error.value, UserError)
    assert str(error.value) == (
        "environment 0 failed 3 times in a row (env.max_failures is 2): reward is a list of 2 ([1.0, 2.0]), "
        "not one number"
    )


def test_observations_of_another_shape_are_not_scrambled():
    codec = make_obs_codec(
        spaces.Dict(a=spaces.Box(-1, 1, (2, 3)), b=spaces.MultiBinary(3), c=spaces.MultiDiscrete([3, 3]))
    )
    good = {"a": np.ones((2, 3)), "b": [0, 1, 0], "c": [[1, 2]]}
    assert codec.encode(good)["c"].tolist() == [1, 2]
    for key, value in (("a", np.ones((3, 2))), ("b", [0, 1]), ("c", [1, 2, 0])):
        with pytest.raises(Misfit, match=f"^observation '{key}' has the shape"):
            codec.encode({**good, key: value})
    image = make_obs_codec(gymnasium.spaces.Box(0, 255, (32, 48, 3), np.uint8))
    with pytest.raises(
        Misfit, match=r"observation 'image' has the shape \(48, 32, 3\), its space \(32, 48, 3\)"
    ):
        image.encode(np.zeros((48, 32, 3), np.uint8))


class Pair(NamedTuple):
    a: float
    b: float


def test_observations_may_be_named_tuples_and_missing_ones_are_named():
    boxes: dict[str, spaces.Space] = {"a": spaces.Box(-9, 9, ()), "b": spaces.Box(-9, 9, ())}
    named, plain = make_obs_codec(spaces.Dict(boxes)), make_obs_codec(spaces.Tuple(list(boxes.values())))
    assert named.encode(Pair(1, 2)) == {"a": 1, "b": 2} and plain.encode(Pair(1, 2)) == {"0": 1, "1": 2}
    for value in ({"a": 1}, (1, 2), None, 3):
        with pytest.raises(Misfit, match=r"^observation '[ab]' is missing: the environment returned"):
            named.encode(value)


def test_make_env_takes_a_size_one_reward_from_start_to_end():
    env = make_env(toys.Odd, reward=np.array([0.5]), obs=np.array([6]))
    assert env.reset(0).obs["vector"] == 4
    assert env.step({"action": np.array(0)}).reward == 0.5
