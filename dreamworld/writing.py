"""Writing files into folders that anybody may have filled: never through a link that lies there already.

A link in the place of a file leads to somebody's other file (symbolic), or is one (hard, as in a copy by `cp -al`).
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path


def is_shared(status: os.stat_result) -> bool:
    """Whether a file has another name, by which its content would change, too."""
    return stat.S_ISREG(status.st_mode) and status.st_nlink > 1


def clear(path: Path) -> Path:
    """Removes a link in the place of a file that is about to be written, and returns the path."""
    with contextlib.suppress(FileNotFoundError):
        status = os.lstat(path)
        if stat.S_ISLNK(status.st_mode) or is_shared(status):
            os.unlink(path)
    return path


def replace(path: Path, content: bytes | str) -> None:
    """Replaces a file, or a link in its place, atomically; UTF-8."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        part.unlink(missing_ok=True)  # of a process that died, or a link
        with open(part, "xb") as file:
            file.write(content.encode("utf-8") if isinstance(content, str) else content)
        os.replace(part, path)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise
