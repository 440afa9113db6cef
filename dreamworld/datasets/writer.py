"""Writes data sets: whole episodes into files that are never changed, then a header that names them.

A process that is killed in between leaves the data set as the last header describes it; the next one removes what
no header names.
"""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from dreamworld import text, writing
from dreamworld.datasets.episodes import Episode, Schema, check_episode, return_of
from dreamworld.datasets.headers import (
    HEADER,
    SPACES,
    Header,
    empty_header,
    read_headers,
    write_header,
    write_spaces,
)
from dreamworld.errors import UserError
from dreamworld.logging.locks import hold
from dreamworld.replay.chunks import BLOCK_ROWS, encode_blocks
from dreamworld.replay.files import FileWriter
from dreamworld.replay.layout import make_columns, pack
from dreamworld.replay.persist import VERSION
from dreamworld.spaces import difference
from dreamworld.text import expand_path

RECORD_BYTES = 16 << 20  # read and decoded at once
FILE_BYTES = 64 << 20  # of rows as they are; a file is written when so much has come together
LOCK = ".lock"


class DataWriter:
    """Adds episodes to a data set; as a context manager it writes what is left at the end, also after an error.

    `append` continues the data set in the folder, if there is one. UserError, changing nothing, for a folder that
    holds anything else, and for other spaces.
    """

    def __init__(
        self, folder: Path | str, schema: Schema, *, source: str = "", task: str = "", append: bool = False
    ):
        for name, value in (("source", source), ("task", task)):
            text.check(name, value)
        self.path, self.schema = expand_path(folder).absolute(), schema
        self._new = empty_header(source, task)
        self._append = append
        self.header = self._find()
        self._columns = make_columns(schema.row_spaces())
        self._rows = _record_rows(sum(column.nbytes for column in self._columns))
        self._waiting: list[tuple[Episode, str]] = []
        self._bytes = 0
        self._stack = contextlib.ExitStack()
        self._made = contextlib.ExitStack()
        self._taken = False

    @property
    def episodes(self) -> int:
        """Episodes that were added, and those that had been there."""
        return len(self.header.episodes) + len(self._waiting)

    def add(self, episode: Episode, policy: str = "") -> None:
        """Adds an episode and the label of who acted in it; BadEpisode, adding nothing, where it is none.

        Its arrays are kept until they are written: don't change them afterwards.
        """
        text.check("policy", policy)
        check_episode(self.schema, episode, f"episode {self.episodes}")
        self._waiting.append((episode, policy or "unknown"))
        self._bytes += sum(value.nbytes for value in episode.values())
        if self._bytes >= FILE_BYTES:
            self.flush()

    def flush(self) -> None:
        """Writes what was added since the last time. After this a killed process loses nothing of it."""
        if not self._waiting:
            return
        try:
            self._take()
            name = f"rows-{_next_number(self.path):08d}.dwr"
            self._write_file(self.path / name, len(self.header.episodes))
            header = _extend(self.header, name, self._waiting)
            if not self.header.files:
                write_spaces(self.path / SPACES, self.schema, header.task)
            write_header(self.path / HEADER, header, self.schema)
        except (OSError, UserError) as error:
            if not self.header.files:
                self._leave_nothing(error)
            cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
            if isinstance(cause, UserError):
                raise
            raise UserError(f"{self.path} can't be written: {cause.strerror or cause}") from None
        self._made.close()
        self.header, self._waiting, self._bytes = header, [], 0

    def __enter__(self) -> DataWriter:
        if self.header.files:
            self._take()
        return self

    def __exit__(self, *_: object) -> None:
        with self._stack:
            self.flush()

    def _find(self) -> Header:
        """The header to continue, or that of a new data set; UserError where there can't be one."""
        found = _header_to_continue(self.path, self.schema) if self._append else None
        if found is None:
            require_free(self.path)
        return found or self._new

    def _take(self) -> None:
        """Makes the folder this writer's own, once: no other process writes to it until this one ends."""
        if self._taken:
            return
        if not self.header.files:
            self._find()
            self._made.enter_context(writing.making(self.path))
        self._stack.enter_context(
            hold(self.path / LOCK, f"{self.path}: {{holder}} is adding to this data set")
        )
        if self.header.files:
            self.header = self._find()  # another process may have added to it until now
        self._taken = True

    def _leave_nothing(self, error: Exception) -> None:
        """Removes what was made for a data set that could not be begun, unless somebody put something there."""
        with contextlib.suppress(OSError):
            if self._taken:
                (self.path / LOCK).unlink(missing_ok=True)
                for path in (*self.path.glob("rows-*.dwr"), self.path / SPACES):
                    path.unlink(missing_ok=True)
        self._made.__exit__(type(error), error, error.__traceback__)

    def _write_file(self, path: Path, first: int) -> None:
        records: list[dict[str, Any]] = []
        with FileWriter(path) as file:
            for index, (episode, _) in enumerate(self._waiting):
                length = len(episode["is_first"])
                packed = pack(self._columns, episode, (length,))
                for start in range(0, length, self._rows):
                    encoded = [encode_blocks(column[start : start + self._rows]) for column in packed]
                    records.append(
                        {
                            "stream": first + index,
                            "start": start,
                            "first": 0,
                            "rows": min(self._rows, length - start),
                            "columns": [file.section(blob) for blob, _ in encoded],
                            "ends": [ends for _, ends in encoded],
                        }
                    )
            file.close({"kind": "rows", "version": VERSION, "codec": "lz4", "records": records})


