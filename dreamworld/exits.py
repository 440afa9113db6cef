"""Exit codes of the commands; docs/reliability.md says what to do after each."""

from __future__ import annotations

import enum
import signal


class Exit(enum.IntEnum):
    """Those of `dreamworld train`; other commands use those of them that fit."""

    OK = 0  # finished
    FAILURE = 1  # an exception, with its traceback
    USAGE = 2  # a UserError: the command, a file or the configuration has to be mended first
    PREEMPTED = (
        75  # stopped by SIGTERM, SIGINT or SIGHUP with a complete checkpoint; the same command continues
    )
    NUMERICAL = 76  # stopped by the numerical guard, with a checkpoint of the last finite state
    OVERDUE = 77  # stopped by a signal, but not within run.grace_s; the checkpoint before is the newest
    HANGUP = 129  # SIGHUP (a closed terminal), where no later command goes on
    INTERRUPTED = 130  # Ctrl-C, of a training the second one: stopped at once, nothing was saved
    TERMINATED = 143  # SIGTERM, where no later command goes on


def of_signal(name: str) -> Exit:
    """The exit code of a command that a signal (`SIGINT`, `SIGTERM`, `SIGHUP`) ended."""
    return {"SIGTERM": Exit.TERMINATED, "SIGHUP": Exit.HANGUP}.get(name, Exit.INTERRUPTED)


def stopping() -> tuple[signal.Signals, ...]:
    """The signals that ask a command to stop: SIGTERM, Ctrl-C, a closed terminal if that is not ignored (`nohup`)."""
    found = (signal.SIGTERM, signal.SIGINT)
    hangup = getattr(signal, "SIGHUP", None)  # not on Windows
    return found if hangup is None or signal.getsignal(hangup) == signal.SIG_IGN else (*found, hangup)
