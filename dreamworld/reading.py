"""Reading files that anybody may have written: regular files only, within limits, one line for what is wrong.

Every file of a run directory is read through this module. A file that is not what it should be raises `BadFile`,
whose text names the file and the reason in one line; it costs no more memory than a small multiple of its size.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from dreamworld import words
from dreamworld.errors import UserError
from dreamworld.text import is_control, printable

PathLike = str | os.PathLike[str]

MAX_JSON = 64 << 20  # bytes; the manifest of a replay of 10^6 chunks is half of it
MAX_STATUS = 1 << 20  # of files that hold a few numbers and a message
MAX_LINE = 1 << 20  # of a JSONL file
MAX_DEPTH = 100  # of nested JSON
MAX_DIGITS = 300  # of a number: more do not fit a float
INT64 = 1 << 63

LONG_NUMBER = re.compile(rb"\d{%d}|[eE][+]?\d{3}" % (MAX_DIGITS + 1))
_HALF_CHARACTER = re.compile(rb"\\u[dD][89a-fA-F]")
_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe (FIFO)", stat.S_IFSOCK: "a socket"}


class BadFile(UserError):
    """A file that does not hold what it should; `reason` is the text without the file's name."""

    def __init__(self, path: PathLike, reason: str):
        self.path, self.reason = path, printable(reason)
        super().__init__(f"{printable(path)}: {self.reason}")


class MissingFile(BadFile):
    """There is no such file."""


class BlockedFile(BadFile):
    """The system does not give the file, which says nothing of what it holds: permissions, too many open files."""

    def __init__(self, path: PathLike, error: OSError):
        self.errno = error.errno
        super().__init__(path, f"can't be read: {error.strerror or error}")


# --- files and names ---------------------------------------------------------------------------------------


def open_file(path: PathLike) -> BinaryIO:
    """Opens a regular file to read, and nothing else: a pipe would block for ever, a device may act."""
    try:
        _require_regular(path, os.stat(path).st_mode)
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        file = os.fdopen(os.open(path, flags | getattr(os, "O_CLOEXEC", 0)), "rb")
    except (FileNotFoundError, NotADirectoryError):
        if os.path.islink(path):
            raise BadFile(path, "is a link to nothing") from None
        raise MissingFile(path, "is missing (No such file)") from None
    except OSError as error:
        raise BlockedFile(path, error) from None
    except BadFile:
        raise
    except ValueError as error:  # a NUL in the name
        raise BadFile(path, str(error)) from None
    try:
        _require_regular(path, os.fstat(file.fileno()).st_mode)
    except BadFile:
        file.close()
        raise
    return file


