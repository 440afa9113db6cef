"""Data sets: episodes on disk, read and written without an environment (see docs/data.md). Loads no JAX."""

from dreamworld.datasets.episodes import BadEpisode, Episode, Schema, check_episode, make_episode
from dreamworld.datasets.split import is_held_out, split
from dreamworld.datasets.store import DataSet, open_dataset
from dreamworld.datasets.writer import DataWriter

__all__ = [
    "BadEpisode",
    "DataSet",
    "DataWriter",
    "Episode",
    "Schema",
    "check_episode",
    "is_held_out",
    "make_episode",
    "open_dataset",
    "split",
]
