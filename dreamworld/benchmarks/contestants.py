"""What `dreamworld benchmark env` compares with: environments as gymnasium's own vector classes step them."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np

from dreamworld.config import Config, EnvConfig
from dreamworld.envs.adapters import crafter_view
from dreamworld.envs.base import Env
from dreamworld.envs.factory import make_env
from dreamworld.envs.jax.view import action_space, observation_space


class AsGym(gymnasium.Env):
    """Our single environment behind gymnasium's interface: for suites that have no gymnasium id."""

    def __init__(self, name: str, config: EnvConfig):
        self._env = make_env(name, config)
        spaces = {key: observation_space(space) for key, space in self._env.obs_space.items()}
        self.observation_space = gymnasium.spaces.Dict(spaces)
        self.action_space = gymnasium.spaces.Dict(
            {key: action_space(space) for key, space in self._env.act_space.items()}
        )

    @classmethod
    def maker(cls, name: str, config: EnvConfig) -> Callable[[], gymnasium.Env]:
        """A factory for gymnasium's vector classes."""
        return functools.partial(cls, name, config)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        """See gymnasium."""
        return self._env.reset(seed).obs, {}

    def step(self, action: dict[str, np.ndarray]) -> tuple[Any, float, bool, bool, dict]:
        """See gymnasium."""
        step = self._env.step(action)
        return step.obs, float(step.reward), step.is_terminal, step.is_last and not step.is_terminal, {}

    def close(self) -> None:
        """See gymnasium."""
        self._env.close()


def async_atari(config: Config, num: int) -> Any | None:
    """gymnasium's own Atari preprocessing (area resize by OpenCV) in an async vector; None without OpenCV."""
    try:
        import cv2  # noqa: F401  # pyright: ignore
    except ImportError:
        return None
    game = config.task.split("_", 1)[1]
    maker = functools.partial(_preprocessed, game, config.env)
    return gymnasium.vector.AsyncVectorEnv([maker] * num, context="spawn")


def _preprocessed(game: str, config: EnvConfig) -> gymnasium.Env:
    import ale_py
    from gymnasium.wrappers import AtariPreprocessing

    gymnasium.register_envs(ale_py)
    name = "".join(word.capitalize() for word in game.split("_"))
    env = gymnasium.make(
        f"ALE/{name}-v5",
        frameskip=1,
        repeat_action_probability=config.atari.sticky,
        full_action_space=config.atari.actions == "all",
        max_num_frames_per_episode=config.atari.max_frames,
    )
    height, width = config.size
    return AtariPreprocessing(
        env,
        noop_max=config.atari.noops,
        frame_skip=config.atari.repeat,
        screen_size=(width, height),
        grayscale_obs=config.atari.gray,
        grayscale_newaxis=config.atari.gray,
    )


def plain_crafter(task: str) -> Callable[[], Env]:
    """A factory of Crafter as it comes, without numba and without our drawing; for worker processes."""
    return functools.partial(_plain_crafter, task)


def _plain_crafter(task: str) -> Env:
    if sys.modules.get("numba") is not None:
        raise RuntimeError("numba is loaded already; only a worker process can do without")
    sys.modules["numba"] = None  # type: ignore[assignment]  # importing it fails from now on
    crafter_view.speed_up = lambda env: None  # in this process only, which is a worker's
    return make_env(task)
