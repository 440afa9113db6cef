"""What a replay holds: numbers for the log, and a hash by which two replays are compared."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np

from dreamworld.replay.persist import read_rows
from dreamworld.replay.state import ReplayState


def stats(replay: ReplayState) -> dict[str, float]:
    """Sizes, counters and what the storage costs."""
    obs = sum(c.body.nbytes for c in replay.chunks)
    latents = len(replay.chunks) * replay.chunk * replay.layout.written_bytes
    return {
        "size_steps": replay.rows,
        "size_bytes": obs + latents,
        "obs_bytes": obs,
        "latent_bytes": latents,
        "compression": sum(c.rows for c in replay.chunks) * replay.layout.obs_bytes / max(obs, 1),
        "chunks": len(replay.chunks),
        "starts": replay.sampler.total,
        "online_waiting": len(replay.sampler.queue),
        **({"held_out_starts": replay.sampler.held_out.total} if replay.held_out else {}),
        **replay.counts,
    }


def digest(replay: ReplayState) -> str:
    """Hash of everything that decides later batches: rows, latents, priorities, streams, sampler."""
    total = hashlib.blake2b(digest_size=16)
    for chunk in replay.chunks:
        total.update(_text([chunk.stream, chunk.start, chunk.rows, chunk.valid, chunk.slot]))
        for index, column in enumerate(replay.layout.obs):
            total.update(np.ascontiguousarray(read_rows(chunk, index, 0, chunk.rows, column)).data)
        for array in chunk.written if chunk.priority is None else [*chunk.written, chunk.priority]:
            total.update(np.ascontiguousarray(array[: chunk.rows]).data)
    lanes = [[lane.stream, lane.rows, lane.ended] for lane in replay.all_lanes]
    total.update(_text([lanes, replay.sampler.state(), replay.sampler.total]))
    return total.hexdigest()


def _text(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode()
