"""Reads data sets: every byte is checked by its CRC-32, every number by its range; nothing in them can run code."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dreamworld import text, words
from dreamworld.datasets.episodes import BadEpisode, Episode, Schema, check_episode
from dreamworld.datasets.headers import HEADER, LENGTH, POLICY, TERMINAL, Header, read_headers
from dreamworld.datasets.memory import require_memory
from dreamworld.datasets.split import split
from dreamworld.errors import UserError
from dreamworld.fields import Fields
from dreamworld.reading import BadFile, file_size, inside
from dreamworld.replay import patience
from dreamworld.replay.chunks import decode_blocks
from dreamworld.replay.files import Damaged, read_section, read_table
from dreamworld.replay.layout import make_columns, unpack
from dreamworld.replay.manifest import read_records
from dreamworld.spaces import describe_spaces, difference
from dreamworld.text import expand_path
from dreamworld.types import Spaces

Records = dict[int, list[Fields]]  # by number of the episode, which is its stream


class DataSet:
    """Episodes in a folder. `for episode in data` gives each as `{column: [T + 1, ...]}`, in order.

    Nothing is read but the header until an episode is asked for; one episode is in memory at a time.
    """

    def __init__(self, path: Path, header: Header, schema: Schema):
        self.path, self.header, self.schema = path, header, schema
        self._columns = make_columns(schema.row_spaces())
        self._opened: tuple[str, Records] = ("", {})

    def __repr__(self) -> str:
        """Where it is, how much is in it, and what."""
        sees, acts = describe_spaces(self.obs_space), describe_spaces(self.act_space)
        return (
            f"DataSet({str(self.path)!r}, {words.count(self.episodes, 'episode')}: sees {sees}; acts {acts})"
        )

    @property
    def obs_space(self) -> Spaces:
        """Spaces of the observations."""
        return self.schema.obs_space

    @property
    def act_space(self) -> Spaces:
        """Spaces of the actions; empty where they are not known."""
        return self.schema.act_space

    @property
    def extra_space(self) -> Spaces:
        """Spaces of the columns that no agent observes, such as the state of the environment."""
        return self.schema.extra_space

    @property
    def has_reward(self) -> bool:
        """Whether the rewards are known."""
        return self.schema.has_reward

    @property
    def has_action(self) -> bool:
        """Whether the actions are known."""
        return self.schema.has_action

    @property
    def task(self) -> str:
        """The environment that it was recorded in, "" where that is not known. Another's may name code: ask first."""
        return self.header.task

    @property
    def steps(self) -> int:
        """Actions that led to a row."""
        return self.header.steps

    @property
    def episodes(self) -> int:
        """Number of episodes."""
        return len(self.header.episodes)

    @property
    def rows(self) -> int:
        """Rows of all episodes: one more than steps in each."""
        return self.steps + self.episodes

    @property
    def lengths(self) -> list[int]:
        """Rows of each episode."""
        return self.header.episodes[:, LENGTH].tolist()

    @property
    def packed_bytes(self) -> int:
        """Length of its files of rows together; BadFile where one of them is missing or is none."""
        return sum(file_size(inside(self.path, name)) for name in self.header.files)

    @property
    def returns(self) -> list[float]:
        """Sum of the rewards of each episode; empty without rewards."""
        return list(self.header.returns)

    @property
    def terminals(self) -> list[bool]:
        """Whether each episode ended truly, and not by a time limit."""
        return (self.header.episodes[:, TERMINAL] == 1).tolist()

    @property
    def labels(self) -> list[str]:
        """The policy of each episode."""
        return [self.header.policies[index] for index in self.header.episodes[:, POLICY].tolist()]

    def difference(self, obs_space: Spaces, act_space: Spaces) -> str:
        """How other spaces differ from these, for people; empty where they don't. Absent actions fit any."""
        return difference("observation", obs_space, self.obs_space) or (
            difference("action", act_space, self.act_space) if self.has_action else ""
        )

    def split(self, share: float) -> tuple[list[int], list[int]]:
        """The numbers of the episodes to train on, and of those held out."""
        return split(self.episodes, share)

    def __len__(self) -> int:
        return self.episodes

    def __iter__(self) -> Iterator[Episode]:
        return self.iterate(range(self.episodes))

    def iterate(self, indices: Iterable[int]) -> Iterator[Episode]:
        """Some episodes, in this order; ascending is fastest."""
        for index in indices:
            yield self.episode(index)

    def episode(self, index: int) -> Episode:
        """The columns [T + 1, ...] of one episode; BadFile where its bytes are damaged or are no episode."""
        if not 0 <= index < self.episodes:
            raise UserError(f"{self.path}: there is no episode {index} of {self.episodes}")
        length, _, file, _ = self.header.episodes[index].tolist()
        path = inside(self.path, self.header.files[file])
        try:
            episode = self._read(path, index, length)
            check_episode(self.schema, episode, f"episode {index}")
        except Damaged as error:
            raise BadFile(path, f"{error}; episode {index} is lost") from None
        except BadEpisode as error:
            raise BadFile(path, str(error)) from None
        return episode

    def _read(self, path: Path, index: int, length: int) -> Episode:
        records = sorted(self._records(path).get(index, []), key=lambda record: record.integer("start"))
        starts = [record.integer("start") for record in records]
        ends = [record.integer("start") + record.integer("rows") for record in records]
        if [*starts, length] != [0, *ends] or any(record.integer("first") for record in records):
            raise Damaged(f"does not hold the {words.count(length, 'row')} of episode {index}")
        require_memory(path, length * sum(column.nbytes for column in self._columns))
        packed = [np.empty((length, column.nbytes), np.uint8) for column in self._columns]
        with patience.open_data(path) as file:
            for record, start, end in zip(records, starts, ends):
                self._fill(file, path, record, [column[start:end] for column in packed])
        return unpack(self._columns, packed)

    def _records(self, path: Path) -> Records:
        """The table of contents of a file; that of the newest one is kept."""
        if self._opened[0] != path.name:
            table, size = read_table(path)
            found: Records = defaultdict(list)
            for record in read_records(table, "rows", path, size):
                found[record.integer("stream")].append(record)
            if table["codec"] != "lz4":
                raise Damaged(f"is stored as {table['codec']}; a data set is stored as lz4")
            self._opened = (path.name, found)
        return self._opened[1]

    def _fill(self, file: Any, path: Path, record: Fields, out: list[np.ndarray]) -> None:
        sections, ends = record.items("columns"), record.items("ends")
        if len(sections) != len(out):
            raise Damaged(f"has {words.count(len(sections), 'column')} instead of {len(out)}")
        for section, blocks, target in zip(sections, ends, out):
            data = read_section(file, section, path)
            try:
                target[:] = decode_blocks(data, blocks, *target.shape)
            except ValueError as error:
                raise Damaged(f"has rows that can't be decoded ({error})") from None


def open_dataset(folder: Path | str) -> DataSet:
    """The data set in a folder; UserError that says what is there instead. Reads the header only."""
    text.check_path("data set", folder)
    path = expand_path(folder)
    if not path.is_dir():
        what = "is a file" if path.exists() else "there is no such folder"
        raise UserError(f"{folder}: {what}; give the folder of a data set")
    if not os.path.lexists(path / HEADER):
        run = (path / "config.yaml").exists()
        hint = (
            f"record one: dreamworld collect --policy {folder} --data NEW"
            if run
            else "it has no dataset.json"
        )
        raise UserError(f"{folder}: {'is a run' if run else 'is a folder'}, not a data set; {hint}")
    header, schema = read_headers(path)
    return DataSet(path.absolute(), header, schema)
