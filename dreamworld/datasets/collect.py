"""Plays environments and records whole episodes, whoever acts."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np

from dreamworld.datasets.episodes import Episode, Schema, return_of
from dreamworld.types import Space, Spaces, TimeStep, VectorEnv

MAX_STEPS = 30_000  # of an episode; Atari's own limit is 27,000
FLUSH_S = 60.0  # what a killed process loses at most

Act = Callable[[TimeStep], dict[str, np.ndarray]]
Truth = Callable[[], dict[str, np.ndarray]]  # {name: [N, ...]} of the newest rows
Tell = Callable[[int, float], None]  # steps so far, return of the newest episode


class Keeper(Protocol):
    """Who takes the episodes: a `DataWriter`, or a list in memory."""

    @property
    def schema(self) -> Schema: ...

    def add(self, episode: Episode, policy: str = "") -> None: ...

    def flush(self) -> None: ...


@dataclasses.dataclass
class Collected:
    """What one policy did."""

    steps: int = 0  # in the episodes that were added
    returns: list[float] = dataclasses.field(default_factory=list)
    cut: int = 0  # episodes that had no end within the limit
    dropped: int = 0  # episodes of one row, or with a state that is not finite
    events: list[str] = dataclasses.field(default_factory=list)  # failures of environments that were survived
    stopped: bool = False


class _Tape(NamedTuple):
    """The rows of an episode that is being recorded."""

    rows: list[Episode]

    def finish(self) -> Episode:
        """The episode, whose last row ends it."""
        episode = {key: np.stack([row[key] for row in self.rows]) for key in self.rows[0]}
        episode["is_last"][-1] = True
        for key in episode:
            if key.startswith("action/"):
                episode[key][-1:] = 0
        return episode


def make_schema(env: VectorEnv, truth: Truth | None) -> Schema:
    """The columns of what is recorded in an environment; the episode must have begun where there is a `truth`."""
    extra: Spaces = {}
    for key, value in (truth() if truth else {}).items():
        extra[f"state/{key}"] = Space(tuple(value.shape[1:]), value.dtype.name)
    return Schema(dict(env.obs_space), dict(env.act_space), extra)


def collect(
    env: VectorEnv,
    act: Act,
    writer: Keeper,
    policy: str,
    *,
    steps: int,
    seed: int,
    truth: Truth | None = None,
    max_steps: int = MAX_STEPS,
    stop: Callable[[], bool] = lambda: False,
    tell: Tell = lambda steps, last: None,
) -> Collected:
    """Records episodes until they hold `steps` steps, and every environment has ended the one that it is in.

    So no episode is cut, and none is chosen for being short. One that has no end within `max_steps` is ended there as
    by a time limit; its environment waits for its end, or until no other one has anything to record. Once `stop()`
    is true, what has not ended is forgotten.
    """
    done, begun, flushed = Collected(), 1, time.monotonic()
    tapes: list[_Tape | None] = [None] * env.num_envs
    taken = 0
    step = env.reset(seed)
    while True:
        if stop():
            done.stopped = True
            return done
        done.events += step.events
        for index in np.flatnonzero(step.is_first):
            tapes[index] = _Tape([]) if taken < steps else None
        if not any(tapes) and taken >= steps:
            return done
        if not any(tapes) and not step.is_last.any():
            step, begun = env.reset(seed + begun), begun + 1
            continue
        action = _clip(act(step), env.act_space)
        taken += _record(tapes, step, action, truth, env, writer.schema)
        for index in np.flatnonzero(step.is_last | _full(tapes, max_steps)):
            if tape := tapes[index]:
                done.cut += int(not step.is_last[index])
                _add(done, writer, tape.finish(), policy)
            tapes[index] = None
        tell(taken, done.returns[-1] if done.returns else float("nan"))
        if time.monotonic() - flushed > FLUSH_S:
            writer.flush()
            flushed = time.monotonic()
        step = env.step(action)


def _clip(action: dict[str, np.ndarray], spaces: Spaces) -> dict[str, np.ndarray]:
    """The actions that the environment carries out."""
    return {
        key: (action[key] if space.discrete else np.clip(action[key], -1, 1)).astype(space.dtype)
        for key, space in spaces.items()
    }


def _record(
    tapes: list[_Tape | None],
    step: TimeStep,
    action: dict[str, np.ndarray],
    truth: Truth | None,
    env: VectorEnv,
    schema: Schema,
) -> int:
    """Adds the rows of all environments that are recorded; returns how many steps led to them."""
    columns = {f"obs/{key}": step.obs[key] for key in env.obs_space}
    columns |= {f"action/{key}": value for key, value in action.items()}
    if schema.extra_space and truth:
        columns |= {f"extra/state/{key}": value for key, value in truth().items()}
    columns |= {"reward": np.asarray(step.reward, np.float32), "is_first": step.is_first}
    columns |= {"is_last": step.is_last, "is_terminal": step.is_terminal}
    count = 0
    for index, tape in enumerate(tapes):
        if tape is not None:
            tape.rows.append({key: value[index] for key, value in columns.items()})
            count += not step.is_first[index]
    return count


def _full(tapes: list[_Tape | None], max_steps: int) -> np.ndarray:
    return np.array([tape is not None and len(tape.rows) > max_steps for tape in tapes])


def _add(done: Collected, writer: Keeper, episode: Episode, policy: str) -> None:
    lost = any(
        key.startswith("extra/") and value.dtype.kind == "f" and not np.isfinite(value).all()
        for key, value in episode.items()
    )
    if len(episode["reward"]) < 2 or lost:
        done.dropped += 1
        return
    writer.add(episode, policy)
    done.steps += len(episode["reward"]) - 1
    done.returns.append(return_of(episode))
