"""Environments stepped one after the other in this process: for cheap ones, and what each worker runs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import numpy as np

from dreamworld.envs.actions import names_of
from dreamworld.envs.adapters.shown import why_no_picture
from dreamworld.envs.building import quietly, survivable
from dreamworld.envs.scalars import flag, log_entries
from dreamworld.envs.vector.common import Failures, RowArrays, check_action, describe, env_seed, log_arrays
from dreamworld.errors import UserError
from dreamworld.spaces import Described
from dreamworld.types import Spaces, TimeStep

if TYPE_CHECKING:
    from dreamworld.envs.base import Env, Step


class EnvGroup:
    """Environments `first` to `first + num - 1`, which reset themselves and are rebuilt when they raise.

    It keeps no rows: whether they live in fresh arrays or in shared memory is the caller's business.
    """

    def __init__(
        self,
        make: Callable[[], Env],
        num: int,
        *,
        first: int = 0,
        max_failures: int = 10,
        beside: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
    ):
        """`beside` is entered for building the second environment and those after it."""
        self.num, self.first = num, first
        self.failures = Failures(max_failures)
        self._make = make
        self._envs: list[Env | None] = []
        try:
            env = make()
            self._envs.append(env)
            with beside():
                for _ in range(1, num):
                    self._envs.append(make())
        except BaseException:
            self.close()
            raise
        self.obs_space: Spaces = env.obs_space
        self.act_space: Spaces = env.act_space
        self.logs: dict[int, dict[str, float]] = {}  # of the last call, by local index
        self.events: list[str] = []  # of the last call
        self._ended = [True] * num
        self._seeds: list[int | None] = [None] * num  # for the next episode; None lets the environment go on
        self._attempts = [0] * num
        self._seed = 0

    def seed(self, seed: int, attempt: int = 0) -> None:
        """Lets every environment start a new episode at its next row, from its own seed."""
        self._seed = seed
        self._attempts = [attempt] * self.num
        self._seeds = [env_seed(seed, self.first + i, attempt) for i in range(self.num)]
        self._ended = [True] * self.num

    def begin(self, indices: list[int], rows: RowArrays) -> None:
        """Starts a new episode in some environments and writes their first rows."""
        self.logs, self.events = {}, []
        for index in indices:
            self._first(index, rows)

    def step(self, action: dict[str, np.ndarray], rows: RowArrays, previous: RowArrays) -> None:
        """Writes a row of every environment; `action` {key: [num, ...]}. `previous` may be `rows` itself."""
        self.logs, self.events = {}, []
        for index in range(self.num):
            if self._ended[index]:
                self._first(index, rows)
                continue
            try:
                step = self._envs[index].step({key: value[index] for key, value in action.items()})  # type: ignore[union-attr]
                self._write(index, step, rows, first=False)
            except BaseException as error:
                self._drop(index, survivable(error))
                rows.truncate(index, previous.obs)
                self._ended[index] = True
            else:
                self.failures.succeeded(self._name(index))

    def save(self) -> dict[str, np.ndarray] | None:
        """State of every environment, keys "<local index>/...", or None if one of them can't save its own."""
        out = {}
        for index, env in enumerate(self._envs):
            state = None if env is None else env.save()
            if state is None:
                return None
            out |= {f"{index}/{key}": np.asarray(value) for key, value in state.items()}
        return out

    def restore(self, state: dict[str, np.ndarray], ended: np.ndarray) -> None:
        """Restores `save()`; `ended` [num] says which environments returned an `is_last` row last."""
        for index in range(self.num):
            env = self._envs[index] = self._envs[index] or self._make()
            prefix = f"{index}/"
            env.restore({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
        self._ended = [bool(x) for x in ended]
        self._seeds = [None] * self.num

    def render(self, index: int) -> np.ndarray | None:
        """A picture of one environment, or None."""
        env = self._envs[index]
        try:
            return None if env is None else env.render()
        except BaseException as error:
            raise survivable(error) from error

    @property
    def action_names(self) -> tuple[str, ...]:
        """Those of the first environment."""
        return names_of(self._envs[0])

    def no_picture(self, index: int) -> str:
        """Why the last picture of an environment was None."""
        env = self._envs[index]
        return "it is being rebuilt" if env is None else why_no_picture(env)

    def close(self) -> None:
        """Closes every environment; errors of closing are of no interest any more."""
        for index in range(len(self._envs)):
            self._close(index)

    def _first(self, index: int, rows: RowArrays) -> None:
        while True:
            try:
                env = self._envs[index]
                if env is None:
                    env = self._envs[index] = self._make()
                step = env.reset(self._seeds[index])
                self._write(index, step, rows, first=True)
            except BaseException as error:
                self._drop(index, survivable(error))
            else:
                self._seeds[index] = None
                return

    def _write(self, index: int, step: Step, rows: RowArrays, *, first: bool) -> None:
        last = flag("is_last", step.is_last) and not first
        terminal = flag("is_terminal", step.is_terminal) and last
        rows.write(index, step.obs, 0.0 if first else step.reward, first, last, terminal)
        self._ended[index] = last
        if step.log:
            self.logs[index] = log_entries(step.log)

    def _drop(self, index: int, error: Exception) -> None:
        self._close(index)
        self._attempts[index] += 1
        self._seeds[index] = env_seed(self._seed, self.first + index, self._attempts[index])
        misfit = isinstance(error, UserError)
        self.events.append(self.failures.record(self._name(index), *describe(error), misfit=misfit))

    def _close(self, index: int) -> None:
        env, self._envs[index] = self._envs[index], None
        if env is not None:
            with quietly():
                env.close()

    def _name(self, index: int) -> str:
        return f"environment {self.first + index}"


class InProcess(Described):
    """`VectorEnv` over a `EnvGroup` in this process. It can't tell a hanging environment: worker processes can.

    gymnasium's SyncVectorEnv is not used: it stops at the first environment that raises, and copies every
    observation twice.
    """

    engine = "inprocess"

    def __init__(
        self,
        make: Callable[[], Env],
        num: int,
        *,
        max_failures: int = 10,
        reason: str = "",
        seed: int = 0,
        beside: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
    ):
        self.engine_reason = reason
        self.num_envs = num
        self._group = EnvGroup(make, num, max_failures=max_failures, beside=beside)
        self._group.seed(seed)
        self.obs_space, self.act_space = self._group.obs_space, self._group.act_space
        self._previous = RowArrays(self.obs_space, num)

    @property
    def failures(self) -> int:
        """Failures survived so far."""
        return self._group.failures.total

    def reset(self, seed: int) -> TimeStep:
        """See `VectorEnv.reset`."""
        self._group.seed(seed)
        rows = RowArrays(self.obs_space, self.num_envs)
        self._group.begin(list(range(self.num_envs)), rows)
        return self._finish(rows)

    def step(self, action: dict[str, np.ndarray]) -> TimeStep:
        """See `VectorEnv.step`."""
        rows = RowArrays(self.obs_space, self.num_envs)
        self._group.step(check_action(action, self.act_space, self.num_envs), rows, self._previous)
        return self._finish(rows)

    def _finish(self, rows: RowArrays) -> TimeStep:
        self._previous = rows
        return rows.time_step(log_arrays(self._group.logs, self.num_envs), self._group.events)

    def save(self) -> dict[str, np.ndarray] | None:
        """See `VectorEnv.save`."""
        state = self._group.save()
        return None if state is None else {f"env/{k}": v for k, v in state.items()} | self._previous.arrays()

    def restore(self, state: dict[str, np.ndarray]) -> TimeStep:
        """See `VectorEnv.restore`."""
        rows = RowArrays(self.obs_space, self.num_envs, state).copy()
        envs = {k.removeprefix("env/"): v for k, v in state.items() if k.startswith("env/")}
        self._group.restore(envs, rows.is_last)
        self._previous = rows
        return rows.time_step()

    @property
    def action_names(self) -> tuple[str, ...]:
        """What the environments call their discrete actions."""
        return self._group.action_names

    def render(self, index: int = 0) -> np.ndarray | None:
        """See `VectorEnv.render`."""
        return self._group.render(index)

    def no_picture(self, index: int = 0) -> str:
        """Why the last picture was None."""
        return self._group.no_picture(index)

    def close(self) -> None:
        """See `VectorEnv.close`."""
        self._group.close()
