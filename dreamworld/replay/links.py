"""Rebuilds links, valid starts and lanes from the chunks alone: after loading, and after damage."""

from __future__ import annotations

import numpy as np

from dreamworld.replay.chunks import Chunk
from dreamworld.replay.state import ReplayState


def relink(replay: ReplayState) -> None:
    """Recomputes `next` and `valid` of every chunk, the sampler's counts, and where each lane goes on."""
    runs = find_runs(sorted(replay.chunks, key=lambda c: (c.stream, c.start)), replay.chunk)
    sampler = replay.sampler
    sampler.forget_starts()
    for run in runs:
        starts = max(0, sum(c.rows for c in run) - replay.length + 1)
        for chunk, following in zip(run, [*run[1:], None]):
            chunk.next = following
            chunk.valid = min(chunk.rows, starts)
            starts -= chunk.valid
    for chunk in replay.chunks:
        sampler.count(chunk)
    for run in runs:
        if sampler.tree and run[0].valid and not run[0].held_out:
            position = run[0].start + replay.context
            for chunk in run:
                sampler.enable(chunk, np.arange(min(max(position - chunk.start, 0), chunk.rows), chunk.rows))
    ends = {run[-1].seq: run for run in runs}
    for lane in replay.all_lanes:
        if lane.open is not None:
            run = ends[lane.open.seq]
            lane.base = run[0].start
            lane.tail = next((c for c in run if c.valid < replay.chunk), run[-1])


def find_runs(chunks: list[Chunk], rows: int) -> list[list[Chunk]]:
    """Groups chunks, sorted by stream and start, into runs of consecutive rows."""
    runs: list[list[Chunk]] = []
    for chunk in chunks:
        last = runs[-1][-1] if runs else None
        if (
            last is not None
            and last.stream == chunk.stream
            and last.rows == rows
            and last.start + rows == chunk.start
        ):
            runs[-1].append(chunk)
        else:
            runs.append([chunk])
    return runs
