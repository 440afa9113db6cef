"""Wrappers over the Env contract. They touch only the keys they change: nested observations pass through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dreamworld.envs.base import Env, Step
from dreamworld.envs.images import resize_bilinear, to_gray
from dreamworld.envs.scalars import number
from dreamworld.errors import UserError
from dreamworld.spaces import Described
from dreamworld.types import Native, Space, Spaces


class Wrapper(Described):
    """Passes everything through. A wrapper with a state of its own adds it to `save` and `restore`."""

    def __init__(self, env: Env):
        self.env = env
        self.obs_space: Spaces = env.obs_space
        self.act_space: Spaces = env.act_space

    def __repr__(self) -> str:
        """What it wraps, and what is shown and taken in the end."""
        return f"{super().__repr__()} of {self.env!r}"

    def reset(self, seed: int | None = None, options: Mapping[str, Any] | None = None) -> Step:
        """See Env."""
        return self.env.reset(seed, options)

    def step(self, action: dict[str, np.ndarray]) -> Step:
        """See Env."""
        return self.env.step(action)

    def render(self) -> np.ndarray | None:
        """See Env."""
        return self.env.render()

    def save(self) -> dict[str, np.ndarray] | None:
        """See Env."""
        return self.env.save()

    def restore(self, state: dict[str, np.ndarray]) -> Step:
        """See Env."""
        return self.env.restore(state)

    def close(self) -> None:
        """See Env."""
        self.env.close()


class Borrowed(Wrapper):
    """An environment object that the user made: it is the user's to close."""

    def close(self) -> None:
        """Leaves it open."""


class TimeLimit(Wrapper):
    """Truncates (`is_last` without `is_terminal`) after `limit` steps."""

    def __init__(self, env: Env, limit: int):
        super().__init__(env)
        if limit < 1:
            raise UserError(f"time limit {limit}: at least 1 step is needed")
        self._limit = limit
        self._count = 0

    def reset(self, seed: int | None = None, options: Mapping[str, Any] | None = None) -> Step:
        """Starts counting anew."""
        self._count = 0
        return self.env.reset(seed, options)

    def step(self, action: dict[str, np.ndarray]) -> Step:
        """Counts, and ends the episode at the limit."""
        self._count += 1
        step = self.env.step(action)
        return step._replace(is_last=step.is_last or self._count >= self._limit)

    def save(self) -> dict[str, np.ndarray] | None:
        """Adds the count."""
        state = self.env.save()
        return None if state is None else {**state, "time_limit": np.array(self._count)}

    def restore(self, state: dict[str, np.ndarray]) -> Step:
        """Takes the count back."""
        self._count = int(state["time_limit"])
        step = self.env.restore(state)
        ended = step.is_last or (not step.is_first and self._count >= self._limit)
        return step._replace(is_last=ended)


class ActionRepeat(Wrapper):
    """Repeats each action and sums the rewards; stops early where the episode ends."""

    def __init__(self, env: Env, repeat: int):
        super().__init__(env)
        if repeat < 1:
            raise UserError(f"action repeat {repeat}: at least 1 is needed")
        self._repeat = repeat

    def step(self, action: dict[str, np.ndarray]) -> Step:
        """Returns the last row, with the sum of the rewards and the newest value of every log entry."""
        reward, log = 0.0, {}
        for _ in range(self._repeat):
            step = self.env.step(action)
            reward += number("reward", step.reward)
            log.update(step.log)
            if step.is_last:
                break
        return step._replace(reward=reward, log=log)


class NormalizeAction(Wrapper):
    """Lets continuous actions be in [-1, 1] over an Env whose `act_space` has other finite bounds.

    The adapters of gymnasium and dm_env do this themselves; this is for environments written to Env.
    """

    def __init__(self, env: Env):
        super().__init__(env)
        self._bounds = {
            key: (space.low, space.high) for key, space in env.act_space.items() if not space.discrete
        }
        for key, (low, high) in self._bounds.items():
            if not (np.isfinite(low) and np.isfinite(high)):
                raise UserError(f"action {key!r} has no finite bounds: [{low}, {high}]")
        self.act_space = {
            key: space if space.discrete else _normalised(space) for key, space in env.act_space.items()
        }

    def step(self, action: dict[str, np.ndarray]) -> Step:
        """Clips to [-1, 1], then rescales."""
        action = dict(action)
        for key, (low, high) in self._bounds.items():
            unit = (np.clip(action[key], -1.0, 1.0) + 1) / 2
            action[key] = np.asarray(low + unit * (high - low), self.env.act_space[key].dtype)
        return self.env.step(action)


def _normalised(space: Space) -> Space:
    native = Native((space.low,) * space.size, (space.high,) * space.size, space.dtype)
    return Space(space.shape, space.dtype, low=-1.0, high=1.0, native=native)


