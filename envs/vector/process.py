"""Environments in worker processes: for those that cost more than a message, or that may hang or crash.

gymnasium's AsyncVectorEnv is not used: it takes a process for each environment, which it forks or in which it imports
the whole main module again, and a worker that dies or hangs ends the run. Workers here are fresh interpreters (what
multiprocessing calls spawn) that import neither the main module nor JAX.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from dreamworld import system, words
from dreamworld.config import EnvConfig
from dreamworld.envs.render import prepare
from dreamworld.envs.vector.common import EnvFailure, Failures, RowArrays, check_action, log_arrays
from dreamworld.envs.vector.handle import Worker, WorkerDied, shut_down
from dreamworld.envs.vector.shared import SharedArrays, make_memory, shared_arrays
from dreamworld.envs.vector.worker import Done, Ready, Setup
from dreamworld.errors import UserError
from dreamworld.spaces import Described
from dreamworld.types import TimeStep

STARTUP_S = 120.0  # at least this long for imports, compilation and the first reset
IMPORT_S = 2.0  # of a core, for a worker to import what it needs and build one environment
TOLD_S = 30.0  # a start that takes longer is told
PLURAL = "worker processes"
log = logging.getLogger("dreamworld")


class ProcessVector(Described):
    """`VectorEnv` over worker processes that host several environments each.

    `step` is `send` and `recv`, which may also be called by themselves, to do something else in between.
    """

    engine = "process"

    def __init__(
        self,
        make: str | Callable[..., Any],
        config: EnvConfig,
        num: int,
        *,
        workers: int,
        seed: int = 0,
        reason="",
    ):
        self.num_envs, self.engine_reason = num, reason
        self._timeout_s = config.timeout_s
        self._failures = Failures(config.max_failures)
        self._survived = 0
        self._seed = seed
        self._sent_s: float | None = None  # when the step under way was sent
        self._events: list[str] = []
        self._gave_up = False  # EnvFailure was raised: there is no state to save
        self._shared: SharedArrays | None = None
        prepare()  # workers import the factory, and with it a user's module, before anything else
        memory = make_memory()
        self._workers: list[Worker] = []
        self._finalizer = weakref.finalize(self, shut_down, self._workers, memory, os.getpid())
        try:
            parts = np.array_split(np.arange(num), min(workers, num))
            self._startup_s = max(STARTUP_S, self._timeout_s, _imports_s(len(parts)))
            self._start(parts, make, config, memory)
            self._connect(memory)
        except BaseException:
            self.close()
            raise

    def _start(self, parts: list[np.ndarray], make: Any, config: EnvConfig, memory: int) -> None:
        """Starts a worker for each part; UserError where the system has no room for so many."""
        if (duration_s := _imports_s(len(parts))) > TOLD_S:
            log.warning("starting %d worker processes, which takes about %.0f s", len(parts), duration_s)
        for number, part in enumerate(parts):
            try:
                self._workers.append(Worker(number, Setup(make, config, int(part[0]), len(part)), memory))
            except OSError as error:  # open files, processes, memory
                raise UserError(
                    f"env.workers {len(parts)}: the system lets only {words.count(number, 'worker process', PLURAL)} "
                    f"start ({error.strerror or error}); use fewer, such as --env.workers {max(1, number // 2)}"
                ) from None

    def _connect(self, memory: int) -> None:
        """Waits for the first start of all workers, where failures are not survived."""
        spaces = [self._first_spaces(worker) for worker in self._workers]
        self.obs_space, self.act_space = spaces[0].obs_space, spaces[0].act_space
        if any(other != spaces[0] for other in spaces):
            raise UserError(
                "the environments have different spaces; environments run in parallel need the same"
            )
        specs = shared_arrays(self.obs_space, self.act_space, self.num_envs)
        self._shared = SharedArrays(memory, specs, create=True)
        self._actions = {key: self._shared.arrays[f"action/{key}"] for key in self.act_space}
        self._rows = RowArrays(self.obs_space, self.num_envs, self._shared.arrays)
        self._previous = self._rows.copy()
        self._previous.is_last[:] = True  # an episode is due everywhere
        for worker in self._workers:
            self._admit(worker)

    def _first_spaces(self, worker: Worker) -> Ready:
        try:
            return worker.spaces(self._startup_s)
        except WorkerDied as died:
            if died.user:
                raise UserError(died.what) from None
            text = f"{worker.name} could not build its environments: {died.what}"
            raise EnvFailure(f"{text}\n\n{died.trace}".rstrip()) from None

    def _admit(self, worker: Worker) -> None:
        worker.tell((self.num_envs, self._seed, worker.deaths << 16))
        worker.ready = True

    @property
    def failures(self) -> int:
        """Failures survived so far."""
        return self._survived

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers."""
        return [worker.process.pid for worker in self._workers]

    def reset(self, seed: int) -> TimeStep:
        """See `VectorEnv.reset`."""
        if self._sent_s is not None:
            self.recv()
        self._seed = seed
        self._ask_all("begin", lambda worker: (list(range(worker.num)), seed))
        return self._collect(lambda worker: self._begin(worker, list(range(worker.num))))

    def step(self, action: dict[str, np.ndarray]) -> TimeStep:
        """See `VectorEnv.step`."""
        self.send(action)
        return self.recv()

    def send(self, action: dict[str, np.ndarray]) -> None:
        """Starts a step."""
        if self._sent_s is not None:
            raise RuntimeError("send called twice without recv")
        for key, value in check_action(action, self.act_space, self.num_envs).items():
            self._actions[key][...] = value
        self._ask_all("step", lambda worker: None)

    def recv(self) -> TimeStep:
        """Waits for the step that `send` started."""
        if self._sent_s is None:
            raise RuntimeError("recv called without send")
        return self._collect(self._close_episodes)

    def _ask_all(self, verb: str, argument: Callable[[Worker], Any]) -> None:
        with self._giving_up():
            for worker in self._workers:
                self._ensure(worker)
        for worker in self._workers:
            worker.ask(verb, argument(worker))
        self._sent_s = time.monotonic()

    def _collect(self, replace: Callable[[Worker], None]) -> TimeStep:
        """The answers of all workers as one time step; `replace` fills the rows of one that died."""
        deadline = (self._sent_s or 0.0) + self._timeout_s
        logs: dict[int, dict[str, float]] = {}
        with self._giving_up():
            for worker in self._workers:
                try:
                    self._merge(worker, worker.answer(deadline, self._timeout_s), logs)
                    if not self._rows.is_first[worker.part].all():  # a reset alone proves nothing
                        self._failures.succeeded(worker.name)
                except WorkerDied as died:
                    self._bury(worker, died)
                    replace(worker)
        self._sent_s = None
        self._previous = self._rows.copy()
        events, self._events = self._events, []
        return self._previous.time_step(log_arrays(logs, self.num_envs), events)

    @contextlib.contextmanager
    def _giving_up(self) -> Iterator[None]:
        """Remembers that EnvFailure was raised, after which workers may be gone or wait in the middle of a step."""
        try:
            yield
        except EnvFailure:
            self._gave_up = True
            raise

    def _merge(self, worker: Worker, done: Done, logs: dict[int, dict[str, float]]) -> None:
        logs |= {worker.first + index: log for index, log in done.logs.items()}
        self._events += done.events
        self._survived += len(done.events)

    def _bury(self, worker: Worker, died: WorkerDied) -> None:
        """Counts the death and starts another process; EnvFailure if there were too many in a row."""
        worker.kill()
        self._events.append(self._failures.record(worker.name, died.what, died.trace))
        self._survived += 1
        worker.restart()

    def _ensure(self, worker: Worker) -> None:
        """Waits until a worker that was started again has built its environments."""
        while not worker.ready:
            try:
                worker.spaces(self._startup_s)
                self._admit(worker)
            except WorkerDied as died:
                self._bury(worker, died)

    def _close_episodes(self, worker: Worker) -> None:
        """RowArrays of a worker that died: episodes under way are truncated, those that were due begin."""
        rows = np.arange(worker.part.start, worker.part.stop)
        due = self._previous.is_last[rows]
        for index in rows[~due]:
            self._rows.truncate(int(index), self._previous.obs)
        if due.any():
            self._begin(worker, np.flatnonzero(due).tolist())

    def _begin(self, worker: Worker, indices: list[int]) -> None:
        """Starts episodes in a worker that was started again."""
        while True:
            self._ensure(worker)
            worker.ask("begin", (indices, None))
            try:
                done = worker.answer(time.monotonic() + self._startup_s, self._startup_s)
            except WorkerDied as died:
                self._bury(worker, died)
            else:
                self._merge(worker, done, {})
                return

    def _request(self, worker: Worker, verb: str, argument: object = None) -> Any:
        if self._sent_s is not None:
            raise RuntimeError(f"{verb} called between send and recv")
        try:
            with self._giving_up():
                self._ensure(worker)
            worker.ask(verb, argument)
            return worker.answer(time.monotonic() + self._startup_s, self._startup_s).result
        except WorkerDied:
            worker.process.kill()  # a late answer would be taken for that of the next step
            raise

    def save(self) -> dict[str, np.ndarray] | None:
        """See `VectorEnv.save`; None, too, once the environments failed too often."""
        if self._gave_up:
            return None
        out = self._previous.arrays()
        for worker in self._workers:
            if (state := self._request(worker, "save")) is None:
                return None
            for key, value in state.items():
                index, name = key.split("/", 1)
                out[f"env/{worker.first + int(index)}/{name}"] = value
        return out

    def restore(self, state: dict[str, np.ndarray]) -> TimeStep:
        """See `VectorEnv.restore`."""
        for name, array in self._rows.views().items():
            array[...] = state[name]
        for worker in self._workers:
            local = {}
            for index in range(worker.num):
                prefix = f"env/{worker.first + index}/"
                local |= {
                    f"{index}/{k.removeprefix(prefix)}": v for k, v in state.items() if k.startswith(prefix)
                }
            self._request(worker, "restore", local)
        self._previous = self._rows.copy()
        return self._previous.time_step()

    def render(self, index: int = 0) -> np.ndarray | None:
        """See `VectorEnv.render`."""
        return self._ask_about("render", index)

    def no_picture(self, index: int = 0) -> str:
        """Why the last picture was None."""
        return self._ask_about("no_picture", index)

    def _ask_about(self, verb: str, index: int) -> Any:
        for worker in self._workers:
            if worker.part.start <= index < worker.part.stop:
                return self._request(worker, verb, index - worker.first)
        raise IndexError(f"environment {index} of {self.num_envs}")

    def close(self) -> None:
        """See `VectorEnv.close`; also runs when the object goes and when the interpreter ends."""
        self._finalizer()
        if self._shared is not None:
            self._rows, self._actions = self._previous, {}  # the last views of the shared memory
            self._shared.close()


def _imports_s(workers: int) -> float:
    """About how long it takes until so many workers stand."""
    return IMPORT_S * workers / len(system.cores())
