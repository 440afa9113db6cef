"""Crafter (Hafner, 2021, arXiv:2109.06780)."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from dreamworld.envs.adapters.crafter_view import speed_up
from dreamworld.envs.adapters.dm import refuse_options
from dreamworld.envs.base import Step, Unsaved
from dreamworld.types import EnvObject, Space

TASKS = ("reward", "noreward")
LENGTH = 10_000


def crafter_score(success_rates_percent: Iterable[float]) -> float:
    """exp(mean_i ln(1 + s_i)) - 1 over the success rates of the 22 achievements, in percent; 0 to 100."""
    rates = np.array(list(success_rates_percent), np.float64)
    return float(np.expm1(np.mean(np.log1p(rates))))


class _OrderedSet(dict):
    """The part of a set that Crafter uses, iterating in the order of insertion."""

    def add(self, item: object) -> None:
        self[item] = None

    def remove(self, item: object) -> None:
        del self[item]


def _order_chunks(env: EnvObject) -> None:
    """Lets the same seed give the same game.

    Crafter keeps its creatures in sets, whose order follows memory addresses, and draws from that order which
    one disappears. In the order of creation the draw is as random, and repeatable.
    """
    world = env._world
    chunks = collections.defaultdict(_OrderedSet)
    for item in world.objects:
        chunks[world.chunk_key(item.pos)].add(item)
    world._chunks = chunks


class CrafterEnv(Unsaved):
    """One world after the other; the length limit truncates, death terminates.

    Logs `log/reward` always, and at the end of an episode `log/achievement_<name>` (1 if unlocked, so that
    its mean is the success rate), their number, and `log/crafter_score` over all episodes so far.
    """

    takes_options = False

    def __init__(self, task: str, size: tuple[int, int], length: int = LENGTH):
        import crafter
        from crafter import constants as module

        constants: Any = module  # its attributes come from a YAML file

        self._make = crafter.Env
        self._reward = task == "reward"
        self._length = length
        self._size = size
        self._names = tuple(constants.achievements)
        self._unlocked = np.zeros(len(self._names))
        self._episodes = 0
        self._env = self._build(int(np.random.default_rng().integers(2**31)))
        self.action_names = tuple(constants.actions)
        self.obs_space = {"image": Space((*size, 3), "uint8", low=0, high=255)}
        self.act_space = {"action": Space((), "int32", classes=len(self.action_names))}

    def reset(self, seed: int | None = None, options: Mapping[str, Any] | None = None) -> Step:
        """Starts an episode in a new world."""
        refuse_options(self, options)
        if seed is not None:
            # The seed is a constructor argument; it also fixes the worlds of the episodes that follow.
            self._env = self._build(seed % 2**31)
        image = self._env.reset()
        _order_chunks(self._env)
        return Step({"image": self._image(image)}, 0.0, True, False, False)

    def step(self, action: dict[str, np.ndarray]) -> Step:
        """Advances by one action."""
        image, reward, done, info = self._env.step(int(action["action"]))
        done = bool(done)
        dead = bool(info["discount"] == 0)
        log = {"log/reward": float(info["reward"])}
        if done:
            log.update(self._episode_log(info["achievements"]))
        return Step({"image": self._image(image)}, float(reward), False, done, dead and done, log)

    def render(self) -> np.ndarray:
        """A larger picture of the same view."""
        return np.array(self._env.render((360, 360)), np.uint8)

    def close(self) -> None:
        """Nothing to release."""

    def _build(self, seed: int) -> EnvObject:
        # Crafter counts (width, height).
        size = (self._size[1], self._size[0])
        env = self._make(size=size, reward=self._reward, length=self._length, seed=seed)
        speed_up(env)
        return env

    def _image(self, image: np.ndarray) -> np.ndarray:
        return np.array(image, np.uint8, order="C")

    def _episode_log(self, achievements: Mapping[str, int]) -> dict[str, float]:
        unlocked = np.array([achievements[name] > 0 for name in self._names], np.float64)
        self._unlocked += unlocked
        self._episodes += 1
        log = {f"log/achievement_{name}": float(x) for name, x in zip(self._names, unlocked)}
        log["log/achievements"] = float(unlocked.sum())
        log["log/crafter_score"] = crafter_score(100 * self._unlocked / self._episodes)
        return log
