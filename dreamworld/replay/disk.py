"""Observations that stay in files: a `pread` per window, column and piece, each row checked by CRC-32."""

from __future__ import annotations

import os
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from dreamworld.replay import patience
from dreamworld.replay.patience import Damaged

OPEN_FILES = 128  # well below the usual limit of 1024 descriptors


class Piece(NamedTuple):
    """Rows of a chunk within one file."""

    path: Path
    first: int  # offset in the chunk
    rows: int
    columns: tuple[int, ...]  # file offset of each column
    sums: np.ndarray  # [columns, rows] uint32, CRC-32 of each row


class FileCache:
    """Open files, least recently used closed first. One descriptor is enough, where there are no more."""

    def __init__(self) -> None:
        self.limit = OPEN_FILES
        self.open: OrderedDict[Path, BinaryIO] = OrderedDict()

    def get(self, path: Path) -> int:
        """A descriptor to read `path`; raises Damaged or BlockedFile."""
        if path in self.open:
            self.open.move_to_end(path)
        else:
            while len(self.open) >= self.limit:
                self.close_oldest()
            self.open[path] = patience.open_data(path, self.release)
        return self.open[path].fileno()

    def release(self) -> bool:
        """Leaves half of the descriptors to others from now on; returns whether there were any."""
        self.limit = max(1, len(self.open) // 2)
        held = len(self.open)
        while len(self.open) > held // 2:
            self.close_oldest()
        return held > 0

    def close_oldest(self) -> bool:
        """Closes the file that was not used for the longest time; returns whether there was one."""
        if self.open:
            self.open.popitem(last=False)[1].close()
            return True
        return False

    def forget(self, path: Path) -> None:
        """Closes a file that is deleted, without which its space would stay taken, or that has to be opened anew."""
        if path in self.open:
            self.open.pop(path).close()

    def close(self) -> None:
        """Closes every file."""
        while self.close_oldest():
            pass

    def __del__(self) -> None:
        self.close()


class DiskBody:
    """Rows in files, pieces in order. Reading raises Damaged, naming the file, or BlockedFile."""

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
            patience.read(lambda: self._fill(piece.path, out, place), piece.path)
        except Damaged as error:
            raise Damaged(f"{piece.path.name} {error}") from None
        sums = row_sums(out)
        wrong = np.flatnonzero(sums != piece.sums[column, skip : skip + len(out)])
        if len(wrong):
            raise Damaged(f"{piece.path.name} has damaged bytes near {place + int(wrong[0]) * out.shape[1]}")

    def _fill(self, path: Path, out: np.ndarray, place: int) -> None:
        """Reads all of `out`; a server may give it in parts."""
        view, done = out.data.cast("B"), 0
        try:
            while done < len(view):
                got = os.preadv(self.files.get(path), [view[done:]], place + done)
                if got == 0:
                    raise Damaged("is truncated")
                done += got
        except OSError:
            self.files.forget(path)  # a stale handle stays stale
            raise


def row_sums(rows: np.ndarray) -> np.ndarray:
    """CRC-32 of each row of [n, nbytes]."""
    return np.array([zlib.crc32(row) for row in rows], np.uint32)
