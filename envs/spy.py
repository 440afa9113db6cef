"""Looks at what an environment itself returns, before an adapter converts it: for `dreamworld envs check`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dreamworld.envs.base import Env
from dreamworld.envs.wrappers import Wrapper


class Spy:
    """Stands between an adapter and its gymnasium or dm_env environment and takes notes.

    `problems` and `notes` are sentences, in the order in which they came up, each once.
    """

    def __init__(self, env: Any):
        self._env = env
        self.problems: dict[str, None] = {}
        self.notes: dict[str, None] = {}
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
        result = self._env.reset(**options)
        if hasattr(result, "observation"):  # dm_env.TimeStep
            self._look_at_dm(result)
            if not result.first():
                self.problems["reset() returned a step that is not first"] = None
        elif not (isinstance(result, tuple) and len(result) == 2):
            self.problems[f"reset() returned {_kind(result)}; gymnasium wants (obs, info)"] = None
        else:
            self._look(result[0])
        return result

    def step(self, action: Any) -> Any:
        """Delegates."""
        result = self._env.step(action)
        if hasattr(result, "observation"):
            self._look_at_dm(result)
        elif not (isinstance(result, tuple) and len(result) == 5):
            what = (
                f"step() returned {_kind(result)}; gymnasium wants (obs, reward, terminated, truncated, info)"
            )
            self.problems[what] = None
        else:
            obs, reward, terminated, truncated, info = result
            self._look(obs)
            self._look_at_flags(reward, terminated, truncated, info)
        return result

    def _look_at_flags(self, reward: Any, terminated: Any, truncated: Any, info: Any) -> None:
        for name, flag in (("terminated", terminated), ("truncated", truncated)):
            if not isinstance(flag, (bool, np.bool_)):
                self.notes[f"{name} is a {type(flag).__name__}, not a bool"] = None
        if np.ndim(reward) or not np.issubdtype(np.asarray(reward).dtype, np.number):
            self.problems[f"reward is {_kind(reward)}, not a number"] = None
        if terminated and isinstance(info, dict) and info.get("TimeLimit.truncated"):
            text = (
                "a time limit was reported as terminated: it must be truncated, or its value is learned as 0"
            )
            self.problems[text] = None

    def _look_at_dm(self, time_step: Any) -> None:
        obs = time_step.observation
        specs = self._env.observation_spec()
        named = specs.items() if hasattr(specs, "items") else [("", specs)]
        for key, spec in named:
            if not hasattr(spec, "validate"):
                continue
            try:
                spec.validate(obs[key] if key else obs)
            except ValueError as error:
                where = f"observation {key!r}" if key else "the observation"
                self.problems[f"{where} does not fit its spec: {str(error).splitlines()[0]}"] = None
        self._remember(obs)
        if not time_step.first() and time_step.reward is None:
            self.problems["step() returned no reward"] = None
        if time_step.last() and time_step.discount not in (0, 1):
            text = f"an episode ended with discount {time_step.discount:g}; only 0 is terminal"
            self.notes[text] = None

    def _look(self, obs: Any) -> None:
        for key, space, value in _leaves(self._env.observation_space, obs, ""):
            text = misfit(space, value)
            if text:
                where = f"observation {key!r}" if key else "the observation"
                self.problems.setdefault(f"{where} is outside its space: {text}")
        self._remember(obs)

    def _remember(self, obs: Any) -> None:
        """Notices whether the last observation that was returned has changed since."""
        for array, copy in self._returned:
            if not np.array_equal(array, copy, equal_nan=array.dtype.kind == "f"):
                text = "it writes into observations that it has returned (harmless here: they are copied)"
                self.notes[text] = None
        arrays = [value for value in _arrays(obs) if isinstance(value, np.ndarray)]
        self._returned = [(array, array.copy()) for array in arrays]


def attach(env: Env) -> Spy | None:
    """Puts a Spy into the adapter at the bottom of `env`; None where nothing foreign is in it."""
    from dreamworld.envs.adapters.dm import DmEnv
    from dreamworld.envs.adapters.dmc import DMCEnv
    from dreamworld.envs.adapters.gym import GymEnv

    inner: Any = env
    while isinstance(inner, Wrapper):
        inner = inner.env
    if not isinstance(inner, (GymEnv, DmEnv, DMCEnv)):
        return None
    spy = inner._env = Spy(inner._env)
    if isinstance(inner, DmEnv) and inner._rebuild is not None:
        inner._rebuild = spy.follow(inner._rebuild)
    return spy


def misfit(space: Any, value: Any) -> str:
    """Why a value is not in a gymnasium space; empty if it is."""
    low, high = getattr(space, "low", None), getattr(space, "high", None)
    if low is None or high is None:
        return "" if space.contains(value) else f"{_kind(value)} {np.asarray(value)!r} is not in {space}"
    array = np.asarray(value)
    if array.shape != space.shape:
        return f"its shape is {array.shape}, the space says {space.shape}"
    if not np.can_cast(array.dtype, space.dtype, "same_kind"):
        return f"its dtype is {array.dtype}, the space says {space.dtype}"
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return "it holds NaN or infinity"
    if (array < low).any() or (array > high).any():
        bounds = f"[{np.min(low):g}, {np.max(high):g}]"
        return f"values from {array.min():g} to {array.max():g}, the space says {bounds}"
    return ""


def _leaves(space: Any, value: Any, key: str) -> Any:
    spaces = getattr(space, "spaces", None)
    if spaces is None:
        yield key, space, value
        return
    for index, sub in spaces.items() if hasattr(spaces, "items") else enumerate(spaces):
        yield from _leaves(sub, value[index], f"{key}/{index}" if key else str(index))


def _arrays(value: Any) -> list[Any]:
    if hasattr(value, "values"):
        return [x for part in value.values() for x in _arrays(part)]
    if isinstance(value, (tuple, list)):
        return [x for part in value for x in _arrays(part)]
    return [value]


def _kind(value: Any) -> str:
    size = f" of {len(value)}" if isinstance(value, (tuple, list)) else ""
    return f"a {type(value).__name__}{size}"
