"""Standard streams whose writes never raise: what a stream does not take is kept, and written once it takes it.

A training says what it does on streams that can fail while it runs: a log on a full disk, a pipe whose reader has
left or has stopped reading, a terminal that is gone or that knows ASCII only. None of that may end the training.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import os
import select
import sys
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any, TextIO

from dreamworld import words

LIMIT_BYTES = 64 << 10  # of what waits; the oldest goes first
PATIENCE_S = 1.0  # for a reader that is slow; once it was too slow, nobody waits for it
PIECE_BYTES = 512  # POSIX: a pipe that is ready takes so many without blocking


class Guarded(io.TextIOBase):
    """A text stream in front of another one. Lines are written at once, the rest by `flush`; neither ever raises."""

    def __init__(self, stream: TextIO):
        self._stream = stream
        self._descriptor = own_descriptor(stream)
        self._waiting: deque[bytes] = deque()
        self._size = self._lost = 0
        self._fails = self._busy = False
        self._lock = threading.RLock()

    def write(self, text: str) -> int:
        """Takes all of `text`."""
        if not isinstance(text, str):
            raise TypeError(f"a text stream takes str, not {type(text).__name__}")
        data = text.encode(self.encoding, "backslashreplace")
        with self._lock:
            self._waiting.append(data)
            self._size += len(data)
            while self._size > LIMIT_BYTES and len(self._waiting) > 1:
                self._size -= len(self._waiting.popleft())
                self._lost += 1
            if "\n" in text or "\r" in text:
                self.flush()
        return len(text)

    def flush(self) -> None:
        """Writes what waits, as far as the stream takes it."""
        with self._lock:
            if self._busy:  # called by a signal handler in the middle of itself
                return
            self._busy = True
            try:
                self._drain()
                self._fails = False
            except Exception:  # whatever a stream of the user raises
                self._fails = True
            finally:
                self._busy = False

    def _drain(self) -> None:
        if self._lost and self._waiting:
            lost = words.count(self._lost, "earlier piece")
            note = f"[lost, because this stream did not take it: {lost} of output]\n"
            self._waiting.appendleft(note.encode(self.encoding, "backslashreplace"))
            self._size += len(self._waiting[0])
            self._lost = 0
        while self._waiting:
            sent = self._send(self._waiting[0])
            self._size -= sent
            self._waiting[0] = self._waiting[0][sent:]
            if not self._waiting[0]:
                self._waiting.popleft()

    def _send(self, data: bytes) -> int:
        """Writes the beginning of `data`; returns how much. Raises what the stream raises."""
        if self._descriptor is None:
            self._stream.write(data.decode(self.encoding, "backslashreplace"))
            self._stream.flush()
            return len(data)
        if not is_ready(self._descriptor, 0.0 if self._fails else PATIENCE_S):
            raise BlockingIOError
        return os.write(self._descriptor, data[:PIECE_BYTES])

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """That of the stream."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        """What the encoding can't say is escaped."""
        return "backslashreplace"

    def isatty(self) -> bool:
        """Whether the stream is a terminal; False for a closed one."""
        try:
            return bool(self._stream.isatty())
        except Exception:
            return False

    def fileno(self) -> int:
        """The descriptor of the stream."""
        return self._stream.fileno()

    def writable(self) -> bool:
        """It always is."""
        return True

    def finish(self) -> None:
        """`flush`, with patience once more."""
        self._fails = False
        self.flush()

    def close(self) -> None:
        """Writes what waits; the stream itself stays open."""
        self.finish()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def own_descriptor(stream: TextIO) -> int | None:
    """The file descriptor of a plain text file, to be written without its buffer; None for any other stream.

    What a buffer could not write stays in it, and would fail once more when the interpreter ends (exit code 120).
    """
    if not hasattr(select, "poll") or type(stream) is not io.TextIOWrapper:  # Windows
        return None
    try:
        stream.flush()
        return stream.fileno()
    except (OSError, ValueError):
        return None


def is_ready(descriptor: int, patience_s: float) -> bool:
    """Whether a write would not block, now or within `patience_s`; True also where it would fail at once."""
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(1000 * patience_s))


def is_broken(stream: TextIO) -> bool:
    """Whether a stream takes not even a line break."""
    try:
        stream.write("\n")
        stream.flush()
    except (OSError, ValueError):
        return True
    return False


def silence(stream: TextIO) -> None:
    """Leads a stream nowhere, with what waits in it: the interpreter writes that when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def guard(stream: TextIO | None) -> Guarded:
    """The stream, guarded; of None (a process that was started with the stream closed) one that leads nowhere."""
    if isinstance(stream, Guarded):
        return stream
    return Guarded(open(os.devnull, "w") if stream is None else stream)


@contextlib.contextmanager
def guarded(*names: str) -> Iterator[None]:
    """Guards `sys.stdout`, `sys.stderr` or both, by name, for a while."""
    open_standard_descriptors()
    before = {name: getattr(sys, name) for name in names}
    guards = {name: guard(stream) for name, stream in before.items()}
    for name, stream in guards.items():
        setattr(sys, name, stream)
    try:
        yield
    finally:
        for name, stream in guards.items():
            stream.finish()
            setattr(sys, name, before[name])


def guard_process(*names: str) -> None:
    """Guards the streams that the process was started with until it ends: what the interpreter writes last, too.

    Streams that somebody put in their place (a notebook, a test) are theirs.
    """
    open_standard_descriptors()
    for name in names:
        stream = getattr(sys, name)
        if stream is getattr(sys, f"__{name}__"):
            ours = guard(stream)
            setattr(sys, name, ours)
            atexit.register(ours.finish)


def guard_closed(name: str) -> None:
    """`guard_process` for a stream that the process was started without."""
    if getattr(sys, name) is None:
        guard_process(name)


def escape(name: str) -> None:
    """Lets a stream that the process was started with escape what its encoding can't say, in place of an error."""
    stream = getattr(sys, name)
    if type(stream) is io.TextIOWrapper and stream is getattr(sys, f"__{name}__"):
        stream.reconfigure(errors="backslashreplace")


def open_standard_descriptors() -> None:
    """Leads closed ones nowhere: else the next file that is opened gets the number, and all stray output with it."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
