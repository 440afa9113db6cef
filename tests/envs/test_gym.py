import gymnasium
import numpy as np
import pytest
import toys
from gymnasium.envs import registration
from gymnasium.wrappers import RecordEpisodeStatistics

from dreamworld.config import EnvConfig
from dreamworld.envs import make_env
from dreamworld.envs.adapters.gym import GymEnv
from dreamworld.envs.resolve import resolve
from dreamworld.errors import UserError


def run(env, action, steps):
    return [env.step({"action": np.asarray(action)}) for _ in range(steps)]


@pytest.mark.parametrize("truncate", [False, True])
def test_terminated_is_terminal_and_truncated_is_only_last(truncate):
    env = GymEnv(toys.Counter(length=3, truncate=truncate))
    first = env.reset(0)
    assert first[1:5] == (0.0, True, False, False)
    *middle, last = run(env, 0, 3)
    assert all(row[1:5] == (i + 1.0, False, False, False) for i, row in enumerate(middle))
    assert last[1:5] == (3.0, False, True, not truncate)
    assert last.obs["vector"].tolist() == [1, 3]  # the true last observation, not that of the next reset


def test_cartpole_matches_gymnasium_step_by_step():
    env, raw = make_env("gym_CartPole-v1"), gymnasium.make("CartPole-v1")
    obs, _ = raw.reset(seed=7)
    np.testing.assert_array_equal(env.reset(7).obs["vector"], obs)
    for i in range(20):
        row = env.step({"action": np.array(i % 2)})
        obs, reward, terminated, truncated, _ = raw.step(i % 2)
        np.testing.assert_array_equal(row.obs["vector"], obs)
        assert (row.reward, row.is_last, row.is_terminal) == (reward, terminated or truncated, terminated)
        if row.is_last:
            break


def test_pendulum_gets_its_full_torque_from_one():
    env, raw = make_env("gym_Pendulum-v1"), gymnasium.make("Pendulum-v1")
    env.reset(3)
    raw.reset(seed=3)
    for _ in range(5):
        row = env.step({"action": np.full(1, 4.0, np.float32)})  # beyond 1: clipped
        obs, reward, *_ = raw.step(np.array([2.0], np.float32))
        np.testing.assert_allclose(row.obs["vector"], obs)
        assert row.reward == pytest.approx(float(reward))


def test_time_limit_option_replaces_the_registered_one():
    for limit, length in ((0, 200), (250, 250), (30, 30)):  # Pendulum's own is 200
        env = make_env("gym_Pendulum-v1", EnvConfig(time_limit=limit))
        env.reset(0)
        rows = run(env, [0.0], length)
        assert [row.is_last for row in rows] == [False] * (length - 1) + [True]
        assert not rows[-1].is_terminal


def test_only_log_scalars_of_info_are_logged():
    env = GymEnv(toys.Counter())
    env.reset(0)
    assert run(env, 0, 2)[1].log == {"log/twice": 4.0}


def test_episode_statistics_are_logged_at_the_end():
    env = GymEnv(RecordEpisodeStatistics(toys.Counter(length=3)))
    env.reset(0)
    rows = run(env, 0, 3)
    assert "log/episode_return" not in rows[1].log
    assert rows[2].log["log/episode_return"] == 6.0 and rows[2].log["log/episode_length"] == 3


def test_reset_options_reach_the_environment():
    raw = toys.Counter()
    GymEnv(raw).reset(0, {"level": 3})
    assert raw.options == {"level": 3}


def test_environments_that_can_render_do_so_without_a_window():
    env = make_env("gym_CartPole-v1")
    env.reset(0)
    frame = env.render()
    assert frame is not None and frame.dtype == np.uint8 and frame.shape == (400, 600, 3)


def test_gymnasium_mujoco_runs_and_renders():
    env = make_env("gym_HalfCheetah-v5")
    env.reset(0)
    assert run(env, np.zeros(6), 1)[0].obs["vector"].shape == (17,)
    frame = env.render()
    assert frame is not None and frame.std() > 0
    env.close()


def test_dict_and_tuple_spaces_pass_through_make():
    env = make_env("gym_Blackjack-v1")
    obs = env.reset(0).obs
    assert {key: space.classes for key, space in env.obs_space.items()} == {"0": 32, "1": 11, "2": 2}
    assert all(value.dtype == np.int32 for value in obs.values())


def test_constructor_options_are_handed_over():
    env = make_env("gym_FrozenLake-v1", map_name="8x8")
    assert env.obs_space["vector"].classes == 64
    with pytest.raises(UserError, match=r"gym_CartPole-v1.*\['nonsense'\]"):
        make_env("gym_CartPole-v1", nonsense=1)


def test_module_and_id_import_the_module(tmp_path, monkeypatch):
    (tmp_path / "registers_one.py").write_text(
        "import gymnasium\n"
        "gymnasium.register('Registered-v0', 'gymnasium.envs.classic_control:CartPoleEnv')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert make_env("gym_registers_one:Registered-v0").obs_space["vector"].shape == (4,)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("gym_CartPol-v1", "CartPole"),
        ("gym_no_such_module:Id-v0", "no module named 'no_such_module'"),
        ("gym_CarRacing-v3", "needs a package that is not installed"),
    ],
)
def test_names_that_can_not_be_built_say_why(name, text):
    with pytest.raises(UserError, match=text) as error:
        make_env(name)
    assert "\n" not in str(error.value)


def test_what_is_registered_as_vectors_only_is_refused_in_one_line(monkeypatch):
    monkeypatch.setattr(registration, "registry", dict(gymnasium.registry))
    gymnasium.register("VectorOnly-v0", vector_entry_point="gymnasium.envs.classic_control:CartPoleVectorEnv")
    with pytest.raises(UserError, match="gym_VectorOnly-v0 is registered as a vector environment only"):
        make_env("gym_VectorOnly-v0")
    with pytest.raises(UserError, match="gym_VectorOnly-v0 is registered as a vector environment only"):
        resolve("gym_VectorOnly-v0", EnvConfig())
