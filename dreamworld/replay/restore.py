"""Loads what `persist` wrote. Every byte is checked; damage costs the chunks it hits, each loss is named."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from dreamworld import words
from dreamworld.errors import UserError
from dreamworld.fields import Fields
from dreamworld.reading import BadFile, PathLike, inside
from dreamworld.replay import patience
from dreamworld.replay.chunks import Chunk, RawBody, decode_blocks
from dreamworld.replay.disk import DiskBody, Piece
from dreamworld.replay.files import Damaged, read_section, read_table, report, understood
from dreamworld.replay.journals import load_latents
from dreamworld.replay.links import relink
from dreamworld.replay.manifest import COUNT, SLOT, START, STREAM, Manifest, read_manifest, read_records
from dreamworld.replay.memory import USABLE, available_memory
from dreamworld.replay.state import Lane, ReplayState
from dreamworld.replay.store import Store
from dreamworld.replay.tiers import cool
from dreamworld.text import printable

TOLD = 20  # losses that are named one by one

Records = dict[tuple[int, int], list[tuple[Path, str, Fields]]]  # by (stream, start): path, codec, record


def load(
    replay: ReplayState, directory: Path, manifest: dict[str, Any], source: PathLike = "the manifest"
) -> list[str]:
    """Replaces the content of `replay`; returns a line per loss. Raises UserError if it does not fit.

    `source` is the file that the manifest was read from. BadFile, before anything changed, where it is damaged.
    What the system does not give is no loss: it raises BlockedFile, and all files stay where they are.
    """
    found = check(replay, directory, manifest, source)
    replay.clear(chunk=found.chunk)
    replay.store = patience.read(lambda: Store(directory), directory)
    problems: list[str] = []
    records = _index(directory, found.files, problems)
    entries = _in_files(found, records, problems)
    _check_memory(replay, found, len(entries))
    _restore_sampler(replay, found)
    for entry in entries:
        chunk = _load_chunk(replay, entry, records, problems)
        if chunk is not None:
            replay.chunks.append(chunk)
            replay.rows += chunk.rows
            replay.bytes_used += chunk.body.nbytes + replay.chunk * replay.layout.written_bytes
            replay.sampler.insert(chunk)
            if isinstance(chunk.body, RawBody) and not _is_open(chunk, found, replay):
                replay.hot.append(chunk)
                cool(replay)
    load_latents(replay, found, problems)
    _restore_lanes(replay, found)
    relink(replay)
    replay.counts["corrupt"] += len(problems)
    more = len(problems) - TOLD
    return problems[:TOLD] + (
        [f"and {words.count(more, 'more loss', 'more losses')} of replay rows or latents"] if more > 0 else []
    )


def check(replay: ReplayState, directory: Path, manifest: Any, source: PathLike) -> Manifest:
    """The manifest, checked; BadFile where it is damaged, UserError where it does not fit. Changes nothing."""
    found = read_manifest(Fields(manifest, source, "replay"))
    for name in [*found.files, *found.journals]:
        inside(directory, name)
    ours, theirs = replay.layout.describe(), found.layout
    if ours != theirs:
        keys = sorted(k for k in ours.keys() | theirs.keys() if ours.get(k) != theirs.get(k))
        details = "; ".join(f"{k}: saved {theirs.get(k, 'none')}, now {ours.get(k, 'none')}" for k in keys)
        raise UserError(f"the saved replay does not fit this environment and agent: {printable(details)}")
    replay.check_capacity(found.chunk)
    if not replay.sampler.takes(found.sampler.row):
        raise BadFile(source, "replay.sampler.random is no state of this random generator")
    return found


def _index(directory: Path, names: list[str], problems: list[str]) -> Records:
    """Where the rows of each chunk are; unreadable files go to quarantine."""
    records: Records = defaultdict(list)
    for name in names:
        path = inside(directory, name)
        try:
            table, size = read_table(path)
            for record in read_records(table, "rows", path, size):
                place = record.get("stream"), record.get("start")
                records[place].append((path, table["codec"], record))
        except Damaged as error:
            problems.append(report(path, error))
    return records


def _in_files(manifest: Manifest, records: Records, problems: list[str]) -> list[list[int]]:
    """The chunks of which some file holds rows; the others are told together."""
    entries = manifest.chunks.tolist()
    there = [entry for entry in entries if (entry[STREAM], entry[START]) in records]
    if len(there) < len(entries):
        rows = sum(entry[COUNT] for entry in entries) - sum(entry[COUNT] for entry in there)
        problems.append(
            f"{words.count(len(entries) - len(there), 'chunk')} of {words.count(rows, 'row')} dropped: they "
            f"are in no file"
        )
    return there


def _check_memory(replay: ReplayState, manifest: Manifest, chunks: int) -> None:
    """Raises BadFile where the chunks would take more memory than there is, before any is taken."""
    layout = replay.layout
    row = layout.written_bytes + (layout.obs_bytes if replay.config.storage == "raw" else 0)
    free, _ = patience.read(available_memory, Path("/proc/meminfo"))
    need = chunks * manifest.chunk * row
    if need > USABLE * free:
        raise BadFile(
            manifest.path,
            f"lists {words.count(chunks, 'chunk')} of {words.count(manifest.chunk, 'row')}, which need "
            f"{words.size(need)} of memory; "
            f"{words.size(free)} are available",
        )


def _restore_sampler(replay: ReplayState, manifest: Manifest) -> None:
    sampler = replay.sampler
    sampler.restore(manifest.sampler.row)
    if sampler.tree:
        used = manifest.chunks[manifest.chunks[:, SLOT] >= 0, SLOT].tolist()
        sampler.tree.reserve(used, manifest.sampler.items("free_slots", int))
    replay.next_seq, replay.next_stream = manifest.next_seq, manifest.next_stream
    replay.counts.update({k: v for k, v in manifest.counts.items() if k in replay.counts})


def _is_open(chunk: Chunk, manifest: Manifest, replay: ReplayState) -> bool:
    """Whether a lane goes on writing this chunk."""
    rows = {saved[0]: saved[1] for _, saved in _lanes(replay, manifest)}
    return rows.get(chunk.stream) == chunk.start + chunk.rows


def _load_chunk(replay: ReplayState, entry: list[int], records: Records, problems: list[str]) -> Chunk | None:
    seq, lane, stream, start, clock, rows, slot = entry
    body = RawBody(replay.obs_pool.take())
    chunk = Chunk(seq, lane, stream, start, clock, body, replay.chunk)
    chunk.rows, chunk.slot = rows, slot if replay.sampler.tree else -1
    present = np.zeros(rows, bool)
    raw = True
    for path, codec, record in records.get((stream, start), []):
        first = record.get("first")
        count = min(record.get("rows"), rows - first)
        if count <= 0:
            continue
        try:
            with understood("has impossible records"):
                sums = _read_rows(replay, path, codec, record, body, first, count)
        except Damaged as error:
            problems.append(
                f"{path.name} {error}: dropped rows {start} to {start + rows - 1} of stream {stream}"
            )
            return _release(replay, chunk)
        present[first : first + count] = True
        chunk.files.append(path.name)
        raw = raw and codec == "raw"
        if codec == "raw":
            chunk.pieces.append(Piece(path, first, count, tuple(s[0] for s in record.get("columns")), sums))
    if not present.all():
        lost = int((~present).sum())
        problems.append(
            f"rows {start} to {start + rows - 1} of stream {stream} dropped: {lost} are in no file"
        )
        return _release(replay, chunk)
    _settle(replay, chunk, raw)
    return chunk


def _release(replay: ReplayState, chunk: Chunk) -> None:
    assert isinstance(chunk.body, RawBody)
    replay.obs_pool.give(chunk.body.columns)


def _settle(replay: ReplayState, chunk: Chunk, raw: bool) -> None:
    """Notes what is saved, and leaves full chunks of the disk storage where they are."""
    chunk.written = replay.written_pool.take()
    for array in chunk.written:
        array[:] = 0
    if replay.sampler.tree:
        chunk.priority = np.full(replay.chunk, replay.sampler.max_priority, np.float32)
    chunk.saved = chunk.rows
    if replay.config.storage != "disk":
        chunk.pieces = []
    elif not raw:  # saved by another storage: the disk storage reads raw rows only
        chunk.saved, chunk.files, chunk.pieces = 0, [], []
    elif chunk.rows == replay.chunk:
        assert isinstance(chunk.body, RawBody)
        replay.obs_pool.give(chunk.body.columns)
        chunk.body = DiskBody(chunk.pieces, chunk.rows * replay.layout.obs_bytes, replay.files)


def _read_rows(
    replay: ReplayState, path: Path, codec: str, record: Fields, body: RawBody, first: int, count: int
) -> np.ndarray:
    """Reads one record into `body`; returns the checksums of its rows (raw) or nothing."""
    rows, columns = record.get("rows"), record.get("columns")
    if len(columns) != len(replay.layout.obs):
        raise Damaged(f"has {words.count(len(columns), 'column')} instead of {len(replay.layout.obs)}")
    sums = np.zeros((len(replay.layout.obs), count), np.uint32)
    with patience.open_data(path) as file:
        for index, column in enumerate(replay.layout.obs):
            data = read_section(file, columns[index], path)
            if codec == "raw":
                values = np.frombuffer(data, np.uint8).reshape(rows, column.nbytes)
            else:
                values = decode_blocks(data, record.get("ends")[index], rows, column.nbytes)
            body.columns[index][first : first + count] = values[:count]
        if codec == "raw":
            shape = (len(replay.layout.obs), rows)
            sums = np.frombuffer(read_section(file, record.get("sums"), path), np.uint32).reshape(shape)[
                :, :count
            ]
    return sums


def _restore_lanes(replay: ReplayState, manifest: Manifest) -> None:
    """Lanes go on where they were; one whose newest chunk was lost begins a new stream."""
    newest = {c.stream: c for c in replay.chunks}
    for lane, (stream, rows, ended) in _lanes(replay, manifest):
        chunk = newest.get(stream)
        if chunk is not None and chunk.start + chunk.rows == rows:
            lane.stream, lane.rows, lane.ended, lane.open = stream, rows, ended, chunk


def _lanes(replay: ReplayState, manifest: Manifest) -> list[tuple[Lane, tuple[int, int, bool]]]:
    """The lanes and what was saved of them, for as many environments as both have."""
    saved = manifest.lanes
    each = len(saved) // 2 if replay.held_out else len(saved)
    return [*zip(replay.lanes, saved[:each]), *zip(replay.held_lanes, saved[each:])]
