"""Recorded segments to begin a dream from: rows of the run's replay, of its data sets, or those that assess kept."""

from __future__ import annotations

import base64
import contextlib
import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dreamworld.contract import Agent, longest, mixes
from dreamworld.errors import UserError
from dreamworld.play.encode import as_rgb
from dreamworld.play.reality import Action, Recorded, Row

if TYPE_CHECKING:
    from dreamworld.play.world import Draw
    from dreamworld.sessions.stored import Stored

CONTEXT = 5  # rows that the dream sees before it goes on alone
COUNT = 16  # segments that a page offers
MOST_ROWS = 200  # of one of them
MOST_BYTES = 1 << 30  # of a replay that is read for them
SIDE = 96  # pixels of a thumbnail, at most

Columns = Mapping[str, np.ndarray]


class Segment(NamedTuple):
    """Rows that follow each other in one episode."""

    rows: list[Row]
    actions: list[Action]  # the i-th led to row i
    policy: str  # who acted

    @property
    def total(self) -> float:
        """The sum of its rewards."""
        return sum(row.reward for row in self.rows)

    def reality(self) -> Recorded:
        """The segment as what happens."""
        return Recorded(self.rows, self.actions)

    def plain(self, index: int, draw: Draw | None) -> dict[str, Any]:
        """As the page gets it; the picture is the last one that a dream sees."""
        row = self.rows[min(CONTEXT, len(self.rows)) - 1]
        return {
            "i": index,
            "thumbnail": thumbnail(row, draw),
            "policy": self.policy,
            "return": round(self.total, 4),
            "steps": len(self.rows) - 1,
        }


def thumbnail(row: Row, draw: Draw | None) -> str | None:
    """A data URL of a row's picture; None of rows that show nothing."""
    from PIL import Image

    images = [value for _, value in sorted(row.obs.items()) if value.dtype == np.uint8 and value.ndim == 3]
    image = as_rgb(images[0]) if images else draw(row.obs) if draw else None
    if image is None:
        return None
    picture, buffer = Image.fromarray(np.ascontiguousarray(image)), io.BytesIO()
    if max(picture.size) > SIDE:
        picture.thumbnail((SIDE, SIDE))
    picture.save(buffer, "png")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def cut(columns: Columns, policy: str) -> Segment | None:
    """The rows [L, ...] of a window up to the end of an episode; None of fewer rows than a dream sees."""
    ends = np.flatnonzero(columns["is_last"]) + 1
    begins = np.flatnonzero(columns["is_first"][1:]) + 1
    length = min([len(columns["reward"]), MOST_ROWS, *ends.tolist()[:1], *begins.tolist()[:1]])
    if length <= CONTEXT:
        return None
    obs = {key[4:]: value for key, value in columns.items() if key.startswith("obs/")}
    taken = {key[7:]: value for key, value in columns.items() if key.startswith("action/")}
    rows = [
        Row(
            {key: np.array(value[i]) for key, value in obs.items()},
            float(columns["reward"][i]),
            i == 0,
            bool(columns["is_last"][i]),
            bool(columns["is_terminal"][i]),
        )
        for i in range(length)
    ]
    actions = [{key: np.array(value[max(0, i - 1)]) for key, value in taken.items()} for i in range(length)]
    return Segment(rows, actions, policy)


def find(run: Stored, agent: Agent, seed: int) -> list[Segment]:
    """Segments of a run, from the first place that has any."""
    for source in (_of_replay, _of_data, _of_assess):
        with contextlib.suppress(UserError, LookupError, OSError):
            if found := source(run, agent, seed):
                return found
    return []


def which(found: list[Segment]) -> str:
    """Which segments there are, in words."""
    if not found:
        return "no replay or data set of this run is at hand to take one from; dreamworld assess keeps some"
    return f"they are counted from 0 to {len(found) - 1}"


def _of_replay(run: Stored, agent: Agent, seed: int) -> list[Segment]:
    """Windows of the replay that was saved with the newest checkpoint."""
    from dreamworld.fields import Fields
    from dreamworld.replay.manifest import saved_rows
    from dreamworld.replay.replay import Replay
    from dreamworld.sessions import pieces
    from dreamworld.training import snapshot

    folder = run.rundir.checkpoints
    step = snapshot.snapshot_steps(folder)[-1]
    path = snapshot.epath.Path(folder / str(step))
    meta = snapshot.read_commit(path)["meta"]["0"]
    spaces, window, config = pieces.row_spaces(agent), longest(agent), run.config
    count = saved_rows(Fields(meta, path / snapshot.COMMIT, "meta").fields("replay"))
    if count * sum(space.size * np.dtype(space.dtype).itemsize for space in spaces.values()) > MOST_BYTES:
        return []
    replay = Replay(
        spaces,
        config.replay,
        num_envs=config.env.num,
        length=window.context + window.length,
        context=window.context,
        directory=run.rundir.replay,
        seed=seed,
        mixes=mixes(agent),
        held_out=0.0 if config.data else config.replay.held_out,
    )
    replay.load(run.rundir.replay, meta["replay"], path / snapshot.COMMIT)
    drawn = replay.sample(4 * COUNT)
    windows = [{key: value[i] for key, value in drawn.items()} for i in range(4 * COUNT)]
    return _first([cut(window, "replay") for window in windows])


def _of_data(run: Stored, agent: Agent, seed: int) -> list[Segment]:
    """The beginnings of episodes of the data sets that a run was trained on; held-out ones where there are any."""
    from dreamworld.datasets import open_dataset
    from dreamworld.lists import split_list

    found: list[Segment | None] = []
    for name in split_list(run.config.data) if run.config.data else []:
        data = open_dataset(name)
        held = data.split(run.config.replay.held_out)[1] if run.config.replay.held_out else []
        chosen = (held or list(range(data.episodes)))[:COUNT]
        found += [cut(data.episode(index), data.labels[index]) for index in chosen]
    return _first(found)


def _of_assess(run: Stored, agent: Agent, seed: int) -> list[Segment]:
    """Those that the run's world was judged on."""
    from dreamworld.assess import files
    from dreamworld.reading import inside

    paths = sorted(run.rundir.assess.glob("segments-*.npz"), key=lambda path: path.lstat().st_mtime)
    if not paths:
        return []
    segments, _ = files.load(inside(run.rundir.assess, paths[-1].name))
    segments.check_spaces(agent.obs_space, agent.act_space, str(run.rundir))
    chosen = range(min(COUNT, len(segments)))
    there = segments.valid.sum(1)
    windows = [{key: value[i, : there[i]] for key, value in segments.columns.items()} for i in chosen]
    return _first([cut(window, "segment of assess") for window in windows])


def _first(found: list[Segment | None]) -> list[Segment]:
    return [segment for segment in found if segment is not None][:COUNT]
