"""Replay on the host: storage, sampling, persistence and the prefetch pipeline. Loads no JAX."""

from dreamworld.replay.layout import BadRow
from dreamworld.replay.pipeline import Pipeline, Prefetched
from dreamworld.replay.replay import Draw, Replay

__all__ = ["BadRow", "Draw", "Pipeline", "Prefetched", "Replay"]