def _require_regular(path: PathLike, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise BadFile(path, f"is {_KINDS.get(stat.S_IFMT(mode), 'a device')}, not a file")


def file_size(path: PathLike) -> int:
    """Length of a regular file in bytes."""
    with open_file(path) as file:
        return os.fstat(file.fileno()).st_size


def read_bytes(path: PathLike, limit: int = MAX_JSON) -> bytes:
    """The content of a regular file of at most `limit` bytes."""
    if "://" in str(path):  # a remote store of `etils.epath`
        return _read_remote(path, limit)
    with open_file(path) as file:
        try:
            data = file.read(limit + 1)
        except OSError as error:
            raise BlockedFile(path, error) from None
    if len(data) > limit:
        raise BadFile(path, f"is larger than {words.size(limit)}, which no such file is")
    return data


def _read_remote(path: Any, limit: int) -> bytes:
    try:
        if path.stat().length > limit:
            raise BadFile(path, f"is larger than {words.size(limit)}, which no such file is")
        return path.read_bytes()
    except FileNotFoundError:
        raise MissingFile(path, "is missing (No such file)") from None
    except OSError as error:
        raise BlockedFile(path, error) from None


def read_text(path: PathLike, limit: int = MAX_JSON) -> str:
    """The content of a file as UTF-8 text."""
    return decoded(read_bytes(path, limit), path)


def decoded(data: bytes, path: PathLike) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadFile(path, f"is not UTF-8 text (byte {error.start})") from None


def inside(root: PathLike, name: Any, *, folders: bool = False) -> Path:
    """The path of a file below `root` whose name was read from disk: BadFile unless it stays there.

    The name is a plain one (with `folders`, a relative path of plain ones), and neither it nor a folder on the
    way is a link that leads out of `root`.
    """
    parts = name.split("/") if isinstance(name, str) and folders else [name]
    for part in parts:
        if not isinstance(part, str) or part in ("", ".", "..") or len(part) > 255 or _has_odd(part):
            raise BadFile(root, f"a file is called {name!r:.100}, which is no name of a file in there")
    path = Path(root, *parts)
    require_inside(root, path)
    return path


def _has_odd(part: str) -> bool:
    return any(item in "/\\:" or is_control(item) for item in part)


def require_inside(root: PathLike, path: PathLike) -> None:
    """Raises BadFile where `path`, a file or folder below `root` or nothing yet, leads out of it by a link."""
    real, top = os.path.realpath(path), os.path.realpath(root)
    if real != top and not real.startswith(os.path.join(top, "")):
        raise BadFile(
            path, f"is a link that leaves {printable(root)}; a run is read and written in its folder only"
        )


# --- JSON --------------------------------------------------------------------------------------------------


def read_json(path: PathLike, limit: int = MAX_JSON) -> Any:
    """What a JSON file holds. NaN and infinities are taken, as Python writes them."""
    return parse_json(read_bytes(path, limit), path)


def parse_json(data: bytes, path: PathLike, *, finite: bool = False) -> Any:
    """What JSON text holds; `finite` refuses numbers that are NaN or infinite. `path` is named in errors."""
    hooks: dict[str, Any] = {"parse_constant": _refuse_constant} if finite else {}
    if LONG_NUMBER.search(data):
        hooks |= {"parse_int": _int, "parse_float": _finite_float if finite else float}
    try:
        value = json.loads(data.decode("utf-8"), **hooks)
        if data.count(b"[") + data.count(b"{") > MAX_DEPTH:
            _require_shallow(value)
        if _HALF_CHARACTER.search(data):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise BadFile(path, f"is nested more than {MAX_DEPTH} deep") from None
    except UnicodeError:
        raise BadFile(path, "is not UTF-8 text") from None
    except ValueError as error:
        raise BadFile(path, f"is not valid JSON: {error}") from None
    return value


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is no number")


def _int(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a number has {len(text)} digits")
    return int(text)


def _finite_float(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"the number {text:.20} is too large")
    return value


def _require_shallow(value: Any) -> None:
    """Raises RecursionError where lists and mappings are nested too deep for whoever walks them."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        inner = (item.values() if isinstance(item, dict) else item for item in level)
        level = [item for items in inner for item in items if isinstance(item, dict | list)]
        if not level:
            return
    raise RecursionError


def read_rows(path: PathLike) -> Iterator[dict[str, Any] | None]:
    """Rows of a JSONL file, None for each damaged line; a file that is missing has none. Raises BadFile."""
    try:
        file = open_file(path)
    except MissingFile:
        return
    with file:
        try:
            while line := file.readline(MAX_LINE):
                if len(line) == MAX_LINE and not line.endswith(b"\n"):
                    while (rest := file.readline(MAX_LINE)) and not rest.endswith(b"\n"):
                        pass
                    yield None
                elif line.strip():
                    yield parse_row(line)
        except OSError as error:
            raise BlockedFile(path, error) from None


def parse_row(line: bytes) -> dict[str, Any] | None:
    """One line of a JSONL file; None where it is no mapping, or holds what is never written."""
    try:
        row = parse_json(line, "", finite=True)
    except BadFile:
        return None
    return row if isinstance(row, dict) else None


def is_number(value: Any) -> bool:
    """Whether `value` is a finite number that fits a float and, if whole, 64 bits."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return -INT64 <= value < INT64 if isinstance(value, int) else math.isfinite(value)
