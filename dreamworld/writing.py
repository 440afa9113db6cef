"""Writing files into folders that anybody may have filled: never through a link that lies there already.

A link in the place of a file leads to somebody's other file (symbolic), or is one (hard, as in a copy by `cp -al`).
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator, Mapping
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
    """Replaces a file, or a link in its place, atomically; UTF-8. An OSError names this file and no other."""
    replace_all(path.parent, {path.name: content})


def replace_all(folder: Path, files: Mapping[str, bytes | str]) -> None:
    """Replaces files of a folder, by their paths below it: all of them, or none where one can't be written."""
    parts: dict[Path, Path] = {}
    path = folder
    try:
        for name, content in files.items():
            path = folder / name
            parts[path] = path.with_name(f".{path.name}.{os.getpid()}")
            _write(parts[path], content)
        for path, part in parts.items():
            os.replace(part, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        for part in parts.values():
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)


def is_part(name: str) -> bool:
    """Whether a file is called like one that a process which was killed could not finish."""
    return re.fullmatch(r"\..+\.[0-9]+", name) is not None


def _write(part: Path, content: bytes | str) -> None:
    part.unlink(missing_ok=True)  # of a process that died, or a link
    with open(part, "xb") as file:
        file.write(content.encode("utf-8") if isinstance(content, str) else content)


@contextlib.contextmanager
def making(folder: Path) -> Iterator[None]:
    """Makes a folder and those above it. If what follows fails, those that it made are removed as far as empty."""
    made: list[Path] = []
    try:
        _make(folder, made)
        yield
    except BaseException:
        _unmake(made)
        raise


def check_writable(folder: Path) -> None:
    """OSError unless a folder can be made there, or the one that is there written to; leaves nothing."""
    made: list[Path] = []
    try:
        _make(folder, made)
        if not os.access(folder, os.W_OK):
            raise OSError("no permission to write there")
    finally:
        _unmake(made)


def _make(folder: Path, made: list[Path]) -> None:
    """Makes a folder and those above it, and adds to `made` those that were not there."""
    for path in (*reversed(folder.parents), folder):
        if not os.path.lexists(path):
            path.mkdir(exist_ok=True)
            made.append(path)
    folder.mkdir(exist_ok=True)  # an error where something else is in its place


def _unmake(made: list[Path]) -> None:
    for path in reversed(made):
        with contextlib.suppress(OSError):
            path.rmdir()
