"""Looks at what an environment itself returns, before an adapter converts it: for `dreamworld envs check`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from dreamworld import words
from dreamworld.envs.attributes import attribute, has
from dreamworld.envs.base import Env
from dreamworld.envs.findings import Findings
from dreamworld.envs.wrappers import Wrapper
from dreamworld.types import EnvObject

if TYPE_CHECKING:
    import gymnasium


class Spy:
    """Stands between an adapter and its gymnasium or dm_env environment and takes notes.

    What it finds are `problems` and `notes`. Kinds of problems with an observation are (kind, its key).
    """

    def __init__(self, env: EnvObject):
        self._env = env
        self.problems, self.notes = Findings(), Findings()
        self._pictures = Pictures(self.problems)
        self.saw = False  # a problem in the last call of reset or step
        self._returned: list[tuple[np.ndarray, np.ndarray]] = []  # (array, copy) of the last observation

    def __getattr__(self, name: str) -> Any:
        return getattr(self._env, name)

    def follow(self, rebuild: Callable[[int], Any]) -> Callable[[int], Spy]:
        """A `rebuild` whose environments this spy stands before, too."""

        def rebuild_spied(seed: int) -> Spy:
            self._env = rebuild(seed)
            return self

        return rebuild_spied

    def reset(self, **options: Any) -> Any:
        """Delegates."""
        self.saw, before = False, self.problems.total
        result = self._env.reset(**options)
        if has(result, "observation"):  # dm_env.TimeStep
            self._look_at_dm(result)
            if not result.first():
                self.problems.add("reset() returned a step that is not first")
        elif not (isinstance(result, tuple) and len(result) == 2):
            self.problems.add(f"reset() returned {_kind(result)}; gymnasium wants (obs, info)")
        else:
            self._look(result[0])
        self.saw = self.problems.total > before
        return result

    def step(self, action: object) -> Any:
        """Delegates."""
        self.saw, before = False, self.problems.total
        result = self._env.step(action)
        if has(result, "observation"):
            self._look_at_dm(result)
        elif not (isinstance(result, tuple) and len(result) == 5):
            what = (
                f"step() returned {_kind(result)}; gymnasium wants (obs, reward, terminated, truncated, info), "
                "the old gym API is not supported"
            )
            self.problems.add(what)
        else:
            obs, reward, terminated, truncated, info = result
            self._look(obs)
            self._look_at_flags(reward, terminated, truncated, info)
        self.saw = self.problems.total > before
        return result

    def render(self) -> Any:
        """Delegates."""
        frame = self._env.render()
        self._pictures.look(frame)
        return frame

    def knows(self, kind: str, key: str) -> bool:
        """Whether it found this with the observation that became `key`."""
        names = {"", key, key.removeprefix("obs_"), key.rpartition("/")[0]}
        return any((kind, name) in self.problems for name in names)

    def _look_at_flags(self, reward: ArrayLike, terminated: object, truncated: object, info: object) -> None:
        for name, flag in (("terminated", terminated), ("truncated", truncated)):
            if not isinstance(flag, (bool, np.bool_)):
                self.notes.add(f"{name} is {words.type_of(flag)}, not a bool")
        if np.ndim(reward) or not np.issubdtype(np.asarray(reward).dtype, np.number):
            self.problems.add(f"reward is {_kind(reward)}, not a number")
        if terminated and isinstance(info, dict) and info.get("TimeLimit.truncated"):
            text = (
                "a time limit was reported as terminated: it must be truncated, or its value is learned as 0"
            )
            self.problems.add(text)

    def _look_at_dm(self, time_step: Any) -> None:
        obs = time_step.observation
        specs = self._env.observation_spec()
        named = specs.items() if has(specs, "items") else [("", specs)]
        for key, spec in named:
            if not has(spec, "validate"):
                continue
            try:
                spec.validate(obs[key] if key else obs)
            except ValueError as error:
                where = f"observation {key!r}" if key else "the observation"
                text = f"{where} does not fit its spec: {str(error).splitlines()[0]}"
                low, high = getattr(spec, "minimum", -np.inf), getattr(spec, "maximum", np.inf)
                self.problems.add(text, ("range", key), distance(low, high, obs[key] if key else obs))
        self._remember(obs)
        if not time_step.first() and time_step.reward is None:
            self.problems.add("step() returned no reward")
        if time_step.last() and time_step.discount not in (0, 1):
            text = f"an episode ended with discount {time_step.discount:g}; only 0 is terminal"
            self.notes.add(text)

    def _look(self, obs: object) -> None:
        for key, space, value in _leaves(self._env.observation_space, obs, ""):
            found = misfit(space, value)
            if found:
                kind, text, badness = found
                where = f"observation {key!r}" if key else "the observation"
                self.problems.add(f"{where} is outside its space: {text}", (kind, key), badness)
        self._remember(obs)

    def _remember(self, obs: object) -> None:
        """Notices whether the last observation that was returned has changed since."""
        for array, copy in self._returned:
            if not np.array_equal(array, copy, equal_nan=array.dtype.kind == "f"):
                text = "it writes into observations that it has returned (harmless here: they are copied)"
                self.notes.add(text)
        arrays = [value for value in _arrays(obs) if isinstance(value, np.ndarray)]
        self._returned = [(array, array.copy()) for array in arrays]


class Pictures:
    """What is wrong with pictures for people, if a video is to be made of them."""

    def __init__(self, problems: Findings):
        self._problems, self._sizes = problems, []

    def look(self, frame: object) -> None:
        """At one picture; None is no picture."""
        if frame is None:
            return
        dtype, shape = attribute(frame, "dtype"), attribute(frame, "shape", ())
        if dtype != np.uint8 or len(shape) != 3 or shape[2] != 3:
            what = _kind(frame) if dtype is None else f"{dtype} {tuple(shape)}"
            text = f"render() returned {what}; it must be uint8 [height, width, 3]"
            self._problems.add(text, "picture")
            return
        size = f"{shape[0]}x{shape[1]}"
        if size not in self._sizes:
            self._sizes.append(size)
        if len(self._sizes) > 1:
            text = f"render() changes its size: {', '.join(self._sizes[:3])}; a video has one size"
            self._problems.add(text, "picture size", len(self._sizes))


def attach(env: Env) -> Spy | None:
    """Puts a Spy into the adapter at the bottom of `env`; None where nothing foreign is in it."""
    from dreamworld.envs.adapters.dm import DmEnv
    from dreamworld.envs.adapters.dmc import DMCEnv
    from dreamworld.envs.adapters.gym import GymEnv

    inner: Env = env
    while isinstance(inner, Wrapper):
        inner = inner.env
    if not isinstance(inner, (GymEnv, DmEnv, DMCEnv)):
        return None
    spy = inner._env = Spy(inner._env)
    if isinstance(inner, DmEnv) and inner._rebuild is not None:
        inner._rebuild = spy.follow(inner._rebuild)
    return spy


def misfit(space: gymnasium.Space, value: object) -> tuple[str, str, float] | None:
    """Why a value is not in a gymnasium space: its kind, a text, and how bad it is; None if it is in it."""
    low, high = getattr(space, "low", None), getattr(space, "high", None)
    if low is None or high is None:
        text = f"{_kind(value)} {np.asarray(value)!r} is not in {space}"
        return None if space.contains(value) else ("range", text, _beyond_classes(space, value))
    array = np.asarray(value)
    if array.shape != space.shape:
        return "shape", f"its shape is {array.shape}, the space says {space.shape}", 0.0
    if not np.can_cast(array.dtype, np.dtype(space.dtype), "same_kind"):
        return "dtype", f"its dtype is {array.dtype}, the space says {space.dtype}", 0.0
    if array.dtype.kind == "f" and not (finite := np.isfinite(array)).all():
        return "nan", "it holds NaN or infinity", float((~finite).sum())
    if (array < low).any() or (array > high).any():
        bounds = f"[{np.min(low):g}, {np.max(high):g}]"
        text = f"values from {array.min():g} to {array.max():g}, the space says {bounds}"
        return "range", text, distance(low, high, array)
    return None


def distance(low: ArrayLike, high: ArrayLike, value: object) -> float:
    """How far outside of bounds a value is; 0 inside, and where that can't be said."""
    try:
        value = np.asarray(value, np.float64)
        return float(np.max(np.maximum(np.subtract(low, value), np.subtract(value, high)), initial=0.0))
    except (TypeError, ValueError):
        return 0.0


def _beyond_classes(space: gymnasium.Space, value: object) -> float:
    start = getattr(space, "start", 0)
    return distance(start, start + getattr(space, "n", np.inf) - 1, value)


def _leaves(space: gymnasium.Space, value: Any, key: str) -> Iterator[tuple[str, Any, Any]]:
    spaces = getattr(space, "spaces", None)
    if spaces is None:
        yield key, space, value
        return
    for index, sub in spaces.items() if hasattr(spaces, "items") else enumerate(spaces):
        try:
            part = value[index]
        except (KeyError, IndexError, TypeError):  # the adapter says what is missing
            continue
        yield from _leaves(sub, part, f"{key}/{index}" if key else str(index))


def _arrays(value: Any) -> list[Any]:
    if has(value, "values"):
        return [x for part in value.values() for x in _arrays(part)]
    if isinstance(value, (tuple, list)):
        return [x for part in value for x in _arrays(part)]
    return [value]


def _kind(value: object) -> str:
    size = f" of {len(value)}" if isinstance(value, (tuple, list)) else ""
    return f"{words.type_of(value)}{size}"
