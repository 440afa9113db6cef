"""The environment of a run as its folder remembers it, in `spaces.json`: enough to build the agent without it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from dreamworld import text, writing
from dreamworld.errors import UserError
from dreamworld.fields import Fields, read_fields
from dreamworld.reading import BadFile, MissingFile
from dreamworld.spaces import difference, from_fields, to_plain
from dreamworld.types import Spaces

CUSTOM = "custom:"
MAX_BYTES = 4 << 20  # of the file


@dataclasses.dataclass(frozen=True)
class RunEnv:
    """What a run was trained on."""

    name: str  # the task, `module:qualname` of what was passed as env=, else `custom:<name>`
    given: bool  # passed as env= from Python, not named on a command line
    folder: str  # where the run was started
    obs_space: Spaces  # as the agent sees them
    act_space: Spaces
    made: str = ""  # what can be told of a factory beside its name; "" for a task, and in runs from before

    @property
    def importable(self) -> bool:
        """Whether the name leads to the environment."""
        return not (self.given and self.name.startswith(CUSTOM))

    def difference(self, obs_space: Spaces, act_space: Spaces) -> str:
        """How other spaces differ from these, for people; empty where they don't."""
        return difference("observation", obs_space, self.obs_space) or difference(
            "action", act_space, self.act_space
        )

    def changed(self, now: RunEnv) -> list[str]:
        """A note for people where what makes the environment is not what it was, as far as that can be told."""
        if not self.made or not now.made or self.made == now.made:
            return []
        return [
            f"continued with an environment that looks changed: it was made by {self.made}, now by {now.made}"
        ]

    def to_plain(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "environment": self.name,
            "given": self.given,
            "folder": self.folder,
            "made": self.made,
            "obs": to_plain(self.obs_space),
            "act": to_plain(self.act_space),
        }


def same_name(one: str, other: str) -> bool:
    """Whether two names mean one environment: a class of the main script may have moved to a module."""
    if one == other:
        return True
    names = [name.partition(":")[2] for name in (one, other)]
    return any(name.startswith(CUSTOM) for name in (one, other)) and names[0] == names[1] != ""


def write_run_env(path: Path, env: RunEnv) -> None:
    """Replaces the file atomically."""
    writing.replace(path, json.dumps(env.to_plain(), indent=1, allow_nan=False) + "\n")


def read_run_env(path: Path) -> RunEnv | None:
    """What the file holds; None where there is none, BadFile that names it where it holds anything else."""
    try:
        row = read_fields(path, MAX_BYTES)
    except MissingFile:
        return None
    return RunEnv(
        _line(row, "environment"),
        row.flag("given"),
        _line(row, "folder"),
        from_fields(row, "obs"),
        from_fields(row, "act"),
        _line(row, "made") if row.get("made", "") else "",
    )


def _line(row: Fields, key: str) -> str:
    value = row.text(key)
    if not value:
        raise row.bad(key, "a name")
    try:
        text.check(key, value)
    except UserError as error:
        raise BadFile(row.path, str(error)) from None
    return value
