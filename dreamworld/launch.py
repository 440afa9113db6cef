"""What has to be decided before the process starts: huge pages for memory.

XLA on CPU maps its temporary arrays anew at every call, gigabytes of them, and the kernel hands them out in pages
of 4 KB unless the allocator asks for transparent huge pages. glibc (2.35 and newer) reads that wish from
GLIBC_TUNABLES when the program starts, so the program starts itself once more with it set.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import sys

from dreamworld.exits import stopping

SWITCH = "DREAMWORLD_HUGEPAGES"
TUNABLES = "GLIBC_TUNABLES"
HUGE_PAGES = "glibc.malloc.hugetlb=1"
# Holds the caller's GLIBC_TUNABLES while the program starts again.
RESTARTED = "DREAMWORLD_RESTARTED_FROM"
SETTING = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")


def use_huge_pages() -> None:
    """Replaces the process by itself with huge pages on, where that is possible and not done; keeps the pid.

    Child processes are not affected: the variable is put back once the program has started.
    """
    if RESTARTED in os.environ:
        before = os.environ.pop(RESTARTED)
        os.environ.pop(TUNABLES)
        if before:
            os.environ[TUNABLES] = before
        _hold_signals(signal.SIG_UNBLOCK)
    elif wanted():
        before = os.environ.get(TUNABLES, "")
        tunables = f"{before}:{HUGE_PAGES}" if before else HUGE_PAGES
        for stream in filter(None, (sys.stdout, sys.stderr)):  # None: it was closed when the program started
            with contextlib.suppress(OSError):
                stream.flush()
        _hold_signals(signal.SIG_BLOCK)  # until the program that starts can answer them
        try:
            os.execve(
                sys.executable,
                [sys.executable, *sys.orig_argv[1:]],
                {**os.environ, RESTARTED: before, TUNABLES: tunables},
            )
        finally:  # it could not be started
            _hold_signals(signal.SIG_UNBLOCK)


def _hold_signals(how: int) -> None:
    signal.pthread_sigmask(how, stopping())


def wanted() -> bool:
    """Whether restarting would turn huge pages on: Linux that leaves it to programs, glibc that can ask."""
    if sys.platform != "linux" or not sys.executable or os.environ.get(SWITCH, "1") == "0":
        return False
    if "glibc.malloc.hugetlb" in os.environ.get(TUNABLES, ""):
        return False
    try:
        on_request = "[madvise]" in SETTING.read_text()
    except OSError:
        return False
    return on_request and glibc_version() >= (2, 35)


def glibc_version() -> tuple[int, ...]:
    """Such as (2, 36); empty for another C library."""
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (OSError, ValueError):
        return ()
    numbers = version.split(".")
    return tuple(map(int, numbers)) if name == "glibc" and all(map(str.isdigit, numbers)) else ()
