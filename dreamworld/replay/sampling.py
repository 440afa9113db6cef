"""Which windows to train on: online queue first, then a mixture of uniform, prioritised and recent ones.

Everything here works on chunks and their starts (`starts.py`). Chunks of held-out episodes are known, but nothing
that is drawn for training comes from them.
"""

from __future__ import annotations

import bisect
import functools
import math
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from dreamworld.config import ReplayConfig
from dreamworld.contract import Mix
from dreamworld.errors import UserError
from dreamworld.replay import probability
from dreamworld.replay.chunks import Chunk
from dreamworld.replay.index import Index
from dreamworld.replay.probability import RETRIES
from dreamworld.replay.starts import POSITION_BITS

ONLINE, UNIFORM, PRIORITIZED, RECENT, HELD_OUT = range(5)


class Draw(NamedTuple):
    """Windows that were decided on, not yet read."""

    rows: np.ndarray  # [B] int64, ids of the first rows
    kinds: np.ndarray  # [B] uint8: 0 online, 1 uniform, 2 prioritised, 3 recent, 4 held out
    weights: np.ndarray | None = None  # [B] float32, importance weights


class Sampler(Index):
    """Draws window starts: by `config`, or by one of `mixes`, the mixtures of phases."""

    def __init__(
        self,
        config: ReplayConfig,
        mixes: Sequence[Mix] = (),
        *,
        chunk: int,
        length: int,
        context: int,
        seed: int,
    ):
        self.mix, self.beta = configured(config), config.beta
        every = [self.mix, *mixes]
        super().__init__(
            chunk,
            length=length,
            context=context,
            online=any(mix.online for mix in every),
            priorities=any(mix.prioritized > 0 for mix in every),
        )
        self.random = np.random.Generator(np.random.PCG64(seed))

    def draw(self, batch: int, mix: Mix | None = None) -> Draw:
        """The next windows, by `mix` or as configured. Raises LookupError without any."""
        if not self.total:
            raise LookupError("replay holds no window to draw")
        mix = mix or self.mix
        rows, kinds = [], []
        while mix.online and self.queue and len(rows) < batch:
            row = self.queue.popleft()
            if self.start(row) is not None:
                rows.append(row)
                kinds.append(ONLINE)
        chosen = self._choose(batch - len(rows), mix)
        for kind, draw in ((UNIFORM, self.uniform), (PRIORITIZED, self.prioritized), (RECENT, self.recent)):
            number = int((chosen == kind).sum())
            if number:
                rows.extend(draw(number))
                kinds.extend([kind] * number)
        found = Draw(np.array(rows, np.int64), np.array(kinds, np.uint8))
        if not self.weighs(mix):
            return found
        return found._replace(
            weights=probability.weights(self, found.rows, found.kinds == ONLINE, mix, self.beta)
        )

    def weighs(self, mix: Mix) -> bool:
        """Whether windows drawn by `mix` have importance weights."""
        return self.beta > 0 and mix.prioritized > 0

    def uniform(self, count: int, random: np.random.Generator | None = None) -> list[int]:
        """Starts drawn uniformly over all valid ones, by `random` if it is given."""
        return self.trained.draw(random or self.random, count)

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

    def _choose(self, count: int, mix: Mix) -> np.ndarray:
        cumulative, only = _shares(mix)
        if only:
            return np.full(count, only)
        picked = np.searchsorted(cumulative, self.random.random(count), side="right")
        return UNIFORM + np.minimum(picked, 2)

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


def configured(config: ReplayConfig) -> Mix:
    """The mixture of a config; UserError for shares that are none."""
    try:
        return Mix(config.uniform, config.prioritized, config.recent, config.online)
    except ValueError as error:
        raise UserError(f"replay.uniform, replay.prioritized and replay.recent: {error}") from None


@functools.lru_cache(maxsize=64)
def _shares(mix: Mix) -> tuple[np.ndarray, int]:
    """Cumulative shares of the kinds from UNIFORM on; the kind that all are of, or 0 where there are several."""
    shares = np.array([mix.uniform, mix.prioritized, mix.recent], float)
    only = UNIFORM + int(np.argmax(shares)) if (shares > 0).sum() == 1 else 0
    return np.cumsum(shares / shares.sum()), only
