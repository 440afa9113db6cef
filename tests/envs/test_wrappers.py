import numpy as np
import pytest
import toys

from dreamworld.config import EnvConfig
from dreamworld.envs import make_env
from dreamworld.envs.adapters.gym import GymEnv
from dreamworld.envs.randomize import RandomizeReset
from dreamworld.envs.wrappers import (
    ActionRepeat,
    ClipReward,
    FrameStack,
    NormalizeAction,
    ResizeImage,
    TimeLimit,
)
from dreamworld.errors import UserError

ACTION = {"action": np.zeros(2, np.float32), "gear": np.array(1)}


def walk(env, steps, seed=0):
    return [env.reset(seed), *(env.step(ACTION) for _ in range(steps))]


def test_time_limit_truncates_and_leaves_true_ends_alone():
    rows = walk(TimeLimit(toys.Own(length=5), 3), 3)
    assert [row.is_last for row in rows] == [False, False, False, True]
    assert not rows[-1].is_terminal
    assert walk(TimeLimit(toys.Own(length=3), 3), 3)[-1][2:5] == (False, True, True)
    assert walk(TimeLimit(toys.Own(length=2), 3), 2)[-1].is_terminal


def test_time_limit_counts_anew_after_a_reset():
    env = TimeLimit(toys.Own(length=50), 3)
    walk(env, 2)
    assert [row.is_last for row in walk(env, 3)] == [False, False, False, True]


def test_action_repeat_sums_rewards_and_stops_at_the_end():
    env = toys.Own(length=5)
    rows = walk(ActionRepeat(env, 3), 2)
    assert rows[1].reward == 2 + 4 + 6 and rows[1].log == {"log/count": 3.0}
    assert rows[2].reward == 8 + 10 and rows[2].is_terminal and len(env.actions) == 5


def test_normalize_action_maps_to_the_bounds_and_leaves_classes_alone():
    inner = toys.Own()
    env = NormalizeAction(inner)
    assert (env.act_space["action"].low, env.act_space["action"].high) == (-1, 1)
    assert env.act_space["gear"] == inner.act_space["gear"]
    env.reset(0)
    for value, expected in ((-1, 0), (0, 5), (1, 10), (7, 10)):
        env.step({"action": np.full(2, value, np.float32), "gear": np.array(3)})
        np.testing.assert_allclose(inner.actions[-1]["action"], expected)
        assert inner.actions[-1]["gear"] == 3


def test_resize_touches_only_images():
    env = ResizeImage(toys.Own(image=(32, 48, 3)), (64, 32))
    row = walk(env, 2)[-1]
    assert env.obs_space["camera/front"].shape == row.obs["camera/front"].shape == (64, 32, 3)
    assert (row.obs["camera/front"] == 20).all() and row.obs["speed"] == 2


def test_gray_is_luma_on_one_channel():
    env = ResizeImage(toys.Own(), None, gray=True)
    row = walk(env, 2)[-1]
    assert env.obs_space["camera/front"].shape == row.obs["camera/front"].shape == (32, 48, 1)
    assert np.isin(row.obs["camera/front"], (19, 20)).all()  # 20, rounded down


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_resize_takes_any_number_of_channels(channels):
    env = ResizeImage(toys.Own(image=(32, 48, channels)), (16, 16))
    assert walk(env, 1)[-1].obs["camera/front"].shape == (16, 16, channels)


def test_frame_stack_is_newest_last_and_starts_filled():
    env = FrameStack(toys.Own(image=(16, 16, 1)), 3)
    assert env.obs_space["camera/front"].shape == (16, 16, 3)
    rows = walk(env, 4)
    pixels = [row.obs["camera/front"][0, 0].tolist() for row in rows]
    assert pixels == [[0, 0, 0], [0, 0, 10], [0, 10, 20], [10, 20, 30], [20, 30, 40]]
    assert env.reset().obs["camera/front"][0, 0].tolist() == [0, 0, 0]


