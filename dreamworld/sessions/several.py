"""What seeds that train together share: the progress line, and the snapshots that none of them deletes alone."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from dreamworld.logging.progress import Progress
from dreamworld.sessions.job import Job
from dreamworld.training.group import shared_steps


def keeper(job: Job) -> Callable[[], list[int]]:
    """The steps that every seed has a snapshot of: no seed deletes the newest of them before all have a newer one."""
    folders = [rundir.checkpoints for rundir in job.rundirs]
    return lambda: shared_steps(folders, job.config.run.keep_last)


class SeedProgress:
    """One seed's part of the common progress line: the first seed's numbers are shown, all messages are."""

    def __init__(self, progress: Progress, name: str, *, shown: bool):
        self._progress, self._name, self._shown = progress, name, shown
        self.speed = progress.speed

    def pause(self, name: str, text: str = "") -> contextlib.AbstractContextManager[None]:
        """Stops the common clock, for each seed in turn; a compilation is one for all of them."""
        if not self._shown and name == "compile":
            return contextlib.nullcontext()
        return self._progress.pause(name, text and f"{self._name}: {text}")

    def update(self, step: float, updates: int, last_return: float, mean_return: float) -> None:
        """Shows the numbers of the first seed."""
        if self._shown:
            self._progress.update(step, updates, last_return, mean_return)

    def message(self, text: str) -> None:
        """A line above, with the seed's name."""
        self._progress.message(f"{self._name}: {text}")
