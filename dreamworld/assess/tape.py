"""Seeds and actions of what was played in environments on the host: enough to play it again, row by row.

A *stream* is what one environment did since it was seeded: its episodes one after the other. The row at which a segment
begins is named by its stream and its place there; seeds and actions are kept with the segments.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from dreamworld.assess.ground import PREFIX
from dreamworld.assess.segments import Segments, below
from dreamworld.envs.vector.common import env_seed
from dreamworld.types import TimeStep, VectorEnv

COLUMN = PREFIX + "replay"  # [N, L, 2] int32: stream, and row of it
ENGINES = ("inprocess", "process")  # that seed and reset each environment by itself


class Streams(NamedTuple):
    """S streams; the actions of stream s are `action[begin[s]:begin[s + 1]]`."""

    seed: np.ndarray  # [S] int64
    begin: np.ndarray  # [S + 1] int64
    action: dict[str, np.ndarray]  # [rows, *shape]


@dataclasses.dataclass
class Tape:
    """What was played so far, of all environments."""

    seeds: list[int] = dataclasses.field(default_factory=list)
    actions: list[list[dict[str, np.ndarray]]] = dataclasses.field(default_factory=list)

    def begin(self, seed: int) -> int:
        """The number of a new stream."""
        self.seeds.append(seed)
        self.actions.append([])
        return len(self.seeds) - 1


class Recorder:
    """A `VectorEnv` that writes what it plays on a tape, and names each row by its place there (`truth`)."""

    def __init__(self, env: VectorEnv, tape: Tape):
        self._env, self._tape = env, tape
        self._streams: list[int] = []
        self.num_envs, self.engine = env.num_envs, env.engine
        self.obs_space, self.act_space = env.obs_space, env.act_space

    def reset(self, seed: int) -> TimeStep:
        """Begins a stream in every environment."""
        self._streams = [self._tape.begin(env_seed(seed, index)) for index in range(self.num_envs)]
        return self._env.reset(seed)

    def step(self, action: dict[str, np.ndarray]) -> TimeStep:
        """Writes the actions down."""
        for index, stream in enumerate(self._streams):
            own = {key: np.array(value[index]) for key, value in action.items()}
            self._tape.actions[stream].append(own)
        return self._env.step(action)

    def truth(self) -> dict[str, np.ndarray]:
        """Stream and row of the newest rows, [num_envs, 2]."""
        places = [[stream, len(self._tape.actions[stream])] for stream in self._streams]
        return {COLUMN.removeprefix(PREFIX): np.array(places, np.int32)}

    def save(self) -> dict[str, np.ndarray] | None:
        """See `VectorEnv.save`."""
        return self._env.save()

    def restore(self, state: dict[str, np.ndarray]) -> TimeStep:
        """See `VectorEnv.restore`."""
        return self._env.restore(state)

    def render(self, index: int = 0) -> np.ndarray | None:
        """See `VectorEnv.render`."""
        return self._env.render(index)

    def close(self) -> None:
        """See `VectorEnv.close`."""
        self._env.close()


def with_streams(segments: Segments, tape: Tape) -> Segments:
    """The segments with the streams that they lie in, each up to the last row that a model sees."""
    places = segments.columns.get(COLUMN)
    if places is None:
        return segments
    seen = places[:, segments.context - 1]
    used, index = np.unique(seen[:, 0], return_inverse=True)
    lengths = [int(seen[seen[:, 0] == stream, 1].max()) for stream in used]
    rows = [row for stream, length in zip(used, lengths) for row in tape.actions[stream][:length]]
    renamed = np.where(segments.valid[..., None], places, 0)
    renamed[..., 0] = np.where(segments.valid, index[:, None], 0)
    found: dict[str, Any] = {
        "seed": np.array([tape.seeds[stream] for stream in used], np.int64),
        "begin": np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
    }
    for key, space in segments.act_space.items():
        values = [row[key] for row in rows] or [space.zeros()]
        found[f"action/{key}"] = np.stack(values).astype(space.dtype)
    kept = {f"replay/{name}": value for name, value in found.items()}
    columns = segments.columns | {COLUMN: renamed.astype(np.int32)}
    return dataclasses.replace(segments, columns=columns, branches=segments.branches | kept)


def streams_of(segments: Segments) -> Streams | None:
    """The streams that segments hold; None where they were not recorded."""
    kept = below("replay", segments.branches)
    if not kept or COLUMN not in segments.columns:
        return None
    return Streams(kept["seed"], kept["begin"], below("action", kept))


def misfit(segments: Segments) -> str:
    """What is wrong with the streams of a file of segments; empty for nothing."""
    kept = below("replay", segments.branches)
    if missing := [name for name in ("seed", "begin") if kept and name not in kept]:
        return f"lacks the array 'branch/replay/{missing[0]}'"
    streams = streams_of(segments)
    if streams is None:
        return ""
    seed, begin = streams.seed, streams.begin
    places = segments.columns[COLUMN]
    whole = all(array.dtype == np.int64 and array.ndim == 1 for array in (seed, begin))
    if not whole or len(seed) < 1 or len(begin) != len(seed) + 1 or (seed < 0).any() or begin[0] != 0:
        return "holds 'branch/replay/seed' and 'branch/replay/begin' that are no streams"
    rows = max(int(begin[-1]), 1)
    for key, space in segments.act_space.items():
        if key not in streams.action or streams.action[key].shape != (rows, *space.shape):
            return f"holds {f'branch/replay/action/{key}'!r:.80} of another shape than {(rows, *space.shape)}"
    if (np.diff(begin) < 0).any() or places.shape != (*segments.valid.shape, 2) or places.dtype.kind != "i":
        return f"holds {f'column/{COLUMN}'!r:.80} that names no rows"
    seen = places[:, segments.context - 1]
    fits = (seen[:, 0] >= 0) & (seen[:, 0] < len(seed))
    fits &= (seen[:, 1] >= 0) & (seen[:, 1] <= np.diff(begin)[np.clip(seen[:, 0], 0, len(seed) - 1)])
    return "" if fits.all() else f"holds {f'column/{COLUMN}'!r:.80} that names no rows"
