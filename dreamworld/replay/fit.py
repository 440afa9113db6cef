"""Which storage fits this machine; where none does, the options that make replay fit."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

from dreamworld import words
from dreamworld.config import ReplayConfig
from dreamworld.errors import UserError
from dreamworld.replay.memory import USABLE, Estimate, available_memory, estimate
from dreamworld.types import Spaces

STORAGES = {
    "raw": "raw",
    "lz4": "images compressed, assumed 3 times smaller",
    "disk": "observations in files",
}
FEWEST = 1000  # rows that a suggestion leaves


@dataclasses.dataclass(frozen=True)
class Room:
    """What replay may take."""

    ram_bytes: int
    disk_bytes: int
    source: str  # what limits the RAM, in words


def check_memory(
    spaces: Spaces,
    config: ReplayConfig,
    steps: float,
    *,
    num_envs: int = 1,
    directory: Path | str | None = None,
    available_bytes: int | None = None,
    used_bytes: int = 0,
    source: str = "available memory",
) -> Estimate:
    """A full replay in the storage of `config`, or for `auto` in the first of raw, lz4 and disk that fits.

    Raises UserError, with the arithmetic and the options that make it fit, where none does. `available_bytes` is
    measured by default; `used_bytes` of it are taken by something else (a loaded replay counts as available).
    """
    free, source = available_memory() if available_bytes is None else (available_bytes, source)
    room = Room(int((free - used_bytes) * USABLE), _free_disk(directory), source)
    tried = [
        estimate(spaces, dataclasses.replace(config, storage=storage), steps, num_envs)
        for storage in (STORAGES if config.storage == "auto" else (config.storage,))
    ]
    for need in tried:
        if _fits(need, room):
            return need
    raise UserError(_message(spaces, config, steps, num_envs, tried, room))


def _fits(need: Estimate, room: Room) -> bool:
    return need.ram_bytes <= room.ram_bytes and need.disk_bytes <= room.disk_bytes


def _free_disk(directory: Path | str | None) -> int:
    """Free bytes where a folder is or would be made; without one, as many as wanted."""
    if directory is None:
        return 1 << 62
    path = Path(directory)
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def _message(
    spaces: Spaces, config: ReplayConfig, steps: float, num_envs: int, tried: list[Estimate], room: Room
) -> str:
    first, last = tried[0], tried[-1]
    needs = " or ".join(
        f"{words.size(need.ram_bytes)} of RAM"
        + (f" and {words.size(need.disk_bytes)} of disk" if need.disk_bytes else "")
        + f" with storage {need.storage}"
        for need in tried
    )
    usable = f"{words.size(room.ram_bytes)} are usable ({USABLE:.0%} of the {room.source})"
    if last.disk_bytes > room.disk_bytes:
        usable += f", {words.size(room.disk_bytes)} are free on the disk"
    lines = [f"replay would not fit: {first.describe_rows()}; that takes {needs}; {usable}. Choose one:"]
    for storage, about in STORAGES.items():
        changed = dataclasses.replace(config, storage=storage)  # type: ignore[arg-type]
        need = estimate(spaces, changed, steps, num_envs)
        if storage != config.storage and _fits(need, room):
            lines.append(f"  --replay.storage {storage}    {about}: {words.size(need.ram_bytes)} of RAM")
        elif storage in (config.storage, "disk") and (
            rows := _rows_that_fit(spaces, changed, steps, num_envs, room)
        ):
            extra = "" if config.storage in ("auto", storage) else f" --replay.storage {storage}"
            lines.append(f"  --replay.capacity_steps {rows}{extra}    the newest {words.count(rows, 'row')}")
    if first.latent_row_bytes > first.obs_row_bytes:
        lines.append(
            f"  a smaller model, such as --configs size12m    latents take "
            f"{words.count(first.latent_row_bytes, 'byte')} of a row"
        )
    return "\n".join(lines)


def _rows_that_fit(spaces: Spaces, config: ReplayConfig, steps: float, num_envs: int, room: Room) -> int:
    """The most rows, in two leading digits, that fit; 0 where hardly any do."""
    fits = lambda rows: _fits(
        estimate(spaces, dataclasses.replace(config, capacity_steps=rows), steps, num_envs), room
    )
    low, high = FEWEST, int(min(config.capacity_steps, steps))
    if not fits(low):
        return 0
    while high - low > low // 100:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return _round(low)


def _round(rows: int) -> int:
    """Two leading digits, rounded down."""
    unit = 10 ** max(len(str(rows)) - 2, 0)
    return rows // unit * unit
