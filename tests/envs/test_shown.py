"""Pictures for people: whoever can give one is asked for it, whatever it looks like; who can't, says why."""

import functools
from typing import Any

import gymnasium
import numpy as np
import pytest
import toys
from gymnasium.envs.classic_control import CartPoleEnv

from dreamworld.config import EnvConfig
from dreamworld.envs import make_env, make_vector_env
from dreamworld.envs.adapters.dm import DmEnv
from dreamworld.envs.adapters.gym import GymEnv
from dreamworld.envs.adapters.shown import why_no_picture
from dreamworld.training.evaluate import evaluate, random_act


class Passes(CartPoleEnv):
    """Passes on what it does not know, to a constructor that takes render_mode."""

    def __init__(self, speed=1, **others):
        super().__init__(**others)


class Lists(toys.Counter):
    """Lists rgb_array, and takes no render_mode: its render() gives pictures all the same."""

    def __init__(self, picture: Any = None):
        super().__init__()
        self.picture = np.full((4, 5, 3), 7, np.uint8) if picture is None else picture

    def render(self):
        return self.picture


class Swallows(Lists):
    """Takes anything, which need not be a render_mode."""

    def __init__(self, **others):
        assert "render_mode" not in others
        super().__init__()


class Blind(toys.Counter):
    metadata = {"render_modes": []}  # noqa: RUF012


class Windowed(Lists):
    metadata = {"render_modes": ["human", "rgb_array"]}  # noqa: RUF012

    def render(self):
        raise AssertionError("opens a window")


class NoRender(Blind):
    render = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    "target",
    [toys.Counter, "toys:Counter", functools.partial(toys.Counter, 4), Passes, Lists, Swallows],
    ids=str,
)
def test_classes_that_take_rgb_array_are_made_with_it(target):
    env = make_env(target)
    env.reset(0)
    frame = env.render()
    assert frame is not None and frame.dtype == np.uint8 and frame.shape[2] == 3


def test_a_render_mode_of_ones_own_is_kept():
    for env in (
        make_env(toys.Counter, render_mode="human"),
        make_env(functools.partial(toys.Counter, render_mode="human")),
    ):
        assert env.render() is None
        assert why_no_picture(env) == "its render_mode is 'human', and pictures need 'rgb_array'"


def test_registered_environments_that_take_no_render_mode_are_made():
    if "Lists-v0" not in gymnasium.registry:
        gymnasium.register("Lists-v0", Lists)  # type: ignore[arg-type]
    env = make_env("gym_Lists-v0")
    env.reset(0)
    assert env.render() is not None


@pytest.mark.parametrize(
    ("target", "why"),
    [
        (Windowed, "it was made without render_mode='rgb_array'"),
        (toys.Unlisted(), "it was made without render_mode='rgb_array', which its metadata does not list"),
        (Blind, "it was made without render_mode='rgb_array', which its metadata does not list"),
        (NoRender, r"it has no render()"),
        (functools.partial(Lists, picture=[]), "its render() returned a list of 0"),
        (toys.DmCounter, "dm_env has no render()"),
        (toys.Own, "its render() gives none"),
    ],
)
def test_there_is_a_reason_where_there_is_no_picture(target, why):
    env = make_env(target, EnvConfig(time_limit=5))
    env.reset(0)
    assert env.render() is None and why_no_picture(env) == why


@pytest.mark.parametrize(
    ("picture", "pixel"),
    [
        (np.full((4, 5), 7, np.uint8), 7), (np.full((4, 5, 1), 7, np.uint8), 7), (np.full((4, 5, 4), 7, np.uint8), 7),
        (np.full((3, 14, 15), 7, np.uint8), 7), (np.full((4, 5, 3), 1.0), 255), (np.full((4, 5, 3), 7.0), 7),
        ([np.zeros((4, 5, 3), np.uint8), np.full((4, 5, 3), 7, np.uint8)], 7), (np.full((4, 5, 3), 7).tolist(), 7),
    ],
)  # fmt: skip
def test_pictures_of_every_kind_become_rgb(picture, pixel):
    frame = GymEnv(Lists(picture)).render()
    assert frame is not None and frame.dtype == np.uint8 and frame.shape[2] == 3 and (frame == pixel).all()


class Closeless:
    """As a gymnasium environment, without a base class and without close()."""

    observation_space, action_space = toys.Counter.observation_space, toys.Counter.action_space

    def __init__(self):
        self.env = toys.Counter()
        self.reset, self.step = self.env.reset, self.env.step


class ClosesBadly(toys.Counter):
    def close(self):
        raise RuntimeError("already gone")


@pytest.mark.parametrize("target", [Closeless, ClosesBadly, Closeless(), ClosesBadly()])
def test_a_close_that_raises_or_is_missing_is_survived(target):
    env = make_env(target)
    env.reset(0)
    env.close()
    env.close()


def test_a_dm_close_that_raises_is_survived_between_seeds_too():
    class Raises(toys.DmCounter):
        def close(self):
            raise RuntimeError("already gone")

    env = DmEnv(Raises(), lambda seed: Raises(seed=seed))
    env.reset(1)
    env.reset(2)
    env.close()


def film(target, engine):
    env = make_vector_env(target, EnvConfig(engine=engine, workers=1), seed=0, num=2)
    try:
        return evaluate(random_act(env.act_space, 2), None, env, 4, seed=0, video=True)
    finally:
        env.close()


@pytest.mark.parametrize("engine", ["inprocess", "process"])
def test_an_evaluation_says_why_it_has_no_video(engine):
    found = film("toys:Unlisted", engine)
    assert found.frames is None and len(found.returns) == 4
    assert found.unfilmed == "it was made without render_mode='rgb_array', which its metadata does not list"


def test_a_worker_that_dies_while_it_renders_ends_no_evaluation():
    found = film("toys:DiesRendering", "process")
    assert found.frames is None and len(found.returns) == 4
    assert "exited with status 3" in found.unfilmed
