from typing import Any

import numpy as np
import pytest
import toys
from dm_env import specs

from dreamworld.envs.adapters.dm import DmEnv
from dreamworld.envs.adapters.specs import gym_space_of_spec
from dreamworld.errors import UserError
from dreamworld.types import Space

ACTION = {"action": np.array([0.0, 1.0], np.float32)}


def test_spaces_of_specs():
    env = DmEnv(toys.DmCounter())
    assert env.obs_space == {
        "count": Space((), "float32", low=0, high=100),
        "flag": Space((2,), "int32", classes=2),
        "phase": Space((), "int32", classes=4),
    }
    assert env.act_space == {"action": Space((2,), "float32", low=-1, high=1)}


@pytest.mark.parametrize("discount", [0.0, 1.0])
def test_discount_zero_is_terminal_and_one_a_time_limit(discount):
    env = DmEnv(toys.DmCounter(discount=discount))
    assert env.reset()[1:5] == (0.0, True, False, False)
    rows = [env.step(ACTION) for _ in range(3)]
    assert rows[1][1:5] == (1.0, False, False, False)
    assert rows[2][1:5] == (1.0, False, True, discount == 0)
    assert rows[2].obs["count"] == 3


def test_actions_are_rescaled_per_element():
    raw = toys.DmCounter()
    env = DmEnv(raw)
    env.reset()
    env.step(ACTION)
    np.testing.assert_allclose(raw.actions, [[1.0, 10.0]])


def test_a_seed_rebuilds_where_that_is_possible():
    seeds = []
    env = DmEnv(toys.DmCounter(), lambda seed: seeds.append(seed) or toys.DmCounter())
    env.reset(4)
    env.reset()
    assert seeds == [4]


def test_nested_and_unnamed_specs():
    space: Any = gym_space_of_spec({"a": [specs.DiscreteArray(3), {"b": specs.Array((2,), np.int32)}]})
    assert space["a"][0].n == 3 and space["a"][1]["b"].shape == (2,)
    with pytest.raises(UserError, match="unsupported spec StringArray"):
        gym_space_of_spec(specs.StringArray(()))


def test_reset_options_are_refused():
    with pytest.raises(UserError, match=r"DmEnv takes no reset options, got \['mass'\]"):
        DmEnv(toys.DmCounter()).reset(0, {"mass": 1})
