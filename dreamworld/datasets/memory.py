"""Whether an episode fits into memory, asked before any is taken: a file of a few bytes may claim any size."""

from __future__ import annotations

from pathlib import Path

from dreamworld import words
from dreamworld.reading import BadFile, PathLike
from dreamworld.replay import patience
from dreamworld.replay.memory import USABLE, available_memory

SMALL = 64 << 20  # bytes that fit everywhere


def require_memory(path: PathLike, need: int) -> None:
    """BadFile that names `path` where the `need` bytes of one of its episodes are more than there are."""
    if need <= SMALL:
        return
    free, _ = patience.read(available_memory, Path("/proc/meminfo"))
    if need > USABLE * free:
        raise BadFile(
            path, f"claims {words.size(need)} for one episode; {words.size(free)} of memory are available"
        )
