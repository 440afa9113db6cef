"""What a replay holds, as one record: the functions that add, read, save and restore rows work on it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from dreamworld import words
from dreamworld.config import ReplayConfig
from dreamworld.contract import Mix
from dreamworld.errors import UserError
from dreamworld.replay.chunks import HELD_LANES, Chunk, Pool
from dreamworld.replay.disk import FileCache
from dreamworld.replay.layout import RowLayout
from dreamworld.replay.memory import check_capacity
from dreamworld.replay.sampling import Sampler
from dreamworld.replay.store import Store
from dreamworld.replay.windows import EpisodeStarts
from dreamworld.types import Space

COUNTERS = (
    "inserts",  # rows added
    "windows",  # drawn
    "served_rows",  # trained rows of these windows
    "online",  # windows that came from the online queue
    "evicted_rows",
    "breaks",  # streams that ended without is_last
    "refused",  # adds with a non-finite value
    "corrupt",  # losses through damaged files
    "spill_failures",  # chunks that could not be written (disk storage)
)


class Lane:
    """The stream one environment is writing; with held-out episodes it has two, one of them for these."""

    def __init__(self, index: int):
        self.index = index
        self.stream = -1
        self.rows = 0  # rows of the stream so far: the position of the next one
        self.open: Chunk | None = None  # where the next row goes
        self.tail: Chunk | None = None  # the chunk whose next row becomes a start
        self.base = 0  # rows of the stream before this one are not contiguous with the newest (damage)
        self.ended = True  # the newest row was is_last


class ReplayState:
    """The chunks of all streams, who writes them, and how windows are drawn. See `Replay` for the arguments."""

    def __init__(
        self,
        spaces: dict[str, Space],
        config: ReplayConfig,
        *,
        num_envs: int,
        length: int,
        context: int,
        capacity_steps: int | None = None,
        directory: Path | str | None = None,
        seed: int = 0,
        mixes: Sequence[Mix] = (),
        held_out: float = 0.0,
    ):
        if not 0 <= context < length:
            raise UserError(
                f"a window of {words.count(length, 'row')} can't have {words.count(context, 'row')} of context"
            )
        if config.storage not in ("auto", "raw", "lz4", "disk"):
            raise UserError(f"replay.storage is {config.storage!r}; choose auto, raw, lz4 or disk")
        self.config, self.layout = config, RowLayout(spaces)
        if not 0 <= held_out < 1:
            raise UserError(
                f"a held-out share of {held_out:g} is impossible; give at least 0 and less than 1"
            )
        self.num_envs, self.length, self.context = num_envs, length, context
        self.mixes, self.held_out = tuple(mixes), held_out
        self.capacity = int(config.capacity_steps if capacity_steps is None else capacity_steps)
        self.capacity_bytes = int(config.capacity_bytes)
        self.directory = Path(directory).resolve() if directory is not None else None
        self.chunk = self._chunk_rows()
        self.seed = seed
        if config.storage == "disk" and self.directory is None:
            raise UserError("replay.storage disk needs a directory")
        self.files = FileCache()
        self.lock = threading.RLock()
        self.clear()

    def clear(self, chunk: int | None = None) -> None:
        """Forgets everything; `chunk` sets another chunk length (that of a saved replay)."""
        self.chunk = chunk or self.chunk
        self.sampler = Sampler(
            self.config,
            self.mixes,
            chunk=self.chunk,
            length=self.length,
            context=self.context,
            seed=self.seed,
        )
        self.files.close()
        self.store: Store | None = None  # set by the first save or load
        self.obs_pool = Pool(self.layout.obs, self.chunk)
        self.written_pool = Pool(self.layout.written, self.chunk)
        self.lanes = [Lane(i) for i in range(self.num_envs)]
        self.held_lanes = [Lane(HELD_LANES + i) for i in range(self.num_envs) if self.held_out]
        self.chunks: deque[Chunk] = deque()  # oldest first
        self.hot: deque[Chunk] = deque()  # raw ones that the storage will compress or spill, oldest first
        self.next_seq = self.next_stream = 0
        self.rows = self.bytes_used = 0
        self.last_loss = ""
        self.hot_limit = 0  # after a failed spill: chunks that were hot then
        self.problems: deque[str] = deque(maxlen=1000)  # until somebody takes them
        self.counts = dict.fromkeys(COUNTERS, 0)
        self.episodes: EpisodeStarts | None = None  # once somebody asks for them

    @property
    def all_lanes(self) -> list[Lane]:
        """Those of the episodes to train on, then those of the others."""
        return self.lanes + self.held_lanes

    @property
    def writers(self) -> int:
        """Streams that are written at a time."""
        return self.num_envs * (2 if self.held_out else 1)

    @property
    def capacity_rows(self) -> int:
        """Rows that fit, by whichever of the two capacities is smaller."""
        rows = self.capacity_bytes // self.layout.row_bytes if self.capacity_bytes else self.capacity
        return min(rows, self.capacity)

    def check_capacity(self, chunk: int) -> None:
        """Raises UserError unless the capacity holds enough rows for chunks of this length."""
        check_capacity(
            self.capacity_rows,
            num_envs=self.writers,
            length=self.length,
            chunk=chunk,
            min_starts=self.config.min_starts,
            row_bytes=self.layout.row_bytes if self.capacity_bytes else 0,
        )

    def _chunk_rows(self) -> int:
        """Rows of a chunk: as configured, or fewer where the capacity holds only few per environment."""
        chunk = min(self.config.chunk, (self.capacity_rows // self.writers - self.length) // 2)
        self.check_capacity(chunk)
        return chunk
