"""Adapter for dm_env environments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from dreamworld.envs.adapters.gym import close_quietly
from dreamworld.envs.adapters.specs import gym_space_of_spec
from dreamworld.envs.base import Step, Unsaved
from dreamworld.envs.pictures import AUTO, Reading
from dreamworld.envs.scalars import number
from dreamworld.envs.spaces import make_act_codec, make_obs_codec
from dreamworld.errors import UserError
from dreamworld.types import EnvObject


class DmEnv(Unsaved):
    """A dm_env.Environment behind the Env contract: discount 0 at the last step is terminal.

    dm_env has no way to seed: `rebuild(seed)`, where given, makes the environment anew for a reset with
    a seed.
    """

    no_picture = "dm_env has no render()"
    takes_options = False

    def __init__(self, env: EnvObject, rebuild: Callable[[int], Any] | None = None, reading: Reading = AUTO):
        self._env = env
        self._rebuild = rebuild
        self._obs = make_obs_codec(gym_space_of_spec(env.observation_spec()), reading)
        self._act = make_act_codec(gym_space_of_spec(env.action_spec()))
        self.obs_space = self._obs.spaces
        self.act_space = self._act.spaces

    def reset(self, seed: int | None = None, options: Mapping[str, Any] | None = None) -> Step:
        """Starts an episode."""
        refuse_options(self, options)
        if seed is not None and self._rebuild is not None:
            close_quietly(self._env)
            self._env = self._rebuild(seed % 2**31)
        return dm_step(self._env.reset(), self._obs.encode)

    def step(self, action: dict[str, np.ndarray]) -> Step:
        """Advances by one action."""
        return dm_step(self._env.step(self._act.decode(action)), self._obs.encode)

    def render(self) -> np.ndarray | None:
        """dm_env has no rendering."""
        return None

    def close(self) -> None:
        """Closes the environment."""
        close_quietly(self._env)


def dm_step(time_step: Any, encode: Callable[[Any], dict[str, np.ndarray]]) -> Step:
    """A dm_env.TimeStep as a row."""
    obs = encode(time_step.observation)
    if time_step.first():
        return Step(obs, 0.0, True, False, False)
    last = bool(time_step.last())
    terminal = last and time_step.discount is not None and number("discount", time_step.discount) == 0
    reward = 0.0 if time_step.reward is None else number("reward", time_step.reward)
    return Step(obs, reward, False, last, terminal)


def refuse_options(env: object, options: Mapping[str, Any] | None) -> None:
    """For environments without reset options, which say so by `takes_options = False`."""
    if options:
        raise UserError(f"{type(env).__name__} takes no reset options, got {sorted(options)}")
