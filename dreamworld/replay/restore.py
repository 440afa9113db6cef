"""Loads what `persist` wrote. Every byte is checked; damage costs the chunks it hits, each loss is named."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dreamworld import words
from dreamworld.errors import UserError
from dreamworld.fields import Fields
from dreamworld.reading import BadFile, BlockedFile, PathLike, inside
from dreamworld.replay import patience
from dreamworld.replay.chunks import Chunk, RawBody, decode_blocks
from dreamworld.replay.disk import DiskBody, Piece
from dreamworld.replay.files import QUARANTINE, Damaged, quarantine, read_section, read_table
from dreamworld.replay.links import relink
from dreamworld.replay.manifest import COUNT, SLOT, START, STREAM, Manifest, read_manifest, read_records
from dreamworld.replay.memory import USABLE, available_memory
from dreamworld.replay.persist import VERSION, Store
from dreamworld.replay.tiers import cool
from dreamworld.text import printable

if TYPE_CHECKING:
    from dreamworld.replay.replay import Replay

TOLD = 20  # losses that are named one by one
REWRITE = 1 << 60  # as if the latent files held this many rows: the next save writes all of them anew

Records = dict[tuple[int, int], list[tuple[Path, str, Fields]]]  # by (stream, start): path, codec, record


def load(
    replay: Replay, directory: Path, manifest: dict[str, Any], source: PathLike = "the manifest"
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
            replay.bytes_used += chunk.body.nbytes + replay.chunk * replay.layout.latent_bytes
            replay.sampler.insert(chunk)
            if isinstance(chunk.body, RawBody) and not _is_open(chunk, found, replay):
                replay.hot.append(chunk)
                cool(replay)
    _load_latents(replay, found, problems)
    _restore_lanes(replay, found)
    relink(replay)
    replay.counts["corrupt"] += len(problems)
    more = len(problems) - TOLD
    return problems[:TOLD] + (
        [f"and {words.count(more, 'more loss', 'more losses')} of replay rows or latents"] if more > 0 else []
    )


def check(replay: Replay, directory: Path, manifest: Any, source: PathLike) -> Manifest:
    """The manifest, checked; BadFile where it is damaged, UserError where it does not fit. Changes nothing."""
    found = read_manifest(Fields(manifest, source, "replay"), VERSION)
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
            problems.append(_report(path, error))
    return records


@contextlib.contextmanager
def _understood(what: str) -> Iterator[None]:
    """Makes Damaged of what goes wrong with content that is not as it was written; BlockedFile stays as it is."""
    try:
        yield
    except BlockedFile:
        raise
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise Damaged(f"{what} ({error!r})") from None


def _report(path: Path, error: Damaged) -> str:
    return f"{path.name} {error}" + (f"; moved to {QUARANTINE}/" if quarantine(path) else "")


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


def _check_memory(replay: Replay, manifest: Manifest, chunks: int) -> None:
    """Raises BadFile where the chunks would take more memory than there is, before any is taken."""
    layout = replay.layout
    row = layout.latent_bytes + (layout.obs_bytes if replay.config.storage == "raw" else 0)
    free, _ = patience.read(available_memory, Path("/proc/meminfo"))
    need = chunks * manifest.chunk * row
    if need > USABLE * free:
        raise BadFile(
            manifest.path,
            f"lists {words.count(chunks, 'chunk')} of {words.count(manifest.chunk, 'row')}, which need "
            f"{words.size(need)} of memory; "
            f"{words.size(free)} are available",
        )


def _restore_sampler(replay: Replay, manifest: Manifest) -> None:
    sampler = replay.sampler
    sampler.restore(manifest.sampler.row)
    if sampler.tree:
        used = manifest.chunks[manifest.chunks[:, SLOT] >= 0, SLOT].tolist()
        sampler.tree.reserve(used, manifest.sampler.items("free_slots", int))
    replay.next_seq, replay.next_stream = manifest.next_seq, manifest.next_stream
    replay.counts.update({k: v for k, v in manifest.counts.items() if k in replay.counts})


def _is_open(chunk: Chunk, manifest: Manifest, replay: Replay) -> bool:
    """Whether a lane goes on writing this chunk."""
    lanes = manifest.lanes[: replay.num_envs]
    return any(stream == chunk.stream and rows == chunk.start + chunk.rows for stream, rows, _ in lanes)


def _load_chunk(replay: Replay, entry: list[int], records: Records, problems: list[str]) -> Chunk | None:
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
            with _understood("has impossible records"):
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


def _release(replay: Replay, chunk: Chunk) -> None:
    assert isinstance(chunk.body, RawBody)
    replay.obs_pool.give(chunk.body.columns)


def _settle(replay: Replay, chunk: Chunk, raw: bool) -> None:
    """Notes what is saved, and leaves full chunks of the disk storage where they are."""
    chunk.latents = replay.latent_pool.take()
    for array in chunk.latents:
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
    replay: Replay, path: Path, codec: str, record: Fields, body: RawBody, first: int, count: int
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


def _load_latents(replay: Replay, manifest: Manifest, problems: list[str]) -> None:
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
            problems.append(_report(path, error) + ": latents of all rows start again from zero")
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
                    with _understood("has impossible records"):
                        _apply(chunk, file, path, record, table["priority"])
                except Damaged as error:
                    where = f"rows {chunk.start} to {chunk.start + chunk.rows - 1} of stream {chunk.stream}"
                    problems.append(f"{name} {error}: latents of {where} start again from zero")
                    _forget_latents(chunk)
    if len(problems) > before:
        store.journal_rows = REWRITE


def _apply(chunk: Chunk, file: Any, path: Path, record: Fields, priority: bool) -> None:
    data = [read_section(file, section, path) for section in record.get("sections")]
    if len(data) != 1 + len(chunk.latents) + priority:
        raise Damaged(
            f"has {words.count(len(data), 'section')} instead of {1 + len(chunk.latents) + priority}"
        )
    offsets = np.frombuffer(data[0], np.uint32)
    for array, values in zip(chunk.latents, data[1:]):
        array[offsets] = np.frombuffer(values, np.uint8).reshape(len(offsets), array.shape[1])
    if priority and chunk.priority is not None:
        found = np.frombuffer(data[-1], np.float32)
        if not (np.isfinite(found).all() and (found >= 0).all()):
            raise Damaged("has priorities that are none")
        chunk.priority[offsets] = found


def _forget_latents(chunk: Chunk) -> None:
    for array in chunk.latents:
        array[:] = 0


def _restore_lanes(replay: Replay, manifest: Manifest) -> None:
    """Lanes go on where they were; one whose newest chunk was lost begins a new stream."""
    newest = {c.stream: c for c in replay.chunks}
    for lane, (stream, rows, ended) in zip(replay.lanes, manifest.lanes):
        chunk = newest.get(stream)
        if chunk is not None and chunk.start + chunk.rows == rows:
            lane.stream, lane.rows, lane.ended, lane.open = stream, rows, ended, chunk
