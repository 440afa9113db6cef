"""Real rows of environments on the host: what was played is played again up to a state, and goes on from there.

The way to a state is its seed and the actions since; the rows on it must be those that were recorded, to the last bit,
or the state is left out. From there a snapshot brings the environment back for each sequence of actions; where its
state can't be copied, the way is gone again for each.
"""

from __future__ import annotations

import collections
import dataclasses
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from dreamworld import words
from dreamworld.assess.ground import Played
from dreamworld.assess.segments import Segments
from dreamworld.assess.tape import COLUMN, Streams, streams_of
from dreamworld.contract import Agent
from dreamworld.dream_env import clip_actions
from dreamworld.envs import restore
from dreamworld.envs.base import Env, Step
from dreamworld.envs.building import quietly, survivable
from dreamworld.envs.scalars import Misfit
from dreamworld.envs.vector.common import RowArrays
from dreamworld.types import Key, Params

SECONDS = 60.0  # that going on from all states may take, for each metric


@dataclasses.dataclass
class HostGround:
    """Environments that can be brought to the last observed rows of segments; `told` says what happened on the way."""

    make: Callable[[], Env]
    streams: Streams
    seconds: float = SECONDS
    told: list[str] = dataclasses.field(default_factory=list)

    def play(
        self, segments: Segments, starts: np.ndarray, actions: dict[str, np.ndarray], keep: bool
    ) -> tuple[Played, np.ndarray]:
        """Rows [M, A, K, ...] of A sequences of actions {key: [M, A, K, ...]} from each start, and which were reached.

        Observations are kept if `keep`.
        """
        lead = next(iter(actions.values())).shape[:3]
        spaces = segments.obs_space if keep else {}
        obs = {key: np.zeros((*lead, *space.shape), space.dtype) for key, space in spaces.items()}
        reward, alive, terminal = (np.zeros(lead, kind) for kind in (np.float32, bool, bool))

        def go_on(number: int, walk: _Walk) -> None:
            for branch in range(lead[1]):
                walk.back()
                for step in range(lead[2]):
                    place = (number, branch, step)
                    row = walk.step({key: value[place] for key, value in actions.items()})
                    reward[place], alive[place], terminal[place] = row.reward, True, row.is_terminal
                    for key in obs:
                        obs[key][place] = row.obs[key]
                    if row.is_last:
                        break

        reached = self._visit(segments, starts, go_on)
        return Played(obs, reward, alive, terminal), reached

    def earn(
        self, agent: Agent, params: Params, segments: Segments, starts: np.ndarray, key: Key
    ) -> tuple[np.ndarray, np.ndarray]:
        """Sums of rewards [M] over the horizon where the agent acts, first without a memory; which were reached."""
        act = jax.jit(agent.act)
        memory_of = jax.jit(lambda params: agent.initial(params, 1))
        total = np.zeros(len(starts))

        def go_on(number: int, walk: _Walk) -> None:
            memory, row = memory_of(params), walk.row
            keys = jax.random.split(jax.random.fold_in(key, number), segments.horizon)
            for step in range(segments.horizon):
                seen = {name: jnp.asarray(row.obs[name])[None] for name in segments.obs_space}
                seen["is_first"] = jnp.full(1, step == 0)
                memory, action, _ = act(params, memory, seen, keys[step])
                action = jax.device_get(clip_actions(agent.act_space, action))
                row = walk.step({name: np.asarray(value[0]) for name, value in action.items()})
                total[number] += row.reward
                if row.is_last:
                    break

        reached = self._visit(segments, starts, go_on)
        return total, reached

    def _visit(
        self, segments: Segments, starts: np.ndarray, go_on: Callable[[int, _Walk], None]
    ) -> np.ndarray:
        """Calls `go_on(place among the starts, the environment there)` stream by stream; which were reached in time."""
        order = np.random.default_rng(0).permutation(
            len(self.streams.seed)
        )  # time may end before all are seen
        places = segments.columns[COLUMN][starts, segments.context - 1]
        sequence = sorted(range(len(starts)), key=lambda m: (order[places[m, 0]], places[m, 1]))
        reached, counts = np.zeros(len(starts), bool), collections.Counter()
        began, walk = time.monotonic(), _Walk(self.make, self.streams)
        try:
            for number in sequence:
                if time.monotonic() - began > self.seconds:
                    counts["late"] += 1
                    continue
                try:
                    seen = walk.go(int(places[number, 0]), int(places[number, 1]), segments.context)
                    if seen != _recorded(segments, int(starts[number])):
                        counts["other"] += 1
                        continue
                    walk.mark()
                    go_on(number, walk)
                    reached[number] = True
                except Misfit as error:
                    counts[f"gave what is no row: {error}"] += 1
                    walk.renew()
                except BaseException as error:
                    counts[f"raised {words.exception(survivable(error))}"] += 1
                    walk.renew()
        finally:
            walk.close()
        self._tell(counts, len(starts), walk.reason)
        return reached

    def _tell(self, counts: collections.Counter[str], count: int, reason: str) -> None:
        states = words.count(count, "state")
        if reason:
            self._note(f"the environment is played again for each branch: {reason}")
        for kind, number in counts.items():
            if kind == "late":
                self._note(f"{number:,} of {states} were left out: playing on took {self.seconds:g} s")
            elif kind == "other":
                self._note(f"{number:,} of {states} were left out: their seeds and actions led to other rows")
            else:
                self._note(f"{number:,} of {states} were left out: the environment {kind}")

    def _note(self, line: str) -> None:
        if line not in self.told:
            self.told.append(line)