def test_frame_stack_takes_vectors_by_name_and_refuses_classes():
    env = FrameStack(GymEnv(toys.Counter()), 2, keys=["vector"])
    env.reset(0)
    assert env.step({"action": np.array(0)}).obs["vector"].tolist() == [1, 0, 1, 1]
    with pytest.raises(UserError, match="can't stack observation 'gear'"):
        FrameStack(toys.Own(), 2, keys=["gear"])
    with pytest.raises(UserError, match="no observation 'lidar'; there are camera/front, speed, gear"):
        FrameStack(toys.Own(), 2, keys=["lidar"])


def test_clip_reward_keeps_the_true_one_in_the_log():
    rows = walk(ClipReward(toys.Own()), 2)
    assert [row.reward for row in rows] == [0, 1, 1]
    assert rows[2].log == {"log/reward": 4.0, "log/count": 2.0}


def test_randomize_draws_options_for_every_episode_and_repeats_by_seed():
    env = toys.Own()
    wrapped = RandomizeReset(env, {"mass": (0.5, 2.0), "map": ["a", "b"], "level": [1, 2, 3]})
    rows = [wrapped.reset(seed) for seed in (1, None, None, 1, None)]
    options = [options for _, options in env.resets]
    assert options[0] == options[3] and options[1] == options[4] and options[0] != options[1]
    assert all(0.5 <= o["mass"] <= 2 and o["map"] in "ab" and o["level"] in (1, 2, 3) for o in options)
    assert rows[0].log == {"log/mass": options[0]["mass"], "log/level": options[0]["level"]}
    wrapped.reset(0, {"mass": 7.0})
    assert env.resets[-1][1]["mass"] == 7.0


def test_randomize_reaches_gymnasium_through_other_wrappers():
    raw = toys.Counter()
    env = make_env(raw, EnvConfig(randomize="low=1:1,kind=big", time_limit=2, stack=1))
    env.reset(0)
    assert raw.options == {"low": 1.0, "kind": "big"}


@pytest.mark.parametrize("name", ["jax_catch", "dmc_cartpole_balance", "crafter_reward", "atari_pong"])
def test_randomize_of_what_takes_no_options_is_refused_when_it_is_made(name):
    """It was refused at the first reset: the run folder was made, and its environment "failed" eleven times."""
    pytest.importorskip(
        {"dmc": "dm_control", "crafter": "crafter", "atari": "ale_py"}.get(name.split("_")[0], "jax")
    )
    with pytest.raises(
        UserError, match=r"^env\.randomize gravity: this environment \(\w+Env\) takes no reset options"
    ):
        make_env(name, EnvConfig(randomize="gravity=1:2", time_limit=5))


def test_saved_wrappers_go_on_identically():
    def make():
        return FrameStack(TimeLimit(ActionRepeat(toys.SavedOwn(length=50, image=(16, 16, 1)), 2), 6), 3)

    env, other = make(), make()
    walk(env, 3)
    state = env.save()
    assert state is not None
    rows = [env.step(ACTION) for _ in range(3)]
    current = other.restore(state)
    assert current.obs["camera/front"][0, 0].tolist() == [20, 40, 60]
    for row, again in zip(rows, [other.step(ACTION) for _ in range(3)]):
        np.testing.assert_array_equal(row.obs["camera/front"], again.obs["camera/front"])
        assert row[1:] == again[1:]
    assert rows[-1].is_last


def test_wrappers_of_environments_that_can_not_save_say_so():
    env = FrameStack(TimeLimit(toys.Own(), 3), 2)
    env.reset(0)
    assert env.save() is None


@pytest.mark.parametrize(
    "make", [lambda e: TimeLimit(e, 0), lambda e: ActionRepeat(e, 0), lambda e: FrameStack(e, 0)]
)
def test_counts_below_one_are_refused(make):
    with pytest.raises(UserError, match="at least 1"):
        make(toys.Own())


def test_no_wrapper_is_added_that_was_not_asked_for():
    env = toys.Own()
    assert make_env(env) is env
