"""A JAX environment through gymnasium's methods."""

import gymnasium
import jax
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from dreamworld.envs.jax import make_jax_env
from dreamworld.envs.jax.view import GymView, action_space, observation_space
from dreamworld.types import Space


@pytest.mark.parametrize("name", ["jax_catch", "jax_cartpole", "jax_dodge"])
def test_gymnasium_finds_nothing_wrong_with_it(name):
    check_env(GymView(make_jax_env(name)), skip_render_check=True)


def test_it_plays_the_environment_that_it_shows():
    env = make_jax_env("jax_catch")
    view = GymView(env, seed=3)
    obs, _ = view.reset()
    key = jax.random.PRNGKey(3)
    state, want = env.reset(jax.random.fold_in(key, 1))
    for time in range(9):
        np.testing.assert_array_equal(obs["vector"], want["vector"])
        state, step = env.step(state, {"action": np.int32(2)}, jax.random.fold_in(key, time + 2))
        want = step.obs
        obs, reward, terminated, truncated, _ = view.step({"action": 2})
        assert (reward, terminated, truncated) == (float(step.reward), bool(step.is_terminal), False)
    assert terminated


def test_equal_seeds_give_equal_episodes_and_states_can_be_put_back():
    view = GymView(make_jax_env("jax_catch"))
    episodes = []
    for seed in (5, 5, 6, 7, 8):
        obs, _ = view.reset(seed=seed)
        episodes.append([obs["vector"], *(view.step({"action": 0})[0]["vector"] for _ in range(8))])
    assert all((a == b).all() for a, b in zip(episodes[0], episodes[1]))
    starts = {int(episode[0].argmax()) for episode in episodes}
    assert len(starts) > 1
    view.reset(seed=1)
    kept = view.state
    first = view.step({"action": 1})[0]["vector"]
    view.step({"action": 1})
    view.state = kept
    np.testing.assert_array_equal(view.step({"action": 1})[0]["vector"], first)


def test_spaces_of_every_kind():
    assert observation_space(Space((2, 2, 3), "uint8")) == gymnasium.spaces.Box(0, 255, (2, 2, 3), np.uint8)
    assert observation_space(Space((), "int32", classes=3)) == gymnasium.spaces.Box(0, 2, (), np.int32)
    assert action_space(Space((), "int32", classes=3)) == gymnasium.spaces.Discrete(3)
    assert action_space(Space((2,), "int32", classes=3)) == gymnasium.spaces.MultiDiscrete([3, 3])
    assert action_space(Space((2,), "float32")) == gymnasium.spaces.Box(-1, 1, (2,), np.float32)
