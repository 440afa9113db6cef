"""Episodes on separate environments with a fixed policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from dreamworld.contract import State
from dreamworld.training.film import Film
from dreamworld.types import Spaces, VectorEnv

MAX_STEPS = 30_000  # of an episode; Atari's own limit is 27,000

Act = Callable[[Any, dict[str, np.ndarray]], tuple[Any, dict[str, np.ndarray]]]


class Evaluation(NamedTuple):
    """Finished episodes."""

    returns: list[float]
    lengths: list[int]  # actions
    log: dict[str, float]  # mean over episodes of each `log/` key's last value
    frames: np.ndarray | None  # uint8 [T, H, W, 3] of the first environment's first episode
    unfilmed: str = ""  # why there are no (more) frames
    cut: int = 0  # of these episodes, which had no end within the limit
    stopped: bool = False  # before all episodes were played


def evaluate(
    act: Act,
    state: State,
    env: VectorEnv,
    episodes: int,
    *,
    seed: int,
    video: bool = False,
    max_steps: int = MAX_STEPS,
    stop: Callable[[], bool] = lambda: False,
) -> Evaluation:
    """Plays `episodes` episodes, shared out evenly over the environments; ends early once `stop()` is true.

    Each environment contributes a number fixed beforehand: taking whichever finish first would favour short ones.
    An episode of `max_steps` actions is cut and counts as it is. Its environment waits until it ends after all, or
    until no other one has anything left to play: then all begin anew.
    """
    quota = np.full(env.num_envs, episodes // env.num_envs) + (
        np.arange(env.num_envs) < episodes % env.num_envs
    )
    done, waits = np.zeros(env.num_envs, np.int64), np.zeros(env.num_envs, bool)
    running, length = np.zeros(env.num_envs), np.zeros(env.num_envs, np.int64)
    returns, lengths, logs, cut, begun, stopped = [], [], [], 0, 1, False
    film = Film(env) if video else None
    step = env.reset(seed)
    while (done < quota).any():
        if stopped := stop():
            break
        running = np.where(step.is_first, 0.0, running + step.reward)
        length = np.where(step.is_first, 0, length + 1)
        if film:
            film.see(step)
        ended = (step.is_last | (length >= max_steps)) & ~waits & (done < quota)
        for index in np.flatnonzero(ended):
            returns.append(float(running[index]))
            lengths.append(int(length[index]))
            logs.append({key: float(x[index]) for key, x in step.log.items() if np.isfinite(x[index])})
        done += ended
        cut += int((ended & ~step.is_last).sum())
        waits = (waits | ended) & ~step.is_last
        if (done < quota).any() and (waits | (done >= quota)).all():
            step, waits, begun = env.reset(seed + begun), np.zeros_like(waits), begun + 1
            continue
        state, action = act(state, {**step.obs, "is_first": step.is_first})
        step = env.step(action)
    log = {
        key: float(np.mean([row[key] for row in logs if key in row]))
        for key in sorted({k for r in logs for k in r})
    }
    frames = film.develop() if film else None
    return Evaluation(returns, lengths, log, frames, film.problem if film else "", cut, stopped)


def random_act(act_space: Spaces, num_envs: int, seed: int = 0) -> Act:
    """A uniformly random policy: the baseline of the demo and of the docs."""
    random = np.random.default_rng(seed)

    def act(state: State, obs: dict[str, np.ndarray]) -> tuple[Any, dict[str, np.ndarray]]:
        return state, {key: space.sample(random, num_envs) for key, space in act_space.items()}

    return act
