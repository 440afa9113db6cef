"""One HDF5 file: a dataset per column over all rows, `ep_len` and `ep_offset` of each episode.

Rows are as ours: the action of a row is the one chosen after it. Files of other programs may hold NaN or anything
else as the action after the last row of an episode; it is stored as zero.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dreamworld.datasets.columns import Columns, from_columns, infer, look, to_columns
from dreamworld.datasets.described import Described, describe, read_described
from dreamworld.datasets.episodes import Episode
from dreamworld.datasets.formats import require, understood
from dreamworld.datasets.memory import require_memory
from dreamworld.datasets.store import DataSet
from dreamworld.fields import Fields
from dreamworld.reading import BadFile, open_file, parse_json

SIGNATURE = b"\x89HDF\r\n\x1a\n"
DESCRIPTION = "dreamworld"
LENGTHS, OFFSETS = "ep_len", "ep_offset"
ROWS = 1024  # of a chunk, at most
CHUNK_BYTES = 1 << 20
INDEX_BYTES = 96  # of memory for an episode: two numbers of Python and two of numpy
MAX_LINKS = 10_000_000  # ten for each of a million episodes


class Hdf5Source:
    """The episodes of a file."""

    def __init__(self, path: Path):
        self.path = path
        self.notes: list[str] = []
        with open_checked(path) as file, understood(path):
            self.columns = _column_names(path, file)
            self.lengths, self.offsets = _read_index(path, file, self.columns)
            described = _read_description(path, file, len(self.lengths))
        self.task, self.labels = "", ["imported"] * len(self.lengths)
        if described:
            self.schema, self.task, self.labels = described
        else:
            self.schema, self.notes = infer(look(self._read()))

    def episodes(self) -> Iterator[tuple[Episode, str]]:
        """Each episode of the file."""
        for (name, columns), label in zip(self._read(), self.labels):
            yield from_columns(self.schema, columns, name), label

    def _read(self) -> Iterator[tuple[str, Columns]]:
        with open_checked(self.path) as file:
            for index, (length, offset) in enumerate(zip(self.lengths, self.offsets)):
                with understood(self.path):
                    require_memory(self.path, sum(_row_bytes(file[name]) for name in self.columns) * length)
                    columns = {name: file[name][offset : offset + length] for name in self.columns}
                _clear_last(columns)
                yield f"{self.path}: episode {index}", columns


def open_source(path: Path) -> Hdf5Source:
    """The episodes of a file; UserError where it is none."""
    return Hdf5Source(path)


def open_checked(path: Path) -> Any:
    """An open HDF5 file in which nothing leads to another file; BadFile for anything else."""
    h5py = require("h5py")
    with open_file(path) as file:
        if file.read(len(SIGNATURE)) != SIGNATURE:
            raise BadFile(path, "is not an HDF5 file")
    with understood(path):
        opened = h5py.File(path, "r")
    try:
        with understood(path):
            _refuse_links(path, h5py, opened, [MAX_LINKS], 0)
    except BaseException:
        opened.close()
        raise
    return opened


def _refuse_links(path: Path, h5py: Any, group: Any, left: list[int], depth: int) -> None:
    """External links, external storage and virtual datasets name other files, which nobody asked to read."""
    if depth > 20:
        raise BadFile(path, "is nested more than 20 deep")
    for name in group:
        left[0] -= 1  # a few hard links to groups above make a tree without an end
        if left[0] < 0:
            raise BadFile(path, f"holds more than {MAX_LINKS:,} groups and columns")
        link = group.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise BadFile(path, f"holds the link {name!r:.80}; only what lies in the file itself is read")
        value = group[name]
        if isinstance(value, h5py.Group):
            _refuse_links(path, h5py, value, left, depth + 1)
        elif isinstance(value, h5py.Dataset) and (value.external or value.is_virtual):
            raise BadFile(path, f"holds {name!r:.80}, which lies in another file")


def _column_names(path: Path, file: Any) -> list[str]:
    """Every dataset of numbers but the index, with the groups that it lies in as a path."""
    names: list[str] = []

    def visit(name: str, value: Any) -> None:
        if not hasattr(value, "dtype") or name in (LENGTHS, OFFSETS, DESCRIPTION):
            return
        if value.dtype.kind not in "biuf":
            raise BadFile(path, f"holds {name!r:.80} of the dtype {value.dtype}; only numbers are read")
        names.append(name)

    file.visititems(visit)
    return names


def _read_index(path: Path, file: Any, columns: list[str]) -> tuple[list[int], list[int]]:
    for name in (LENGTHS, OFFSETS):
        if name not in file or file[name].ndim != 1 or file[name].dtype.kind not in "iu":
            raise BadFile(path, f"lacks the column {name!r} of whole numbers, which says where episodes are")
    found, starts = len(file[LENGTHS]), len(file[OFFSETS])
    if found != starts or not found:
        raise BadFile(path, f"has {found:,} lengths and {starts:,} offsets of episodes")
    require_memory(path, INDEX_BYTES * found)
    lengths, offsets = (file[name][:].astype(np.int64).tolist() for name in (LENGTHS, OFFSETS))
    end = max(offset + length for length, offset in zip(lengths, offsets))
    for name in columns:
        if file[name].ndim == 0 or len(file[name]) < end:
            raise BadFile(
                path, f"is truncated: {name!r} ends before row {end:,}, where the last episode ends"
            )
    if min(offsets) < 0 or min(lengths) < 2:
        raise BadFile(path, "has an episode of less than two rows, or one that begins before the file")
    return lengths, offsets


def _read_description(path: Path, file: Any, episodes: int) -> Described | None:
    if DESCRIPTION not in file:
        return None
    require_memory(path, file[DESCRIPTION].size)
    return read_described(
        Fields(parse_json(file[DESCRIPTION][:].tobytes(), path, finite=True), path), episodes
    )


def _row_bytes(dataset: Any) -> int:
    return math.prod(dataset.shape[1:]) * dataset.dtype.itemsize


def _clear_last(columns: Columns) -> None:
    for key, values in columns.items():
        if key.split("/")[0] == "action":
            values[-1:] = 0


# --- export ----------------------------------------------------------------------------------------------------


def export(data: DataSet, target: Path, episodes: Iterator[Episode]) -> None:
    """Writes one file; columns are compressed, and their chunks have checksums."""
    h5py = require("h5py")
    description = np.frombuffer(json.dumps(describe(data)).encode(), np.uint8)
    lengths = np.array(data.lengths, np.int64)
    with h5py.File(target, "w-") as file:
        file[LENGTHS], file[OFFSETS] = lengths, np.cumsum(lengths) - lengths
        file[DESCRIPTION] = description
        offset = 0
        for episode in episodes:
            for name, values in to_columns(data.schema, episode).items():
                if name not in file:
                    _create(file, name, values, data.rows)
                file[name][offset : offset + len(values)] = values
            offset += len(episode["is_first"])


def _create(file: Any, name: str, values: np.ndarray, rows: int) -> None:
    row_bytes = max(1, values[0].nbytes)
    chunk = max(1, min(ROWS, rows, CHUNK_BYTES // row_bytes))
    shape = values.shape[1:]
    options = {"compression": "gzip", "compression_opts": 1, "fletcher32": True} if values[0].size else {}
    file.create_dataset(
        name, (rows, *shape), values.dtype, chunks=(chunk, *(max(1, n) for n in shape)), **options
    )
