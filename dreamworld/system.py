"""What differs between operating systems, in one place: importing it works on all of them.

Linux is what dreamworld is developed and tested on. Elsewhere these functions do without what is not there.
"""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from dreamworld.errors import UserError

try:
    import resource as _resource
except ImportError:  # Windows
    _resource: ModuleType | None = None


def is_posix() -> bool:
    """Whether processes inherit descriptors and groups, and answer signals: Linux and macOS, not Windows."""
    return hasattr(os, "fork") and sys.platform != "win32"


def require_posix(what: str, instead: str) -> None:
    """Raises UserError where `what` is not supported on this system."""
    if not is_posix():
        raise UserError(f"{what} is not supported on this system (Windows): {instead}")


def own_group() -> dict[str, Any]:
    """Options of `subprocess.Popen` for a process that a Ctrl-C on the terminal does not reach."""
    if hasattr(os, "setpgid"):
        return {"process_group": 0}
    return {"creationflags": 0x00000200}  # CREATE_NEW_PROCESS_GROUP of Windows


@contextlib.contextmanager
def held(*numbers: signal.Signals) -> Iterator[None]:
    """Keeps signals waiting meanwhile, where the system can; a process that is started so begins with them held."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def cores() -> list[int]:
    """Numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def is_private(status: os.stat_result) -> bool:
    """Whether a file is this user's alone; on Windows its folder, below the user's own, says that."""
    if not is_posix():
        return True
    return status.st_uid == os.geteuid() and not stat.S_IMODE(status.st_mode) & 0o077


def sync(path: str | os.PathLike[str]) -> None:
    """Makes the content of a file, or the names in a folder, survive a power loss, as far as the system can."""
    if not is_posix():  # which opens no folders, and syncs what may be written to
        if not os.path.isdir(path):
            _sync(path, os.O_RDWR)
        return
    _sync(path, os.O_RDONLY)


def _sync(path: str | os.PathLike[str], flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_alive(pid: int) -> bool:
    """Whether there is a process with this number on this machine."""
    if not is_posix():  # where signal 0 is no question but a Ctrl-C
        import psutil

        return psutil.pid_exists(pid)
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def peak_memory_bytes() -> int:
    """The most memory that this process has had so far; 0 where the system does not tell."""
    if _resource is None:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return _resource.getrusage(_resource.RUSAGE_SELF).ru_maxrss * unit