def make_host_ground(make: Callable[[], Env] | None, segments: Segments) -> HostGround | None:
    """The environments of segments; None where these do not say how they were played."""
    streams = streams_of(segments)
    return None if make is None or streams is None else HostGround(make, streams)


def _recorded(segments: Segments, index: int) -> list[bytes]:
    """The rows of the context of a segment."""
    columns, rows = segments.columns, range(segments.context)
    keys = [f"obs/{key}" for key in segments.obs_space]
    return [b"".join(columns[key][index, row].tobytes() for key in (*keys, "reward")) for row in rows]


class _Walk:
    """An environment on its way through a stream."""

    def __init__(self, make: Callable[[], Env], streams: Streams):
        self._make, self._streams = make, streams
        self._env = make()
        self._rows = RowArrays(self._env.obs_space, 1)  # the row, as a training would have it
        self.reason = restore.why_not(self._env)  # why its state can't be copied
        self._stream, self._at = -1, 0
        self._seen: collections.deque[bytes] = collections.deque(maxlen=1)
        self._taken: restore.Snapshot | None = None
        self._away = True  # from the way
        self.row = Step({}, 0.0, True, False, False)
        self._marked = self.row

    def go(self, stream: int, at: int, context: int) -> list[bytes]:
        """Goes on to a row of a stream; the last rows on the way."""
        if self._away and self._taken is not None and stream == self._stream:
            self.back()
        if self._away or stream != self._stream or at < self._at or self._seen.maxlen != context:
            self._begin(stream, context)
        while self._at < at:
            self._advance()
        return list(self._seen)

    def mark(self) -> None:
        """Makes this the row to come back to."""
        self._marked = self.row
        self._taken = None if self.reason else restore.snapshot(self._env)

    def back(self) -> None:
        """Comes back to the marked row."""
        if not self._away:
            return
        if self._taken is not None:
            restore.restore(self._env, self._taken)
            self.row, self._away = self._marked, False
            return
        at = self._at
        self._begin(self._stream, self._seen.maxlen or 1)
        while self._at < at:
            self._advance()

    def step(self, action: dict[str, np.ndarray]) -> Step:
        """Leaves the way by an action."""
        self._away = True
        spaces = self._env.act_space
        self.row = self._env.step(
            {key: np.asarray(value, spaces[key].dtype) for key, value in action.items()}
        )
        self._check()
        return self.row

    def renew(self) -> None:
        """A new environment in place of one that raised."""
        self.close()
        self._env, self._taken, self._away = self._make(), None, True

    def close(self) -> None:
        """Closes the environment."""
        with quietly():
            self._env.close()

    def _begin(self, stream: int, context: int) -> None:
        self._stream, self._at, self._away, self._taken = stream, 0, False, None
        self._seen = collections.deque(maxlen=context)
        self._arrive(self._env.reset(int(self._streams.seed[stream])))

    def _advance(self) -> None:
        place = int(self._streams.begin[self._stream]) + self._at
        action = {key: value[place] for key, value in self._streams.action.items()}
        self._arrive(self._env.reset(None) if self.row.is_last else self._env.step(action))
        self._at += 1

    def _arrive(self, row: Step) -> None:
        self.row = row
        self._check()
        parts = [value[0].tobytes() for value in self._rows.obs.values()]
        self._seen.append(b"".join(parts) + self._rows.reward[0].tobytes())

    def _check(self) -> None:
        """Misfit for a row that no training would take, such as one with a NaN."""
        first, last, terminal = self.row.is_first, self.row.is_last, self.row.is_terminal
        self._rows.write(0, self.row.obs, 0.0 if first else self.row.reward, first, last, terminal)
