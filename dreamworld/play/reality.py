"""What really happens: an environment that is played, or rows that were recorded, one row at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np

from dreamworld import words
from dreamworld.envs.vector.jax_engine import JaxVector
from dreamworld.types import Spaces, TimeStep, VectorEnv

Action = dict[str, np.ndarray]
Snapshot = dict[str, np.ndarray]
PROBE_STEPS = 20  # played twice to see whether an environment repeats itself


class Row(NamedTuple):
    """One row of reality; arrays without a batch axis."""

    obs: dict[str, np.ndarray]
    reward: float
    is_first: bool
    is_last: bool
    is_terminal: bool
    picture: np.ndarray | None = None  # uint8 [H, W, 3], where observations show nothing to people
    events: tuple[str, ...] = ()  # failures that the environment survived, one line each

    @property
    def ended(self) -> str | None:
        """How the episode ended with this row."""
        return ("terminated" if self.is_terminal else "truncated") if self.is_last else None


class Past(NamedTuple):
    """A row that reality is to go back to."""

    seed: int
    actions: list[Action]  # that led to it since the episode began
    snapshot: Snapshot | None
    row: Row


class Reality(Protocol):
    """What a session steps through beside the dream."""

    rewind: str  # why one can't go back; empty where one can

    def reset(self, seed: int) -> Row:
        """The first row of the episode of a seed."""
        ...

    def step(self, action: Action) -> Row | None:
        """The next row; None where nothing is known of what this action leads to."""
        ...

    def snapshot(self) -> Snapshot | None:
        """The state of now, where it can be saved."""
        ...

    def restore(self, past: Past) -> None:
        """Goes back; raises LostPast where the environment did not do the same again."""
        ...

    def close(self) -> None:
        """Releases what it holds."""
        ...


class LostPast(RuntimeError):
    """An environment that was asked to repeat its episode did something else."""


class Played:
    """An environment of one. Pictures are rendered where `render` says so, until one can't be had."""

    def __init__(self, env: VectorEnv, *, render: bool, rewind: str = ""):
        self._env, self._render, self.rewind = env, render, rewind

    def reset(self, seed: int) -> Row:
        """See `Reality`."""
        return self._row(self._env.reset(seed))

    def step(self, action: Action) -> Row:
        """See `Reality`; continuous actions are clipped."""
        return self._row(self._env.step(batched(action, self._env.act_space)))

    def snapshot(self) -> Snapshot | None:
        """See `Reality`."""
        return None if self.rewind else self._env.save()

    def restore(self, past: Past) -> None:
        """From the snapshot, or by playing the episode again."""
        if past.snapshot is not None:
            self._env.restore(past.snapshot)
            return
        step = self._env.reset(past.seed)
        for action in past.actions:
            step = self._env.step(batched(action, self._env.act_space))
        if not _same(step, past.row):
            raise LostPast("the environment did not repeat its episode")

    def close(self) -> None:
        """See `Reality`."""
        self._env.close()

    def _row(self, step: TimeStep) -> Row:
        obs = {key: np.array(value[0]) for key, value in step.obs.items()}
        flags = (bool(step.is_first[0]), bool(step.is_last[0]), bool(step.is_terminal[0]))
        picture, events = None, step.events
        if self._render:
            picture, problem = render(self._env)
            self._render = not problem
            events = (*events, f"no more pictures: {problem}") if problem else events
        return Row(obs, float(step.reward[0]), *flags, picture, events)


@dataclasses.dataclass
class Recorded:
    """Rows that were recorded: they are what happens, as long as the actions are the recorded ones."""

    rows: list[Row]
    actions: list[Action]  # the i-th led to row i; the first one is of no meaning
    rewind: str = ""
    _at: int = 0
    _left: bool = False  # another action was taken

    def reset(self, seed: int) -> Row:
        """The first row, whatever the seed."""
        self._at, self._left = 0, False
        return self.rows[0]

    def step(self, action: Action) -> Row | None:
        """The next row while nobody takes another action."""
        self._at += 1
        if self._left or self._at >= len(self.rows) or not same_action(action, self.actions[self._at]):
            self._left = True
            return None
        return self.rows[self._at]

    def recorded_action(self) -> Action | None:
        """The action that was taken from here."""
        known = not self._left and self._at + 1 < len(self.rows)
        return self.actions[self._at + 1] if known else None

    def snapshot(self) -> Snapshot | None:
        """Nothing to save: the rows are there."""
        return None

    def restore(self, past: Past) -> None:
        """Goes back to a row."""
        self.reset(past.seed)
        for action in past.actions:
            self.step(action)

    def close(self) -> None:
        """Nothing to release."""


def batched(action: Action, spaces: Spaces) -> Action:
    """An action with a batch axis, as the environments carry it out: continuous ones within -1 and 1."""
    return {
        key: (action[key] if space.discrete else np.clip(action[key], -1, 1)).astype(space.dtype)[None]
        for key, space in spaces.items()
    }


def render(env: VectorEnv) -> tuple[np.ndarray | None, str]:
    """What an environment shows people, and what its own code raised meanwhile; empty where it did not."""
    try:
        return env.render(0), ""
    except (
        Exception
    ) as error:  # many environments have no `render` of their own, and that of gymnasium raises
        return None, words.exception(error)


def same_action(one: Action, other: Action) -> bool:
    """Whether two actions are equal to the bit."""
    return all(np.array_equal(value, other[key]) for key, value in one.items())


def why_no_rewind(env: VectorEnv, seed: int) -> str:
    """Why one can't go back in an environment; empty where its state can be saved, or its episodes repeat."""
    first = _probe(env, seed)
    if env.save() is not None:
        return ""
    again = _probe(env, seed)
    if all(_equal_steps(one, other) for one, other in zip(first, again)):
        return ""
    return (
        "the state of this environment can't be saved, and the same seed and actions gave other rows within "
        f"{words.count(PROBE_STEPS, 'step')}"
    )


def _probe(env: VectorEnv, seed: int) -> list[TimeStep]:
    random, steps = np.random.default_rng(seed), [env.reset(seed)]
    for _ in range(PROBE_STEPS):
        action = {key: space.sample(random) for key, space in env.act_space.items()}
        steps.append(env.step(batched(action, env.act_space)))
    return steps


def _equal_steps(one: TimeStep, other: TimeStep) -> bool:
    values = zip((one.reward, one.is_last, one.is_terminal), (other.reward, other.is_last, other.is_terminal))
    same = all(np.array_equal(a, b, equal_nan=True) for a, b in values)
    return same and all(
        np.array_equal(value, other.obs[key], equal_nan=True) for key, value in one.obs.items()
    )


def _same(step: TimeStep, row: Row) -> bool:
    flags = (float(step.reward[0]), bool(step.is_last[0])) == (row.reward, row.is_last)
    return flags and all(np.array_equal(step.obs[key][0], value) for key, value in row.obs.items())


def another(env: VectorEnv, make: Callable[[], VectorEnv]) -> VectorEnv:
    """One more environment of the same kind; a JAX environment shares what is compiled."""
    return env.another() if isinstance(env, JaxVector) else make()
