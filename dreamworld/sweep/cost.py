"""What a sweep will cost: frames left over frames per second, and where that rate comes from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from dreamworld import words
from dreamworld.reading import BadFile
from dreamworld.stats.scores import read_run
from dreamworld.sweep.plan import Job
from dreamworld.sweep.spec import Spec
from dreamworld.sweep.state import State, progress_of


@dataclasses.dataclass(frozen=True)
class Cost:
    """An estimate, and its source in words."""

    frames: float  # left over all runs
    hours: float  # of work over all runs; NaN where no rate is known
    source: str


def measured_rates(jobs: Sequence[Job], states: Mapping[str, State]) -> dict[str, list[float]]:
    """Frames per second of the runs of this sweep that have worked, by task."""
    rates: dict[str, list[float]] = {}
    for job in jobs:
        if states[job.name] == "new":
            continue
        try:
            run = read_run(job.logdir)
        except BadFile:  # `status` and the report name it
            continue
        if run.total_hours > 0 and run.reach > 0:
            rates.setdefault(job.task, []).append(run.reach / run.total_hours / 3600)
    return rates


def estimate(spec: Spec, jobs: Sequence[Job], states: Mapping[str, State]) -> Cost:
    """Hours of work left; from measured runs of the same task, else the stated rate, else other tasks'."""
    rates = measured_rates(jobs, states)
    everything = [rate for found in rates.values() for rate in found]
    frames, hours, sources = 0.0, 0.0, []
    for job in jobs:
        if states[job.name] == "finished":
            continue
        done = progress_of(job) if states[job.name] == "unfinished" else 0
        left = max(0.0, job.config.run.steps - done) * job.config.frames_per_step
        frames += left
        if job.task in rates:
            rate = float(np.median(rates[job.task]))
            sources.append(
                f"{words.count(len(rates[job.task]), 'run')} of {job.task} measured here ({words.rate(rate)} frames/s)"
            )
        elif spec.fps:
            rate = spec.fps
            sources.append(f"the stated {words.rate(spec.fps)} frames/s")
        elif everything:
            rate = float(np.median(everything))
            sources.append(f"runs of other tasks measured here ({words.rate(rate)} frames/s)")
        else:
            rate = float("nan")
        hours += left / rate / 3600
    return Cost(frames, hours, "; ".join(dict.fromkeys(sources)))


def describe(cost: Cost, slots: int) -> str:
    """The estimate in one line."""
    if cost.frames == 0:
        return "nothing left to train"
    frames = f"{words.count(cost.frames, 'environment frame')} left"
    if not np.isfinite(cost.hours):
        return f"{frames}; no estimate of the time: no run was measured here and no --fps was stated"
    wall = f", about {cost.hours / slots:.2g} h with {slots} at a time" if slots > 1 else ""
    return (
        f"{frames}: about {words.count(float(f'{cost.hours:.2g}'), 'hour')} of work{wall}, from {cost.source}"
    )
