"""Moves full chunks from raw RAM to where the configured storage keeps them."""

from __future__ import annotations

from dreamworld.replay.chunks import Chunk, PackedBody, RawBody
from dreamworld.replay.disk import DiskBody
from dreamworld.replay.files import SaveError
from dreamworld.replay.persist import adopt, write_rows
from dreamworld.replay.state import ReplayState


def cool(replay: ReplayState) -> None:
    """Leaves only the newest `hot_chunks` of the chunks that no row is added to any more in raw RAM.

    When a file can't be written the chunks stay where they are, and the next try comes with the next full chunk.
    Raises SaveError once twice as many are waiting.
    """
    if replay.config.storage in ("auto", "raw"):
        replay.hot.clear()
    while len(replay.hot) > max(replay.config.hot_chunks, replay.hot_limit):
        chunk = replay.hot[0]
        assert isinstance(chunk.body, RawBody)
        buffers = chunk.body.columns
        try:
            body = PackedBody(buffers, chunk.rows) if replay.config.storage == "lz4" else spill(replay, chunk)
        except SaveError as error:
            replay.counts["spill_failures"] += 1
            replay.problems.append(str(error))
            if len(replay.hot) > 2 * replay.config.hot_chunks + replay.num_envs:
                raise
            replay.hot_limit = len(replay.hot)
            return
        replay.bytes_used += body.nbytes - chunk.body.nbytes
        chunk.body, replay.hot_limit = body, 0
        replay.hot.popleft()
        replay.obs_pool.give(buffers)


def spill(replay: ReplayState, chunk: Chunk) -> DiskBody:
    """Writes the rows of a chunk that are in no file yet. The next save syncs the file."""
    assert replay.directory is not None
    store = adopt(replay, replay.directory)
    if chunk.saved < chunk.rows:
        write_rows(replay, store, [chunk], sync=False)
        store.unsynced.append(store.directory / chunk.files[-1])
    return DiskBody(chunk.pieces, chunk.rows * replay.layout.obs_bytes, replay.files)
