"""An episode that was played as an episode of a data set, with a column that says who acted: `extra/player`."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dreamworld import words
from dreamworld.datasets import DataWriter, Episode, Schema
from dreamworld.errors import UserError
from dreamworld.play.timeline import Moment
from dreamworld.play.world import WHO, World
from dreamworld.types import Space

PLAYER = {"player": Space((), "int32", classes=len(WHO))}
_LOCK = threading.Lock()  # sessions write to one data set, one after the other


class Saved(NamedTuple):
    """Where an episode is, and what to tell of it."""

    folder: Path
    text: str


def to_episode(moments: list[Moment | None], world: World) -> Episode:
    """The columns [T + 1, ...] of the rows from the beginning to now; UserError where they are not all there.

    The last row ends the episode. An action, and who chose it, stand on the row that it was chosen at.
    """
    rows = [moment.row for moment in moments if moment is not None and moment.row is not None]
    if len(rows) < len(moments):
        raise UserError("not all rows of this episode are known any more")
    if len(rows) < 2:
        raise UserError("there is no step to save yet")
    later = [moment for moment in moments[1:] if moment is not None]
    columns = {f"obs/{key}": np.stack([row.obs[key] for row in rows]) for key in world.obs_space}
    for key, space in world.act_space.items():
        taken = [space.zeros() if m.action is None else m.action[key] for m in later]
        values = np.stack([*taken, space.zeros()]).astype(space.dtype)
        columns[f"action/{key}"] = values if space.discrete else np.clip(values, -1, 1)
    columns["reward"] = np.array([row.reward for row in rows], np.float32)
    for flag in ("is_first", "is_last", "is_terminal"):
        columns[flag] = np.array([getattr(row, flag) for row in rows])
    columns["is_last"][-1] = True
    acted = [WHO.index(moment.who) for moment in later]
    columns["extra/player"] = np.array([*acted, acted[-1]], np.int32)
    return columns


def save(moments: list[Moment | None], world: World) -> Saved:
    """Adds an episode to the data set of the world, which is begun where there is none; UserError where that fails."""
    episode = to_episode(moments, world)
    schema = Schema(dict(world.obs_space), dict(world.act_space), dict(PLAYER))
    who = sorted({WHO[code] for code in episode["extra/player"].tolist()})
    folder = Path(world.folder)
    with _LOCK, DataWriter(folder, schema, source="play", task=world.task, append=folder.exists()) as writer:
        writer.add(episode, "+".join(who))
    steps = words.count(len(episode["reward"]) - 1, "step")
    return Saved(folder, f"an episode of {steps} was added to {folder}")
