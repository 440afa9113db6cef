"""Chunks of rows and the three places where their observations may live: raw RAM, LZ4 in RAM, files.

A body answers `read(column, offset, out)`: rows from `offset` on, as many as `out` [n, nbytes] holds.
"""

from __future__ import annotations

from typing import Protocol

import lz4.block
import numpy as np

from dreamworld import words
from dreamworld.replay.disk import Piece
from dreamworld.replay.layout import Column

HELD_LANES = 1 << 30
BLOCK_ROWS = 16  # rows decoded together: 8 to 16 decode fastest, more costs windows rows they do not need


class Body(Protocol):
    nbytes: int  # bytes it occupies where it lives

    def read(self, column: int, offset: int, out: np.ndarray) -> None: ...


class RawBody:
    """Rows as they are, `columns` [capacity, nbytes] each; the only body that can grow."""

    def __init__(self, columns: list[np.ndarray]):
        self.columns = columns
        self.nbytes = sum(c.nbytes for c in columns)

    def read(self, column: int, offset: int, out: np.ndarray) -> None:
        out[:] = self.columns[column][offset : offset + len(out)]


class PackedBody:
    """Rows compressed in blocks of BLOCK_ROWS; blocks that do not shrink are kept as they are."""

    def __init__(self, columns: list[np.ndarray], rows: int):
        packed = [encode_blocks(c[:rows]) for c in columns]
        self.blobs = [blob for blob, _ in packed]
        self.ends = [ends for _, ends in packed]
        self.rows = rows
        self.nbytes = sum(len(blob) for blob in self.blobs)

    def read(self, column: int, offset: int, out: np.ndarray) -> None:
        blob, ends, width = memoryview(self.blobs[column]), self.ends[column], out.shape[1]
        done = 0
        while done < len(out):
            block, skip = divmod(offset + done, BLOCK_ROWS)
            rows = min(BLOCK_ROWS, self.rows - block * BLOCK_ROWS)
            count = min(rows - skip, len(out) - done)
            begin = ends[block - 1] if block else 0
            data = decode_block(blob[begin : ends[block]], rows, width)
            out[done : done + count] = data[skip : skip + count]
            done += count


class Chunk:
    """A run of rows of one stream. `valid` of them, the first ones, start a window; `next` continues it."""

    __slots__ = (
        "body",
        "clock",
        "dirty",
        "files",
        "held_out",
        "lane",
        "next",
        "pieces",
        "priority",
        "rows",
        "saved",
        "seq",
        "slot",
        "start",
        "stream",
        "valid",
        "written",
    )

    def __init__(self, seq: int, lane: int, stream: int, start: int, clock: int, body: Body, capacity: int):
        self.seq = seq  # order of creation, hence of eviction
        self.lane = lane  # environment index, from HELD_LANES on for the episodes that are held out
        self.held_out = lane >= HELD_LANES
        self.stream = stream
        self.start = start  # position of the first row in its stream
        self.clock = clock  # number of the `add` that wrote the first row
        self.body = body
        self.written: list[np.ndarray] = []  # [capacity, nbytes] of each written column
        self.priority: np.ndarray | None = None  # [capacity] float32, with prioritised sampling
        self.dirty = np.zeros(
            capacity, bool
        )  # rows whose written columns or priorities changed since the last save
        self.rows = 0
        self.valid = 0
        self.saved = 0  # rows whose observations are in a file
        self.files: list[str] = []  # which ones
        self.pieces: list[Piece] = []  # and where in them, for the disk storage
        self.next: Chunk | None = None
        self.slot = -1


class Pool:
    """Recycles the buffers of chunks: a full replay allocates nothing and its memory stays flat."""

    def __init__(self, columns: tuple[Column, ...], capacity: int):
        self.columns, self.capacity = columns, capacity
        self.free: list[list[np.ndarray]] = []

    def take(self) -> list[np.ndarray]:
        """Buffers [capacity, nbytes] per column, not cleared; pages are mapped when first written."""
        if self.free:
            return self.free.pop()
        return [np.empty((self.capacity, c.nbytes), np.uint8) for c in self.columns]

    def give(self, buffers: list[np.ndarray]) -> None:
        """Takes back the buffers of a chunk that nobody reads any more."""
        self.free.append(buffers)


def encode_blocks(rows: np.ndarray) -> tuple[bytes, list[int]]:
    """LZ4 blocks of [n, nbytes] rows back to back, and where each ends."""
    blocks, ends, end = [], [], 0
    for begin in range(0, len(rows), BLOCK_ROWS):
        raw = np.ascontiguousarray(rows[begin : begin + BLOCK_ROWS])
        block = lz4.block.compress(raw, store_size=False)
        if len(block) >= raw.nbytes:
            block = raw.tobytes()
        blocks.append(block)
        end += len(block)
        ends.append(end)
    return b"".join(blocks), ends


def decode_block(block: memoryview | bytes, rows: int, width: int) -> np.ndarray:
    """The [rows, width] bytes of one block; raises ValueError when it holds anything else."""
    size = rows * width
    if len(block) == size:
        data = block
    else:
        try:
            data = lz4.block.decompress(block, uncompressed_size=size)
        except lz4.block.LZ4BlockError as error:
            raise ValueError(f"undecodable LZ4 block: {error}") from None
    if len(data) != size:
        raise ValueError(f"LZ4 block of {words.count(len(data), 'byte')}, expected {size}")
    return np.frombuffer(data, np.uint8).reshape(rows, width)


def decode_blocks(blob: bytes | memoryview, ends: list[int], rows: int, width: int) -> np.ndarray:
    """Inverse of `encode_blocks`; raises ValueError for anything that is not its output."""
    out = np.empty((rows, width), np.uint8)
    begin, view = 0, memoryview(blob)
    for index, end in enumerate(ends):
        first = index * BLOCK_ROWS
        out[first : first + BLOCK_ROWS] = decode_block(view[begin:end], min(BLOCK_ROWS, rows - first), width)
        begin = end
    return out
