"""Training without an environment: replay filled from data sets, and what stands in the environment's place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from dreamworld import words
from dreamworld.datasets import DataSet, open_dataset
from dreamworld.errors import UserError
from dreamworld.lists import split_list
from dreamworld.replay.replay import Replay
from dreamworld.types import Spaces, TimeStep


class NoEnv:
    """The environments of a training that has none: no rows come from it."""

    num_envs = 0
    engine = "none"
    engine_reason = "rows come from data sets"

    def __init__(self, obs_space: Spaces, act_space: Spaces):
        self.obs_space, self.act_space = obs_space, act_space

    def reset(self, seed: int) -> TimeStep:
        """No rows."""
        no = np.zeros(0, bool)
        return TimeStep({}, np.zeros(0, np.float32), no, no, no)

    def step(self, action: dict[str, np.ndarray]) -> TimeStep:
        """It is never called: nothing is collected."""
        raise NotImplementedError("there is no environment")

    def save(self) -> dict[str, np.ndarray] | None:
        """There is no state."""
        return None

    def restore(self, state: dict[str, np.ndarray]) -> TimeStep:
        """There is no state."""
        return self.reset(0)

    def render(self, index: int = 0) -> np.ndarray | None:
        """There is nothing to see."""
        return None

    def close(self) -> None:
        """Nothing is open."""


def open_all(paths: str, needs: Sequence[str], agent: str) -> list[DataSet]:
    """The data sets in comma-separated folders; UserError where one lacks what the agent needs, or they differ."""
    if "environment" in needs:
        raise UserError(f"--data {paths}: the agent {agent} can't learn from data alone; leave --data out")
    folders = split_list(paths)
    if not folders:
        raise UserError(
            f"--data {paths}: give the folder of a data set (dreamworld collect and dreamworld data make them)"
        )
    found = [open_dataset(folder) for folder in folders]
    if twice := next((data for data in found if [other.path for other in found].count(data.path) > 1), None):
        raise UserError(f"--data: {twice.path} is given twice")
    first = found[0]
    for data in found:
        lacks = [name for name, has in (("reward", data.has_reward), ("action", data.has_action)) if not has]
        if missing := [name for name in lacks if name in needs]:
            raise UserError(
                f"--data {data.path}: it has no {' and no '.join(f'{name}s' for name in missing)}, which the agent "
                f"{agent} learns from; dreamworld agents lists the others"
            )
        if difference := first.difference(data.obs_space, data.act_space):
            raise UserError(f"--data: {data.path} does not fit {first.path}: {difference}")
    return found


def fill(replay: Replay, sets: Sequence[DataSet], share: float) -> int:
    """Adds the episodes to train on, row by row; returns how many. UserError where they don't fit.

    `share` of them is held out. Latents are zeros until the first update that trains on their rows; so are extras
    that a data set does not have.
    """
    rows = sum(sum(data.lengths[index] for index in data.split(share)[0]) for data in sets)
    if rows > replay.capacity_rows:
        fit = words.count(replay.capacity_rows, "row")
        raise UserError(
            f"--replay.capacity_steps, --replay.capacity_bytes: {fit} fit, and the data sets have "
            f"{words.count(rows, 'row')} to train on"
        )
    count = 0
    for data in sets:
        for episode in data.iterate(data.split(share)[0]):
            for row in _rows(replay, episode):
                replay.add(row)
            count += 1
    if not replay.starts:
        raise UserError(
            f"--data: the data sets have {words.count(rows, 'row')} to train on, fewer than a window of "
            f"{words.count(replay.length, 'row')} (run.batch_length and run.replay_context)"
        )
    return count


def _rows(replay: Replay, episode: dict[str, np.ndarray]) -> Iterator[dict[str, Any]]:
    """Rows [1, ...] of the columns that replay has; zeros where the data set lacks one."""
    spaces, length = replay.layout.spaces, len(episode["is_first"])
    columns = {key: episode[key] if key in episode else spaces[key].zeros(length) for key in spaces}
    for index in range(length):
        yield {key: column[index : index + 1] for key, column in columns.items()}
