"""Stopping well: signals that become a request the loop can answer within a time."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType
from typing import Any

from dreamworld import streams
from dreamworld.exits import Exit, stopping


class Stop:
    """Turns SIGTERM, SIGINT and SIGHUP into `requested`, and ends the process when the answer takes too long.

        with Stop(grace_s=30) as stop:
            while not stop.requested: ...

    A second SIGINT raises KeyboardInterrupt, or ends the process of a command at once if there is nothing to `unwind`:
    an exception that comes while Python collects garbage is lost. The clock of `grace_s` starts with the first signal,
    also while the main thread is inside a long call that runs no Python (a compilation, say): a thread watches the
    signals' pipe. Outside the main thread, where Python can't handle signals, nothing is installed and
    `requested` stays False until `request` is called. For one use; the old handlers are back afterwards.
    """

    def __init__(self, grace_s: float, *, unwind: bool = True):
        self.grace_s, self._unwind = grace_s, unwind
        self.reason = ""
        self._signals = stopping()
        self._requested = threading.Event()
        self._left = threading.Event()
        self._interrupts = 0
        self._handlers: dict[signal.Signals, Any] = {}
        self._wakeup = -1
        self._pipe: tuple[int, int] | None = None
        self._watcher = threading.Thread(target=self._watch, name="stop", daemon=True)

    @property
    def requested(self) -> bool:
        """Whether to finish the update, save and leave."""
        return self._requested.is_set()

    def request(self, reason: str) -> None:
        """Asks for a stop from within the program, without a time limit; the first reason stays."""
        if not self.requested:
            self.reason = reason
            self._requested.set()

    def wait(self, timeout_s: float) -> bool:
        """Sleeps up to `timeout_s`, or until a stop is requested; returns `requested`."""
        return self._requested.wait(timeout_s)

    def __enter__(self) -> Stop:
        if threading.current_thread() is not threading.main_thread():
            return self
        self._pipe = os.pipe()
        if hasattr(os, "set_blocking"):  # not on Windows, where it does not matter
            os.set_blocking(self._pipe[1], False)
        self._watcher.start()
        self._wakeup = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        for number in self._signals:
            self._handlers[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exc: object) -> None:
        self._left.set()
        if self._pipe is None:
            return
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        os.write(self._pipe[1], b"\0")  # ends the watcher's read
        self._watcher.join()
        for handle in self._pipe:
            os.close(handle)
        self._pipe = None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.request(signal.Signals(number).name)
        self._interrupts += number == signal.SIGINT
        if self._interrupts > 1:
            command: Any = getattr(self._handlers[signal.SIGINT], "__self__", None)  # an `early.Early`
            if hasattr(command, "interrupt") and not self._unwind:
                command.interrupt()
            raise KeyboardInterrupt

    def _watch(self) -> None:
        assert self._pipe is not None
        while not self._left.is_set():
            for number in os.read(self._pipe[0], 64):
                if number in self._signals:
                    self.request(signal.Signals(number).name)
                    self._leave_in_time()

    def _leave_in_time(self) -> None:
        if self._left.wait(self.grace_s):
            return
        text = (
            f"error: {self.reason} came {self.grace_s:g} s ago and the save is not done (run.grace_s); "
            f"leaving with exit code {Exit.OVERDUE:d}. The checkpoint before this one is intact.\n"
        )
        try:
            streams.guard(sys.stderr).write(text)
        finally:
            os._exit(Exit.OVERDUE)


def raise_first(errors: Sequence[Exception | None]) -> None:
    """Raises the first error, if there is one."""
    for error in errors:
        if error is not None:
            raise error
