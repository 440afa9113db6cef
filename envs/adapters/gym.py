"""Adapter for gymnasium environments (any object with the gymnasium API and spaces)."""

from __future__ import annotations

import dataclasses
import inspect
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from dreamworld.envs.adapters.shown import may_take_mode, why_not
from dreamworld.envs.attributes import attribute, is_a, parameters
from dreamworld.envs.base import Step, Unsaved
from dreamworld.envs.building import quietly
from dreamworld.envs.modules import import_user_module
from dreamworld.envs.pictures import AUTO, Reading
from dreamworld.envs.render import choose_backend, prepare
from dreamworld.envs.scalars import Misfit, flag, kind_of, log_entries, number
from dreamworld.envs.spaces import make_act_codec, make_obs_codec
from dreamworld.envs.spelling import gym_hint, require_module
from dreamworld.errors import UserError
from dreamworld.frames import as_picture
from dreamworld.types import EnvObject

if TYPE_CHECKING:
    import gymnasium
    from gymnasium.envs.registration import EnvSpec

STEP = ("obs", "reward", "terminated", "truncated", "info")


class GymEnv(Unsaved):
    """A gymnasium.Env behind the Env contract: `terminated` is terminal, `truncated` only last."""

    no_picture = ""

    def __init__(self, env: EnvObject, reading: Reading = AUTO):
        check_reset(env)
        self._env = env
        self._obs = make_obs_codec(env.observation_space, reading)
        self._act = make_act_codec(env.action_space)
        self.obs_space = self._obs.spaces
        self.act_space = self._act.spaces

    def reset(self, seed: int | None = None, options: Mapping[str, Any] | None = None) -> Step:
        """Starts an episode; `options` are gymnasium's reset options."""
        if seed is not None:
            self._env.action_space.seed(seed)  # some environments sample from it themselves
        result = self._env.reset(seed=seed, options=dict(options) if options else None)
        obs, info = _unpack("reset", result, ("obs", "info"))
        return Step(self._obs.encode(obs), 0.0, True, False, False, info_log(info))

    def step(self, action: dict[str, np.ndarray]) -> Step:
        """Advances by one action."""
        result = self._env.step(self._act.decode(action))
        obs, reward, terminated, truncated, info = _unpack("step", result, STEP)
        terminated = flag("terminated", terminated)
        last = terminated or flag("truncated", truncated)
        return Step(self._obs.encode(obs), number("reward", reward), False, last, terminated, info_log(info))

    def render(self) -> np.ndarray | None:
        """The environment's picture; where there is none, None, and `no_picture` says why."""
        self.no_picture = why_not(self._env)
        if self.no_picture:
            return None
        frame = self._env.render()
        if frame is None or (isinstance(frame, list) and not frame):
            self.no_picture = f"its render() returned {kind_of(frame)}"
            return None
        return as_picture(frame)

    @property
    def action_names(self) -> tuple[str, ...]:
        """What the environment calls its discrete actions; empty where it does not say."""
        inner = attribute(self._env, "unwrapped", self._env)
        meanings, listed = attribute(inner, "get_action_meanings"), attribute(inner, "actions")
        with quietly():
            found: Any = meanings() if callable(meanings) else listed
            return tuple(str(getattr(name, "name", name)) for name in found)
        return ()

    def close(self) -> None:
        """Closes the environment, if it can be closed."""
        close_quietly(self._env)


def check_reset(env: EnvObject) -> None:
    """UserError unless the `reset` of an environment, and of all its wrappers, takes seed and options by name."""
    import gymnasium

    while True:
        missing = [name for name in ("seed", "options") if not _takes(env.reset, name)]
        if missing:
            raise UserError(
                f"{type(env).__name__}.reset() takes no {' and '.join(missing)}; gymnasium wants "
                "def reset(self, *, seed=None, options=None)"
            )
        if not is_a(env, gymnasium.Wrapper):
            return
        env = env.env


def _takes(function: Callable[..., Any], name: str) -> bool:
    """Whether a function takes an argument of that name; builtins, which don't say, are trusted."""
    found = parameters(function)
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    takes = lambda p: p.kind is p.VAR_KEYWORD or (p.name == name and p.kind in by_name)
    return found is None or any(map(takes, found.values()))


def _unpack(verb: str, result: object, names: tuple[str, ...]) -> Any:
    """What reset() or step() returned, if it is as long as gymnasium wants it."""
    if isinstance(result, tuple | list) and len(result) == len(names):
        return result
    old = "; the old gym API is not supported" if names == STEP and _length(result) == 4 else ""
    raise Misfit(f"{verb}() returned {kind_of(result)}; gymnasium wants ({', '.join(names)}){old}")


