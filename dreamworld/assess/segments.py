"""Held-out segments: stretches of episodes on which world models are judged, all on the same ones.

A segment has `context` rows that a model sees, and rows after them that it imagines. It lies within one episode; rows
after the end of the episode are zero and not `valid`.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import jax.numpy as jnp
import numpy as np

from dreamworld import nets, words
from dreamworld.assess.room import require_room
from dreamworld.datasets.episodes import ENDS, Episode
from dreamworld.errors import UserError
from dreamworld.spaces import difference, to_plain
from dreamworld.types import Batch, Spaces

DIGITS = 12  # of a hash, as it is shown and in names of files
T = TypeVar("T")


def below(prefix: str, named: Mapping[str, T]) -> dict[str, T]:
    """What has a name `prefix/…`, by the rest of it."""
    start = f"{prefix}/"
    return {name.removeprefix(start): value for name, value in named.items() if name.startswith(start)}


@dataclasses.dataclass(frozen=True)
class Segments:
    """N segments of L rows, and where they come from."""

    context: int
    columns: dict[str, np.ndarray]  # by the keys of episodes, each [N, L, ...]
    valid: np.ndarray  # [N, L] bool, the row is one of the episode
    episode: np.ndarray  # [N] int32
    row: np.ndarray  # [N] int32, of the episode, at which the segment begins
    label: np.ndarray  # [N] int32, of `labels`
    labels: tuple[str, ...]  # who acted
    task: str
    obs_space: Spaces
    act_space: Spaces
    # What else could have happened in the real environment, by name (`dreamworld.assess.branches`).
    branches: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.valid)

    @property
    def horizon(self) -> int:
        """Rows after the context."""
        return self.valid.shape[1] - self.context

    @property
    def episodes(self) -> int:
        """Different episodes."""
        return len(np.unique(self.episode))

    @property
    def policies(self) -> dict[str, int]:
        """How many segments each policy acted in."""
        return {label: int((self.label == index).sum()) for index, label in enumerate(self.labels)}

    @property
    def tested(self) -> np.ndarray:
        """The segments [N] bool of every second episode, kept apart from those that classifiers are trained on."""
        return np.isin(self.episode, np.unique(self.episode)[1::2])

    @property
    def imagined(self) -> np.ndarray:
        """Which imagined rows are there, [N, H]."""
        return self.valid[:, self.context :]

    @functools.cached_property
    def hash(self) -> str:
        """Names the segments: equal ones have equal hashes, on every machine."""
        digest = hashlib.sha256(json.dumps(self.plain(), sort_keys=True).encode())
        for name, array in sorted(self.arrays().items()):
            digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:DIGITS]

    def plain(self) -> dict[str, Any]:
        """What they are beside their arrays, as JSON values."""
        return {
            "context": self.context,
            "labels": list(self.labels),
            "task": self.task,
            "obs_space": to_plain(self.obs_space),
            "act_space": to_plain(self.act_space),
        }

    def arrays(self) -> dict[str, np.ndarray]:
        """All arrays by name."""
        own = {"valid": self.valid, "episode": self.episode, "row": self.row, "label": self.label}
        named = {f"column/{key}": value for key, value in self.columns.items()}
        return own | named | {f"branch/{key}": value for key, value in self.branches.items()}

    def batch(self, index: np.ndarray | slice = slice(None)) -> Batch:
        """Some segments as a batch; extras are left out."""
        take = lambda kind: {
            key: jnp.asarray(value[index]) for key, value in below(kind, self.columns).items()
        }
        flags = (jnp.asarray(self.columns[key][index]) for key in ("reward", *ENDS))
        return Batch(take("obs"), take("action"), *flags, extras={})

    def targets(self, key: str) -> np.ndarray:
        """An observation of all rows as models decode it, [N, L, ...] float32: images in 0..1."""
        return nets.target(self.obs_space[key], self.columns[f"obs/{key}"]).astype(np.float32)

    def cut(self, context: int, horizon: int) -> Segments:
        """Segments of fewer rows: the first of each. UserError where they hold too few."""
        rows = self.valid.shape[1]
        if context != self.context:
            raise UserError(
                f"--context {context}: these segments were made with {words.count(self.context, 'observed row')}; "
                f"use --context {self.context}, or make others"
            )
        if context + horizon > rows:
            raise UserError(
                f"--context {context} --horizon {horizon}: {words.count(context + horizon, 'row')} are needed, and "
                f"these segments have {rows:,}; use --horizon {rows - context} or less"
            )
        if context + horizon == rows:
            return self
        short = {key: value[:, : context + horizon] for key, value in self.columns.items()}
        return dataclasses.replace(self, columns=short, valid=self.valid[:, : context + horizon])

    def see(self, context: int) -> Segments:
        """The same imagined rows after only the last `context` of the observed ones, of which there are as many."""
        first = self.context - context
        columns = {key: value[:, first:] for key, value in self.columns.items()}
        return dataclasses.replace(
            self,
            context=context,
            columns=columns,
            valid=self.valid[:, first:],
            row=self.row + first,
            branches={},
        )

    def check_spaces(self, obs_space: Spaces, act_space: Spaces, name: str) -> None:
        """UserError where a model of other spaces can't be judged on these segments."""
        found = difference("observation", self.obs_space, obs_space) or difference(
            "action", self.act_space, act_space
        )
        if found:
            raise UserError(f"{name}: these segments have other spaces: {found}")


