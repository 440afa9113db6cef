"""The manifest of a saved replay and the tables of its files, checked field by field before anything is done.

They may have been written by anybody, checksums included: nothing here allocates more than what they hold, and a
file is named by a plain name in the replay's own folder or not at all. Raises `BadFile`, or `Damaged` for a table.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dreamworld import reading
from dreamworld.errors import UserError
from dreamworld.fields import Fields
from dreamworld.reading import INT64, BadFile
from dreamworld.replay.chunks import BLOCK_ROWS
from dreamworld.replay.patience import Damaged
from dreamworld.replay.starts import POSITION_BITS

VERSION = 1  # of the format
ROWS = re.compile(r"rows-[0-9]{8}\.dwr")
LATENTS = re.compile(r"latents-[0-9]{8}\.dwl")
SEQ, LANE, STREAM, START, CLOCK, COUNT, SLOT = range(7)  # columns of `chunks`
MAX_STREAM = 1 << (62 - POSITION_BITS)
MAX_CHUNK = 1 << 24  # rows


class Manifest(NamedTuple):
    """What a save of a replay holds."""

    layout: dict[str, list[Any]]  # key: shape and dtype
    chunk: int
    files: list[str]
    journals: list[str]
    journal_rows: int
    chunks: np.ndarray  # [C, 7] int64, see SEQ … SLOT; ascending in SEQ
    lanes: list[tuple[int, int, bool]]  # stream, rows, ended
    next_seq: int
    next_stream: int
    sampler: Fields
    counts: dict[str, int]
    path: reading.PathLike  # the file that it was read from


def read_manifest(found: Fields) -> Manifest:
    """The manifest, checked; UserError for another version of the format."""
    if found.get("version", None) != VERSION:
        raise UserError(
            f"the saved replay has the format version {found.get('version', None)!r:.40}; this one reads {VERSION}"
        )
    layout = found.fields("layout")
    counts = found.fields("counts")
    chunk = found.integer("chunk", 1, MAX_CHUNK)
    manifest = Manifest(
        {key: _read_layout(layout, key) for key in layout},
        chunk,
        read_names(found, "files", ROWS),
        read_names(found, "journals", LATENTS),
        found.integer("journal_rows"),
        found.table("chunks", 7),
        _read_lanes(found),
        found.integer("next_seq"),
        found.integer("next_stream", 0, MAX_STREAM),
        found.fields("sampler"),
        {key: counts.integer(key) for key in counts},
        found.path,
    )
    _check_chunks(found, manifest)
    _check_sampler(manifest)
    return manifest


def saved_rows(found: Fields) -> int:
    """Rows that a manifest holds."""
    return int(found.table("chunks", 7)[:, COUNT].sum())


def _read_layout(layout: Fields, key: str) -> list[Any]:
    """Dtype and shape of a column."""
    spec = layout.items(key)
    sides = spec[1] if len(spec) == 2 and isinstance(spec[0], str) else None
    if not isinstance(sides, list) or not all(type(side) is int and 0 <= side < INT64 for side in sides):
        raise layout.bad(key, "a dtype and a shape of whole numbers")
    return spec


def read_names(found: Fields, key: str, pattern: re.Pattern[str]) -> list[str]:
    """A list of names of files, each one that `pattern` describes and none twice."""
    names = found.items(key, str)
    for name in names:
        if not pattern.fullmatch(name):
            raise BadFile(
                found.path, f"{found.name(key)} has the name {name!r:.80}, which no file of a replay has"
            )
    if len(set(names)) < len(names):
        raise BadFile(found.path, f"{found.name(key)} names a file twice")
    return names


def needed_files(manifests: Iterable[Any]) -> set[str]:
    """Names of the files that some manifests need; BadFile where one of them is not a manifest."""
    names: set[str] = set()
    for value in manifests:
        found = Fields(value, "snapshot.json", "replay")
        names.update(read_names(found, "files", ROWS), read_names(found, "journals", LATENTS))
    return names


def _read_lanes(found: Fields) -> list[tuple[int, int, bool]]:
    lanes = []
    for lane in found.items("lanes", list):
        if len(lane) != 3 or [type(value) for value in lane] != [int, int, bool]:
            raise found.bad("lanes", "a list of [stream, rows, ended]")
        if not (-1 <= lane[0] < MAX_STREAM and 0 <= lane[1] < 1 << POSITION_BITS):
            raise found.bad("lanes", "a list of [stream, rows, ended] in their ranges")
        lanes.append(tuple(lane))
    streams = [stream for stream, _, _ in lanes if stream >= 0]
    if len(set(streams)) < len(streams):
        raise found.bad("lanes", "lanes with a stream each")
    return lanes


def _check_chunks(found: Fields, manifest: Manifest) -> None:
    """Raises BadFile unless the chunks are such as a replay makes: in order, each within its stream."""
    chunks, rows = manifest.chunks, manifest.chunks[:, COUNT]
    limits = {
        SEQ: manifest.next_seq,
        LANE: 1 << 31,
        STREAM: manifest.next_stream,
        START: (1 << POSITION_BITS) - manifest.chunk,
        CLOCK: INT64 - 1,
        COUNT: manifest.chunk + 1,
        SLOT: 1 << 40,
    }
    for column, limit in limits.items():
        values = chunks[:, column]
        if len(values) and not (-(column == SLOT) <= values.min() and values.max() < limit):
            raise found.bad("chunks", f"chunks whose column {column} is below {limit}")
    clock = manifest.sampler.integer("clock")
    by_stream = chunks[np.lexsort((chunks[:, SEQ], chunks[:, STREAM]))]
    by_lane = chunks[np.lexsort((chunks[:, SEQ], chunks[:, LANE]))]
    same = lambda table, column: np.diff(table[:, column]) == 0
    slots = chunks[chunks[:, SLOT] >= 0, SLOT].tolist()
    fits = (
        (np.diff(chunks[:, SEQ]) > 0).all()
        and (rows > 0).all()
        and (chunks[:, START] % manifest.chunk == 0).all()
        and (chunks[:, CLOCK] <= clock - rows).all()
        and (np.diff(by_stream[:, START]) > 0)[same(by_stream, STREAM)].all()
        and (np.diff(by_lane[:, CLOCK]) >= 0)[same(by_lane, LANE)].all()
        and len(set(slots)) == len(slots)
    )
    if not fits:
        raise found.bad("chunks", "chunks in the order of a replay, which these are not")


def _check_sampler(manifest: Manifest) -> None:
    sampler = manifest.sampler
    sampler.fields("random")
    sampler.items("queue", int)
    if sampler.number("max_priority") < 0:
        raise sampler.bad("max_priority", "a number of at least 0")
    free = sampler.items("free_slots", int)
    used = manifest.chunks[:, SLOT].tolist()
    # A loss leaves holes in the slots, but not many more than there are slots.
    most = max([-1, *used, *[slot for slot in free if slot < INT64]])
    if len(set(free)) < len(free) or min(free, default=0) < 0 or max(free, default=0) >= INT64:
        raise sampler.bad("free_slots", "slots, each once")
    if most >= 4 * (len(used) + len(free)) + 1024:
        raise sampler.bad("free_slots", "slots of the tree, which are counted from 0")


# --- tables of the files -----------------------------------------------------------------------------------


def check_section(section: object, size: int) -> list[int]:
    """A section that lies within a file of `size` bytes; Damaged otherwise."""
    if not (isinstance(section, list) and [type(value) for value in section] == [int] * 3):
        raise Damaged("has an impossible table of contents (a section is three numbers)")
    offset, length, _ = section
    if offset < 0 or length < 0 or offset + length > size:
        raise Damaged("has an impossible table of contents (a section lies outside the file)")
    return section


def read_records(table: object, kind: str, path: Path, size: int) -> list[Fields]:
    """The records of a file's table of contents, with every number checked; Damaged otherwise."""
    try:
        found = Fields(table, path)
        if found.text("kind") != kind:
            raise found.bad("kind", kind)
        records = found.rows("records")
        check = _check_rows if kind == "rows" else _check_latents
        left = size
        for record in records:
            record.integer("stream", 0, MAX_STREAM)
            record.integer("start", 0, 1 << POSITION_BITS)
            left -= sum(check_section(section, size)[1] for section in check(found, record))
    except BadFile as error:
        raise Damaged(f"has an impossible table of contents ({error.reason})") from None
    if left < 0:  # a small file may name one section a million times
        raise Damaged("has an impossible table of contents (its sections overlap)")
    return records


def _check_rows(table: Fields, record: Fields) -> list[Any]:
    codec = table.text("codec")
    if codec not in ("raw", "lz4"):
        raise table.bad("codec", "raw or lz4")
    first, rows = record.integer("first", 0, MAX_CHUNK), record.integer("rows", 1, MAX_CHUNK)
    columns = record.items("columns", list)
    if first + rows > MAX_CHUNK:
        raise record.bad("rows", "rows of a chunk")
    if codec == "raw":
        return [*columns, record.get("sums")]
    ends = record.items("ends", list)
    if len(ends) != len(columns):
        raise record.bad("ends", "a list for each column")
    for column, blocks in zip(columns, ends):
        whole = all(type(end) is int for end in blocks) and len(blocks) == -(-rows // BLOCK_ROWS)
        if not whole or sorted({0, *blocks}) != [0, *blocks] or blocks[-1:] != column[1:2]:
            raise record.bad("ends", "the ends of blocks, ascending")
    return columns


def _check_latents(table: Fields, record: Fields) -> list[Any]:
    table.flag("priority")
    return record.items("sections", list)