class _ObsWrapper(Wrapper):
    """Maps the observation of every row."""

    def _observe(self, obs: dict[str, np.ndarray], first: bool) -> dict[str, np.ndarray]:
        raise NotImplementedError

    def reset(self, seed: int | None = None, options: Mapping[str, Any] | None = None) -> Step:
        """See Env."""
        step = self.env.reset(seed, options)
        return step._replace(obs=self._observe(step.obs, True))

    def step(self, action: dict[str, np.ndarray]) -> Step:
        """See Env."""
        step = self.env.step(action)
        return step._replace(obs=self._observe(step.obs, False))

    def restore(self, state: dict[str, np.ndarray]) -> Step:
        """See Env."""
        step = self.env.restore(state)
        return step._replace(obs=self._observe(step.obs, step.is_first))


class ResizeImage(_ObsWrapper):
    """Resizes images to (height, width) by Pillow's bilinear filter, optionally to one gray channel first."""

    def __init__(self, env: Env, size: tuple[int, int] | None, gray: bool = False, keys: Sequence[str] = ()):
        super().__init__(env)
        self._size, self._gray = size, gray
        self._keys = _image_keys(env, keys)
        self.obs_space = dict(env.obs_space)
        for key in self._keys:
            height, width, channels = env.obs_space[key].shape
            if gray and channels == 3:
                channels = 1
            self.obs_space[key] = Space((*(size or (height, width)), channels), "uint8", low=0, high=255)

    def _observe(self, obs: dict[str, np.ndarray], first: bool) -> dict[str, np.ndarray]:
        obs = dict(obs)
        for key in self._keys:
            image = obs[key]
            image = to_gray(image) if self._gray and image.shape[2] == 3 else image
            obs[key] = np.array(resize_bilinear(image, self._size) if self._size else image)
        return obs


class FrameStack(_ObsWrapper):
    """Stacks the last `count` frames of images on channels, newest last.

    At the start of an episode the first frame fills the stack. Without `keys`: all images. A
    continuous vector among `keys` is stacked on its last axis.
    """

    def __init__(self, env: Env, count: int, keys: Sequence[str] = ()):
        super().__init__(env)
        if count < 1:
            raise UserError(f"frame stack {count}: at least 1 frame is needed")
        self._count = count
        self._keys = tuple(keys) or _image_keys(env, ())
        self._frames: dict[str, list[np.ndarray]] = {}
        self.obs_space = dict(env.obs_space)
        for key in self._keys:
            space = _require(env, key)
            if space.discrete or not space.shape:
                raise UserError(f"can't stack observation {key!r}: it is discrete or a scalar")
            shape = (*space.shape[:-1], space.shape[-1] * count)
            self.obs_space[key] = Space(shape, space.dtype, low=space.low, high=space.high)

    def _observe(self, obs: dict[str, np.ndarray], first: bool) -> dict[str, np.ndarray]:
        obs = dict(obs)
        for key in self._keys:
            frames = [obs[key]] * self._count if first else [*self._frames[key][1:], obs[key]]
            self._frames[key] = frames
            obs[key] = np.concatenate(frames, axis=-1)
        return obs

    def save(self) -> dict[str, np.ndarray] | None:
        """Adds the frames before the current one."""
        state = self.env.save()
        if state is None:
            return None
        return {**state, **{f"frames/{key}": np.stack(x) for key, x in self._frames.items()}}

    def restore(self, state: dict[str, np.ndarray]) -> Step:
        """Takes the frames back."""
        step = self.env.restore(state)
        # The current frame is put in again by `_observe`, so the history shifts back by one.
        for key in self._keys:
            frames = list(state[f"frames/{key}"])
            self._frames[key] = [frames[0], *frames[:-1]]
        return step._replace(obs=self._observe(step.obs, step.is_first))


class ClipReward(Wrapper):
    """Clips rewards to [-limit, limit]; the unclipped one is logged as `log/reward`."""

    def __init__(self, env: Env, limit: float = 1.0):
        super().__init__(env)
        self._limit = limit

    def step(self, action: dict[str, np.ndarray]) -> Step:
        """Clips."""
        step = self.env.step(action)
        own = number("reward", step.reward)
        reward = float(np.clip(own, -self._limit, self._limit))
        return step._replace(reward=reward, log={"log/reward": own, **step.log})


def _require(env: Env, key: str) -> Space:
    if key not in env.obs_space:
        raise UserError(f"no observation {key!r}; there are {', '.join(env.obs_space)}")
    return env.obs_space[key]


def _image_keys(env: Env, keys: Sequence[str]) -> tuple[str, ...]:
    for key in keys:
        if not _require(env, key).is_image:
            raise UserError(f"observation {key!r} is not an image: {env.obs_space[key]}")
    return tuple(keys) or tuple(key for key, space in env.obs_space.items() if space.is_image)
