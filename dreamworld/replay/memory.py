"""Will the replay fit? The arithmetic is done, and shown, before training and not when memory runs out."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

from dreamworld import words
from dreamworld.config import ReplayConfig
from dreamworld.errors import UserError
from dreamworld.replay.layout import RowLayout
from dreamworld.types import Spaces

USABLE = 0.9  # share of the free memory that replay may plan with; the rest is for everything else that grows
LZ4_RATIO = 3.0  # assumed of images: the least that was measured on real frames, rounded down


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Bytes of a full replay."""

    rows: int
    obs_row_bytes: int
    latent_row_bytes: int
    ram_bytes: int
    disk_bytes: int
    storage: Literal["raw", "lz4", "disk"] = "raw"

    def describe_rows(self) -> str:
        """The arithmetic of the rows, whatever stores them."""
        row = self.obs_row_bytes + self.latent_row_bytes
        return (
            f"{words.count(self.rows, 'row')} x {words.count(row, 'byte')} (observations "
            f"{self.obs_row_bytes:,} + latents "
            f"{self.latent_row_bytes:,}) = {words.size(self.rows * row)}"
        )

    def __str__(self) -> str:
        disk = f", {words.size(self.disk_bytes)} of disk" if self.disk_bytes else ""
        return f"{self.describe_rows()}; storage {self.storage}: {words.size(self.ram_bytes)} of RAM{disk}"


def estimate(spaces: Spaces, config: ReplayConfig, steps: float, num_envs: int = 1) -> Estimate:
    """Bytes of a replay of min(capacity, `steps`) rows of these spaces, in RAM and on disk."""
    layout = RowLayout(spaces)
    rows = int(min(config.capacity_steps, steps))
    if config.capacity_bytes and config.storage in ("auto", "raw"):
        rows = min(rows, int(config.capacity_bytes) // layout.row_bytes)
    held = int(min(rows + min(num_envs * config.chunk, rows // 2), steps))  # open chunks are recycled whole
    obs, latents = held * layout.obs_bytes, held * layout.written_bytes
    open_rows = min(held, (config.hot_chunks + num_envs) * config.chunk)
    if config.storage == "lz4":
        images = sum(
            c.nbytes for c in layout.obs if c.fields[0].key in spaces and _is_image(spaces, c.fields[0].key)
        )
        packed = held * (layout.obs_bytes - images + images / LZ4_RATIO)
        ram = min(obs, int(packed) + open_rows * layout.obs_bytes) + latents
    elif config.storage == "disk":
        ram = open_rows * layout.obs_bytes + latents
    else:
        ram = obs + latents
    if config.capacity_bytes:
        ram = min(ram, int(config.capacity_bytes))
    disk = rows * layout.obs_bytes if config.storage == "disk" else 0
    storage = "raw" if config.storage == "auto" else config.storage
    return Estimate(rows, layout.obs_bytes, layout.written_bytes, ram, disk, storage)


def check_capacity(
    rows: int, *, num_envs: int, length: int, chunk: int, min_starts: int, row_bytes: int
) -> None:
    """Raises UserError unless a replay of `rows` rows always holds `min_starts` windows of `length` rows.

    `row_bytes` is not zero when the capacity is given in bytes.
    """
    starts = rows - num_envs * (length - 1) - max(chunk, 1)
    if chunk >= 1 and rows >= num_envs * (length + 2 * chunk) and starts >= min_starts:
        return
    chunk = max(chunk, 1)
    need = max(min_starts + chunk, 2 * chunk * num_envs) + num_envs * length
    raise UserError(
        f"a replay of {words.count(rows, 'row')} is too small for {words.count(num_envs, 'environment')}, "
        f"windows of {words.count(length, 'row')}, chunks of "
        f"{chunk} and replay.min_starts {min_starts}: give it at least "
        + (f"replay.capacity_bytes {need * row_bytes} and " if row_bytes else "")
        + f"replay.capacity_steps {need}"
    )


def available_memory(
    root: Path = Path("/sys/fs/cgroup"), process: Path = Path("/proc/self/cgroup")
) -> tuple[int, str]:
    """Bytes that this process may still take, and what limits them: the machine or a control group."""
    import psutil

    free, source = int(psutil.virtual_memory().available), "free memory of this machine"
    for folder in _cgroups(root, process):
        for limit_name, usage_name in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            limit, usage = _read_int(folder / limit_name), _read_int(folder / usage_name)
            if limit is not None and usage is not None:
                left = limit - usage + _reclaimable(folder / "memory.stat")
                if left < free:
                    free, source = max(left, 0), f"limit of the control group {folder}"
    return free, source


def _is_image(spaces: Spaces, key: str) -> bool:
    return spaces[key].is_image


def _cgroups(root: Path, process: Path) -> list[Path]:
    """The control groups of this process up to the root: any of them may be the one that limits."""
    folders = [root, root / "memory"]
    try:
        lines = process.read_text().splitlines()
    except OSError:
        return folders
    for line in lines:
        _, controllers, name = line.split(":", 2)
        base = root / "memory" if "memory" in controllers.split(",") else root
        if controllers in ("", "memory") or base != root:
            folder = base / name.lstrip("/")
            while folder != base and base in folder.parents:
                folders.append(folder)
                folder = folder.parent
    return folders


def _read_int(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # "max" means no limit
        return None


def _reclaimable(path: Path) -> int:
    """Page cache that counts as used but is given back on demand."""
    try:
        fields = dict(line.split() for line in path.read_text().splitlines())
    except (OSError, ValueError):
        return 0
    return int(fields.get("inactive_file", fields.get("total_inactive_file", 0)))
