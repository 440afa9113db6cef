"""One worker thread between the training loop and replay: what is enqueued is done in exactly that order.

The loop's calls are the logical clock: adds, draws and write-backs happen in the order in which the loop
asked for them, however fast environment, worker and device are. Equal seeds hence give equal runs although
copying, decoding and device transfers overlap with acting and training.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from dreamworld.contract import Window
from dreamworld.replay.replay import Replay
from dreamworld.types import Array, Tree


class Prefetched(NamedTuple):
    """A batch for one update."""

    batch: Tree  # what `put` returned: usually device arrays
    rows: np.ndarray  # [B, L] int64, ids of its rows, on the host
    host: dict[str, np.ndarray]  # the batch as replay gave it


class Pipeline:
    """Runs replay commands and prefetches batches in a worker thread.

    Args:
      replay: where rows go and batches come from; leave it to the pipeline until `drain` or `close`.
      put: moves a host batch to the device(s); called in the worker.
      batch_size: windows of a batch, where a phase does not say how to draw its own.
      depth: batches drawn ahead of the one that `next` returns: a fixed count, also the staleness in updates.
      max_commands: commands that may wait; further calls block until the worker caught up.

    An exception in the worker is raised by the next call, with the worker's traceback, and by every later
    one.
    """

    def __init__(
        self,
        replay: Replay,
        put: Callable[[dict[str, np.ndarray]], Any],
        *,
        batch_size: int,
        depth: int = 2,
        max_commands: int = 256,
    ):
        self.replay, self.put = replay, put
        self.batch_size, self.depth, self.max_commands = batch_size, depth, max_commands
        self.waited_s = 0.0  # time that `next` waited for a batch
        self.batches = 0  # returned by `next`
        self._commands: deque[Callable[[], None]] = deque()
        self._done: dict[str, deque[Prefetched]] = {}
        self._outstanding: dict[str, int] = {}  # draws enqueued or done and not yet returned
        self._busy = self._closed = False
        self._ready = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="replay-pipeline", daemon=True)
        self._thread.start()

    def add(self, rows: dict[str, Any]) -> None:
        """Enqueues `replay.add`; device arrays are fetched in the worker. Do not change the arrays later."""
        self._enqueue(lambda: self._add(rows))

    def write_back(self, rows: np.ndarray, values: dict[str, Any]) -> None:
        """Enqueues `replay.write_back`; the worker waits for the device arrays."""
        for value in values.values():
            _start_copy(value)
        self._enqueue(lambda: self.replay.write_back(rows, {k: np.asarray(v) for k, v in values.items()}))

    def update_priorities(self, rows: np.ndarray, priorities: Array) -> None:
        """Enqueues `replay.update_priorities`."""
        _start_copy(priorities)
        self._enqueue(lambda: self.replay.update_priorities(rows, np.asarray(priorities)))

    @property
    def ready(self) -> bool:
        """Whether replay is ready for updates, after all rows enqueued so far: does not depend on timing."""
        if not self._ready:
            self.drain()
            self._ready = self.replay.ready
        return self._ready

    def next(
        self, name: str = "", sample: Callable[[], dict[str, np.ndarray]] | None = None, *, ahead: bool = True
    ) -> Prefetched:
        """The oldest batch drawn for the phase `name` and not yet returned; tops up the draws ahead to `depth`.

        `sample` draws a batch, in the worker; by default it is a batch of windows. Without `ahead` none is drawn
        before it is asked for.
        """
        draw = sample or (lambda: self.replay.sample(self.batch_size))
        while self._outstanding.get(name, 0) <= (self.depth if ahead else 0):
            self._outstanding[name] = self._outstanding.get(name, 0) + 1
            self._enqueue(lambda: self._finish(name, draw()))
        begin = time.perf_counter()
        with self._changed:
            self._changed.wait_for(lambda: self._done.get(name) or self._error or self._closed)
            self._check()
            self.waited_s += time.perf_counter() - begin
            self._outstanding[name] -= 1
            self.batches += 1
            return self._done[name].popleft()

    def draw(self, name: str, window: Window, batch: int, index: int) -> Prefetched:
        """The next batch of the phase `name`: `batch` windows as it asks for, batch number `index` of the phase.

        Raises LookupError where replay holds no such window.
        """
        replay, length = self.replay, window.context + window.length
        random = replay.aside(index) if window.order == "aside" else None
        if window.order == "sweep":
            take = lambda: replay.sweep(batch, window.length, window.context, index)
        elif window.align == "episode":
            take = lambda: replay.sample_episodes(batch, length, random)
        elif random or length < replay.length:
            take = lambda: replay.sample_part(batch, length, random, window.mix)
        else:
            take = lambda: replay.sample(batch, window.mix)
        return self.next(name, take, ahead=window.order == "draw")

    def drain(self) -> None:
        """Waits until everything enqueued is done, so that a snapshot of replay is exact."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._error or self._closed or (not self._commands and not self._busy)
            )
            self._check()

    def pending(self) -> dict[str, list[dict[str, np.ndarray]]]:
        """Drains; host copies of the batches drawn and not yet returned, by phase, oldest first, for the snapshot."""
        self.drain()
        return {name: [item.host for item in done] for name, done in self._done.items() if done}

    def restore_pending(self, batches: dict[str, list[dict[str, np.ndarray]]]) -> None:
        """Gives back what `pending` returned before a restart: the next batches are exactly these."""
        if any(self._outstanding.values()):
            raise RuntimeError("restore_pending must come before the first batch")
        for name, hosts in batches.items():
            self._outstanding[name] = len(hosts)
            for host in hosts:
                self._enqueue(lambda name=name, host=host: self._finish(name, host))

    def stats(self) -> dict[str, float]:
        """Batches returned, seconds waited for them, and commands still waiting."""
        return {"batches": self.batches, "waited_s": self.waited_s, "queued": len(self._commands)}

    def close(self) -> None:
        """Stops the worker after the command it is at; safe to call twice. Waiting commands are dropped."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _enqueue(self, command: Callable[[], None]) -> None:
        with self._changed:
            self._changed.wait_for(
                lambda: len(self._commands) < self.max_commands or self._error or self._closed
            )
            self._check()
            self._commands.append(command)
            self._changed.notify_all()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error
        if self._closed:
            raise RuntimeError("the replay pipeline is closed")

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._commands or self._closed)
                if self._closed:
                    return
                command = self._commands.popleft()
                self._busy = True
            try:
                command()
            except BaseException as error:
                with self._changed:
                    self._error, self._busy = error, False
                    self._changed.notify_all()
                return
            del command
            with self._changed:
                self._busy = False
                self._changed.notify_all()

    def _add(self, rows: dict[str, Any]) -> None:
        self.replay.add({key: np.asarray(value) for key, value in rows.items()})

    def _finish(self, name: str, host: dict[str, np.ndarray]) -> None:
        item = Prefetched(self.put(host), host["row"], host)
        with self._changed:
            self._done.setdefault(name, deque()).append(item)


def _start_copy(value: object) -> None:
    """Lets a device array travel to the host while the worker is still at earlier commands."""
    start = getattr(value, "copy_to_host_async", None)
    if start is not None:
        start()
