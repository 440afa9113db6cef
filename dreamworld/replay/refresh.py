"""What training changes of stored rows: the columns that updates write back, and priorities."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from dreamworld.errors import UserError
from dreamworld.replay.chunks import Chunk
from dreamworld.replay.layout import pack_some
from dreamworld.replay.starts import POSITION_MASK
from dreamworld.replay.state import ReplayState


def write_back(replay: ReplayState, rows: np.ndarray, values: dict[str, Any]) -> None:
    """Replaces some of the written columns of rows [B, T] by [B, T, ...]. See `Replay.write_back`."""
    stored = replay.layout.written_spaces()
    if unknown := sorted(values.keys() - stored.keys()):
        raise UserError(f"write_back got {unknown}; replay stores {sorted(stored)}")
    values = {key: np.asarray(value) for key, value in values.items()}
    parts = pack_some(replay.layout.written, values, rows.shape)
    with replay.lock:
        for index, begin, end, chunk, offset in runs(replay, rows) if parts else ():
            span = slice(offset, offset + end - begin)
            for column, key, data in parts:
                target = chunk.written[column]
                if key:
                    target.view(replay.layout.written[column].record)[key][span, 0] = data[index, begin:end]
                else:
                    target[span] = data[index, begin:end]
            chunk.dirty[span] = True


def update_priorities(replay: ReplayState, rows: np.ndarray, priorities: Any) -> None:
    """Sets the priorities [B, T] of rows [B, T]. See `Replay.update_priorities`."""
    values = np.asarray(priorities, np.float32)
    if values.shape != rows.shape:
        raise UserError(f"priorities have the shape {values.shape}, their rows {rows.shape}")
    if not np.isfinite(values).all() or (values < 0).any():
        raise UserError("priorities must be finite and not negative")
    with replay.lock:
        for index, begin, end, chunk, offset in runs(replay, rows):
            offsets = np.arange(offset, offset + end - begin)
            replay.sampler.prioritize(chunk, offsets, values[index, begin:end])
            chunk.dirty[offsets] = True


def runs(replay: ReplayState, rows: np.ndarray) -> Iterator[tuple[int, int, int, Chunk, int]]:
    """Splits rows [B, T] into runs of consecutive stored ones: (b, begin, end, chunk, offset)."""
    for index, ids in enumerate(rows):
        breaks = np.flatnonzero(np.diff(ids) != 1) + 1
        for begin, end in zip([0, *breaks.tolist()], [*breaks.tolist(), len(ids)]):
            while begin < end:
                row = int(ids[begin])
                found = replay.sampler.find(row)
                room = replay.chunk - (row & POSITION_MASK) % replay.chunk
                if found is None:
                    begin += min(room, end - begin)
                    continue
                chunk, offset = found
                count = min(end - begin, chunk.rows - offset)
                yield index, begin, begin + count, chunk, offset
                begin += count
