"""What the machine can do at most: operations per second of products, bytes per second of memory.

A part of a program takes at least as long as its operations or bytes do: the roofline model (Williams et al., 2009).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from dreamworld import flops
from dreamworld.benchmarks.machine import Machine
from dreamworld.replay.memory import available_memory

LEAST_BYTES, MOST_BYTES = 2**28, 2**31


class Roofline(NamedTuple):
    """Both bounds, as measured."""

    gflops: float
    gb_per_s: float

    def bound(self, gflop: float, gbytes: float) -> tuple[Literal["compute", "memory"], float]:
        """Which of both takes longer for this much work, and the seconds that it takes at least."""
        compute_s, memory_s = gflop / self.gflops, gbytes / self.gb_per_s
        return ("compute", compute_s) if compute_s >= memory_s else ("memory", memory_s)


def measure(dtype: str, found: Machine) -> Roofline:
    """Measured on the default device: products of `dtype`, and an array much larger than the last cache."""
    return Roofline(flops.matmul_peak(dtype), flops.memory_bandwidth(copied_bytes(found)))


def copied_bytes(found: Machine) -> int:
    """Eight times the last cache, within what a small or a busy machine can spare."""
    wanted = min(max(8 * found.last_cache_bytes, LEAST_BYTES), MOST_BYTES)
    return int(min(wanted, available_memory()[0] // 8))