def _length(result: object) -> int:
    return len(result) if isinstance(result, tuple | list) else 0


def close_quietly(env: EnvObject) -> None:
    """Calls `close()` where there is one."""
    with quietly():
        env.close()


def info_log(info: Mapping[str, Any] | None) -> dict[str, float]:
    """Scalars of `info` to log: keys "log/...", and RecordEpisodeStatistics' report of an episode."""
    return log_entries(log_candidates(info))


def log_candidates(info: object) -> dict[str, Any]:
    """What of `info` is meant to be logged, unread; nothing where it is no mapping."""
    if not isinstance(info, Mapping):
        return {}
    found = {key: value for key, value in info.items() if isinstance(key, str) and key.startswith("log/")}
    episode = info.get("episode")
    if isinstance(episode, Mapping) and "r" in episode and "l" in episode:
        found |= {"log/episode_return": episode["r"], "log/episode_length": episode["l"]}
    return found


def make_gym(env_id: str, options: Mapping[str, Any], time_limit: int = 0, reading: Reading = AUTO) -> GymEnv:
    """Makes a registered id or `module:Id-v0`; `time_limit` (in its own steps) replaces its own."""
    spec = find_spec(env_id)
    _prepare_display(spec)
    limit = {"max_episode_steps": time_limit} if time_limit else {}
    return GymEnv(make_registered(spec, f"gym_{env_id}", {**options, **limit}), reading)


def make_registered(spec: EnvSpec, label: str, options: Mapping[str, Any]) -> gymnasium.Env:
    """`gymnasium.make` with options of any names, and pictures for people where it has them; UserError."""
    import gymnasium

    # Its checker warns about dtypes that we convert; `dreamworld envs check` says it in plain words.
    keywords = {"disable_env_checker": True, **options}
    # Environments that can render get the mode that needs no window.
    if not {"render_mode"} & {*options, *spec.kwargs} and _can_render(spec):
        keywords["render_mode"] = "rgb_array"
    if "id" in keywords:  # a parameter of gymnasium.make itself
        spec = dataclasses.replace(spec, kwargs={**spec.kwargs, "id": keywords.pop("id")})
    try:
        return gymnasium.make(spec, **keywords)
    except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
        raise UserError(f"{label} needs a package that is not installed: {error}") from error
    except gymnasium.error.Error as error:
        raise UserError(f"{label}: {error}") from error
    except TypeError as error:
        if not options:
            raise
        raise UserError(f"{label}: can't be made with the options {sorted(options)}: {error}") from error


def find_spec(env_id: str) -> EnvSpec:
    """What is registered under an id, or under the id of `module:Id-v0`; UserError where nothing is."""
    import gymnasium

    module, colon, registered = env_id.partition(":")
    if colon:
        require_module(module, registered, f"gym_{env_id}", "gym_")
        import_user_module(module, f"gym_{env_id}")
    registered = registered if colon else env_id
    try:
        return gymnasium.spec(registered)
    except gymnasium.error.Error as error:
        raise UserError(
            f"gym_{env_id}: no such gymnasium environment{gym_hint(registered, module if colon else '')}"
        ) from error


def _prepare_display(spec: EnvSpec) -> None:
    """Environment variables that rendering without a window reads at import."""
    if not os.environ.get("DISPLAY") and not os.environ.get("WAYLAND_DISPLAY"):
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pygame looks for a window system and complains
    entry_point = str(spec.entry_point)
    if "mujoco" in entry_point:
        choose_backend(pixels=False)
    elif not entry_point.startswith("gymnasium.envs."):
        prepare()


def _can_render(spec: EnvSpec) -> bool:
    """Whether what makes the environment takes rgb_array; False where it can't be looked up."""
    import gymnasium

    try:
        return may_take_mode(load_maker(spec))
    except (ImportError, gymnasium.error.Error):
        return False  # gymnasium.make reports what is missing


def load_maker(spec: EnvSpec) -> Callable[..., Any]:
    """The class or function that makes a registered environment; UserError where it makes vectors of them only."""
    from gymnasium.envs.registration import load_env_creator

    if spec.entry_point is None:
        raise UserError(f"gym_{spec.id} is registered as a vector environment only; give one environment")
    return spec.entry_point if callable(spec.entry_point) else load_env_creator(spec.entry_point)
