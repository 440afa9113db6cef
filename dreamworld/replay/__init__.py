"""Replay on the host: storage, sampling, persistence and the prefetch pipeline. Loads no JAX."""

from dreamworld.replay.files import SaveError
from dreamworld.replay.fit import check_memory
from dreamworld.replay.layout import BadRow
from dreamworld.replay.memory import Estimate, available_memory, estimate
from dreamworld.replay.pipeline import Pipeline, Prefetched
from dreamworld.replay.replay import Draw, Replay

__all__ = [
    "BadRow",
    "Draw",
    "Estimate",
    "Pipeline",
    "Prefetched",
    "Replay",
    "SaveError",
    "available_memory",
    "check_memory",
    "estimate",
]
