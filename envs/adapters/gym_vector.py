"""Adapter for foreign gymnasium vector environments, in any of the three autoreset modes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from dreamworld.envs.adapters.gym import close_quietly, log_candidates
from dreamworld.envs.adapters.shown import why_not
from dreamworld.envs.finite import check_class, check_finite, check_reward
from dreamworld.envs.scalars import Misfit, fit, log_entries
from dreamworld.envs.spaces import make_act_codec, make_obs_codec
from dreamworld.envs.vector.common import EnvFailure, Failures
from dreamworld.errors import UserError
from dreamworld.frames import as_picture
from dreamworld.spaces import Described
from dreamworld.types import Spaces, TimeStep

if TYPE_CHECKING:
    import gymnasium.vector

MODES = ("NextStep", "SameStep", "Disabled")


class GymVectorEnv(Described):
    """A gymnasium.vector.VectorEnv as a dreamworld VectorEnv.

    NEXT_STEP maps one to one. The other modes have no step at which one environment only shows the first
    observation of an episode while the rest moves on. Where some can be reset without the rest (DISABLED,
    and gymnasium's own classes), such an environment takes a step that nobody sees and is reset again, so
    that rows are exact at the price of a second reset. Another class in SAME_STEP takes the zero action once,
    and what it shows then is the episode's first row; that reward is logged as `log/skipped_reward`.
    """

    engine = "gymnasium"

    def __init__(self, env: gymnasium.vector.VectorEnv, *, max_failures: int = 10):
        from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

        mode = env.metadata.get("autoreset_mode")
        self._mode = str(getattr(mode, "value", mode))
        if self._mode not in MODES:
            choices = ", ".join(MODES)
            raise UserError(f"vector environment {env}: autoreset mode {mode!r}, known are {choices}")
        own = isinstance(env.unwrapped, (SyncVectorEnv, AsyncVectorEnv))
        self._resets_some = self._mode == "Disabled" or (own and self._mode == "SameStep")
        self._restarts = self._mode == "Disabled" or own  # one whose row was refused
        self._env = env
        self._obs = make_obs_codec(env.single_observation_space)
        self._act = make_act_codec(env.single_action_space)
        self.num_envs = int(env.num_envs)
        self.obs_space, self.act_space = self._obs.spaces, self._act.spaces
        self._ended = np.zeros(self.num_envs, bool)
        self._refused = np.zeros(self.num_envs, bool)
        self._previous: list[dict[str, np.ndarray]] = []
        self._failures = Failures(max_failures)

    @property
    def failures(self) -> int:
        """Rows refused so far."""
        return self._failures.total

    def reset(self, seed: int) -> TimeStep:
        """See VectorEnv. The environments get consecutive seeds, as gymnasium does it."""
        obs, _ = self._env.reset(seed=seed)
        self._ended = np.zeros(self.num_envs, bool)
        self._refused = np.zeros(self.num_envs, bool)
        first, reward = np.ones(self.num_envs, bool), np.zeros(self.num_envs)
        rows = self._rows(obs)
        events = self._refuse(rows, reward, first)
        return self._time_step(rows, reward, first, ~first, ~first, {}, events)

    def step(self, action: dict[str, np.ndarray]) -> TimeStep:
        """See VectorEnv."""
        first, refused = self._ended, self._refused
        if self._mode == "Disabled" and first.any():
            self._reset_some(first)  # without it the environment refuses the step
        obs, reward, terminated, truncated, info = self._env.step(self._decode(action, first))
        reward = fit("reward", reward, (self.num_envs,))
        terminated = fit("terminated", terminated, (self.num_envs,)).astype(bool)
        truncated = fit("truncated", truncated, (self.num_envs,)).astype(bool)
        over = terminated | truncated
        rows, log = self._rows(obs), info_logs(info, self.num_envs)
        if self._mode == "SameStep":
            for i in np.flatnonzero(over & ~first):
                rows[i] = self._obs.encode(_final(info["final_obs"], int(i)))
            log |= info_logs(info.get("final_info", {}), self.num_envs)
        again = first if self._resets_some else refused
        if again.any():
            fresh = self._reset_some(again)
            rows = [fresh[i] if again[i] else rows[i] for i in range(self.num_envs)]
        elif first.any() and self._mode == "SameStep":
            log["log/skipped_reward"] = np.where(first, reward, np.nan).astype(np.float32)
        reward = np.where(first, 0.0, reward)
        events = self._refuse(rows, reward, first)
        self._ended = (over & ~first) | self._refused
        terminal = terminated & self._ended & ~self._refused
        return self._time_step(rows, reward, first, self._ended, terminal, log, events)

    def _refuse(
        self, rows: list[dict[str, np.ndarray]], reward: np.ndarray, first: np.ndarray
    ) -> tuple[str, ...]:
        """Replaces rows that are not finite, in place; what was wrong with them."""
        events = []
        self._refused = np.zeros(self.num_envs, bool)
        for i in range(self.num_envs):
            while problem := _problem(rows[i], reward[i], self.obs_space):
                events.append(self._record(i, problem))
                if first[i]:
                    rows[i] = self._reset_some(np.arange(self.num_envs) == i)[i]
                else:
                    rows[i], reward[i], self._refused[i] = self._previous[i], 0.0, True
            if self._failures.total and not (first[i] or self._refused[i]):
                self._failures.succeeded(f"environment {i}")
        self._previous = list(rows)
        return tuple(events)

    def _record(self, index: int, problem: str) -> str:
        if not self._restarts:
            raise EnvFailure(
                f"environment {index}: {problem}; this vector environment can't restart one of its environments "
                "alone (gymnasium's Sync- and AsyncVectorEnv can, and the autoreset mode DISABLED)"
            )
        return self._failures.record(f"environment {index}", problem)

    def save(self) -> dict[str, np.ndarray] | None:
        """None: the state can't be saved."""
        return None

    def restore(self, state: dict[str, np.ndarray]) -> TimeStep:
        """Never called with what `save` returned, as that was None."""
        raise ValueError("GymVectorEnv can't restore a state")

    def render(self, index: int = 0) -> np.ndarray | None:
        """The environment's rgb_array picture, or None."""
        if why_not(self._env):
            return None
        frames = self._env.render()
        return None if frames is None else as_picture(frames[index])

    def close(self) -> None:
        """Closes the environments."""
        close_quietly(self._env)

    def _rows(self, obs: Any) -> list[dict[str, np.ndarray]]:
        from gymnasium.vector.utils import iterate

        return [self._obs.encode(row) for row in iterate(self._env.observation_space, obs)]

    def _decode(self, action: dict[str, np.ndarray], first: np.ndarray) -> object:
        """One batched action; zero where it will not count."""
        from gymnasium.vector.utils import concatenate, create_empty_array

        rows = [
            {key: space.zeros() if first[i] else action[key][i] for key, space in self.act_space.items()}
            for i in range(self.num_envs)
        ]
        single = self._env.single_action_space
        out = create_empty_array(single, n=self.num_envs)
        return concatenate(single, [self._act.decode(row) for row in rows], out)

    def _reset_some(self, mask: np.ndarray) -> list[dict[str, np.ndarray]]:
        obs, _ = self._env.reset(options={"reset_mask": mask.copy()})
        return self._rows(obs)

    def _time_step(
        self,
        rows: list[dict[str, np.ndarray]],
        reward: np.ndarray,
        first: np.ndarray,
        last: np.ndarray,
        terminal: np.ndarray,
        log: dict[str, np.ndarray],
        events: tuple[str, ...],
    ) -> TimeStep:
        obs = {key: np.stack([row[key] for row in rows]) for key in self.obs_space}
        reward = np.asarray(reward, np.float32)
        return TimeStep(obs, reward, first.copy(), last.copy(), terminal.copy(), log, events)


def _problem(row: dict[str, np.ndarray], reward: float, spaces: Spaces) -> str:
    """What of a row is not finite, or no class; empty if nothing is."""
    try:
        check_reward(reward)
        for key, value in row.items():
            check_finite(key, value)
            check_class(key, value, spaces[key])
    except Misfit as error:
        return str(error)
    return ""


def _final(final_obs: Any, index: int) -> Any:
    """One environment's entry of info["final_obs"]: an array of objects, or a batched observation."""
    if isinstance(final_obs, Mapping):
        return {key: _final(value, index) for key, value in final_obs.items()}
    return final_obs[index]


def info_logs(info: Mapping[str, Any], num: int) -> dict[str, np.ndarray]:
    """Logged scalars of a vector `info` as float32 [num], NaN where an environment gave none."""
    log = {}
    for key, value in log_candidates(info).items():
        mask = info.get("_episode" if key.startswith("log/episode_") else f"_{key}", np.ones(num, bool))
        if isinstance(value, np.ndarray) and value.shape == (num,) and value.dtype.kind in "biuf":
            log[key] = np.where(mask, value, np.nan).astype(np.float32)
            continue
        values = value if np.shape(value)[:1] == (num,) else [value] * num
        found = [log_entries({key: values[i]}).get(key, np.nan) if mask[i] else np.nan for i in range(num)]
        if not np.isnan(found).all():
            log[key] = np.array(found, np.float32)
    return log
