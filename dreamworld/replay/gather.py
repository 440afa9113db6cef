"""Reads windows: copies the rows of a draw out of the chunks that hold them."""

from __future__ import annotations

import numpy as np

from dreamworld.replay.files import Damaged
from dreamworld.replay.lanes import lose
from dreamworld.replay.layout import unpack
from dreamworld.replay.sampling import HELD_OUT, Draw
from dreamworld.replay.state import ReplayState


def gather(replay: ReplayState, draw: Draw, length: int) -> dict[str, np.ndarray]:
    """Windows of `length` rows: row keys [B, length, ...] and "row", int64 [B, length].

    With importance weights also "weight", float32 [B]. See `Replay.gather`."""
    starts, layout = draw.rows.copy(), replay.layout
    batch = len(starts)
    obs = [np.empty((batch, length, c.nbytes), np.uint8) for c in layout.obs]
    written = [np.empty((batch, length, c.nbytes), np.uint8) for c in layout.written]
    losses = replay.counts["corrupt"]
    for index in range(batch):
        done = False
        while not done:
            if replay.counts["corrupt"] > losses and replay.sampler.start(int(starts[index])) is None:
                # Its rows were lost a moment ago.
                starts[index] = _replacement(replay, int(draw.kinds[index]))
            done = _read_window(replay, int(starts[index]), index, obs, written)
    result = unpack(layout.obs, obs)
    result.update(unpack(layout.written, written))
    result["is_first"][:, 0] = True
    result["row"] = starts[:, None] + np.arange(length)
    if draw.weights is not None:
        result["weight"] = draw.weights
    return result


def _replacement(replay: ReplayState, kind: int) -> int:
    """The start of another window, of a held-out episode where the lost one was."""
    sampler = replay.sampler
    starts = sampler.held_out if kind == HELD_OUT else sampler.trained
    if not starts.total:
        raise LookupError(f"replay holds no intact window any more: {replay.last_loss}")
    return starts.draw(sampler.random, 1)[0]


def _read_window(
    replay: ReplayState, start: int, index: int, obs: list[np.ndarray], written: list[np.ndarray]
) -> bool:
    """Copies one window into entry `index` of the outputs; drops a damaged chunk and returns False."""
    found = replay.sampler.find(start)
    if found is None:
        raise LookupError(f"row {start} was evicted between draw and gather")
    (chunk, offset), length = found, obs[0].shape[1]
    done = 0
    while True:
        count = min(length - done, chunk.rows - offset)
        try:
            for column, out in enumerate(obs):
                chunk.body.read(column, offset, out[index, done : done + count])
        except Damaged as error:
            lose(replay, chunk, str(error))
            return False
        for source, out in zip(chunk.written, written):
            out[index, done : done + count] = source[offset : offset + count]
        done += count
        if done == length:
            return True
        if chunk.next is None:
            raise LookupError(f"the rows after {start} were lost between draw and gather")
        chunk, offset = chunk.next, 0
