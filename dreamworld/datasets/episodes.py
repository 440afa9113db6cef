"""One episode as arrays, its spaces, and the check that every episode passes on its way to and from the disk.

An episode of T steps has T + 1 rows: row t holds the observation, the reward and the flags that arrived together, and
the action that was chosen after them (see `dreamworld.types`). The keys are those of replay: `obs/<key>`,
`action/<key>`, `reward`, `is_first`, `is_last`, `is_terminal`, and `extra/<name>` for what no agent observes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np

from dreamworld import words
from dreamworld.errors import UserError
from dreamworld.replay.layout import as_dtype, finite, is_float
from dreamworld.spaces import MAX_KEYS, describe_space
from dreamworld.types import Space, Spaces

Episode: TypeAlias = dict[str, np.ndarray]  # each [T + 1, ...]

ENDS = ("is_first", "is_last", "is_terminal")  # the flags of a row that say where an episode begins and ends
FLAG = Space((), "bool")
REWARD = Space((), "float32")
KINDS = {"obs": "observation", "action": "action", "extra": "extra"}


class BadEpisode(UserError):
    """An episode that is none: wrong columns, shapes or dtypes, values that are not finite, flags out of place."""


@dataclasses.dataclass(frozen=True)
class Schema:
    """The columns of a data set. Without actions `act_space` is empty; an absent reward is stored nowhere."""

    obs_space: Spaces
    act_space: Spaces
    extra_space: Spaces = dataclasses.field(default_factory=dict)
    has_reward: bool = True

    def __post_init__(self) -> None:
        for what, spaces in (
            ("observations", self.obs_space),
            ("actions", self.act_space),
            ("extras", self.extra_space),
        ):
            if len(spaces) > MAX_KEYS:
                raise UserError(
                    f"the data has {len(spaces):,} {what}, of at most {MAX_KEYS:,}: join them into arrays"
                )

    @property
    def has_action(self) -> bool:
        """Whether the actions are known."""
        return bool(self.act_space)

    @property
    def absent(self) -> list[str]:
        """Which of reward and action are not there."""
        return [
            name for name, there in (("reward", self.has_reward), ("action", self.has_action)) if not there
        ]

    def row_spaces(self) -> Spaces:
        """Spaces of the rows, by the keys of replay."""
        rows = {f"obs/{key}": space for key, space in self.obs_space.items()}
        rows |= {f"action/{key}": space for key, space in self.act_space.items()}
        rows |= {f"extra/{key}": space for key, space in self.extra_space.items()}
        rows |= {"reward": REWARD} if self.has_reward else {}
        return rows | dict.fromkeys(ENDS, FLAG)


def make_episode(
    schema: Schema,
    obs: Mapping[str, Any],
    action: Mapping[str, Any] | None = None,
    reward: Any = None,
    *,
    terminal: bool,
    extra: Mapping[str, Any] | None = None,
) -> Episode:
    """The rows of an episode of T steps from `obs` and `extra` [T + 1, ...], `action` [T, ...] and `reward` [T].

    `terminal` says that the last observation is a true end; otherwise a time limit (or whoever recorded it) cut it.
    """
    columns = {f"obs/{key}": np.asarray(value) for key, value in obs.items()}
    columns |= {f"extra/{key}": np.asarray(value) for key, value in (extra or {}).items()}
    for key, value in (action or {}).items():
        value = np.asarray(value)
        columns[f"action/{key}"] = np.concatenate([value, np.zeros((1, *value.shape[1:]), value.dtype)])
    if schema.has_reward and reward is not None:
        columns["reward"] = np.concatenate([[0], np.asarray(reward)]).astype(np.float32)
    rows = len(next(iter(columns.values()), ()))
    return columns | make_flags(rows, terminal)


def make_flags(rows: int, terminal: bool) -> Episode:
    """The flags of an episode of so many rows."""
    place = np.arange(rows)
    last = place == rows - 1
    return {"is_first": place == 0, "is_last": last, "is_terminal": last & terminal}


def return_of(episode: Episode) -> float:
    """The sum of an episode's rewards."""
    return float(episode["reward"].sum(dtype=np.float64))


def check_episode(schema: Schema, episode: Episode, name: str = "the episode") -> None:
    """Raises BadEpisode, which names column and row, unless the episode is one of these spaces."""
    spaces = schema.row_spaces()
    if episode.keys() != spaces.keys():
        raise BadEpisode(f"{name} {_wrong_keys(set(episode), set(spaces))}")
    rows = len(episode["is_first"]) if episode["is_first"].ndim else 0
    if rows < 2:
        raise BadEpisode(
            f"{name} has {rows} of the 2 rows that an episode has at least: before and after a step"
        )
    for key, space in spaces.items():
        _check_column(name, key, space, episode[key], rows)
    _check_flags(name, episode)
    for key in episode:
        if key.startswith("action/") and episode[key][-1].any():
            raise BadEpisode(f"{name} has an action {_short(key)!r} after its last row, which must be zero")


def _wrong_keys(found: set[str], wanted: set[str]) -> str:
    missing, more = sorted(wanted - found), sorted(found - wanted)
    parts = [f"lacks the column {_list(missing)}"] if missing else []
    parts += [f"has the column {_list(more)}, which the data set has not"] if more else []
    return " and ".join(parts)


def _list(keys: list[str]) -> str:
    return ", ".join(map(repr, keys))


def _short(key: str) -> str:
    return key.partition("/")[2]


def describe_column(key: str) -> str:
    """`observation 'image'`, `reward`."""
    kind, slash, rest = key.partition("/")
    return f"{KINDS[kind]} {rest!r}" if slash and kind in KINDS else key


def _check_column(name: str, key: str, space: Space, values: np.ndarray, rows: int) -> None:
    what = f"{name}: {describe_column(key)}"
    dtype = as_dtype(space.dtype)
    if values.ndim == 0 or len(values) != rows:
        found = words.count(len(values) if values.ndim else 0, "row")
        raise BadEpisode(f"{what} has {found} where 'is_first' has {rows:,}")
    if values.shape[1:] != space.shape or values.dtype != dtype:
        found = f"{values.dtype} {values.shape[1:]}"
        raise BadEpisode(f"{what} is {found}, not {describe_space(space)} as {space.dtype} {space.shape}")
    wrong = np.zeros(values.shape, bool)
    if is_float(dtype):
        wrong = ~finite(values, dtype.name == "bfloat16")
    elif space.classes is not None:
        wrong = (values < 0) | (values >= space.classes)
    if wrong.any():
        where = tuple(np.argwhere(wrong)[0].tolist())
        right = f"one of {describe_space(space)}" if space.discrete else "a finite number"
        raise BadEpisode(f"{what} holds {values[where]} in row {where[0]}, which is not {right}")


def _check_flags(name: str, episode: Episode) -> None:
    first, last, terminal = (episode[key] for key in ENDS)
    if not first[0] or first[1:].any():
        raise BadEpisode(f"{name}: is_first must be true in row 0 and nowhere else")
    if not last[-1] or last[:-1].any():
        raise BadEpisode(f"{name}: is_last must be true in the last row and nowhere else")
    if terminal[:-1].any():
        raise BadEpisode(f"{name}: is_terminal may be true in the last row only")
    if "reward" in episode and episode["reward"][0] != 0:
        raise BadEpisode(
            f"{name}: the reward of row 0 is {episode['reward'][0]}; no action led to it, so it is 0"
        )