def require_free(path: Path) -> None:
    """UserError unless there is nothing at `path` yet, or an empty folder."""
    if path.is_dir() and not path.is_symlink():
        with contextlib.suppress(StopIteration):
            next(iter(path.iterdir()))
            what = "holds a data set already" if (path / HEADER).exists() else "is not empty"
            raise UserError(f"{path}: {what}, and nothing in it is overwritten; give a new folder")
    elif path.is_symlink() or path.exists():
        raise UserError(f"{path}: is there already, and is no folder; give a new folder")


def require_writable(path: Path) -> None:
    """UserError unless a folder can be made at `path`, or the one that is there written to; leaves nothing."""
    try:
        writing.check_writable(path)
    except OSError as error:
        raise UserError(f"{path} can't be written: {error.strerror or error}") from None


def _header_to_continue(path: Path, schema: Schema) -> Header | None:
    if not (path / HEADER).exists():
        return None
    header, found = read_headers(path)
    if different := differ(schema, found):
        raise UserError(f"{path}: this data set has other spaces: {different}; give another folder")
    return header


def differ(schema: Schema, other: Schema) -> str:
    """The first thing in which two sets of columns differ, for people; empty for none."""
    for what, found, wanted in (
        ("observation", schema.obs_space, other.obs_space),
        ("action", schema.act_space, other.act_space),
        ("extra", schema.extra_space, other.extra_space),
    ):
        if different := difference(what, found, wanted):
            return different
    if schema.has_reward != other.has_reward:
        return "it has no reward" if schema.has_reward else "it has rewards, and these are absent"
    return ""


def _record_rows(row_bytes: int) -> int:
    """Rows of a record: a multiple of those that are compressed together."""
    return max(1, min(1024, RECORD_BYTES // max(1, row_bytes)) // BLOCK_ROWS) * BLOCK_ROWS


def _next_number(path: Path) -> int:
    numbers = [int(file.stem[5:]) for file in path.glob("rows-????????.dwr") if file.stem[5:].isdecimal()]
    return max(numbers, default=-1) + 1


def _extend(header: Header, name: str, added: list[tuple[Episode, str]]) -> Header:
    policies = list(dict.fromkeys([*header.policies, *(policy for _, policy in added)]))
    table = [
        [len(episode["is_first"]), policies.index(policy), len(header.files), int(episode["is_terminal"][-1])]
        for episode, policy in added
    ]
    sums = [return_of(episode) for episode, _ in added if "reward" in episode]
    return dataclasses.replace(
        header,
        policies=tuple(policies),
        files=(*header.files, name),
        episodes=np.concatenate([header.episodes, np.array(table, np.int64)]),
        returns=(*header.returns, *sums),
    )
