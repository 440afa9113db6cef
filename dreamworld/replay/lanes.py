"""The streams that environments write: where the next rows go, and which old ones make room for them."""

from __future__ import annotations

from typing import Any

import numpy as np

from dreamworld.replay.chunks import Chunk, RawBody
from dreamworld.replay.held_out import is_held_out
from dreamworld.replay.layout import WRITTEN, BadRow, NonFinite, pack
from dreamworld.replay.links import relink
from dreamworld.replay.starts import POSITION_BITS
from dreamworld.replay.state import Lane, ReplayState
from dreamworld.replay.tiers import cool


def add(replay: ReplayState, rows: dict[str, Any]) -> np.ndarray:
    """Appends one row per environment, arrays [N, ...]; returns their ids [N]. See `Replay.add`."""
    obs, written = _pack(replay, rows)
    make_room(replay)
    cool(replay)
    first = np.asarray(rows["is_first"], bool)
    last = np.asarray(rows["is_last"], bool).tolist()
    ids = np.empty(replay.num_envs, np.int64)
    lanes, episodes, sampler = replay.lanes, replay.episodes, replay.sampler
    for i, is_first in enumerate(first.tolist()):
        lane = _lane(replay, i, is_first) if replay.held_out else lanes[i]
        if is_first and not lane.ended:
            _break_off(replay, lane)
        chunk = lane.open
        if chunk is None or chunk.rows == replay.chunk:
            chunk = _open(replay, lane)
        offset = chunk.rows
        for target, source in zip(chunk.body.columns, obs):  # type: ignore[attr-defined]
            target[offset] = source[i]
        for target, source in zip(chunk.written, written):
            target[offset] = source[i]
        if chunk.priority is not None:
            chunk.priority[offset] = sampler.max_priority  # so that it is seen soon
        chunk.dirty[offset] = True
        chunk.rows = offset + 1
        if is_first and episodes is not None and not chunk.held_out:
            episodes.begin(chunk, offset)
        lane.ended = last[i]
        ids[i] = (lane.stream << POSITION_BITS) | lane.rows
        lane.rows += 1
        if lane.rows - lane.base >= replay.length:
            _extend(replay, lane)
    replay.rows += replay.num_envs
    replay.counts["inserts"] += replay.num_envs
    sampler.clock += 1
    return ids


