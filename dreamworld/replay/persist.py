"""Incremental persistence: each save writes one file of new rows and one of changed latents, and a manifest.

`rows-*.dwr` holds observations that no earlier file holds; `latents-*.dwl` the latents (and priorities)
changed since the last save, each row once. When the latent files hold more than twice the rows that live, the
next one holds all of them and replaces the rest. Files are never changed; `collect_garbage` removes those
that no snapshot refers to.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from dreamworld import words
from dreamworld.errors import UserError
from dreamworld.reading import BadFile
from dreamworld.replay.chunks import Chunk, RawBody, encode_blocks
from dreamworld.replay.disk import Piece, row_sums
from dreamworld.replay.files import QUARANTINE, FileWriter, SaveError, list_files
from dreamworld.replay.journals import write_latents
from dreamworld.replay.layout import Column
from dreamworld.replay.manifest import VERSION, needed_files
from dreamworld.replay.state import ReplayState
from dreamworld.replay.store import NAME, Store


def save(replay: ReplayState, directory: Path) -> dict[str, Any]:
    """Writes what changed since the last save; returns the manifest that `load` takes. Raises SaveError."""
    try:
        return _save(replay, directory)
    except SaveError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE) or not replay.files.release():
            raise
    return save(replay, directory)  # with the descriptors that reading had


def _save(replay: ReplayState, directory: Path) -> dict[str, Any]:
    begin = time.perf_counter()
    store = adopt(replay, directory)
    store.sync()
    fresh = [c for c in replay.chunks if c.saved < c.rows]
    rows = sum(c.rows - c.saved for c in fresh)
    obs_bytes = write_rows(replay, store, fresh) if fresh else 0
    latent_rows, latent_bytes, compacted = write_latents(replay, store)
    return {
        "version": VERSION,
        "layout": replay.layout.describe(),
        "chunk": replay.chunk,
        "files": sorted({name for c in replay.chunks for name in c.files}),
        "journals": list(store.journals),
        "journal_rows": store.journal_rows,
        "chunks": [[c.seq, c.lane, c.stream, c.start, c.clock, c.rows, c.slot] for c in replay.chunks],
        "lanes": [[lane.stream, lane.rows, lane.ended] for lane in replay.all_lanes],
        "next_seq": replay.next_seq,
        "next_stream": replay.next_stream,
        "sampler": replay.sampler.state(),
        "counts": dict(replay.counts),
        "cost": {
            "rows": rows,
            "obs_bytes": obs_bytes,
            "latent_rows": latent_rows,
            "latent_bytes": latent_bytes,
            "compacted": compacted,
            "seconds": time.perf_counter() - begin,
        },
    }


def adopt(replay: ReplayState, directory: Path) -> Store:
    """The store of `directory`; when it is another one than before, everything counts as unsaved."""
    if replay.store is not None and replay.store.directory == directory:
        if replay.config.storage != "disk":
            count_missing_as_unsaved(replay, replay.store)
        return replay.store
    if replay.config.storage == "disk" and replay.directory != directory:
        raise UserError(
            f"replay lives in {replay.directory} (replay.storage disk) and can't be saved to {directory}"
        )
    try:
        directory.mkdir(parents=True, exist_ok=True)
        store = Store(directory)
    except OSError as error:
        raise SaveError(error.errno, f"replay was not saved: {error.strerror}", str(directory)) from error
    for chunk in replay.chunks:
        chunk.saved, chunk.files = 0, []
        chunk.dirty[: chunk.rows] = True
    replay.store = store
    return store


def count_missing_as_unsaved(replay: ReplayState, store: Store) -> None:
    """Files that somebody removed are written again, as memory holds what was in them."""
    names = {name for chunk in replay.chunks for name in chunk.files} | set(store.journals)
    missing = names - {path.name for path in list_files(store.directory)}
    if not missing:
        return
    replay.problems.append(
        f"missing in {store.directory}, and written again: {words.count(len(missing), 'file')}"
    )
    for chunk in replay.chunks:
        if missing.intersection(chunk.files):
            chunk.saved, chunk.files = 0, []
        if missing.intersection(store.journals):
            chunk.dirty[: chunk.rows] = True
    if missing.intersection(store.journals):
        store.journals, store.journal_rows = [], 0


def write_rows(replay: ReplayState, store: Store, chunks: list[Chunk], sync: bool = True) -> int:
    """Writes the unsaved rows of some chunks into one file; returns its size."""
    path = store.new_path("rows")
    raw = replay.config.storage == "disk"
    records, sums = [], []
    with FileWriter(path) as file:
        for chunk in chunks:
            count = chunk.rows - chunk.saved
            columns = [read_rows(chunk, i, chunk.saved, count, c) for i, c in enumerate(replay.layout.obs)]
            record: dict[str, Any] = {"stream": chunk.stream, "start": chunk.start}
            record.update(first=chunk.saved, rows=count)
            if raw:
                record["columns"] = [file.section(c) for c in columns]
                sums.append(np.stack([row_sums(c) for c in columns]))
                record["sums"] = file.section(sums[-1])
            else:
                encoded = [encode_blocks(c) for c in columns]
                record["columns"] = [file.section(blob) for blob, _ in encoded]
                record["ends"] = [ends for _, ends in encoded]
            records.append(record)
        codec = "raw" if raw else "lz4"
        size = file.close({"kind": "rows", "version": VERSION, "codec": codec, "records": records}, sync)
    for index, (chunk, record) in enumerate(zip(chunks, records)):
        if raw:
            places = tuple(section[0] for section in record["columns"])
            chunk.pieces.append(Piece(path, chunk.saved, record["rows"], places, sums[index]))
        chunk.saved = chunk.rows
        chunk.files.append(path.name)
    return size


def read_rows(chunk: Chunk, index: int, first: int, count: int, column: Column) -> np.ndarray:
    """Rows [count, nbytes] of a column; a view where the chunk is raw."""
    if isinstance(chunk.body, RawBody):
        return chunk.body.columns[index][first : first + count]
    out = np.empty((count, column.nbytes), np.uint8)
    chunk.body.read(index, first, out)
    return out


def collect_garbage(replay: ReplayState, manifests: Iterable[dict[str, Any]]) -> list[str]:
    """Deletes files of the directory that neither the replay nor any manifest needs, and unfinished ones.

    Call it after a snapshot is complete, with the manifests of all snapshots that are kept. Returns the
    names.
    """
    if replay.store is None:
        return []
    keep = {name for chunk in replay.chunks for name in chunk.files} | set(replay.store.journals)
    try:
        keep |= needed_files(manifests)
    except BadFile as error:
        replay.problems.append(f"no old replay file is deleted: a checkpoint can't be read: {error}")
        return []
    removed = []
    try:
        for path in list_files(replay.store.directory):
            if NAME.fullmatch(path.name) and path.name not in keep and path.parent.name != QUARANTINE:
                path.unlink(missing_ok=True)
                replay.files.forget(path)
                replay.store.unsynced = [p for p in replay.store.unsynced if p != path]
                removed.append(path.name)
    except OSError as error:
        replay.problems.append(
            f"replay files that nothing needs were not deleted: {error}; tried again later"
        )
    return sorted(removed)
