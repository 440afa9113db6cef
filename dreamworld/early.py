"""What signals that stop a command do before it has handlers of its own: one line and a documented exit code.

Importing, parsing, compiling and starting environments take seconds, in which nothing is trained and nothing has to
be saved. This module is imported first, so it imports next to nothing itself.
"""

from __future__ import annotations

import atexit
import os
import select
import signal
import sys
import threading

from dreamworld.exits import Exit, of_signal, stopping

AGAIN = ("train", "sweep")  # the same command goes on
GRACE_S = 1.0  # given to the main thread to answer a signal


class Early:
    """Leaves the process where a signal finds it: from the main thread, or a second later from beside it.

    The second way is for a long call that runs no Python (a compilation). Nothing is unwound: an exception out of
    the middle of such a call, or an interpreter that tidies up under threads that compute, may crash or never end;
    and what is left is what `kill -9` leaves, which everything here survives. Handlers that are installed later take
    over; while they are in place this does nothing.
    """

    def __init__(self, command: str):
        self.reason: str = ""
        self._again = command in AGAIN
        self._code = 0
        self._told = False
        self._over: int | None = None  # the exit status, once nothing is left to do
        self._pipe = os.pipe()

    def install(self) -> None:
        """Takes the signals that are not ignored; call it in the main thread."""
        numbers = [n for n in stopping() if signal.getsignal(n) is not signal.SIG_IGN]
        if hasattr(os, "set_blocking"):
            os.set_blocking(self._pipe[1], False)
        signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        for number in numbers:
            signal.signal(number, self._handle)
        atexit.register(self._ignore, numbers)
        threading.Thread(target=self._watch, args=(numbers,), name="early stop", daemon=True).start()

    def end(self, status: int) -> int:
        """Records the exit status of the command, which no later signal changes, and returns it."""
        self._over = status or 0
        return self._over

    def interrupt(self) -> None:
        """Ends the process as a second Ctrl-C does."""
        self.reason, self._told = self.reason or "SIGINT", True
        try:
            _write(2, b"interrupted\n")
        finally:
            os._exit(Exit.INTERRUPTED)

    def _ignore(self, numbers: list[signal.Signals]) -> None:
        """The last thing at exit: an interpreter that tidies up answers no signal, and would die of it."""
        for number in numbers:
            if signal.getsignal(number) == self._handle:
                signal.signal(number, signal.SIG_IGN)

    def _handle(self, number: int, frame: object) -> None:
        if not self.reason:
            self._note(number)
        self._leave(self._code)

    def _note(self, number: int) -> None:
        self._code = Exit.PREEMPTED if self._again else of_signal(signal.Signals(number).name)
        self.reason = signal.Signals(number).name

    def _watch(self, numbers: list[signal.Signals]) -> None:
        if hasattr(signal, "pthread_sigmask"):  # so that the main thread gets them, or keeps them waiting
            signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
        done = threading.Event()
        while True:
            for number in os.read(self._pipe[0], 64):
                if number in numbers and signal.getsignal(number) == self._handle:
                    done.wait(GRACE_S)
                    if not self.reason:
                        self._note(number)
                    self._leave(self._code)

    def _leave(self, code: int) -> None:
        try:
            self._tell()
        finally:
            os._exit(code if self._over is None else self._over)

    def _tell(self) -> None:
        if self._told or self._over is not None:
            return
        self._told = True
        text = f"stopped by {self.reason}" + ("; the same command goes on" if self._again else "")
        try:  # past the stream, which the main thread may be writing to
            if sys.stderr is not None:
                _write(2, f"{text}\n".encode())
        except (OSError, ValueError):
            pass  # nobody can be told


def _write(descriptor: int, data: bytes) -> None:
    """Writes unless nobody reads."""
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        if not poll.poll(500):
            return
    os.write(descriptor, data)


def speak_utf8() -> None:
    """Starts the program anew in Python's UTF-8 mode where the locale knows ASCII only: names of files are UTF-8.

    Else no file could be named whose name a config, a plan or an option holds.
    """
    if sys.getfilesystemencoding() != "ascii" or os.environ.get("PYTHONUTF8") == "1" or not sys.executable:
        return
    try:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, "PYTHONUTF8": "1"})
    except OSError:
        return  # without it, what can't be named is one line


def run(command, main):  # type: ignore[no-untyped-def]  # `typing` and `collections.abc` would cost time here
    """Calls `main()`, which returns an exit status, as the command of a process; returns its exit status."""
    speak_utf8()
    early = Early(command)
    early.install()
    return early.end(main())


def run_script(command, main):  # type: ignore[no-untyped-def]
    """`run` of `main(argv)` with the arguments of this process, as `cli.run` calls it."""

    def call() -> int:
        from dreamworld import cli

        return cli.run(main, sys.argv[1:])

    return run(command, call)
