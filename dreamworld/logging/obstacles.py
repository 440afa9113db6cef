"""What is in the way of a run: folders in place of files, links that lead nowhere, a directory that is gone."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def obstacle(path: Path, *, folder: bool = False) -> str:
    """Why `path` can't be the file (or folder) that it should be; empty where it can, or where nothing is yet."""
    if not os.path.lexists(path):
        return ""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        if path.is_symlink():
            return f"is a link to {os.readlink(path)}, which leads nowhere ({error.strerror})"
        return f"can't be read ({error.strerror})"
    if folder:
        return "" if stat.S_ISDIR(mode) else "is not a folder"
    if stat.S_ISDIR(mode):
        return "is a folder"
    return "" if stat.S_ISREG(mode) else "is not a file"


class Place:
    """A directory known by what it is and not by its name: it tells when the name leads elsewhere."""

    def __init__(self, path: Path):
        self.path = path
        try:
            self._descriptor = os.open(path, os.O_RDONLY)
        except OSError:  # systems that open no directories
            self._descriptor = -1

    def away(self) -> str:
        """Empty while the directory is where it was; else what became of it."""
        if self._descriptor < 0:
            return ""
        try:
            if os.path.samestat(os.stat(self.path), os.fstat(self._descriptor)):
                return ""
        except FileNotFoundError:
            pass
        except OSError as error:
            return f"the run directory {self.path} can't be reached ({error.strerror})"
        if self._removed():
            return f"the run directory {self.path} was removed"
        return f"the run directory {self.path} was moved to {self.now() or 'another place'}"

    def now(self) -> Path | None:
        """Where the directory is, as far as the system tells; None where it was removed."""
        try:
            return None if self._removed() else Path(os.readlink(f"/proc/self/fd/{self._descriptor}"))
        except OSError:
            return None

    def _removed(self) -> bool:
        return os.fstat(self._descriptor).st_nlink == 0

    def close(self) -> None:
        """Releases the directory."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
