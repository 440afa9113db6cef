"""Replay of per-environment streams of rows: add, draw, gather, write back (see docs/replay.md).

Rows of one environment form streams, stored in chunks of fixed length. A window of L rows may run over chunk
and episode borders of a stream, never from one stream into another. A row's id is its stream and position,
never reused.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from dreamworld.contract import Mix, Window
from dreamworld.reading import PathLike
from dreamworld.replay import audit, lanes, persist, refresh, restore
from dreamworld.replay.gather import gather
from dreamworld.replay.sampling import HELD_OUT, ONLINE, UNIFORM, Draw
from dreamworld.replay.state import ReplayState
from dreamworld.replay.windows import EpisodeStarts, sweep_starts
from dreamworld.types import Array

__all__ = ["Draw", "Replay"]


class Replay(ReplayState):
    """Thread-safe replay with the same sampling in all storages.

    Args:
      spaces: of the flat row keys `obs/…`, `action/…`, `reward`, `is_first`, `is_last`, `is_terminal`,
      `latent/…`, `extra/…`. config: options; `capacity_steps` here overrides the configured one. length: rows L of a
      window, `context` of which come before the trained ones. directory: for files; needed by the disk
      storage. seed: of the draws. mixes: by which `sample` is asked to draw, beside the configured one. held_out: share
      of the episodes that are stored and never drawn for training.
    """

    # Writing.

    def add(self, rows: dict[str, Any]) -> np.ndarray:
        """Appends one row per environment, arrays [N, ...]; returns their ids [N].

        A row that is `is_first` although the one before was not `is_last` (an environment that was rebuilt, a
        restart) begins a new stream. Raises BadRow, before anything changed, naming environment, key and
        step.
        """
        with self.lock:
            return lanes.add(self, rows)

    def write_back(self, rows: np.ndarray, values: dict[str, Any]) -> None:
        """Replaces latents and extras, all or some, of rows [B, T] by [B, T, ...].

        Evicted rows are skipped, later entries win. Raises UserError for a key that is not stored, or not finite.
        """
        refresh.write_back(self, np.asarray(rows, np.int64), values)

    def update_priorities(self, rows: np.ndarray, priorities: Array) -> None:
        """Sets the priorities [B, T] of rows [B, T]; a window is drawn by the mean of its trained rows.

        Without prioritised sampling nothing happens. Raises UserError for negative or non-finite values.
        """
        if self.sampler.tree is not None:
            refresh.update_priorities(self, np.asarray(rows, np.int64), priorities)

    # Reading.

    @property
    def starts(self) -> int:
        """Valid window starts."""
        return self.sampler.total

    @property
    def ready(self) -> bool:
        """Whether there are enough starts for the first update."""
        return self.sampler.total >= max(self.config.min_starts, 1)

    def draw(self, batch: int, mix: Mix | None = None) -> Draw:
        """Decides on the next windows, by `mix` or as configured; advances the sampler.

        Raises LookupError while there is no window.
        """
        with self.lock:
            draw = self.sampler.draw(batch, mix)
            self._count(batch, self.length - self.context)
            self.counts["online"] += int((draw.kinds == ONLINE).sum())
            return draw

    def gather(self, draw: Draw, length: int = 0) -> dict[str, np.ndarray]:
        """Reads windows of `length` rows (0: L): row keys [B, L, ...] and "row", int64 [B, L].

        A draw by priority with `replay.beta` has "weight", too, float32 [B]: importance weights, the largest being 1.
        `is_first` is forced on the first row of each window. Raises LookupError if rows were evicted since
        the draw.
        """
        with self.lock:
            return gather(self, draw, length or self.length)

    def sample(self, batch: int, mix: Mix | None = None) -> dict[str, np.ndarray]:
        """`gather(draw(batch, mix))` as one operation, whatever other threads do."""
        with self.lock:
            return self.gather(self.draw(batch, mix))

    def aside(self, index: int) -> np.random.Generator:
        """Random numbers of draw `index` of a phase that draws aside: those of the sampler stay as they are."""
        return np.random.default_rng([self.seed, index])

    def sample_part(
        self,
        batch: int,
        length: int,
        random: np.random.Generator | None = None,
        mix: Mix | None = None,
    ) -> dict[str, np.ndarray]:
        """Windows of `length` rows, each at a random place of one of L rows: drawn by `mix`, or else uniformly.

        They are drawn by `random`, or else by the sampler's generator. Raises LookupError while there is no window.
        """
        with self.lock:
            if not self.sampler.total:
                raise LookupError("replay holds no window to draw")
            self._count(batch, length - self.context)
            draw = self.sampler.draw(batch, mix) if mix else self._uniform(batch, random)
            rows = draw.rows + (random or self.sampler.random).integers(self.length - length + 1, size=batch)
            return self.gather(draw._replace(rows=rows), length)

    def _uniform(self, batch: int, random: np.random.Generator | None) -> Draw:
        rows = np.array(self.sampler.uniform(batch, random), np.int64)
        return Draw(rows, np.full(batch, UNIFORM, np.uint8))

    def weighs(self, window: Window) -> bool:
        """Whether the batches of a window have importance weights."""
        if (window.order, window.align) != ("draw", "row"):
            return False
        whole = window.context + window.length >= self.length
        return self.sampler.weighs(window.mix or (self.sampler.mix if whole else Mix()))

    def sample_held_out(self, batch: int, index: int = 0) -> dict[str, np.ndarray]:
        """Windows of held-out episodes, uniformly over them: a function of seed, rows and `index` alone.

        It changes no later draw. LookupError where there is none yet.
        """
        with self.lock:
            starts = self.sampler.held_out
            if not starts.total:
                raise LookupError("replay holds no window of a held-out episode")
            random = np.random.default_rng([self.seed, self.sampler.clock, index])
            rows = np.array(starts.draw(random, batch), np.int64)
            return self.gather(Draw(rows, np.full(batch, HELD_OUT, np.uint8)))

    def sample_episodes(
        self, batch: int, length: int = 0, random: np.random.Generator | None = None
    ) -> dict[str, np.ndarray]:
        """Windows of `length` rows (0: L) that begin with an episode, uniformly over the episodes.

        They are drawn by `random`, or else by the sampler's generator. LookupError where there is none.
        """
        with self.lock:
            if self.episodes is None:
                oldest = self.chunks[0].seq if self.chunks else self.next_seq
                self.episodes = EpisodeStarts(self.chunks, self.layout.obs, oldest)
            rows = self.episodes.draw(random or self.sampler.random, batch)
            self._count(batch, (length or self.length) - self.context)
            return self.gather(Draw(rows, np.full(batch, UNIFORM, np.uint8)), length)

    def sweep(self, batch: int, length: int, context: int, index: int) -> dict[str, np.ndarray]:
        """Batch `index` of those that train on every stored row once; the last one is filled from the beginning."""
        with self.lock:
            starts = sweep_starts(self.chunks, length, context)
            if not len(starts):
                raise LookupError("replay holds no stream that is long enough for a sweep")
            rows = starts[(index * batch + np.arange(batch)) % len(starts)]
            self._count(batch, length)
            return self.gather(Draw(rows, np.full(batch, UNIFORM, np.uint8)), context + length)

    def sweep_updates(self, batch: int, length: int, context: int) -> int:
        """Batches of a `sweep`."""
        with self.lock:
            return -(-len(sweep_starts(self.chunks, length, context)) // batch)

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

    def check(self, directory: Path | str, manifest: object, source: PathLike) -> None:
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
