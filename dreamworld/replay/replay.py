"""Replay of per-environment streams of rows: add, draw, gather, write back (see docs/replay.md).

Rows of one environment form streams, stored in chunks of fixed length. A window of L rows may run over chunk
and episode borders of a stream, never from one stream into another. A row's id is its stream and position,
never reused.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dreamworld import words
from dreamworld.config import ReplayConfig
from dreamworld.errors import UserError
from dreamworld.reading import PathLike
from dreamworld.replay import audit, persist, restore
from dreamworld.replay.chunks import Chunk, Pool, RawBody
from dreamworld.replay.disk import FileCache
from dreamworld.replay.files import Damaged
from dreamworld.replay.layout import LATENT, BadRow, NonFinite, RowLayout, pack, unpack
from dreamworld.replay.links import relink
from dreamworld.replay.memory import check_capacity
from dreamworld.replay.sampling import POSITION_BITS, POSITION_MASK, Sampler
from dreamworld.replay.tiers import cool
from dreamworld.replay.windows import EpisodeStarts, sweep_starts
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


class Draw(NamedTuple):
    """Windows that were decided on, not yet read."""

    rows: np.ndarray  # [B] int64, ids of the first rows
    kinds: np.ndarray  # [B] uint8: 0 online, 1 uniform, 2 prioritised, 3 recent


class Lane:
    """The stream one environment is writing."""

    def __init__(self, index: int):
        self.index = index
        self.stream = -1
        self.rows = 0  # rows of the stream so far: the position of the next one
        self.open: Chunk | None = None  # where the next row goes
        self.tail: Chunk | None = None  # the chunk whose next row becomes a start
        self.base = 0  # rows of the stream before this one are not contiguous with the newest (damage)
        self.ended = True  # the newest row was is_last


class Replay:
    """Thread-safe replay with the same sampling in all storages.

    Args:
      spaces: of the flat row keys `obs/…`, `action/…`, `reward`, `is_first`, `is_last`, `is_terminal`,
      `latent/…`. config: options; `capacity_steps` here overrides the configured one. length: rows L of a
      window, `context` of which come before the trained ones. directory: for files; needed by the disk
      storage. seed: of the draws.
    """

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
    ):
        if not 0 <= context < length:
            raise UserError(
                f"a window of {words.count(length, 'row')} can't have {words.count(context, 'row')} of context"
            )
        if config.storage not in ("auto", "raw", "lz4", "disk"):
            raise UserError(f"replay.storage is {config.storage!r}; choose auto, raw, lz4 or disk")
        self.config, self.layout = config, RowLayout(spaces)
        self.num_envs, self.length, self.context = num_envs, length, context
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
            self.config, chunk=self.chunk, length=self.length, context=self.context, seed=self.seed
        )
        self.files.close()
        self.store: persist.Store | None = None  # set by the first save or load
        self.obs_pool = Pool(self.layout.obs, self.chunk)
        self.latent_pool = Pool(self.layout.latent, self.chunk)
        self.lanes = [Lane(i) for i in range(self.num_envs)]
        self.chunks: deque[Chunk] = deque()  # oldest first
        self.hot: deque[Chunk] = deque()  # raw ones that the storage will compress or spill, oldest first
        self.next_seq = self.next_stream = 0
        self.rows = self.bytes_used = 0
        self.last_loss = ""
        self.hot_limit = 0  # after a failed spill: chunks that were hot then
        self.problems: deque[str] = deque(maxlen=1000)  # until somebody takes them
        self.counts = dict.fromkeys(COUNTERS, 0)
        self.episodes: EpisodeStarts | None = None  # once somebody asks for them

    # Writing.

    def add(self, rows: dict[str, Any]) -> np.ndarray:
        """Appends one row per environment, arrays [N, ...]; returns their ids [N].

        A row that is `is_first` although the one before was not `is_last` (an environment that was rebuilt, a
        restart) begins a new stream. Raises BadRow, before anything changed, naming environment, key and
        step.
        """
        with self.lock:
            obs, latents = self._pack(rows)
            self._make_room()
            cool(self)
            first = np.asarray(rows["is_first"], bool)
            last = np.asarray(rows["is_last"], bool).tolist()
            ids = np.empty(self.num_envs, np.int64)
            for i, (lane, is_first) in enumerate(zip(self.lanes, first.tolist())):
                if is_first and not lane.ended:
                    self.counts["breaks"] += 1
                    if lane.open is not None:
                        self._retire(lane.open)
                    lane.open = lane.tail = None
                    lane.stream = -1
                chunk = lane.open
                if chunk is None or chunk.rows == self.chunk:
                    chunk = self._open(lane)
                offset = chunk.rows
                for target, source in zip(chunk.body.columns, obs):  # type: ignore[attr-defined]
                    target[offset] = source[i]
                for target, source in zip(chunk.latents, latents):
                    target[offset] = source[i]
                if chunk.priority is not None:
                    chunk.priority[offset] = self.sampler.max_priority  # so that it is seen soon
                chunk.dirty[offset] = True
                chunk.rows = offset + 1
                lane.ended = last[i]
                ids[i] = (lane.stream << POSITION_BITS) | lane.rows
                lane.rows += 1
                if lane.rows - lane.base >= self.length:
                    self._extend(lane)
            if self.episodes is not None:
                self.episodes.add(ids, first)
            self.rows += self.num_envs
            self.counts["inserts"] += self.num_envs
            self.sampler.clock += 1
            return ids

    def write_back(self, rows: np.ndarray, latents: dict[str, Any]) -> None:
        """Replaces the latents of rows [B, T] by [B, T, ...]; evicted rows are skipped, later entries win."""
        rows = np.asarray(rows, np.int64)
        expected = {key for key in self.layout.spaces if key.startswith(LATENT)}
        if expected != latents.keys():
            raise UserError(f"write_back got the latents {sorted(latents)}; replay stores {sorted(expected)}")
        if not expected:
            return
        packed = pack(self.layout.latent, {k: np.asarray(v) for k, v in latents.items()}, rows.shape)
        with self.lock:
            for index, begin, end, chunk, offset in self._runs(rows):
                span = slice(offset, offset + end - begin)
                for target, source in zip(chunk.latents, packed):
                    target[span] = source[index, begin:end]
                chunk.dirty[span] = True

    def update_priorities(self, rows: np.ndarray, priorities: Any) -> None:
        """Sets the priorities [B, T] of rows [B, T]; a window is drawn by the mean of its trained rows.

        Without prioritised sampling nothing happens. Raises UserError for negative or non-finite values.
        """
        if self.sampler.tree is None:
            return
        rows, values = np.asarray(rows, np.int64), np.asarray(priorities, np.float32)
        if values.shape != rows.shape:
            raise UserError(f"priorities have the shape {values.shape}, their rows {rows.shape}")
        if not np.isfinite(values).all() or (values < 0).any():
            raise UserError("priorities must be finite and not negative")
        with self.lock:
            for index, begin, end, chunk, offset in self._runs(rows):
                offsets = np.arange(offset, offset + end - begin)
                self.sampler.prioritize(chunk, offsets, values[index, begin:end])
                chunk.dirty[offsets] = True

    # Reading.

    @property
    def starts(self) -> int:
        """Valid window starts."""
        return self.sampler.total

    @property
    def ready(self) -> bool:
        """Whether there are enough starts for the first update."""
        return self.sampler.total >= max(self.config.min_starts, 1)

    def draw(self, batch: int) -> Draw:
        """Decides on the next windows, advances the sampler. Raises LookupError while there is no window."""
        with self.lock:
            rows, kinds = self.sampler.draw(batch)
            self._count(batch, self.length - self.context)
            self.counts["online"] += int((kinds == 0).sum())
            return Draw(rows, kinds)

    def gather(self, draw: Draw, length: int = 0) -> dict[str, np.ndarray]:
        """Reads windows of `length` rows (0: L): row keys [B, L, ...] and "row", int64 [B, L].

        `is_first` is forced on the first row of each window. Raises LookupError if rows were evicted since
        the draw.
        """
        with self.lock:
            starts = draw.rows.copy()
            batch, length = len(starts), length or self.length
            shape = (batch, length)
            obs = [np.empty((*shape, c.nbytes), np.uint8) for c in self.layout.obs]
            latents = [np.empty((*shape, c.nbytes), np.uint8) for c in self.layout.latent]
            losses = self.counts["corrupt"]
            for index in range(batch):
                done = False
                while not done:
                    if self.counts["corrupt"] > losses and self.sampler.start(int(starts[index])) is None:
                        starts[index] = self._replacement(self.last_loss)  # its rows were lost a moment ago
                    done = self._read_window(int(starts[index]), index, obs, latents)
        result = unpack(self.layout.obs, obs)
        result.update(unpack(self.layout.latent, latents))
        result["is_first"][:, 0] = True
        result["row"] = starts[:, None] + np.arange(length)
        return result

    def sample(self, batch: int) -> dict[str, np.ndarray]:
        """`gather(draw(batch))` as one operation, whatever other threads do."""
        with self.lock:
            return self.gather(self.draw(batch))

    def aside(self, index: int) -> np.random.Generator:
        """Random numbers of draw `index` of a phase that draws aside: those of the sampler stay as they are."""
        return np.random.default_rng([self.seed, index])

    def sample_part(
        self, batch: int, length: int, random: np.random.Generator | None = None
    ) -> dict[str, np.ndarray]:
        """Windows of `length` rows, each at a random place of a drawn one of L rows; nothing comes from the queue.

        They are drawn by `random`, or else by the sampler's generator. Raises LookupError while there is no window.
        """
        with self.lock:
            if not self.sampler.total:
                raise LookupError("replay holds no window to draw")
            self._count(batch, length - self.context)
            rows = np.array(self.sampler.uniform(batch, random), np.int64)
            rows += (random or self.sampler.random).integers(self.length - length + 1, size=batch)
            return self.gather(Draw(rows, np.ones(batch, np.uint8)), length)

    def sample_episodes(
        self, batch: int, length: int = 0, random: np.random.Generator | None = None
    ) -> dict[str, np.ndarray]:
        """Windows of `length` rows (0: L) that begin with an episode, uniformly over the episodes.

        They are drawn by `random`, or else by the sampler's generator. LookupError where there is none.
        """
        with self.lock:
            if self.episodes is None:
                self.episodes = EpisodeStarts()
                self.episodes.find_all(self)
            rows = self.episodes.draw(self, batch, random)
            self._count(batch, (length or self.length) - self.context)
            return self.gather(Draw(rows, np.ones(batch, np.uint8)), length)

    def sweep(self, batch: int, length: int, context: int, index: int) -> dict[str, np.ndarray]:
        """Batch `index` of those that train on every stored row once; the last one is filled from the beginning."""
        with self.lock:
            starts = sweep_starts(self, length, context)
            if not len(starts):
                raise LookupError("replay holds no stream that is long enough for a sweep")
            rows = starts[(index * batch + np.arange(batch)) % len(starts)]
            self._count(batch, length)
            return self.gather(Draw(rows, np.ones(batch, np.uint8)), context + length)

    def sweep_updates(self, batch: int, length: int, context: int) -> int:
        """Batches of a `sweep`."""
        with self.lock:
            return -(-len(sweep_starts(self, length, context)) // batch)

    def _count(self, batch: int, trained: int) -> None:
        self.counts["windows"] += batch
        self.counts["served_rows"] += batch * trained

    def stats(self) -> dict[str, float]:
        """Sizes, counters and what the storage costs."""
        with self.lock:
            return audit.stats(self)

    def take_problems(self) -> list[str]:
        """Losses and failed writes since the last call, one line each, to be shown to the user."""
        with self.lock:
            taken = list(self.problems)
            self.problems.clear()
            return taken

    def digest(self) -> str:
        """Hash of everything that decides later batches: rows, latents, priorities, sampler."""
        with self.lock:
            return audit.digest(self)

    # Files.

    def save(self, directory: Path | str) -> dict[str, Any]:
        """Writes what changed since the last save to `directory`; returns the JSON-able manifest for `load`.

        "cost" in it tells rows, bytes and seconds. Raises SaveError (an OSError), leaving earlier saves
        intact.
        """
        with self.lock:
            return persist.save(self, Path(directory).resolve())

    def check(self, directory: Path | str, manifest: Any, source: PathLike) -> None:
        """Raises what `load` would raise for a manifest, read from the file `source`; changes nothing."""
        restore.check(self, Path(directory).resolve(), manifest, source)

    def load(
        self, directory: Path | str, manifest: dict[str, Any], source: PathLike = "the manifest"
    ) -> list[str]:
        """Replaces the content by that of a save; returns one line for each loss through damaged files.

        Streams go on where they were if the next row does (JAX environments that were restored); a row that
        is `is_first` without an `is_last` before it begins a new stream. Raises UserError if spaces or sizes
        don't fit.
        """
        with self.lock:
            return restore.load(self, Path(directory).resolve(), manifest, source)

    def collect_garbage(self, manifests: Iterable[dict[str, Any]]) -> list[str]:
        """Deletes files that neither this replay nor one of these manifests (all that are kept) needs."""
        with self.lock:
            return persist.collect_garbage(self, manifests)

    # Internals.

    def check_capacity(self, chunk: int) -> None:
        """Raises UserError unless the capacity holds enough rows for chunks of this length."""
        check_capacity(
            self.capacity_rows,
            num_envs=self.num_envs,
            length=self.length,
            chunk=chunk,
            min_starts=self.config.min_starts,
            row_bytes=self.layout.row_bytes if self.capacity_bytes else 0,
        )

    @property
    def capacity_rows(self) -> int:
        """Rows that fit, by whichever of the two capacities is smaller."""
        rows = self.capacity_bytes // self.layout.row_bytes if self.capacity_bytes else self.capacity
        return min(rows, self.capacity)

    def _chunk_rows(self) -> int:
        """Rows of a chunk: as configured, or fewer where the capacity holds only few per environment."""
        chunk = min(self.config.chunk, (self.capacity_rows // self.num_envs - self.length) // 2)
        self.check_capacity(chunk)
        return chunk

    def _pack(self, rows: dict[str, Any]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        leading = (self.num_envs,)
        try:
            self.layout.check_keys(rows)
            return pack(self.layout.obs, rows, leading), pack(self.layout.latent, rows, leading)
        except NonFinite as error:
            self.counts["refused"] += 1
            env = error.where[0]
            raise BadRow(
                f"environment {env} gave the non-finite value {error.value} in {error.key!r} at index "
                f"{list(error.where[1:])} of its step {self.sampler.clock}: the row was refused"
                + (" (a latent: look at the agent)" if error.key.startswith(LATENT) else "")
            ) from None

    def _open(self, lane: Lane) -> Chunk:
        """A new chunk for the next row of `lane`."""
        before = lane.open
        if lane.stream < 0:
            lane.stream, lane.rows, lane.base = self.next_stream, 0, 0
            self.next_stream += 1
        body = RawBody(self.obs_pool.take())
        chunk = Chunk(self.next_seq, lane.index, lane.stream, lane.rows, self.sampler.clock, body, self.chunk)
        self.next_seq += 1
        chunk.latents = self.latent_pool.take()
        if self.sampler.tree:
            chunk.priority = np.zeros(self.chunk, np.float32)
        if before is not None:
            before.next = chunk
            self._retire(before)
        lane.open = chunk
        lane.tail = lane.tail or chunk
        self.chunks.append(chunk)
        self.bytes_used += body.nbytes + self.chunk * self.layout.latent_bytes
        self.sampler.insert(chunk)
        return chunk

    def _retire(self, chunk: Chunk) -> None:
        """No more rows come to this chunk."""
        if isinstance(chunk.body, RawBody):
            self.hot.append(chunk)

    def _extend(self, lane: Lane) -> None:
        """The newest row of `lane` completed a window."""
        assert lane.tail is not None and lane.open is not None
        if lane.tail.valid == self.chunk:
            assert lane.tail.next is not None
            lane.tail = lane.tail.next
        self.sampler.grow(lane.tail, lane.open)

    def _make_room(self) -> None:
        """Evicts the oldest chunks until one more row per environment fits."""
        while self.rows + self.num_envs > self.capacity and self._evict():
            pass
        if self.capacity_bytes:
            new = sum(lane.open is None or lane.open.rows == self.chunk for lane in self.lanes)
            need = new * self.chunk * self.layout.row_bytes
            while self.bytes_used + need > self.capacity_bytes and self._evict():
                pass

    def _evict(self) -> bool:
        chunk = self.chunks[0] if self.chunks else None
        if chunk is None or any(chunk is lane.open or chunk is lane.tail for lane in self.lanes):
            return False
        self.chunks.popleft()
        self.counts["evicted_rows"] += chunk.rows
        self._drop(chunk)
        return True

    def _drop(self, chunk: Chunk) -> None:
        """Forgets a chunk that is no longer listed and recycles its memory."""
        self.rows -= chunk.rows
        self.bytes_used -= chunk.body.nbytes + self.chunk * self.layout.latent_bytes
        self.sampler.remove(chunk)
        self.sampler.disable_head(chunk.next)
        if chunk in self.hot:
            self.hot.remove(chunk)
        if isinstance(chunk.body, RawBody):
            self.obs_pool.give(chunk.body.columns)
        self.latent_pool.give(chunk.latents)
        chunk.latents, chunk.next = [], None

    def _lose(self, chunk: Chunk, reason: str) -> None:
        """Drops a chunk whose file turned out to be damaged."""
        rows = f"rows {chunk.start} to {chunk.start + chunk.rows - 1} of stream {chunk.stream}"
        self.last_loss = f"{reason}: dropped {rows}"
        self.problems.append(self.last_loss)
        self.counts["corrupt"] += 1
        self.chunks.remove(chunk)
        self._drop(chunk)
        relink(self)

    def _replacement(self, reason: str) -> int:
        if not self.sampler.total:
            raise LookupError(f"replay holds no intact window any more: {reason}")
        return self.sampler.uniform(1)[0]

    def _read_window(self, start: int, index: int, obs: list[np.ndarray], latents: list[np.ndarray]) -> bool:
        """Copies one window into entry `index` of the outputs; drops a damaged chunk and returns False."""
        found = self.sampler.find(start)
        if found is None:
            raise LookupError(f"row {start} was evicted between draw and gather")
        (chunk, offset), length = found, obs[0].shape[1]
        done = 0
        while True:
            count = min(length - done, chunk.rows - offset)
            try:
                for column, out in enumerate(obs):
                    chunk.body.read(column, offset, out[index, done : done + count])
            except Damaged as error:
                self._lose(chunk, str(error))
                return False
            for source, out in zip(chunk.latents, latents):
                out[index, done : done + count] = source[offset : offset + count]
            done += count
            if done == length:
                return True
            if chunk.next is None:
                raise LookupError(f"the rows after {start} were lost between draw and gather")
            chunk, offset = chunk.next, 0

    def _runs(self, rows: np.ndarray):
        """Splits rows [B, T] into runs of consecutive stored ones: (b, begin, end, chunk, offset)."""
        for index, ids in enumerate(rows):
            breaks = np.flatnonzero(np.diff(ids) != 1) + 1
            for begin, end in zip([0, *breaks.tolist()], [*breaks.tolist(), len(ids)]):
                while begin < end:
                    row = int(ids[begin])
                    found = self.sampler.find(row)
                    room = self.chunk - (row & POSITION_MASK) % self.chunk
                    if found is None:
                        begin += min(room, end - begin)
                        continue
                    chunk, offset = found
                    count = min(end - begin, chunk.rows - offset)
                    yield index, begin, begin + count, chunk, offset
                    begin += count
