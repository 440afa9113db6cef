"""What this process may use of its machine: memory and cores, within the limits of its container."""

from __future__ import annotations

import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def available_memory_bytes() -> int:
    """Memory that this process can still get: the machine's, or less under a cgroup (containers, SLURM)."""
    import psutil

    free = psutil.virtual_memory().available
    for folder in _cgroups():
        for limit_name, used_name in (("memory.max", "memory.current"), _V1):
            limit, used = _read_int(folder / limit_name), _read_int(folder / used_name)
            if limit is not None and used is not None:
                free = min(free, max(0, limit - used + _reclaimable(folder)))
    return free


_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes")


def _cgroups() -> list[Path]:
    """The cgroup folders of this process, from its own to the root (version 2, or version 1 for memory)."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    found: list[Path] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        root = CGROUP if not controllers else CGROUP / "memory"
        if controllers and "memory" not in controllers.split(","):
            continue
        own = root / path.lstrip("/")
        found += [own, *(parent for parent in own.parents if parent == root or root in parent.parents)]
    return found


def _reclaimable(folder: Path) -> int:
    """File cache that the kernel drops before it refuses memory."""
    try:
        rows = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return 0
    return int(rows.get("inactive_file", rows.get("total_inactive_file", 0)))


def _read_int(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # absent, or "max"
        return None


def available_cores() -> float:
    """Cores that this process may use, by affinity and by cgroup quota."""
    cores = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    for folder in _cgroups():
        try:
            quota, period = (folder / "cpu.max").read_text().split()
            cores = min(cores, int(quota) / int(period))
        except (OSError, ValueError):
            continue
    return cores


def format_bytes(count: float) -> str:
    """Decimal units: `512 B`, `12.3 kB`, `61.4 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
