"""The files of what training writes back, latents, extras and priorities: each save adds one of what changed.

`latents-*.dwl`: for each chunk the offsets of some rows, then their bytes in each written column, then priorities.
Read in order, later files replace what earlier ones said of a row.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dreamworld import words
from dreamworld.fields import Fields
from dreamworld.reading import inside
from dreamworld.replay import patience
from dreamworld.replay.chunks import Chunk
from dreamworld.replay.files import Damaged, FileWriter, read_section, read_table, report, understood
from dreamworld.replay.manifest import VERSION, Manifest, read_records
from dreamworld.replay.state import ReplayState
from dreamworld.replay.store import Store

REWRITE = 1 << 60  # as if the files held this many rows: the next save writes all of them anew


def write_latents(replay: ReplayState, store: Store) -> tuple[int, int, bool]:
    """Writes the changed latents; returns rows, bytes and whether all of them were written anew."""
    chunks = list(replay.chunks)
    changed = sum(int(c.dirty.sum()) for c in chunks)
    compact = (
        store.journal_rows + changed > 2 * replay.rows
    )  # also where a file was damaged, see restore.REWRITE
    if not chunks or not (changed or compact or not store.journals):
        return 0, 0, False
    records, path = [], store.new_path("latents")
    with FileWriter(path) as file:
        for chunk in chunks:
            offsets = np.arange(chunk.rows) if compact else np.flatnonzero(chunk.dirty)
            if not len(offsets):
                continue
            arrays = chunk.written if chunk.priority is None else [*chunk.written, chunk.priority]
            sections = [file.section(offsets.astype(np.uint32))]
            sections += [file.section(a[: chunk.rows] if compact else a[offsets]) for a in arrays]
            records.append({"stream": chunk.stream, "start": chunk.start, "sections": sections})
        priority = replay.sampler.tree is not None
        size = file.close({"kind": "latents", "version": VERSION, "priority": priority, "records": records})
    for chunk in chunks:
        chunk.dirty[:] = False
    written = replay.rows if compact else changed
    store.journals = [path.name] if compact else [*store.journals, path.name]
    store.journal_rows = written if compact else store.journal_rows + changed
    return written, size, compact


def load_latents(replay: ReplayState, manifest: Manifest, problems: list[str]) -> None:
    """Applies the latent files in order. Chunks that one of them lost start again from zero latents."""
    store = replay.store
    assert store is not None
    store.journal_rows = manifest.journal_rows
    before = len(problems)
    chunks = {(c.stream, c.start): c for c in replay.chunks}
    for name in manifest.journals:
        path = inside(store.directory, name)
        try:
            table, size = read_table(path)
            records = read_records(table, "latents", path, size)
        except Damaged as error:
            problems.append(report(path, error) + ": latents of all rows start again from zero")
            for chunk in chunks.values():
                _forget_latents(chunk)
            continue
        store.journals.append(name)
        with patience.open_data(path) as file:
            for record in records:
                chunk = chunks.get((record.get("stream"), record.get("start")))
                if chunk is None:
                    continue
                try:
                    with understood("has impossible records"):
                        _apply(chunk, file, path, record, table["priority"])
                except Damaged as error:
                    where = f"rows {chunk.start} to {chunk.start + chunk.rows - 1} of stream {chunk.stream}"
                    problems.append(f"{name} {error}: latents of {where} start again from zero")
                    _forget_latents(chunk)
    if len(problems) > before:
        store.journal_rows = REWRITE


def _apply(chunk: Chunk, file: Any, path: Path, record: Fields, priority: bool) -> None:
    data = [read_section(file, section, path) for section in record.get("sections")]
    if len(data) != 1 + len(chunk.written) + priority:
        raise Damaged(
            f"has {words.count(len(data), 'section')} instead of {1 + len(chunk.written) + priority}"
        )
    offsets = np.frombuffer(data[0], np.uint32)
    for array, values in zip(chunk.written, data[1:]):
        array[offsets] = np.frombuffer(values, np.uint8).reshape(len(offsets), array.shape[1])
    if priority and chunk.priority is not None:
        found = np.frombuffer(data[-1], np.float32)
        if not (np.isfinite(found).all() and (found >= 0).all()):
            raise Damaged("has priorities that are none")
        chunk.priority[offsets] = found


def _forget_latents(chunk: Chunk) -> None:
    for array in chunk.written:
        array[:] = 0
