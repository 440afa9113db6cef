"""A save whose folder goes away while it is written: what is said of it, and what is left in its place."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable

from etils import epath

GONE = re.compile(
    r"NOT_FOUND|No ArrayMetadata found|missing .zarray|No such file"
)  # in the words of TensorStore and Orbax
MOST = 300  # characters of a cause


class Away(OSError):
    """The run directory is not in its place; the text says what became of it."""


def require_place(away: Callable[[], str]) -> None:
    """Raises Away where `away` has something to say of the run directory."""
    if why := away():
        raise Away(why)


def cause(error: Exception, away: str) -> str:
    """Why a save failed, in one line: a directory that is away, files that somebody removed, else the error itself."""
    if away:
        return away
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, FileNotFoundError) or GONE.search(text):
        return "a part of it was removed while it was being written"
    return text if len(text) < MOST else f"{text[:100]} ... {text[-200:]}"


def clear_place(directory: epath.Path) -> None:
    """Removes the empty folders that a save has made anew at the place of a run directory that is away."""
    with contextlib.suppress(OSError):
        for folder in (directory, directory.parent):
            folder.rmdir()  # which refuses a folder that holds anything
