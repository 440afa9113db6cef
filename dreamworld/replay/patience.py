"""Reading that tells damage from a system that does not give the data for the moment.

Replay drops what is damaged. An error that says nothing of the data (too many open files, no memory, no permission,
a server that does not answer) is therefore never taken for damage: what may pass is tried again for a while, and
what stays is raised as `BlockedFile`, which ends the run in one line and leaves every file where it is.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, TypeVar

from dreamworld.reading import BadFile, BlockedFile, MissingFile, open_file

T = TypeVar("T")

FIRST_PAUSE_S = 0.05  # doubles with each try
PATIENCE_S = 20.0  # in all; less than the time for a save after a signal

MISSING = {errno.ENOENT, errno.ENOTDIR}
OF_THE_DATA = MISSING | {
    getattr(errno, name)
    for name in (
        "EISDIR",
        "ELOOP",
        "EIO",
        "EBADMSG",
        "EUCLEAN",
    )  # EIO: a sector that can't be read, when it stays
    if hasattr(errno, name)
}
PASSING = {
    getattr(errno, name)
    for name in (
        *("EMFILE", "ENFILE", "ENOMEM", "ENOBUFS", "EAGAIN", "EINTR", "EBUSY", "EIO", "ESTALE", "ETIMEDOUT"),
        *("ENOTCONN", "ECONNRESET", "ECONNABORTED", "EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETUNREACH"),
        *("ENOLCK", "ENODEV", "EREMOTEIO", "EKEYEXPIRED", "ETXTBSY"),
    )
    if hasattr(errno, name)
}


class Damaged(Exception):
    """A file does not hold what was written: missing, truncated or altered."""


def read(action: Callable[[], T], path: Path, release: Callable[[], bool] = lambda: False) -> T:
    """What `action` returns, which reads `path`; tries again what may pass. Raises Damaged or BlockedFile."""
    try:
        return retried(action, release)
    except (BlockedFile, OSError) as error:
        raise _judged(error, path) from None
    except MissingFile:
        raise Damaged("is missing") from None
    except BadFile as error:
        raise Damaged(error.reason) from None


def retried(action: Callable[[], T], release: Callable[[], bool] = lambda: False) -> T:
    """What `action` returns; what may pass is tried again for a while, what stays is raised as it is.

    `release` closes a file that is not needed and returns whether there was one; it is called when no more files
    can be opened.
    """
    end, pause = time.monotonic() + PATIENCE_S, FIRST_PAUSE_S
    while True:
        try:
            return action()
        except (BlockedFile, OSError) as error:
            number = error.errno
            if number in (errno.EMFILE, errno.ENFILE) and release():
                continue
            if number not in PASSING or time.monotonic() >= end:
                raise
        time.sleep(pause)
        pause *= 2


def _judged(error: BlockedFile | OSError, path: Path) -> Exception:
    reason = error.reason if isinstance(error, BlockedFile) else f"can't be read: {error.strerror or error}"
    if error.errno in MISSING:
        return Damaged("is missing")
    if error.errno in OF_THE_DATA:
        return Damaged(reason)
    return error if isinstance(error, BlockedFile) else BlockedFile(path, error)


def open_data(path: Path, release: Callable[[], bool] = lambda: False) -> BinaryIO:
    """Opens a regular file to read. Raises Damaged or BlockedFile."""
    return read(lambda: open_file(path), path, release)
