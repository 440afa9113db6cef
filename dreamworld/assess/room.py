"""Whether segments fit into memory, asked before any is played or drawn."""

from __future__ import annotations

from pathlib import Path

from dreamworld import words
from dreamworld.datasets.memory import SMALL
from dreamworld.errors import UserError
from dreamworld.replay import patience
from dreamworld.replay.layout import as_dtype
from dreamworld.replay.memory import USABLE, available_memory
from dreamworld.types import Spaces

FLOAT = 4  # bytes, as which every element is compared beside what is kept of it


def require_room(count: int, context: int, horizon: int, spaces: tuple[Spaces, Spaces]) -> None:
    """UserError where `count` segments of these observations and actions take more memory than there is."""
    every = [space for kind in spaces for space in kind.values()]
    row = sum(space.size * (as_dtype(space.dtype).itemsize + FLOAT) for space in every)
    rows = count * (context + horizon)
    if rows * row <= SMALL:
        return
    free, _ = patience.read(available_memory, Path("/proc/meminfo"))
    if rows * row > USABLE * free:
        raise UserError(
            f"{words.count(count, 'segment')} of {context:,} + {words.count(horizon, 'row')} take "
            f"{words.size(rows * row)}, and {words.size(free)} of memory are available; ask for fewer segments, or for "
            "a shorter horizon"
        )
