"""What the engines share: seeds, rows being filled, action checks and the count of failures."""

from __future__ import annotations

import traceback
from collections.abc import Iterable

import numpy as np

from dreamworld import words
from dreamworld.envs.finite import as_finite, check_class, check_reward
from dreamworld.envs.scalars import Misfit, number
from dreamworld.errors import CodeFailure, UserError
from dreamworld.types import FLAGS, Spaces, TimeStep


class EnvFailure(CodeFailure):
    """An environment failed more than `env.max_failures` times in a row; ends with the original traceback."""


class EnvMisfit(EnvFailure, UserError):
    """The same where it did not raise but returned what can't be taken: one line says it all."""


def env_seed(seed: int, index: int, attempt: int = 0) -> int:
    """Seed in [0, 2**31) of environment `index`, however many there are; `attempt` counts its rebuilds."""
    if seed < 0:
        raise UserError(f"environment seed {seed} is negative; use 0 or more")
    return int(np.random.SeedSequence([seed, index, attempt]).generate_state(1)[0] >> 1)


def check_action(action: dict[str, np.ndarray], space: Spaces, num: int) -> dict[str, np.ndarray]:
    """The action as arrays [num, ...] in the dtypes of its space; UserError if a key or a shape is wrong."""
    if action.keys() != space.keys():
        raise UserError(f"action has the keys {sorted(action)}, the environment takes {sorted(space)}")
    out = {}
    for key, one in space.items():
        value = np.asarray(action[key], one.dtype)
        if value.shape != (num, *one.shape):
            raise UserError(f"action {key!r} has the shape {value.shape}, expected {(num, *one.shape)}")
        out[key] = value
    return out


class RowArrays:
    """The arrays of one time step while environments fill them, row by row; also a view of shared memory."""

    __slots__ = ("is_first", "is_last", "is_terminal", "num", "obs", "reward", "spaces")

    def __init__(self, spaces: Spaces, num: int, arrays: dict[str, np.ndarray] | None = None):
        if arrays is None:
            arrays = {name: np.zeros(*spec) for name, spec in row_arrays(spaces, num).items()}
        self.spaces, self.num = spaces, num
        self.obs = {key: arrays[f"obs/{key}"] for key in spaces}
        self.reward, self.is_first, self.is_last, self.is_terminal = (arrays[key] for key in FLAGS)

    def write(self, index: int, obs: dict[str, np.ndarray], reward, first, last, terminal) -> None:
        """Writes one row; Misfit and nothing written if a value is not finite, or not in its space."""
        values = {}
        for key, space in self.spaces.items():
            if np.shape(obs[key]) != space.shape:
                raise Misfit(
                    f"observation {key!r} has the shape {np.shape(obs[key])}, its space {space.shape}"
                )
            values[key] = as_finite(key, obs[key], space.dtype)
            check_class(key, values[key], space)
        reward = number("reward", reward)
        check_reward(reward)
        for key, array in self.obs.items():
            array[index] = values[key]
        self.reward[index] = reward
        self.is_first[index], self.is_last[index], self.is_terminal[index] = first, last, terminal

    def truncate(self, index: int, obs: dict[str, np.ndarray]) -> None:
        """Closes an episode that broke off: row `index` of `obs` again, reward 0, last, not terminal."""
        self.write(index, {key: value[index] for key, value in obs.items()}, 0.0, False, True, False)

    def views(self) -> dict[str, np.ndarray]:
        """The arrays by name, as `row_arrays` names them."""
        return {f"obs/{key}": value for key, value in self.obs.items()} | {k: getattr(self, k) for k in FLAGS}

    def arrays(self) -> dict[str, np.ndarray]:
        """Copies of the arrays by name."""
        return {name: array.copy() for name, array in self.views().items()}

    def copy(self) -> RowArrays:
        """RowArrays of its own with the same content."""
        return RowArrays(self.spaces, self.num, self.arrays())

    def time_step(self, log: dict[str, np.ndarray] | None = None, events: Iterable[str] = ()) -> TimeStep:
        """The rows as the time step that the caller gets; shares the arrays."""
        return TimeStep(
            self.obs, self.reward, self.is_first, self.is_last, self.is_terminal, log or {}, tuple(events)
        )


def row_arrays(spaces: Spaces, num: int) -> dict[str, tuple[tuple[int, ...], str]]:
    """Name to shape and dtype of the arrays that make up `num` rows."""
    arrays = {f"obs/{key}": ((num, *space.shape), space.dtype) for key, space in spaces.items()}
    return arrays | {key: ((num,), "float32" if key == "reward" else "bool") for key in FLAGS}


def log_arrays(logs: dict[int, dict[str, float]], num: int) -> dict[str, np.ndarray]:
    """Per-environment scalars as float32 arrays [num], NaN where an environment gave none."""
    out: dict[str, np.ndarray] = {}
    for index, log in logs.items():
        for key, value in log.items():
            out.setdefault(key, np.full(num, np.nan, np.float32))[index] = value
    return out


class Failures:
    """Counts failures, in total and in a row, and stops the run when there are too many in a row."""

    def __init__(self, limit: int):
        self.limit = limit
        self.total = 0
        self._row: dict[str, int] = {}

    def record(self, who: str, what: str, trace: str = "", *, misfit: bool = False) -> str:
        """Counts one and returns the line for the log; EnvFailure if `who` failed too often in a row.

        `misfit`: it returned what can't be taken.
        """
        self.total += 1
        self._row[who] = self._row.get(who, 0) + 1
        if self._row[who] > self.limit:
            kind = EnvMisfit if misfit else EnvFailure
            raise kind(
                f"{who} failed {words.count(self._row[who], 'time')} in a row (env.max_failures is "
                f"{self.limit}): {what}" + (f"\n\n{trace.rstrip()}" if trace else "")
            )
        count = f"failure {self._row[who]} of at most {self.limit} in a row"
        return f"{who}: {what}; episode closed as truncated, rebuilt ({count})"

    def succeeded(self, who: str) -> None:
        """Ends a row of failures."""
        if self._row:
            self._row.pop(who, None)


def describe(error: BaseException) -> tuple[str, str]:
    """One line on an exception, and its traceback; none where the environment returned without raising."""
    if isinstance(error, UserError):
        return " ".join(str(error).split()), ""
    return words.exception(error, 300), "".join(traceback.format_exception(error))
