"""Windows that are not drawn by the sampler: parts of drawn ones, sweeps over all rows, and starts of episodes."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from dreamworld.replay.sampling import POSITION_BITS

if TYPE_CHECKING:
    from dreamworld.replay.replay import Replay


def sweep_starts(replay: Replay, length: int, context: int) -> np.ndarray:
    """Ids of the first rows of windows that train on every row that has `context` rows before it; int64 [W].

    They follow the streams in order. The last window of a stream is moved back to end with it, so that some rows come
    twice; a stream that is shorter than a window has none.
    """
    starts: list[np.ndarray] = []
    for stream, begin, end in segments(replay):
        last = end - context - length  # where the last window of the segment begins
        if last < begin:
            continue
        found = np.arange(begin, last + 1, length)
        found = found if found[-1] == last else np.append(found, last)
        starts.append((stream << POSITION_BITS) | found.astype(np.int64))
    return np.concatenate(starts) if starts else np.zeros(0, np.int64)


def segments(replay: Replay) -> list[tuple[int, int, int]]:
    """(stream, first position, position after the last) of the runs of stored rows, in order."""
    found: list[tuple[int, int, int]] = []
    for chunk in sorted(replay.chunks, key=lambda chunk: (chunk.stream, chunk.start)):
        stream, begin, end = found[-1] if found else (-1, 0, 0)
        if (chunk.stream, chunk.start) == (stream, end):
            found[-1] = (stream, begin, end + chunk.rows)
        else:
            found.append((chunk.stream, chunk.start, chunk.start + chunk.rows))
    return found


class EpisodeStarts:
    """Ids of the rows that begin an episode, in the order of time; those that were evicted go when they are met."""

    def __init__(self) -> None:
        self.rows: deque[int] = deque()

    def add(self, ids: np.ndarray, is_first: np.ndarray) -> None:
        """Takes the rows [N] that were just added."""
        self.rows.extend(ids[is_first].tolist())

    def draw(self, replay: Replay, count: int, random: np.random.Generator | None = None) -> np.ndarray:
        """Starts of windows, uniformly over the episodes that a whole window can begin with; int64 [count].

        They are drawn by `random`, or else by the sampler's generator. Raises LookupError where there is none.
        """
        sampler = replay.sampler
        while self.rows and sampler.find(self.rows[0]) is None:
            self.rows.popleft()
        usable = [row for row in self.rows if sampler.start(row) is not None]
        if not usable:
            raise LookupError("replay holds no whole episode to draw")
        return np.array(usable, np.int64)[(random or sampler.random).integers(len(usable), size=count)]

    def find_all(self, replay: Replay) -> None:
        """Looks for them in the stored rows, as after a load."""
        column, field = next(
            (index, field)
            for index, column in enumerate(replay.layout.obs)
            for field in column.fields
            if field.key == "is_first"
        )
        self.rows.clear()
        record = replay.layout.obs[column].record
        found = []
        for chunk in replay.chunks:
            data = np.empty((chunk.rows, replay.layout.obs[column].nbytes), np.uint8)
            chunk.body.read(column, 0, data)
            flags = data.view(record)[field.key][:, 0]
            offsets = np.flatnonzero(flags)
            found += [
                (chunk.clock + o, (chunk.stream << POSITION_BITS) | (chunk.start + o))
                for o in offsets.tolist()
            ]
        self.rows.extend(row for _, row in sorted(found))
