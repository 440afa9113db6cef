"""Exit codes of the commands; docs/reliability.md says what to do after each."""

from __future__ import annotations

import enum


class Exit(enum.IntEnum):
    """Those of `dreamworld train`; other commands use those of them that fit."""

    OK = 0  # finished
    FAILURE = 1  # an exception, with its traceback
    USAGE = 2  # a UserError: the command, a file or the configuration has to be mended first
    PREEMPTED = 75  # stopped by SIGTERM or SIGINT with a complete checkpoint; the same command continues
    NUMERICAL = 76  # stopped by the numerical guard, with a checkpoint of the last finite state
    OVERDUE = 77  # stopped by a signal, but not within run.grace_s; the checkpoint before is the newest
    INTERRUPTED = 130  # Ctrl-C, of a training the second one: stopped at once, nothing was saved
    TERMINATED = 143  # SIGTERM, where no later command goes on


def of_signal(name: str) -> Exit:
    """The exit code of a command that a signal (`SIGINT`, `SIGTERM`) ended."""
    return Exit.TERMINATED if name == "SIGTERM" else Exit.INTERRUPTED
