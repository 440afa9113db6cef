"""Minari data sets (Younis et al., 2024): T + 1 observations, T actions and rewards of each episode.

Written without JPEG, whose loss is Minari's default. Continuous actions are written as ours, in [-1, 1]; those of
other people's data sets are in the environment's bounds and are scaled on the way in.
"""

from __future__ import annotations

import os
import re
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dreamworld import words, writing
from dreamworld.datasets.columns import refuse_unknown_dtypes
from dreamworld.datasets.described import describe, read_described
from dreamworld.datasets.episodes import BadEpisode, Episode, Schema, make_episode
from dreamworld.datasets.formats import require, understood
from dreamworld.datasets.formats.hdf5 import open_checked
from dreamworld.datasets.formats.minari_spaces import encode_action, gym_space, nested
from dreamworld.datasets.memory import require_memory
from dreamworld.datasets.store import DataSet
from dreamworld.envs.spaces import make_act_codec, make_obs_codec
from dreamworld.errors import UserError
from dreamworld.fields import Fields, read_fields
from dreamworld.reading import BadFile, inside
from dreamworld.text import expand_path
from dreamworld.types import Spaces

ID = re.compile(r"(\w[-\w]+/)*\w[-\w]+-v[0-9]{1,9}")  # Minari takes no name of one letter
MAIN = "main_data.hdf5"
BATCH = 64 << 20  # bytes of episodes that are handed over at once
Tree = Any  # nested mappings and tuples of arrays


def root() -> Path:
    """Where Minari keeps data sets: MINARI_DATASETS_PATH, or ~/.minari/datasets."""
    return expand_path(os.environ.get("MINARI_DATASETS_PATH") or "~/.minari/datasets")


def find(source: str) -> Path | None:
    """The `data` folder of an id or of a folder; None where there is no such data set."""
    places = [expand_path(source)]
    if ID.fullmatch(source):
        places.append(root() / source)
    for place in places:
        for folder in (place, place / "data"):
            if (folder / "metadata.json").is_file():
                return folder.absolute()
    return None


class MinariSource:
    """The episodes of a Minari data set."""

    def __init__(self, path: Path):
        require("minari")
        from minari.dataset.minari_storage import MinariStorage

        self.path, self.notes = path, []
        self._metadata = _read_metadata(path)
        with open_checked(inside(path, MAIN)) as file, understood(path):
            _check_episodes(path, file, self._metadata.integer("total_episodes", 1))
        with understood(path):
            self.storage = MinariStorage.read(path)  # builds nothing: both spaces are in the metadata
        self.count = self._metadata.integer("total_episodes", 1)
        described = self._metadata.fields("dreamworld") if "dreamworld" in self._metadata else None
        self.labels = [self._metadata.text("algorithm_name", "") or "imported"] * self.count
        self.task, self._own = "", described is not None
        if described is not None:
            self.schema, self.task, self.labels = read_described(described, self.count)
        else:
            self._obs = make_obs_codec(self.storage.observation_space)
            self._act = make_act_codec(self.storage.action_space)
            self.schema = Schema(self._obs.spaces, self._act.spaces)
            self._note()

    def episodes(self) -> Iterator[tuple[Episode, str]]:
        """Each episode of the data set."""
        for index, label in enumerate(self.labels):
            with understood(self.path):
                (found,) = self.storage.get_episodes([index])
                read = self._read_own if self._own else self._read_foreign
                episode = read(found, f"{self.path}: episode {index}")
            yield episode, label

    def _note(self) -> None:
        if self.storage.jpeg_encoding and any(space.is_image for space in self.schema.obs_space.values()):
            self.notes.append("its pictures are JPEG: they differ from what the environment showed")
        self.notes.append("left out: infos")

    def _read_own(self, found: dict[str, Any], name: str) -> Episode:
        obs, action = (
            _flat(found["observations"], self.schema.obs_space),
            _flat(found["actions"], self.schema.act_space),
        )
        extra = {key: _look_up(found["infos"] or {}, f"extra/{key}", name) for key in self.schema.extra_space}
        return make_episode(
            self.schema, obs, action, found["rewards"], terminal=bool(found["terminations"][-1]), extra=extra
        )

    def _read_foreign(self, found: dict[str, Any], name: str) -> Episode:
        steps = len(found["rewards"])
        if steps < 1:
            raise BadEpisode(f"{name} has no steps")
        rows = [self._obs.encode(_row(found["observations"], index)) for index in range(steps + 1)]
        obs = {key: np.stack([row[key] for row in rows]) for key in self._obs.spaces}
        action = encode_action(self.storage.action_space, found["actions"], self._act.spaces)
        terminal = bool(np.any(found["terminations"]))
        return make_episode(self.schema, obs, action, found["rewards"], terminal=terminal)


def open_source(path: Path) -> MinariSource:
    """The episodes of a data set, read from its `data` folder."""
    return MinariSource(path)


def _read_metadata(path: Path) -> Fields:
    """The metadata, checked. Without spaces in it Minari would build the environment that the file names."""
    row = read_fields(inside(path, "metadata.json"))
    if row.text("data_format") != "hdf5":
        raise BadFile(row.path, f"says data_format {row.text('data_format')!r:.40}; only hdf5 is read")
    for key in ("observation_space", "action_space"):
        row.text(key)
    return row


