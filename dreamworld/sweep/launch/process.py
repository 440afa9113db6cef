"""One run as a process of its own: its log, its cores, its end."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from dreamworld.reading import BadFile, require_inside

POLL_S = 0.1
PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def train_command() -> tuple[str, ...]:
    """What runs a training in this installation."""
    return (sys.executable, "-m", "dreamworld", "train")


def start(
    command: Sequence[str], logdir: Path, *, env: Mapping[str, str] | None = None, cores: Sequence[int] = ()
) -> subprocess.Popen[bytes]:
    """Starts `command` with its output appended to `logdir/log.txt`, bound to `cores` where given.

    It has a process group of its own (a Ctrl-C on the terminal does not reach it), gets SIGTERM when this
    process dies, and ignores SIGUSR2, by which SLURM announces a time limit to every process of a job.
    """

    def prepare() -> None:
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        if cores and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, cores)
        if _LIBC is not None:
            _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

    logdir.mkdir(parents=True, exist_ok=True)
    with open_log(logdir / "log.txt") as log:
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        with contextlib.suppress(OSError):  # a full disk: the run itself can wait for room
            log.write(f"# {stamp} {shlex.join(command)}\n".encode())
        return subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            process_group=0,
            preexec_fn=prepare,
        )


def open_log(path: Path) -> BinaryIO:
    """The log, to be appended to; one that leads nowhere where it can't be: no run fails for want of its log."""
    try:
        require_inside(path.parent, path)
        return open(path, "ab", buffering=0)
    except (OSError, BadFile):
        return open(os.devnull, "ab", buffering=0)


def stop(processes: Sequence[subprocess.Popen[bytes]], grace_s: float) -> None:
    """SIGTERM to each; SIGKILL to the process group of what is left after `grace_s`."""
    for process in processes:
        if not has_ended(process):
            os.kill(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while not all(map(has_ended, processes)) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    for process in processes:
        if not has_ended(process):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its environment workers, too


def has_ended(process: subprocess.Popen[bytes]) -> bool:
    """As `poll() is not None`, but right also in a signal handler that interrupted `wait()` and its lock."""
    if process.returncode is not None:
        return True
    if not hasattr(os, "waitid"):  # macOS before Python 3.13
        return process.poll() is not None
    try:
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def describe_exit(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return f"exit status {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"lost (code {code})"
