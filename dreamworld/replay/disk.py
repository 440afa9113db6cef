"""Observations that stay in files: a `pread` per window, column and piece, each row checked by CRC-32."""

from __future__ import annotations

import os
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dreamworld.replay.files import Damaged

OPEN_FILES = 128  # well below the usual limit of 1024 descriptors


class Piece(NamedTuple):
    """Rows of a chunk within one file."""

    path: Path
    first: int  # offset in the chunk
    rows: int
    columns: tuple[int, ...]  # file offset of each column
    sums: np.ndarray  # [columns, rows] uint32, CRC-32 of each row


class FileCache:
    """Open descriptors, least recently used closed first."""

    def __init__(self) -> None:
        self.descriptors: OrderedDict[Path, int] = OrderedDict()

    def get(self, path: Path) -> int:
        """A descriptor to read `path`; raises Damaged."""
        if path in self.descriptors:
            self.descriptors.move_to_end(path)
            return self.descriptors[path]
        while len(self.descriptors) >= OPEN_FILES:
            os.close(self.descriptors.popitem(last=False)[1])
        try:
            self.descriptors[path] = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise Damaged(f"{path.name} can't be opened: {error.strerror}") from None
        return self.descriptors[path]

    def forget(self, path: Path) -> None:
        """Closes the descriptor of a deleted file, without which its space would stay taken."""
        if path in self.descriptors:
            os.close(self.descriptors.pop(path))

    def close(self) -> None:
        """Closes every descriptor."""
        while self.descriptors:
            os.close(self.descriptors.popitem()[1])

    def __del__(self) -> None:
        self.close()


class DiskBody:
    """Rows in files, pieces in order. Reading raises Damaged naming the file."""

    def __init__(self, pieces: list[Piece], nbytes: int, files: FileCache):
        self.pieces, self.nbytes, self.files = pieces, nbytes, files

    def read(self, column: int, offset: int, out: np.ndarray) -> None:
        done = 0
        for piece in self.pieces:
            skip = offset + done - piece.first
            if done == len(out) or skip >= piece.rows:
                continue
            count = min(piece.rows - skip, len(out) - done)
            self._read_piece(piece, column, skip, out[done : done + count])
            done += count

    def _read_piece(self, piece: Piece, column: int, skip: int, out: np.ndarray) -> None:
        place = piece.columns[column] + skip * out.shape[1]
        try:
            got = os.preadv(self.files.get(piece.path), [out.data], place)
        except OSError as error:
            raise Damaged(f"{piece.path.name} can't be read: {error.strerror}") from None
        if got != out.nbytes:
            raise Damaged(f"{piece.path.name} is truncated")
        sums = row_sums(out)
        wrong = np.flatnonzero(sums != piece.sums[column, skip : skip + len(out)])
        if len(wrong):
            raise Damaged(f"{piece.path.name} has damaged bytes near {place + int(wrong[0]) * out.shape[1]}")


def row_sums(rows: np.ndarray) -> np.ndarray:
    """CRC-32 of each row of [n, nbytes]."""
    return np.array([zlib.crc32(row) for row in rows], np.uint32)
