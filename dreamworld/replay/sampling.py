"""Which windows to train on: online queue first, then a mixture of uniform, prioritised and recent ones.

Everything here works on chunks. The first `chunk.valid` rows of a chunk start a window of L rows that stays
within the stream; a chunk whose rows all do is *full*. Full chunks need no bookkeeping per row: a uniform
draw is one random number, divided by the chunk length. Only the chunks at the ends of streams are searched.
"""

from __future__ import annotations

import bisect
import math
from collections import deque
from typing import Any

import numpy as np

from dreamworld.config import ReplayConfig
from dreamworld.errors import UserError
from dreamworld.replay.chunks import Chunk
from dreamworld.replay.tree import SumTree

ONLINE, UNIFORM, PRIORITIZED, RECENT = range(4)
POSITION_BITS = 40
POSITION_MASK = (1 << POSITION_BITS) - 1
RETRIES = 64


class Sampler:
    """Draws window starts; knows chunks by row id and keeps `valid` counts, queue, priorities and recency."""

    def __init__(self, config: ReplayConfig, *, chunk: int, length: int, context: int, seed: int):
        shares = np.array([config.uniform, config.prioritized, config.recent], float)
        if (shares < 0).any() or not np.isfinite(shares).all() or shares.sum() <= 0:
            raise UserError(
                "replay.uniform, replay.prioritized and replay.recent are shares of a mixture: "
                f"none may be negative and one must be positive; they are {shares.tolist()}"
            )
        self.cumulative = np.cumsum(shares / shares.sum())
        self.mixed = int((shares > 0).sum()) > 1
        self.only = UNIFORM + int(np.argmax(shares))
        self.chunk, self.length, self.context = chunk, length, context
        self.online = config.online
        self.random = np.random.Generator(np.random.PCG64(seed))
        self.chunks: dict[int, Chunk] = {}
        self.total = 0  # valid starts
        self.full: list[Chunk] = []
        self.full_head = 0  # the list is a queue: entries before this one are gone
        self.partial: dict[int, Chunk] = {}  # by seq, in order of seq
        self.queue: deque[int] = deque()  # online: starts to serve once
        self.lanes: dict[int, list[Chunk]] = {}  # recency: chunks of each environment in order of time
        self.clock = 0  # adds so far
        self.tree = SumTree(chunk) if config.prioritized > 0 else None
        self.slots: dict[int, Chunk] = {}  # by slot of the tree
        self.max_priority = 1.0

    # Bookkeeping, called by Replay as chunks come, grow and go.

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
        self.partial[chunk.seq] = chunk
        self.lanes.setdefault(chunk.lane, []).append(chunk)
        if self.tree:
            chunk.slot = self.tree.take_slot() if chunk.slot < 0 else chunk.slot
            self.slots[chunk.slot] = chunk

    def remove(self, chunk: Chunk) -> None:
        """Forgets an evicted or damaged chunk and its starts."""
        del self.chunks[(chunk.stream << POSITION_BITS) | (chunk.start // self.chunk)]
        self.total -= chunk.valid
        if self.partial.pop(chunk.seq, None) is None:
            self._remove_full(chunk)
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
        chunk.valid += 1
        self.total += 1
        if chunk.valid == self.chunk:
            del self.partial[chunk.seq]
            self.full.append(chunk)
        if queue and self.online and position % (self.length - self.context) == 0:
            self.queue.append((chunk.stream << POSITION_BITS) | position)
        if self.tree:
            self._enable(chunk, last, position + self.context if fresh else position + self.length - 1)

    def forget_starts(self) -> None:
        """Before the starts of all chunks are counted anew."""
        self.total, self.full, self.full_head, self.partial = 0, [], 0, {}
        if self.tree:
            for slot in self.slots:
                self.tree.clear(slot, np.arange(self.chunk))

    def count(self, chunk: Chunk) -> None:
        """Counts the starts of a chunk; chunks must come in order of seq."""
        self.total += chunk.valid
        if chunk.valid == self.chunk:
            self.full.append(chunk)
        else:
            self.partial[chunk.seq] = chunk

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

    # Drawing.

    def draw(self, batch: int) -> tuple[np.ndarray, np.ndarray]:
        """Start rows int64 [batch] and how each was chosen, uint8 [batch]. Raises LookupError without any."""
        if not self.total:
            raise LookupError("replay holds no window to draw")
        rows, kinds = [], []
        while self.online and self.queue and len(rows) < batch:
            row = self.queue.popleft()
            if self.start(row) is not None:
                rows.append(row)
                kinds.append(ONLINE)
        count = batch - len(rows)
        chosen = self._choose(count)
        for kind, draw in ((UNIFORM, self.uniform), (PRIORITIZED, self.prioritized), (RECENT, self.recent)):
            number = int((chosen == kind).sum())
            if number:
                rows.extend(draw(number))
                kinds.extend([kind] * number)
        return np.array(rows, np.int64), np.array(kinds, np.uint8)

    def uniform(self, count: int, random: np.random.Generator | None = None) -> list[int]:
        """Starts drawn uniformly over all valid ones, by `random` if it is given."""
        numbers = (random or self.random).integers(self.total, size=count)
        in_full = (len(self.full) - self.full_head) * self.chunk
        ends: np.ndarray | None = None
        rows = []
        for number in numbers.tolist():
            if number < in_full:
                index, offset = divmod(number, self.chunk)
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

    def prioritized(self, count: int) -> list[int]:
        """Windows of rows drawn by priority, each at a uniformly drawn place of its window."""
        assert self.tree is not None
        if self.tree.total <= 0:
            return self.uniform(count)
        rows = []
        for _ in range(count):
            slot, offset = self.tree.sample(self.random.random())
            chunk = self.slots[slot]
            starts = self._starts_around(chunk, chunk.start + offset)
            number = int(self.random.integers(sum(len(s) for s in starts)))
            for candidates in starts:
                if number < len(candidates):
                    rows.append((chunk.stream << POSITION_BITS) | candidates[number])
                    break
                number -= len(candidates)
        return rows

    def recent(self, count: int) -> list[int]:
        """Starts of age a (adds; 0 the newest) with the weight log((a + 2) / (a + 1)), about 1 / (a + 1)."""
        lanes = sorted(self.lanes)
        oldest = min(chunks[0].clock for chunks in self.lanes.values())
        span = math.log(self.clock - oldest + 1)
        rows = []
        for _ in range(count):
            for _ in range(RETRIES):
                age = int(math.exp(self.random.random() * span)) - 1
                lane = self.lanes[lanes[int(self.random.integers(len(lanes)))]]
                row = self._window_ending(lane, self.clock - 1 - age)
                if row is not None:
                    rows.append(row)
                    break
            else:  # nearly everything recent is too short for a window, as just after a restart
                rows.extend(self.uniform(1))
        return rows

    # Priorities.

    def prioritize(self, chunk: Chunk, offsets: np.ndarray, values: np.ndarray) -> None:
        """Sets priorities of stored rows; rows outside any window weigh nothing until they are in one."""
        assert self.tree is not None and chunk.priority is not None
        chunk.priority[offsets] = values
        self.max_priority = max(self.max_priority, float(values.max()))
        active = self.tree.active(chunk.slot)[offsets]
        self.tree.set(chunk.slot, offsets[active], chunk.priority[offsets[active]])

    def state(self) -> dict[str, Any]:
        """JSON-able state; with the chunks it determines every later draw."""
        return {
            "random": self.random.bit_generator.state,
            "queue": list(self.queue),
            "clock": self.clock,
            "max_priority": self.max_priority,
            "free_slots": list(self.tree.free) if self.tree else [],
        }

    def takes(self, state: dict[str, Any]) -> bool:
        """Whether the random generator of `state()` is one; its number may come from anywhere."""
        try:
            np.random.Generator(np.random.PCG64(0)).bit_generator.state = state["random"]
        except (KeyError, TypeError, ValueError, OverflowError):
            return False
        return all(-(1 << 63) <= row < 1 << 63 for row in state["queue"])

    def restore(self, state: dict[str, Any]) -> None:
        """Restores `state()`."""
        self.random.bit_generator.state = state["random"]
        self.queue = deque(int(row) for row in state["queue"])
        self.clock = int(state["clock"])
        self.max_priority = float(state["max_priority"])

    def _choose(self, count: int) -> np.ndarray:
        if not self.mixed:
            return np.full(count, self.only)
        picked = np.searchsorted(self.cumulative, self.random.random(count), side="right")
        return UNIFORM + np.minimum(picked, 2)

    def _remove_full(self, chunk: Chunk) -> None:
        if self.full[self.full_head] is chunk:
            self.full[self.full_head] = None  # type: ignore[call-overload]
            self.full_head += 1
            if self.full_head > 1024 and self.full_head * 2 > len(self.full):
                del self.full[: self.full_head]
                self.full_head = 0
        else:
            self.full.remove(chunk)

    def _enable(self, chunk: Chunk, last: Chunk, position: int) -> None:
        """Gives the rows from `position` to the newest one of `last` their weight in the tree."""
        walk: Chunk | None = chunk
        while walk is not None:
            self.enable(walk, np.arange(max(position - walk.start, 0), walk.rows))
            walk = None if walk is last else walk.next

    def disable_head(self, chunk: Chunk | None) -> None:
        """After the chunk before `chunk` went: rows that no window trains on any more lose their weight."""
        if self.tree is None:
            return
        rows = self.context if chunk is not None and chunk.valid else 1 << POSITION_BITS  # no start: no row
        while chunk is not None and rows > 0:
            self.tree.clear(chunk.slot, np.arange(min(rows, chunk.rows)))
            rows -= chunk.rows
            chunk = chunk.next

    def _starts_around(self, chunk: Chunk, position: int) -> list[range]:
        """Positions of valid starts whose window trains on the row at `position` of the stream of `chunk`."""
        low, high = max(position - self.length + 1, 0), position - self.context
        ranges = []
        for index in range(low // self.chunk, high // self.chunk + 1):
            found = self.chunks.get((chunk.stream << POSITION_BITS) | index)
            if found is not None:
                end = min(high + 1, found.start + found.valid)
                ranges.append(range(max(low, found.start), max(end, found.start, low)))
        return ranges

    def _window_ending(self, lane: list[Chunk], clock: int) -> int | None:
        """The start of the window whose last row was added at `clock`, if there is one."""
        index = bisect.bisect_right(lane, clock, key=lambda c: c.clock) - 1
        if index < 0:
            return None
        chunk = lane[index]
        offset = clock - chunk.clock
        position = chunk.start + offset - self.length + 1
        if offset >= chunk.rows or position < 0:
            return None
        row = (chunk.stream << POSITION_BITS) | position
        return row if self.start(row) is not None else None
