"""Options of the studies that train (`assess --study forgetting`, `--study scaling`), beside those of training."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from dreamworld.limits import STEPS, Range
from dreamworld.values import OPTIONS

TRAINING = ("forgetting", "scaling")
Kind = Literal["none", "temperature", "drift", "forgetting", "scaling"]


@dataclasses.dataclass(frozen=True)
class TrainingFlags:
    study: Kind = "none"
    """The study."""
    segments: Annotated[int, Range(2, 100_000)] = 256
    """Held-out segments that models dream."""
    horizon: Annotated[int, Range(1, 100_000)] = 15
    """Rows that they imagine."""
    samples: Annotated[int, Range(1, 1024)] = 4
    """Dreams of each segment."""
    json: bool = False
    """One JSON line instead of text."""


@dataclasses.dataclass(frozen=True)
class ForgettingFlags(TrainingFlags):
    tasks: tuple[str, ...] = ()
    """The two tasks, in the order in which they are learnt."""
    first_options: Annotated[str, OPTIONS] = ""
    """`--env.options` of the first task, where the second has others: `rows=10,cols=5`."""
    second_options: Annotated[str, OPTIONS] = ""
    """Those of the second one: `rows=5,cols=10`."""
    data: str = ""
    """Data sets of the two tasks; by default uniformly random actions are recorded in both."""
    rows: Annotated[int, STEPS] = 10_000
    """Steps that are recorded in each task."""
    looks: Annotated[int, Range(1, 1000)] = 4
    """Checkpoints of each training at which both tasks are played and dreamt."""
    context: Annotated[int, Range(1, 10_000)] = 5
    """Rows of a segment that models see."""


@dataclasses.dataclass(frozen=True)
class ScalingFlags(TrainingFlags):
    data: str = ""
    """The data set that models learn from; what is held out of it (--replay.held_out, 0.1) is dreamt."""
    sizes: tuple[str, ...] = ("0.5", "1", "2")
    """Sizes: factors of all widths of the agent, or names of presets (size1m,size12m)."""
    shares: Annotated[tuple[float, ...], Range(1e-6, 1)] = (0.1, 0.3, 1.0)
    """Shares of the data that is not held out."""
    contexts: Annotated[tuple[int, ...], Range(1, 10_000)] = (1, 5, 20)
    """Rows that models see before they imagine the same rows."""


def flags_of(study: str) -> ForgettingFlags | ScalingFlags:
    """The defaults of a study that trains."""
    return ForgettingFlags(study="forgetting") if study == "forgetting" else ScalingFlags(study="scaling")
