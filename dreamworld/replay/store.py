"""The folder that a replay is saved to: which of its files are in use, and the names of the next ones."""

from __future__ import annotations

import re
from pathlib import Path

from dreamworld.replay.files import SaveError, list_files, sync_path

NAME = re.compile(r"(rows|latents)-(\d{8})\.dw[rl](\.tmp)?")


class Store:
    """The files of one replay in one directory."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.journals: list[str] = []  # latent files, oldest first
        self.journal_rows = 0  # rows in them, superseded ones included
        numbers = [int(m[2]) for p in list_files(directory) if (m := NAME.fullmatch(p.name))]
        self.unsynced: list[Path] = []  # written without fsync: chunks that were spilled between saves
        self.next_number = max(numbers, default=-1) + 1

    def sync(self) -> None:
        """Makes every file survive a power loss; raises SaveError."""
        try:
            for path in [*self.unsynced, self.directory] if self.unsynced else []:
                sync_path(path)
        except OSError as error:
            raise SaveError(
                error.errno, f"replay was not saved: {error.strerror}", str(self.directory)
            ) from error
        self.unsynced = []

    def new_path(self, kind: str) -> Path:
        """A name that was never used in this directory."""
        self.next_number += 1
        return self.directory / f"{kind}-{self.next_number - 1:08d}.dw{kind[0]}"
