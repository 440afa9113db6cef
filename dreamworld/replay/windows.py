"""Windows that are not drawn from the mixture: sweeps over all rows, and starts of episodes."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

import numpy as np

from dreamworld.replay.chunks import Chunk
from dreamworld.replay.layout import Column
from dreamworld.replay.starts import POSITION_BITS
from dreamworld.replay.tree import Ranks


def sweep_starts(chunks: Iterable[Chunk], length: int, context: int) -> np.ndarray:
    """Ids of the first rows of windows that train on every row that has `context` rows before it; int64 [W].

    They follow the streams in order. The last window of a stream is moved back to end with it, so that some rows come
    twice; a stream that is shorter than a window has none.
    """
    starts: list[np.ndarray] = []
    chunks = [chunk for chunk in chunks if not chunk.held_out]
    for stream, begin, end in segments(chunks):
        last = end - context - length  # where the last window of the segment begins
        if last < begin:
            continue
        found = np.arange(begin, last + 1, length)
        found = found if found[-1] == last else np.append(found, last)
        starts.append((stream << POSITION_BITS) | found.astype(np.int64))
    return np.concatenate(starts) if starts else np.zeros(0, np.int64)


def segments(chunks: Iterable[Chunk]) -> list[tuple[int, int, int]]:
    """(stream, first position, position after the last) of the runs of stored rows, in order."""
    found: list[tuple[int, int, int]] = []
    for chunk in sorted(chunks, key=lambda chunk: (chunk.stream, chunk.start)):
        stream, begin, end = found[-1] if found else (-1, 0, 0)
        if (chunk.stream, chunk.start) == (stream, end):
            found[-1] = (stream, begin, end + chunk.rows)
        else:
            found.append((chunk.stream, chunk.start, chunk.start + chunk.rows))
    return found


class EpisodeStarts:
    """Where episodes begin, and which of these rows start a window: a draw costs O(log chunks) per window.

    The starts are ordered by chunk and position, so that what is found after a load is drawn as before it.
    """

    def __init__(self, chunks: Iterable[Chunk], columns: tuple[Column, ...], oldest: int):
        self.ranks = Ranks(oldest)  # usable starts of each chunk, in order of seq
        self.begins: dict[
            int, tuple[Chunk, list[int]]
        ] = {}  # by seq: offsets of the rows that are `is_first`
        for chunk in [chunk for chunk in chunks if not chunk.held_out]:
            for offset in _find(chunk, columns):
                self.begin(chunk, offset)
            offsets = self.begins[chunk.seq][1] if chunk.seq in self.begins else []
            self.ranks.add(chunk.seq, bisect_left(offsets, chunk.valid))

    def begin(self, chunk: Chunk, offset: int) -> None:
        """The newest row of `chunk`, at `offset`, begins an episode; it starts no window yet."""
        self.begins.setdefault(chunk.seq, (chunk, []))[1].append(offset)

    def grow(self, chunk: Chunk) -> None:
        """One more row of `chunk` starts a window."""
        _, offsets = self.begins.get(chunk.seq, (chunk, []))
        index = bisect_left(offsets, chunk.valid - 1)
        if index < len(offsets) and offsets[index] == chunk.valid - 1:
            self.ranks.add(chunk.seq, 1)

    def forget(self, chunk: Chunk, oldest: int) -> None:
        """The chunk was evicted; the first one left has the seq `oldest`."""
        _, offsets = self.begins.pop(chunk.seq, (chunk, []))
        self.ranks.add(chunk.seq, -bisect_left(offsets, chunk.valid))
        self.ranks.cut(oldest)

    def draw(self, random: np.random.Generator, count: int) -> np.ndarray:
        """Starts of windows, uniformly over the episodes that a whole window can begin with; int64 [count].

        Raises LookupError where there is none.
        """
        if not self.ranks.total:
            raise LookupError("replay holds no whole episode to draw")
        found = []
        for number in random.integers(self.ranks.total, size=count).tolist():
            seq, rest = self.ranks.find(number)
            chunk, offsets = self.begins[seq]
            found.append((chunk.stream << POSITION_BITS) | (chunk.start + offsets[rest]))
        return np.array(found, np.int64)


def _find(chunk: Chunk, columns: tuple[Column, ...]) -> list[int]:
    """Offsets of the stored rows of a chunk that are `is_first`."""
    index, column = next(
        (index, column)
        for index, column in enumerate(columns)
        if any(field.key == "is_first" for field in column.fields)
    )
    data = np.empty((chunk.rows, column.nbytes), np.uint8)
    chunk.body.read(index, 0, data)
    return np.flatnonzero(data.view(column.record)["is_first"][:, 0]).tolist()
