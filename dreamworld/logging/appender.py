"""Appending to the log files of a run: whole rows in one write, or nothing."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dreamworld import writing
from dreamworld.logging.rows import dumps

MAX_WAITING_BYTES = 64 << 20  # of a file that can't be written; what comes later is dropped


class Appender:
    """Appends to a file, each call in one write; what the disk does not take waits for the next call.

    `prepare` mends what an earlier session left; nothing is appended before it succeeded.
    """

    def __init__(self, path: Path, prepare: Callable[[], Any] | None = None):
        self.path = path
        self._prepare = prepare
        self._waiting = b""

    @property
    def waiting_bytes(self) -> int:
        """What could not be written so far."""
        return len(self._waiting)

    def prepare(self, prepare: Callable[[], Any]) -> None:
        """Sets what is done before the next write."""
        self._prepare = prepare

    def append(self, data: bytes) -> None:
        """Raises OSError when the disk does not take it; `data` then goes with the next call."""
        self.keep(data)
        self.flush()

    def keep(self, data: bytes) -> None:
        """Takes `data`, to be written by the next `flush`."""
        if len(self._waiting) + len(data) <= MAX_WAITING_BYTES:
            self._waiting += data

    def flush(self) -> None:
        """Writes what waits."""
        if self._prepare is not None:
            self._prepare()
            self._prepare = None
        if self._waiting:
            append_bytes(self.path, self._waiting)
            self._waiting = b""


def append_jsonl(path: Path, row: Mapping[str, Any]) -> None:
    """Appends one line in a single write, so that several processes may append to one file."""
    append_bytes(path, (dumps(row) + "\n").encode())


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """`append_jsonl` to a file whose last line `kill -9` may have cut: it ends there."""
    append_bytes(path, (b"" if ends_a_line(path) else b"\n") + (dumps(row) + "\n").encode())


def ends_a_line(path: Path) -> bool:
    """Whether nothing is cut at the end of the file."""
    try:
        with open(path, "rb", opener=_open) as file:
            return file.seek(0, os.SEEK_END) == 0 or (file.seek(-1, os.SEEK_END), file.read(1))[1] == b"\n"
    except OSError:
        return True


def append_bytes(path: Path, data: bytes) -> None:
    """Appends all of `data`, in a single write unless the disk fills up; or nothing, and raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        if writing.is_shared(os.stat(path)):  # a copy by hard links stays as it is
            writing.replace(path, path.read_bytes())
    with open(path, "ab", buffering=0, opener=_open) as file:
        written = 0
        try:
            while written < len(data):
                written += file.write(data[written:]) or 0
        except OSError:
            os.ftruncate(file.fileno(), os.fstat(file.fileno()).st_size - written)
            raise


def _open(path: str, flags: int) -> int:
    """Without waiting: a FIFO that nobody reads is an error."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o666)