def _pack(replay: ReplayState, rows: dict[str, Any]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    layout, leading = replay.layout, (replay.num_envs,)
    try:
        layout.check_keys(rows)
        return pack(layout.obs, rows, leading), pack(layout.written, rows, leading)
    except NonFinite as error:
        replay.counts["refused"] += 1
        env = error.where[0]
        raise BadRow(
            f"environment {env} gave the non-finite value {error.value} in {error.key!r} at index "
            f"{list(error.where[1:])} of its step {replay.sampler.clock}: the row was refused"
            + (" (the agent made it: look there)" if error.key.startswith(WRITTEN) else "")
        ) from None


def _lane(replay: ReplayState, env: int, is_first: bool) -> Lane:
    """Where the next row of an environment goes: an episode is held out or not from its first row on.

    At most one of the two lanes is within an episode. The number of an episode is that of its first row.
    """
    kept, held = replay.lanes[env], replay.held_lanes[env]
    current = kept if held.ended else held
    if not is_first:
        return current
    if not current.ended:
        _break_off(replay, current)
        current.ended = True
    number = replay.sampler.clock * replay.num_envs + env
    return held if is_held_out(number, replay.held_out) else kept


def _break_off(replay: ReplayState, lane: Lane) -> None:
    """The stream ends without `is_last`; the next row begins another one."""
    replay.counts["breaks"] += 1
    if lane.open is not None:
        _retire(replay, lane.open)
    lane.open = lane.tail = None
    lane.stream, lane.rows = -1, 0


def _open(replay: ReplayState, lane: Lane) -> Chunk:
    """A new chunk for the next row of `lane`."""
    before = lane.open
    if lane.stream < 0:
        lane.stream, lane.rows, lane.base = replay.next_stream, 0, 0
        replay.next_stream += 1
    body, clock = RawBody(replay.obs_pool.take()), replay.sampler.clock
    chunk = Chunk(replay.next_seq, lane.index, lane.stream, lane.rows, clock, body, replay.chunk)
    replay.next_seq += 1
    chunk.written = replay.written_pool.take()
    if replay.sampler.tree:
        chunk.priority = np.zeros(replay.chunk, np.float32)
    if before is not None:
        before.next = chunk
        _retire(replay, before)
    lane.open = chunk
    lane.tail = lane.tail or chunk
    replay.chunks.append(chunk)
    replay.bytes_used += body.nbytes + replay.chunk * replay.layout.written_bytes
    replay.sampler.insert(chunk)
    return chunk


def _retire(replay: ReplayState, chunk: Chunk) -> None:
    """No more rows come to this chunk."""
    if isinstance(chunk.body, RawBody):
        replay.hot.append(chunk)


def _extend(replay: ReplayState, lane: Lane) -> None:
    """The newest row of `lane` completed a window."""
    assert lane.tail is not None and lane.open is not None
    if lane.tail.valid == replay.chunk:
        assert lane.tail.next is not None
        lane.tail = lane.tail.next
    replay.sampler.grow(lane.tail, lane.open)
    if replay.episodes is not None and not lane.tail.held_out:
        replay.episodes.grow(lane.tail)


def make_room(replay: ReplayState) -> None:
    """Evicts the oldest chunks until one more row per environment fits."""
    while replay.rows + replay.num_envs > replay.capacity and _evict(replay):
        pass
    if replay.capacity_bytes:
        new = sum(lane.open is None or lane.open.rows == replay.chunk for lane in replay.all_lanes)
        need = new * replay.chunk * replay.layout.row_bytes
        while replay.bytes_used + need > replay.capacity_bytes and _evict(replay):
            pass


def _evict(replay: ReplayState) -> bool:
    """Drops the oldest chunk that no lane needs; returns whether there was one."""
    for index, chunk in enumerate(replay.chunks):
        if not any(_needs(lane, chunk) for lane in replay.all_lanes):
            del replay.chunks[index]
            replay.counts["evicted_rows"] += chunk.rows
            _drop(replay, chunk)
            return True
    return False


def _needs(lane: Lane, chunk: Chunk) -> bool:
    """Whether the next rows of `lane` go to the chunk, or complete windows that begin in it."""
    return lane.tail is not None and lane.stream == chunk.stream and chunk.start >= lane.tail.start


def _drop(replay: ReplayState, chunk: Chunk) -> None:
    """Forgets a chunk that is no longer listed and recycles its memory."""
    replay.rows -= chunk.rows
    replay.bytes_used -= chunk.body.nbytes + replay.chunk * replay.layout.written_bytes
    if replay.episodes is not None:
        replay.episodes.forget(chunk, replay.chunks[0].seq if replay.chunks else replay.next_seq)
    replay.sampler.remove(chunk)
    replay.sampler.disable_head(chunk.next)
    if chunk in replay.hot:
        replay.hot.remove(chunk)
    if isinstance(chunk.body, RawBody):
        replay.obs_pool.give(chunk.body.columns)
    replay.written_pool.give(chunk.written)
    chunk.written, chunk.next = [], None


def lose(replay: ReplayState, chunk: Chunk, reason: str) -> None:
    """Drops a chunk whose file turned out to be damaged."""
    rows = f"rows {chunk.start} to {chunk.start + chunk.rows - 1} of stream {chunk.stream}"
    replay.last_loss = f"{reason}: dropped {rows}"
    replay.problems.append(replay.last_loss)
    replay.counts["corrupt"] += 1
    replay.episodes = None
    replay.chunks.remove(chunk)
    _drop(replay, chunk)
    relink(replay)
