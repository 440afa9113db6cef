"""What is known of chunks to draw from them: by row id, by what they start, by age and by priority."""

from __future__ import annotations

from collections import deque

import numpy as np

from dreamworld.replay.chunks import Chunk
from dreamworld.replay.starts import POSITION_BITS, POSITION_MASK, Starts
from dreamworld.replay.tree import SumTree


class Index:
    """Kept as chunks come, grow and go. Chunks of held-out episodes are in it, but start nothing that is trained on."""

    def __init__(self, chunk: int, *, length: int, context: int, online: bool, priorities: bool):
        self.chunk, self.length, self.context, self.online = chunk, length, context, online
        self.chunks: dict[int, Chunk] = {}
        self.trained, self.held_out = Starts(chunk), Starts(chunk)
        self.queue: deque[int] = deque()  # online: starts to serve once
        self.lanes: dict[int, list[Chunk]] = {}  # recency: chunks of each environment in order of time
        self.clock = 0  # adds so far
        self.tree = SumTree(chunk) if priorities else None
        self.slots: dict[int, Chunk] = {}  # by slot of the tree
        self.max_priority = 1.0

    @property
    def total(self) -> int:
        """Starts that may be drawn for training."""
        return self.trained.total

    def key(self, row: int) -> int:
        """The chunk of a row: its stream and its number in it."""
        return (row >> POSITION_BITS << POSITION_BITS) | ((row & POSITION_MASK) // self.chunk)

    def find(self, row: int) -> tuple[Chunk, int] | None:
        """Chunk and offset of a stored row, or None when it was evicted."""
        chunk = self.chunks.get(self.key(row))
        if chunk is None:
            return None
        offset = (row & POSITION_MASK) - chunk.start
        return (chunk, offset) if offset < chunk.rows else None

    def insert(self, chunk: Chunk) -> None:
        """Registers a new chunk (without valid starts)."""
        self.chunks[(chunk.stream << POSITION_BITS) | (chunk.start // self.chunk)] = chunk
        self._starts(chunk).count(chunk)
        if chunk.held_out:
            return
        self.lanes.setdefault(chunk.lane, []).append(chunk)
        if self.tree:
            chunk.slot = self.tree.take_slot() if chunk.slot < 0 else chunk.slot
            self.slots[chunk.slot] = chunk

    def remove(self, chunk: Chunk) -> None:
        """Forgets an evicted or damaged chunk and its starts."""
        del self.chunks[(chunk.stream << POSITION_BITS) | (chunk.start // self.chunk)]
        self._starts(chunk).remove(chunk)
        if chunk.held_out:
            return
        self.lanes[chunk.lane].remove(chunk)
        if not self.lanes[chunk.lane]:
            del self.lanes[chunk.lane]
        if self.tree:
            self.tree.give_slot(chunk.slot)
            del self.slots[chunk.slot]
        while self.queue and self.start(self.queue[0]) is None:
            self.queue.popleft()

    def grow(self, chunk: Chunk, last: Chunk, queue: bool = True) -> None:
        """One more row of `chunk` starts a window, whose last row is the newest of `last`."""
        position = chunk.start + chunk.valid
        before = (chunk.stream << POSITION_BITS) | (position - 1)
        fresh = chunk.valid == 0 and (position == 0 or self.start(before) is None)
        self._starts(chunk).grow(chunk)
        if chunk.held_out:
            return
        if queue and self.online and position % (self.length - self.context) == 0:
            self.queue.append((chunk.stream << POSITION_BITS) | position)
        if self.tree:
            self._enable(chunk, last, position + self.context if fresh else position + self.length - 1)

    def forget_starts(self) -> None:
        """Before the starts of all chunks are counted anew."""
        self.trained.clear()
        self.held_out.clear()
        if self.tree:
            for slot in self.slots:
                self.tree.clear(slot, np.arange(self.chunk))

    def count(self, chunk: Chunk) -> None:
        """Counts the starts of a chunk; chunks must come in order of seq."""
        self._starts(chunk).count(chunk)

    def enable(self, chunk: Chunk, offsets: np.ndarray) -> None:
        """Gives rows that some window trains on their weight in the tree."""
        assert self.tree is not None and chunk.priority is not None
        self.tree.set(chunk.slot, offsets, chunk.priority[offsets], activate=True)

    def start(self, row: int) -> tuple[Chunk, int] | None:
        """Chunk and offset of a row that starts a valid window, else None."""
        chunk = self.chunks.get(self.key(row))
        if chunk is None:
            return None
        offset = (row & POSITION_MASK) - chunk.start
        return (chunk, offset) if 0 <= offset < chunk.valid else None

    def prioritize(self, chunk: Chunk, offsets: np.ndarray, values: np.ndarray) -> None:
        """Sets priorities of stored rows; rows outside any window weigh nothing until they are in one."""
        assert self.tree is not None and chunk.priority is not None
        if chunk.held_out:
            return
        chunk.priority[offsets] = values
        self.max_priority = max(self.max_priority, float(values.max()))
        active = self.tree.active(chunk.slot)[offsets]
        self.tree.set(chunk.slot, offsets[active], chunk.priority[offsets[active]])

    def _enable(self, chunk: Chunk, last: Chunk, position: int) -> None:
        """Gives the rows from `position` to the newest one of `last` their weight in the tree."""
        walk: Chunk | None = chunk
        while walk is not None:
            self.enable(walk, np.arange(max(position - walk.start, 0), walk.rows))
            walk = None if walk is last else walk.next

    def disable_head(self, chunk: Chunk | None) -> None:
        """After the chunk before `chunk` went: rows that no window trains on any more lose their weight."""
        if self.tree is None or (chunk is not None and chunk.held_out):
            return
        rows = self.context if chunk is not None and chunk.valid else 1 << POSITION_BITS  # no start: no row
        while chunk is not None and rows > 0:
            self.tree.clear(chunk.slot, np.arange(min(rows, chunk.rows)))
            rows -= chunk.rows
            chunk = chunk.next

    def _starts(self, chunk: Chunk) -> Starts:
        return self.held_out if chunk.held_out else self.trained