def draw(
    episodes: Sequence[Episode],
    labels: Sequence[str],
    spaces: tuple[Spaces, Spaces],
    *,
    count: int,
    context: int,
    horizon: int,
    task: str = "",
    shares: dict[str, float] | None = None,
    seed: int = 0,
) -> Segments:
    """Draws up to `count` different segments, of each label its share (without `shares`, all starts are equal).

    A segment may begin at each row from which `context + horizon` rows are left; in an episode that ends truly, also
    at each from which one imagined row is left, so that ends are judged; in a shorter one, at its first row. UserError
    where no episode has a row after the context, or where they don't fit into memory.
    """
    random = np.random.default_rng(seed)
    kinds = tuple(dict.fromkeys(labels))
    wanted = {None: count} if shares is None else {k: round(count * share) for k, share in shares.items()}
    chosen: list[tuple[int, int]] = []
    for kind, number in wanted.items():
        starts = [
            (index, row)
            for index, episode in enumerate(episodes)
            if kind is None or labels[index] == kind
            for row in range(_starts(episode, context, horizon))
        ]
        picked = random.permutation(len(starts))[:number]
        chosen += [starts[place] for place in sorted(picked)]
    if not chosen:
        longest = max((len(episode["reward"]) for episode in episodes), default=0)
        raise UserError(
            f"--context {context}: no episode has a row after so many; the longest has {words.count(longest, 'row')}"
        )
    require_room(len(chosen), context, horizon, spaces)
    return _cut_out(episodes, labels, kinds, spaces, chosen, context, horizon, task)


def _starts(episode: Episode, context: int, horizon: int) -> int:
    """How many rows of an episode a segment may begin at: the first ones."""
    rows = len(episode["is_first"])
    if rows <= context:
        return 0
    needed = context + (1 if episode["is_terminal"][-1] else horizon)
    return max(rows - needed + 1, 1)


def _cut_out(
    episodes: Sequence[Episode],
    labels: Sequence[str],
    kinds: tuple[str, ...],
    spaces: tuple[Spaces, Spaces],
    chosen: list[tuple[int, int]],
    context: int,
    horizon: int,
    task: str,
) -> Segments:
    length = context + horizon
    columns: dict[str, np.ndarray] = {}
    for key, first in episodes[chosen[0][0]].items():
        columns[key] = np.zeros((len(chosen), length, *first.shape[1:]), first.dtype)
    valid = np.zeros((len(chosen), length), bool)
    for place, (index, row) in enumerate(chosen):
        part = {key: value[row : row + length] for key, value in episodes[index].items()}
        rows = len(part["is_first"])
        valid[place, :rows] = True
        for key, value in part.items():
            columns[key][place, :rows] = value
    columns.setdefault("reward", np.zeros(valid.shape, np.float32))
    numbers = lambda values: np.array(values, np.int32)
    return Segments(
        context,
        columns,
        valid,
        numbers([index for index, _ in chosen]),
        numbers([row for _, row in chosen]),
        numbers([kinds.index(labels[index]) for index, _ in chosen]),
        kinds,
        task,
        *spaces,
    )


def donors(segments: Segments, seed: int = 0) -> np.ndarray:
    """For each segment another one, of another episode where there is one, whose actions it may be given, [N]."""
    order = np.argsort(segments.episode, kind="stable")
    _, counts = np.unique(segments.episode, return_counts=True)
    shift = int(counts.max()) if len(counts) > 1 else 1
    if len(counts) > 1 and 2 * shift > len(order):  # one episode has most of them: some can't be helped
        shift = len(order) // 2
    found = np.empty(len(order), np.int64)
    found[order] = np.roll(order, -shift)
    return found
