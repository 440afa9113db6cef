"""Where the time of a training loop goes: by phase of the loop, and whether the device had anything to do."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax

from dreamworld.types import Tree


class Phases:
    """Seconds of the training thread by phase: `with phases("act"): ...`."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - began


class UpdateWatch:
    """How long the device had no update to work on, and how much of that because no batch was there.

    Updates are dispatched ahead of the device, so that waiting for a batch costs nothing while an earlier update
    still runs. When each one ends is seen by a thread that does nothing but wait for it.
    """

    def __init__(self) -> None:
        self.starved_s = 0.0  # the part of the idle time in which the loop waited for a batch
        self.updates = 0
        self._idle_s = 0.0  # between the ends of updates and the dispatches of the next ones
        self._running = 0
        self._ended: float | None = None
        self._lock = threading.Lock()
        self._results: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def dispatched(self, result: Tree, asked: float, got: float) -> None:
        """An update was dispatched that returns `result`; its batch was asked for and got at these times.

        `result` is an array that nobody donates; times are those of `time.perf_counter`.
        """
        with self._lock:
            if self._running == 0 and self._ended is not None:
                self._idle_s += time.perf_counter() - self._ended
                self.starved_s += max(0.0, got - max(asked, self._ended))
            self._running += 1
            self.updates += 1
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="update-watch", daemon=True)
            self._thread.start()
        self._results.put(result)

    def look(self) -> tuple[float, float]:
        """The time, of `time.perf_counter`, and the idle seconds until then, those of an idle device included.

        Between two looks they grow by no more than the time: the clock is read while no update can begin or end.
        """
        with self._lock:
            now = time.perf_counter()
            idle_since = now if self._running or self._ended is None else self._ended
            return now, self._idle_s + now - idle_since

    def close(self) -> None:
        """Ends the thread, after the updates that still run; the next `dispatched` starts another."""
        if self._thread is not None:
            self._results.put(None)
            self._thread.join()
            self._thread = None

    def _work(self) -> None:
        while (result := self._results.get()) is not None:
            jax.block_until_ready(result)
            with self._lock:
                self._running -= 1
                self._ended = time.perf_counter()


# Phases in which nothing is trained: they are no part of a speed.
PAUSES = ("compile", "report", "eval", "assess", "save")
# Seconds that an update of up to so many recurrent units takes to compile on two CPU cores (docs/performance.md).
COMPILE_S = ((64, 8), (512, 15), (2048, 25))


def describe_compiling(units: int, cached: bool) -> str:
    """`compiling (about 15 s, cached next time)`."""
    about = next((f"about {seconds} s" for most, seconds in COMPILE_S if units <= most), "a minute or more")
    return f"compiling ({about}{', cached next time' if cached else ''})"


class Moment(NamedTuple):
    """Clocks and counts at a log row."""

    time: float  # of `UpdateWatch.look`, as `idle_s`
    step: int
    updates: int
    watched: int
    idle_s: float
    starved_s: float
    phases: dict[str, float]


def rates(
    before: Moment, now: Moment, frames_per_step: int, update_flops: float, peak_flops: float | None
) -> dict[str, float]:
    """Rates of training, and shares of wall time, between two marks, as the log names them."""
    duration_s = max(now.time - before.time, 1e-9)
    paused_s = sum(now.phases.get(name, 0.0) - before.phases.get(name, 0.0) for name in PAUSES)
    training_s = max(duration_s - paused_s, 1e-9)
    updates = (now.updates - before.updates) / training_s
    values = {
        "fps/env": (now.step - before.step) * frames_per_step / training_s,
        "fps/updates": updates,
    }
    for name, seconds in now.phases.items():
        values[f"time/{name}_fraction"] = (seconds - before.phases.get(name, 0.0)) / duration_s
    if now.watched:
        values["time/device_idle_fraction"] = (now.idle_s - before.idle_s) / duration_s
        values["time/replay_wait_fraction"] = (now.starved_s - before.starved_s) / duration_s
    if update_flops:
        values["fps/tflops"] = update_flops * updates / 1e12
        if peak_flops:
            values["fps/mfu"] = update_flops * updates / peak_flops
    return values
