"""Locks on files that go with the process that holds them, on every system."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dreamworld.errors import UserError
from dreamworld.logging.obstacles import Place, obstacle
from dreamworld.reading import require_inside
from dreamworld.writing import is_shared

fcntl: Any
msvcrt: Any
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None
    import msvcrt

OTHER = "choose another folder"
PLACE = 1 << 30  # Windows locks bytes, and nobody reads a locked one: one far behind the text


@contextlib.contextmanager
def hold(path: Path, refused: str) -> Iterator[None]:
    """Holds a lock file; UserError `refused`, with {holder} filled in, when another process has it.

    The lock is the kernel's: it goes with the process, so that a killed one leaves nothing to clean up.
    """
    advice = f"remove it, or {OTHER}"
    if why := obstacle(path):
        raise UserError(f"{path} {why}; {advice}")
    require_inside(path.parent, path)  # what a link names would be emptied
    is_new = not os.path.lexists(path)
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        if error.errno in (
            errno.EROFS,
            errno.EACCES,
            errno.EPERM,
            errno.ENOSPC,
        ):  # removing it would fail, too
            advice = "make the folder writable, or choose another one"
        raise UserError(f"{path} can't be opened ({error.strerror}); {advice}") from None
    try:
        if not _take(file):
            holder = os.read(file, 200).decode("utf-8", "replace").strip() or "another process"
            raise UserError(refused.replace("{holder}", holder))
        try:
            _sign(file)
        except OSError as error:
            if is_new:
                path.unlink(missing_ok=True)
            raise UserError(f"{path} can't be written ({error.strerror}); make room, or {OTHER}") from error
        try:
            yield
        except BaseException:
            if is_new:
                _leave_nothing(path)
            raise
    finally:
        os.close(file)


def _leave_nothing(path: Path) -> None:
    """Removes a lock that is alone in its folder: what it was taken for did not begin."""
    with contextlib.suppress(OSError):
        if os.listdir(path.parent) == [path.name]:
            path.unlink()


def _sign(file: int) -> None:
    """Writes into a lock who holds it."""
    if not is_shared(os.fstat(file)):  # else its other name may be anybody's file
        os.ftruncate(file, 0)
        os.write(file, f"pid {os.getpid()} on {socket.gethostname()}\n".encode())


def _take(file: int) -> bool:
    """Whether the lock was free; the file's position is 0 afterwards."""
    try:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        os.lseek(file, PLACE, os.SEEK_SET)
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        return True
    except (BlockingIOError, PermissionError):
        return False
    finally:
        os.lseek(file, 0, os.SEEK_SET)


class Hold:
    """A run directory that is held by this process."""

    def __init__(self, path: Path, stack: contextlib.ExitStack):
        self._lock, self._stack = path / ".lock", stack
        self._refused = f"--logdir {path}: in use by a training ({{holder}}); wait, or stop it"
        stack.enter_context(hold(self._lock, self._refused))
        self.place, self._file = Place(path), Place(self._lock)
        for place in (self.place, self._file):
            stack.callback(place.close)

    def renew(self) -> None:
        """Makes the lock anew where its name leads to another file or nowhere."""
        if not self._file.away():
            return
        if why := obstacle(self._lock):
            raise OSError(f"it {why}")
        self._stack.enter_context(hold(self._lock, self._refused))
        self._file = Place(self._lock)
        self._stack.callback(self._file.close)
