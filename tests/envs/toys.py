"""Small environments for the tests: each shows its own step count."""

from __future__ import annotations

import os
from typing import Any

import dm_env
import gymnasium
import numpy as np
from dm_env import specs
from gymnasium import spaces

from dreamworld.envs.base import Step, Unsaved
from dreamworld.types import Space


class Counter(gymnasium.Env):
    """Observation: (episode, step in it). Reward: the step. Ends after `length` steps."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012
    observation_space = spaces.Box(-1e6, 1e6, (2,), np.float32)
    action_space = spaces.Discrete(3, start=5)

    def __init__(self, length: int = 3, truncate: bool = False, render_mode: str | None = None):
        self.length, self.truncate, self.render_mode = length, truncate, render_mode
        self.episode, self.count, self.actions, self.options = 0, 0, [], None

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.options = options
        self.episode += 1
        self.count = 0
        return self._obs(), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.actions.append(action)
        self.count += 1
        over = self.count >= self.length
        info = {"log/twice": 2 * self.count, "other": "text"}
        return self._obs(), float(self.count), over and not self.truncate, over and self.truncate, info

    def render(self):
        return np.full((20, 30, 3), self.count, np.uint8)

    def _obs(self):
        return np.array([self.episode, self.count], np.float32)


class Odd(Counter):
    """Returns what it is told to."""

    observation_space = spaces.Discrete(5, start=2)  # type: ignore[assignment]

    def __init__(
        self, obs: Any = 2, reward: Any = 1.0, terminated: Any = False, truncated=False, info: Any = None
    ):
        super().__init__()
        self.returns = obs, reward, terminated, truncated, info

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.returns[0], self.returns[4]

    def step(self, action):
        return self.returns


class DmCounter(dm_env.Environment):
    """The same as a dm_env environment; `discount` is that of its last step."""

    def __init__(self, length: int = 3, discount: float = 0.0, seed: int | None = None):
        self.length, self.discount, self.seed = length, discount, seed
        self.count, self.actions = 0, []

    def observation_spec(self):
        return {
            "count": specs.BoundedArray((), np.float64, 0, 100),
            "flag": specs.Array((2,), bool),
            "phase": specs.DiscreteArray(4),
            "nothing": specs.Array((0,), np.float32),
        }

    def action_spec(self):
        return specs.BoundedArray((2,), np.float64, [-1.0, 0.0], [3.0, 10.0])

    def reset(self):
        self.count = 0
        return dm_env.restart(self._obs())

    def step(self, action):
        self.actions.append(action)
        self.count += 1
        if self.count >= self.length:
            return dm_env.TimeStep(dm_env.StepType.LAST, 1.0, self.discount, self._obs())
        return dm_env.transition(1.0, self._obs())

    def _obs(self):
        flag, nothing = np.array([True, False]), np.zeros(0, np.float32)
        return {"count": float(self.count), "flag": flag, "phase": self.count % 4, "nothing": nothing}


class Own(Unsaved):
    """Written to the Env contract itself, with actions in [0, 10] and a nested observation."""

    def __init__(self, length: int = 5, image: tuple[int, int, int] = (32, 48, 3)):
        self.obs_space = {
            "camera/front": Space(image, "uint8", low=0, high=255),
            "speed": Space((), "float32"),
            "gear": Space((), "int32", classes=5),
        }
        self.act_space = {
            "action": Space((2,), "float32", low=0.0, high=10.0),
            "gear": Space((), "int32", classes=5),
        }
        self.length, self.count, self.actions, self.resets = length, 0, [], []

    def reset(self, seed=None, options=None):
        self.count = 0
        self.resets.append((seed, options))
        return Step(self._obs(), 0.0, True, False, False)

    def step(self, action):
        self.actions.append(action)
        self.count += 1
        over = self.count >= self.length
        return Step(self._obs(), 2.0 * self.count, False, over, over, {"log/count": float(self.count)})

    def render(self):
        return None

    def close(self):
        pass

    def _obs(self):
        return {
            "camera/front": np.full(self.obs_space["camera/front"].shape, 10 * self.count % 250, np.uint8),
            "speed": np.array(self.count, np.float32),
            "gear": np.array(self.count % 5, np.int32),
        }


class SavedOwn(Own):
    """As Own, and can save its state."""

    def save(self):
        return {"count": np.array(self.count)}

    def restore(self, state):
        self.count = int(state["count"])
        return Step(self._obs(), 0.0, self.count == 0, self.count >= self.length, False)


class Unlisted(Counter):
    """Has no render mode that gives pictures."""

    metadata = {"render_modes": ["ansi"]}  # noqa: RUF012

    def render(self) -> Any:
        return "text"


class DiesRendering(Counter):
    """Ends its process when it is asked for a picture, as a broken driver does."""

    def render(self):
        os._exit(3)


class Table(Counter):
    """Shows a table that looks like a picture, as NetHack's do."""

    observation_space = spaces.Box(0, 255, (55, 80), np.uint8)

    def _obs(self):
        return np.zeros((55, 80), np.uint8)
