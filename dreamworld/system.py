"""What differs between operating systems, in one place: importing it works on all of them.

Linux is what dreamworld is developed and tested on. Elsewhere these functions do without what is not there.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

try:
    import resource as _resource
except ImportError:  # Windows
    _resource: ModuleType | None = None

WORKERS = hasattr(os, "fork") and hasattr(signal, "SIGUSR1") and sys.platform != "win32"
"""Whether environments can run in processes of their own: these inherit descriptors, which Windows has not."""


def signals(*names: str) -> tuple[signal.Signals, ...]:
    """Those of these signals that exist here."""
    return tuple(getattr(signal, name) for name in names if hasattr(signal, name))


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


def peak_memory_bytes() -> int:
    """The most memory that this process has had so far; 0 where the system does not tell."""
    if _resource is None:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return _resource.getrusage(_resource.RUSAGE_SELF).ru_maxrss * unit
