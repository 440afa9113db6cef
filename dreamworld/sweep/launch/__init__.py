"""Where runs are executed: what the launchers share, and how one is chosen by name."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Protocol

from dreamworld.sweep.plan import Job
from dreamworld.sweep.spec import Spec


class Launcher(Protocol):
    """Starts runs as processes somewhere and tells which have ended."""

    limit: int  # runs that may be started before one has ended
    slots: int  # runs that work at a time, for the cost estimate
    about: str  # where and with what, in words
    detached: bool  # runs go on without this process

    def start(self, job: Job) -> None:
        """Starts a run, or puts it in line."""
        ...

    def poll(self) -> list[tuple[Job, int]]:
        """Runs that have ended since the last call, with their exit codes; a signal's is negative."""
        ...

    def stop(self, grace_s: float) -> None:
        """Asks every run to save and end, and kills those that take longer than `grace_s`."""
        ...

    def close(self) -> None:
        """Gives back what the launcher itself holds; runs are left alone."""
        ...


def make_launcher(spec: Spec, jobs: int, command: Sequence[str]) -> Launcher:
    """The launcher that `spec` names for `jobs` runs of `command`; UserError where it is not usable here."""
    module = importlib.import_module(f"dreamworld.sweep.launch.{spec.launcher}")
    return module.make(spec, jobs, tuple(command))
