"""How many windows some chunks start, and uniform draws among them.

The first `chunk.valid` rows of a chunk start a window of L rows that stays within the stream; a chunk whose rows all
do is *full*. Full chunks need no bookkeeping per row: a uniform draw is one random number, divided by the chunk
length. Only the chunks at the ends of streams are searched.
"""

from __future__ import annotations

import bisect

import numpy as np

from dreamworld.replay.chunks import Chunk

POSITION_BITS = 40
POSITION_MASK = (1 << POSITION_BITS) - 1


class Starts:
    """The starts of the chunks that are put into it; `rows` is the length of a chunk."""

    def __init__(self, rows: int):
        self.rows = rows
        self.clear()

    def clear(self) -> None:
        """Before the starts of all chunks are counted anew."""
        self.total = 0
        self.full: list[Chunk] = []  # in order of seq: streams that are written seldom fill their chunks late
        self.full_head = 0  # the list is a queue: entries before this one are gone
        self.partial: dict[int, Chunk] = {}  # by seq, in order of seq

    def count(self, chunk: Chunk) -> None:
        """Takes a chunk with its starts; chunks must come in order of seq."""
        self.total += chunk.valid
        if chunk.valid == self.rows:
            self.full.append(chunk)
        else:
            self.partial[chunk.seq] = chunk

    def grow(self, chunk: Chunk) -> None:
        """One more row of `chunk` starts a window."""
        chunk.valid += 1
        self.total += 1
        if chunk.valid == self.rows:
            del self.partial[chunk.seq]
            bisect.insort(self.full, chunk, lo=self.full_head, key=lambda chunk: chunk.seq)

    def remove(self, chunk: Chunk) -> None:
        """Forgets an evicted or damaged chunk."""
        self.total -= chunk.valid
        if self.partial.pop(chunk.seq, None) is not None:
            return
        if self.full[self.full_head] is chunk:
            self.full[self.full_head] = None  # type: ignore[call-overload]
            self.full_head += 1
            if self.full_head > 1024 and self.full_head * 2 > len(self.full):
                del self.full[: self.full_head]
                self.full_head = 0
        else:
            self.full.remove(chunk)

    def draw(self, random: np.random.Generator, count: int) -> list[int]:
        """Ids of starts, uniformly over all of them; ValueError where there is none."""
        numbers = random.integers(self.total, size=count)
        in_full = (len(self.full) - self.full_head) * self.rows
        ends: np.ndarray | None = None
        rows, partial = [], []
        for number in numbers.tolist():
            if number < in_full:
                index, offset = divmod(number, self.rows)
                chunk = self.full[self.full_head + index]
            else:
                if ends is None:
                    partial = list(self.partial.values())
                    ends = np.cumsum([c.valid for c in partial])
                number -= in_full
                index = int(np.searchsorted(ends, number, side="right"))
                chunk = partial[index]
                offset = number - int(ends[index]) + chunk.valid
            rows.append((chunk.stream << POSITION_BITS) | (chunk.start + offset))
        return rows
