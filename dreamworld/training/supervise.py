"""Runs a training command again after preemptions, aborts and lost hosts. Loads no JAX."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from types import FrameType
from typing import Any

from etils import epath

from dreamworld import streams, system, words
from dreamworld.exits import Exit, stopping
from dreamworld.reading import BlockedFile
from dreamworld.training import snapshot

FINAL = {Exit.OK, Exit.USAGE, Exit.NUMERICAL, Exit.INTERRUPTED}
# Linux: the kernel sends the trainer SIGTERM when this process is killed; elsewhere it would go on alone.
# Ctrl-C ends it without a word until the trainer's own interpreter is there.
TIE = "import _signal; _signal.signal(2, _signal.SIG_DFL); import ctypes, os, sys; "
TIE += "ctypes.CDLL(None).prctl(1, 15); os.execvp(sys.argv[1], sys.argv[1:])"
TIED = [sys.executable, "-S", "-c", TIE] if sys.platform == "linux" else []


class _Child:
    """The training process and the signals passed on to it."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[Any] | None = None
        self.stopping = threading.Event()
        self.signals = 0
        self.reason = ""

    def stopped(self) -> str:
        """The line of a stop that the trainer was not there to tell of."""
        return f"stopped by {self.reason}; the same command goes on"

    def forward(self, number: int, frame: FrameType | None) -> None:
        self.reason = self.reason or signal.Signals(number).name
        self.stopping.set()
        self.signals += 1
        if self.process is not None and self.process.poll() is None:
            # A closed terminal is a stop like any other; the trainer knows SIGTERM.
            self.process.send_signal(number if number in (signal.SIGINT, signal.SIGTERM) else signal.SIGTERM)

    def run(self, argv: Sequence[str]) -> int:
        # Its own process group: a Ctrl-C on the terminal must reach it once, not from here and from there.
        process: subprocess.Popen[Any] = subprocess.Popen([*TIED, *argv], **system.own_group())
        self.process = process
        if self.stopping.is_set():  # the signal came while it was being started
            process.send_signal(signal.SIGTERM)
        return process.wait()


def supervise(
    argv: Sequence[str],
    *,
    checkpoints: epath.PathLike | Sequence[epath.PathLike],
    max_restarts: int = 5,
    backoff_s: float = 5.0,
    backoff_max_s: float = 300.0,
) -> int:
    """Runs `argv` until it has finished or can't be helped; returns its last exit code.

    It is started again after every end except: finished, a user error, the numerical guard, a second Ctrl-C,
    and any end after a signal that this process was sent itself (and passed on). A run that ends
    `max_restarts + 1` times in a row without a new checkpoint is given up. The pause before a restart doubles
    each time and starts again at `backoff_s` after a new checkpoint. Call it in the main thread.

    Args:
      argv: the training command.
      checkpoints: folder of the run's snapshots, or those of its seeds, to see progress: a new one in any of them.
      max_restarts: restarts in a row without a new checkpoint.
      backoff_s: first pause; none before a restart that follows a new checkpoint and a preemption.
      backoff_max_s: longest pause.
    """
    child = _Child()
    handlers: dict[signal.Signals, Any] = {
        number: signal.signal(number, child.forward) for number in stopping()
    }
    try:
        folders = [checkpoints] if isinstance(checkpoints, str | os.PathLike) else list(checkpoints)
        return _supervise(child, argv, folders, max_restarts, backoff_s, backoff_max_s)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _supervise(
    child: _Child,
    argv: Sequence[str],
    folders: Sequence[epath.PathLike],
    max_restarts: int,
    backoff_s: float,
    backoff_max_s: float,
) -> int:
    fruitless = 0
    while True:
        before = _commits(folders)
        code = child.run(argv)
        code = 128 - code if code < 0 else code  # killed by a signal: as a shell counts it
        if child.signals == 1 and code in (128 + signal.SIGTERM, 128 + signal.SIGINT):
            code = Exit.PREEMPTED  # ours, before the trainer could answer it, so the line is ours, too
            _say(child.stopped())
        if code in FINAL or child.stopping.is_set():
            return code
        progress = bool(_commits(folders) - before)
        fruitless = 0 if progress else fruitless + 1
        if fruitless > max_restarts:
            _say(
                f"{describe(code)}; {words.count(fruitless, 'time')} in a row without a new checkpoint: giving up"
            )
            return code
        pause = min(backoff_s * 2 ** max(0, fruitless - 1), backoff_max_s)
        pause = 0.0 if progress and code == Exit.PREEMPTED else pause
        _say(
            f"{describe(code)}; starting it again in {pause:g} s "
            f"({fruitless} of {words.count(max_restarts, 'restart')} without a new checkpoint)"
        )
        if child.stopping.wait(pause):
            _say(child.stopped())
            return code


def describe(code: int) -> str:
    """What an exit code means, for people."""
    if code > 128 and code - 128 in set(signal.Signals):
        return f"the run was killed by {signal.Signals(code - 128).name}"
    if code in set(Exit):
        return f"the run ended with exit code {code} ({Exit(code).name.lower()})"
    return f"the run ended with exit code {code}"


def _commits(folders: Sequence[epath.PathLike]) -> set[tuple[str, int]]:
    """Path and time of each snapshot: a step comes twice after a fall-back past a damaged one."""
    found: set[tuple[str, int]] = set()
    for folder in folders:
        with contextlib.suppress(OSError, BlockedFile):
            for step in snapshot.snapshot_steps(folder):
                path = epath.Path(folder) / str(step)
                found.add((str(path), int(os.stat(path / snapshot.COMMIT).st_mtime)))
    return found


def _say(text: str) -> None:
    print(f"supervise: {text}", file=streams.guard(sys.stderr), flush=True)