def _check_episodes(path: Path, file: Any, count: int) -> None:
    """BadFile unless every episode is there and none claims more than fits into memory."""
    for index in range(count):
        group = file.get(f"episode_{index}")
        if group is None:
            raise BadFile(path / MAIN, f"lacks episode {index} of {count:,}")
        sizes = [0]
        group.visititems(lambda _, value, sizes=sizes: sizes.append(getattr(value, "nbytes", 0)))
        require_memory(path / MAIN, sum(sizes))
        missing = {"observations", "actions", "rewards", "terminations", "truncations"} - set(group)
        if missing:
            raise BadFile(path / MAIN, f"lacks {', '.join(sorted(missing))} of episode {index}")


def _row(tree: Tree, index: int) -> Tree:
    if isinstance(tree, dict):
        return {key: _row(value, index) for key, value in tree.items()}
    if isinstance(tree, tuple):
        return tuple(_row(value, index) for value in tree)
    return tree[index]


def _look_up(tree: Tree, key: str, name: str) -> np.ndarray:
    for part in key.split("/"):
        if not isinstance(tree, dict) or part not in tree:
            raise BadEpisode(f"{name} lacks the column {key!r}")
        tree = tree[part]
    return np.asarray(tree)


def _flat(tree: Tree, spaces: Spaces) -> dict[str, np.ndarray]:
    if not isinstance(tree, dict):
        return {key: np.asarray(tree) for key in spaces}
    return {key: _look_up(tree, key, "an episode") for key in spaces}


# --- export ----------------------------------------------------------------------------------------------------


def export(data: DataSet, target: str, episodes: Iterator[Episode]) -> None:
    """Creates the Minari data set with the id `target`; leaves nothing behind where that fails."""
    require("h5py")
    minari = require("minari")
    place = check_target(data, target)
    try:
        with writing.making(place.parent), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                _write(minari, data, target, episodes)
            except BaseException:
                shutil.rmtree(place, ignore_errors=True)
                raise
    except (OSError, ValueError, TypeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{target}: Minari can't hold this data set: {words.exception(error)}") from None


def check_target(data: DataSet, target: str) -> Path:
    """Where the data set will lie; UserError where that can't be, or where Minari can't hold the data."""
    if not ID.fullmatch(target):
        raise UserError(f"{target}: a Minari id is (namespace/)name-vN, such as demo/cartpole-v0")
    if not root().is_absolute():
        raise UserError(f"MINARI_DATASETS_PATH is {root()}; Minari writes to absolute paths only: give one")
    if data.schema.absent:
        what = " and ".join(data.schema.absent)
        raise UserError(f"{data.path}: it has no {what}, which Minari needs; export it as npz or hdf5")
    refuse_unknown_dtypes(data.schema)
    place = root() / target
    if os.path.lexists(place):
        raise UserError(f"{place}: is there already, and nothing is overwritten; give another version")
    return place


def _write(minari: Any, data: DataSet, target: str, episodes: Iterator[Episode]) -> None:
    created = None
    for buffers in _batches(data.schema, episodes):
        if created is None:
            created = minari.create_dataset_from_buffers(
                target,
                buffer=buffers,
                observation_space=gym_space(data.obs_space),
                action_space=gym_space(data.act_space),
                algorithm_name=", ".join(data.header.policies),
                description=f"Exported by dreamworld. Recorded in {data.task or 'an unknown task'}.",
                data_format="hdf5",
                jpeg_encoding=False,
            )
        else:
            created.update_dataset_from_buffer(buffers)
    if created is None:
        raise UserError(f"{data.path}: there are no episodes in it, and Minari needs one")
    created.storage.update_metadata({"dreamworld": describe(data)})


def _batches(schema: Schema, episodes: Iterator[Episode]) -> Iterator[list[Any]]:
    waiting, size = [], 0
    for index, episode in enumerate(episodes):
        waiting.append(_buffer(schema, episode, index))
        size += sum(value.nbytes for value in episode.values())
        if size >= BATCH:
            yield waiting
            waiting, size = [], 0
    if waiting:
        yield waiting


def _buffer(schema: Schema, episode: Episode, index: int) -> Any:
    from minari.data_collector import EpisodeBuffer

    terminal, steps = bool(episode["is_terminal"][-1]), len(episode["is_first"]) - 1
    end = np.arange(steps) == steps - 1
    extra = {f"extra/{key}": episode[f"extra/{key}"] for key in schema.extra_space}
    return EpisodeBuffer(
        id=index,
        observations=nested({key: episode[f"obs/{key}"] for key in schema.obs_space}),
        actions=nested({key: episode[f"action/{key}"][:-1] for key in schema.act_space}),
        rewards=episode["reward"][1:],  # type: ignore[arg-type]
        terminations=end & terminal,  # type: ignore[arg-type]
        truncations=end & (not terminal),  # type: ignore[arg-type]
        infos=nested(extra, single=False) if extra else None,
    )
