"""Append-once files of checksummed sections, closed by a table of contents. Nothing in them can run code.

    magic (8 bytes) | sections … | table (JSON) | crc32 of the table (4) | its length (8) | end mark (8)

A file appears under its name only when complete: written under a temporary name, fsync, rename. The table
gives offset, length and CRC-32 of every section; whatever differs from what was written is reported as
`Damaged`.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from dreamworld import system
from dreamworld.reading import BadFile, BlockedFile, open_file, parse_json, require_inside
from dreamworld.replay import patience
from dreamworld.replay.patience import Damaged

__all__ = [
    "Damaged",
    "FileWriter",
    "SaveError",
    "quarantine",
    "read_section",
    "read_table",
    "report",
    "sync_path",
    "understood",
]

MAGIC, END = b"DWREPLY1", b"DWREPEND"
TRAILER = struct.Struct("<IQ8s")
TEMPORARY = ".tmp"
QUARANTINE = "quarantine"

Section = list[int]  # offset, bytes, crc32


class SaveError(OSError):
    """Replay could not be written; what was saved before is intact."""


class FileWriter:
    """Writes one file; as a context manager it leaves nothing behind when anything goes wrong."""

    def __init__(self, path: Path):
        self.path, self.temporary = path, path.with_name(path.name + TEMPORARY)
        self.file: BinaryIO | None = None
        self.offset = 0
        self.closed = False

    def __enter__(self) -> FileWriter:
        try:
            self.path.parent.mkdir(exist_ok=True)  # somebody may have removed it, but never more than that
            self.temporary.unlink(missing_ok=True)  # of a process that died, or a link
            self.file = open(self.temporary, "xb")
            self._write(MAGIC)
        except OSError as error:
            self._abandon(error)
        return self

    def section(self, data: bytes | np.ndarray) -> Section:
        """Appends bytes; returns where they are and their checksum."""
        view = np.ascontiguousarray(data).data.cast("B") if isinstance(data, np.ndarray) else data
        section = [self.offset, len(view), zlib.crc32(view)]
        try:
            self._write(view)
        except OSError as error:
            self._abandon(error)
        return section

    def close(self, table: dict[str, Any], sync: bool = True) -> int:
        """Writes the table and gives the file its name; returns its size. Unless `sync`, sync it later."""
        text = json.dumps(table, separators=(",", ":")).encode()
        assert self.file is not None
        try:
            self._write(text)
            self._write(TRAILER.pack(zlib.crc32(text), len(text), END))
            self.file.flush()
            if sync:
                os.fsync(self.file.fileno())
            self.file.close()
            os.replace(self.temporary, self.path)
            if sync:
                sync_path(self.path.parent)
        except OSError as error:
            self._abandon(error)
        self.closed = True
        return self.offset

    def __exit__(self, kind: object, *_: object) -> None:
        if not self.closed:
            self._discard()

    def _write(self, data: bytes | memoryview) -> None:
        assert self.file is not None
        self.file.write(data)
        self.offset += len(data)

    def _abandon(self, error: OSError) -> None:
        self._discard()
        raise SaveError(
            error.errno, f"replay was not saved: {error.strerror or error}", str(self.path)
        ) from error

    def _discard(self) -> None:
        if self.file is not None:
            with contextlib.suppress(OSError):  # the buffered rest did not fit either
                self.file.close()
        with contextlib.suppress(OSError):
            self.temporary.unlink()


def read_table(path: Path) -> tuple[Any, int]:
    """The table of contents of a file, as JSON made it, and the file's size; raises Damaged or BlockedFile."""
    return patience.read(lambda: _read_table(path), path)


def _read_table(path: Path) -> tuple[Any, int]:
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size < len(MAGIC) + TRAILER.size or file.read(len(MAGIC)) != MAGIC:
            raise Damaged("is not a replay file, or its beginning is damaged")
        file.seek(size - TRAILER.size)
        crc, length, end = TRAILER.unpack(file.read(TRAILER.size))
        if end != END or length > size - TRAILER.size - len(MAGIC):
            raise Damaged("is truncated or its end is damaged")
        file.seek(size - TRAILER.size - length)
        text = file.read(length)
        if zlib.crc32(text) != crc:
            raise Damaged("has a damaged table of contents")
        return parse_json(text, path), size


def read_section(file: BinaryIO, section: Section, path: Path = Path()) -> bytes:
    """The bytes of one section of `file`, which was opened at `path`, checked; raises Damaged or BlockedFile."""
    offset, length, crc = section

    def read() -> bytes:
        file.seek(offset)
        return file.read(length)

    data = patience.read(read, path)
    if len(data) != length or zlib.crc32(data) != crc:
        raise Damaged(f"has damaged bytes between {offset} and {offset + length}")
    return data


def sync_path(path: Path) -> None:
    """Makes the content of a file, or the renames in a directory, survive a power loss."""
    system.sync(path)


def quarantine(path: Path) -> bool:
    """Moves a damaged file out of the way, keeping it for inspection; returns whether that was possible."""
    target = path.parent / QUARANTINE / path.name
    try:
        require_inside(path.parent, target.parent)
        if not os.path.lexists(path):
            return False
        target.parent.mkdir(exist_ok=True)
        os.replace(path, target)
    except (OSError, BadFile):
        return False
    return True


def list_files(directory: Path) -> list[Path]:
    """The files of a replay's folder, those in quarantine included; none where there is no such folder."""
    folders = [directory, *([] if (directory / QUARANTINE).is_symlink() else [directory / QUARANTINE])]
    return [path for folder in folders if os.path.isdir(folder) for path in folder.iterdir()]


@contextlib.contextmanager
def understood(what: str) -> Iterator[None]:
    """Makes Damaged of what goes wrong with content that is not as it was written; BlockedFile stays as it is."""
    try:
        yield
    except BlockedFile:
        raise
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise Damaged(f"{what} ({error!r})") from None


def report(path: Path, error: Damaged) -> str:
    """The loss of a file in words; it goes to quarantine."""
    return f"{path.name} {error}" + (f"; moved to {QUARANTINE}/" if quarantine(path) else "")
