"""A folder of `timestamp-uuid-length.npz`, one per episode, as Dreamer writes them (Hafner et al., 2020).

Row t holds the action that *led* to it: the first row has a zero action and a zero reward. Ours holds the action
that was chosen after it, so actions move by one row on the way in and back on the way out.
"""

from __future__ import annotations

import io
import json
import math
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dreamworld import words
from dreamworld.datasets.columns import Columns, from_columns, infer, look, to_columns
from dreamworld.datasets.described import describe, read_described
from dreamworld.datasets.episodes import Episode, Schema
from dreamworld.datasets.formats import understood
from dreamworld.datasets.memory import require_memory
from dreamworld.datasets.store import DataSet
from dreamworld.errors import UserError
from dreamworld.fields import read_fields
from dreamworld.reading import BadFile, open_file
from dreamworld.types import Space

DESCRIPTION = "dreamworld.json"
MAX_MEMBER = 16 << 30  # bytes of a column
MAX_RATIO = 2000  # zip shrinks zeros to a thousandth


class NpzSource:
    """The episodes of a folder, in the order of their names."""

    def __init__(self, path: Path):
        self.files = sorted(file for file in path.glob("*.npz") if not file.name.startswith("."))
        if not self.files:
            raise UserError(f"{path}: there are no .npz files in it")
        self.notes: list[str] = []
        self.task, self.labels = "", ["imported"] * len(self.files)
        if (path / DESCRIPTION).exists():
            fields = read_fields(path / DESCRIPTION)
            self.schema, self.task, self.labels = read_described(fields, len(self.files))
        else:
            self.schema, self.notes = infer(look((str(file), read_columns(file)) for file in self.files))

    def episodes(self) -> Iterator[tuple[Episode, str]]:
        """Each file as an episode."""
        for file, label in zip(self.files, self.labels):
            yield _from_led_to(self.schema, read_columns(file), str(file)), label


def open_source(path: Path) -> NpzSource:
    """The episodes of a folder; UserError where there are none."""
    return NpzSource(path)


def read_columns(path: Path) -> Columns:
    """The arrays of an npz file, which have equally many rows."""
    columns = read_arrays(path)
    rows = {len(value) if value.ndim else 0 for value in columns.values()}
    if len(rows) != 1:
        raise BadFile(path, "has columns of different lengths" if rows else "has no columns")
    return columns


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an npz file. Nothing in it is unpickled, and none may claim more than it holds."""
    with open_file(path) as file, understood(path), zipfile.ZipFile(file) as archive:
        columns = {}
        # Twice: the bytes, and the array.
        require_memory(path, 2 * sum(info.file_size for info in archive.infolist()))
        for info in archive.infolist():
            if not info.filename.endswith(".npy"):
                raise BadFile(path, f"holds {info.filename!r:.80}, which is no array")
            if info.file_size > min(MAX_MEMBER, MAX_RATIO * (info.compress_size + 64)):
                raise BadFile(path, f"claims {words.size(info.file_size)} for {info.filename!r:.80}")
            columns[info.filename.removesuffix(".npy")] = _read_array(path, info.filename, archive.read(info))
    return columns


def _read_array(path: Path, name: str, data: bytes) -> np.ndarray:
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    if dtype.hasobject or dtype.kind not in "biuf":
        raise BadFile(
            path, f"holds {name!r:.80} of the dtype {dtype}; only numbers are read, nothing is unpickled"
        )
    if math.prod(shape) * dtype.itemsize != len(data) - stream.tell():
        raise BadFile(path, f"holds {name!r:.80}, which is truncated")
    stream.seek(0)
    return np.lib.format.read_array(stream, allow_pickle=False)


def _from_led_to(schema: Schema, columns: Columns, name: str) -> Episode:
    for key in [key for key in columns if key.split("/")[0] == "action"]:
        led = columns[key]
        if len(led) and led[0].any():
            raise UserError(
                f"{name}: {key!r} of the first row is not zero; it should be, as no action led there"
            )
        columns[key] = np.concatenate([led[1:], np.zeros_like(led[:1])])
    episode = from_columns(schema, columns, name)
    for key, space in schema.act_space.items():  # a unit vector of zeros is class 0
        episode[f"action/{key}"][-1:] = space.zeros(1)
    return episode


# --- export ----------------------------------------------------------------------------------------------------


def export(data: DataSet, target: Path, episodes: Iterator[Episode]) -> None:
    """Writes a folder of episodes; classes of a single action are unit vectors, as in Dreamer's files."""
    target.mkdir()
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    for index, episode in enumerate(episodes):
        columns = _to_led_to(data.schema, to_columns(data.schema, episode))
        name = f"{stamp}-{index:032x}-{len(episode['is_first']) - 1}.npz"
        arrays: Any = columns
        np.savez_compressed(target / name, **arrays)
    (target / DESCRIPTION).write_text(json.dumps(describe(data), indent=1) + "\n")


def _to_led_to(schema: Schema, columns: Columns) -> Columns:
    for key, values in columns.items():
        if key.split("/")[0] == "action":
            values = _as_onehot(schema.act_space.get(key), values)
            columns[key] = np.concatenate([np.zeros_like(values[:1]), values[:-1]])
    return columns


def _as_onehot(space: Space | None, values: np.ndarray) -> np.ndarray:
    if space is None or space.classes is None or space.shape:
        return values
    return np.eye(space.classes, dtype=np.float32)[values]
