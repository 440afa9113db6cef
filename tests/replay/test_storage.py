"""The three storages differ in where bytes are and in nothing else; capacity and eviction."""

from __future__ import annotations

import itertools
import threading
import tracemalloc

import numpy as np
import pytest

from dreamworld.errors import UserError
from dreamworld.replay.chunks import BLOCK_ROWS, PackedBody, RawBody, decode_blocks, encode_blocks
from dreamworld.replay.disk import DiskBody

STORAGES = ["raw", "lz4", "disk"]


def test_equal_seeds_give_equal_batches_in_every_storage(kit, tmp_path):
    options = {"num_envs": 3, "capacity": 500, "chunk": 40, "length": 9, "online": True}
    options |= {"prioritized": 0.3, "recent": 0.2}
    replays = [kit.replay(storage=s, directory=tmp_path, **options) for s in STORAGES]
    for replay in replays:
        kit.fill(replay, 40)
    bodies = set()
    for step in range(40, 400, 5):
        batches = []
        for replay in replays:
            kit.fill(replay, 5, begin=step)
            batches.append(replay.sample(4))
            rows = batches[-1]["row"][:, 1:]
            replay.write_back(rows, kit.latents(rows))
            replay.update_priorities(rows, (rows % 11).astype(np.float32))
        for other in batches[1:]:
            assert other.keys() == batches[0].keys()
            for key, value in other.items():
                np.testing.assert_array_equal(value, batches[0][key], err_msg=key)
        bodies.update(type(c.body) for r in replays for c in r.chunks)
    assert bodies == {RawBody, PackedBody, DiskBody}
    assert len({replay.digest() for replay in replays}) == 1


@pytest.mark.parametrize("rows", [1, BLOCK_ROWS, BLOCK_ROWS + 1, 100])
@pytest.mark.parametrize("noise", [False, True])
def test_blocks_decode_to_what_was_encoded(rows, noise):
    data = np.random.default_rng(0).integers(0, 256 if noise else 2, (rows, 700)).astype(np.uint8)
    blob, ends = encode_blocks(data)
    np.testing.assert_array_equal(decode_blocks(blob, ends, rows, 700), data)
    assert len(blob) <= data.nbytes


def test_compressed_chunks_take_less_memory_and_count_as_what_they_take(kit):
    raw, packed = (kit.replay(storage=s, chunk=32, capacity=2000) for s in ("raw", "lz4"))
    for replay in (raw, packed):
        kit.fill(replay, 600)
    assert packed.stats()["obs_bytes"] < 0.6 * raw.stats()["obs_bytes"]
    assert packed.stats()["compression"] > 2
    for replay in (raw, packed):
        assert replay.stats()["size_bytes"] == replay.bytes_used


def test_the_oldest_chunks_are_evicted_whole(kit):
    replay = kit.replay(num_envs=2, capacity=100, chunk=8)
    kit.fill(replay, 200)
    assert replay.rows <= 100
    for env in range(2):
        oldest = min(c.start for c in replay.chunks if c.lane == env)
        assert oldest % 8 == 0
    assert replay.counts["evicted_rows"] == 400 - replay.rows
    assert replay.rows > 100 - 8 - 2


@pytest.mark.parametrize("storage", STORAGES)
def test_capacity_in_bytes_holds_whatever_the_storage(kit, storage, tmp_path):
    replay = kit.replay(capacity=10**6, capacity_bytes=200_000, storage=storage, directory=tmp_path)
    for step in range(0, 600, 20):
        kit.fill(replay, 20, begin=step)
        assert replay.stats()["size_bytes"] <= 200_000
    assert replay.counts["evicted_rows"] > 0
    replay.sample(8)


def test_compression_lets_the_same_bytes_hold_more_rows(kit):
    sizes = []
    for storage in ("raw", "lz4"):
        replay = kit.replay(capacity=10**6, capacity_bytes=400_000, storage=storage, chunk=32)
        kit.fill(replay, 800)
        sizes.append(replay.rows)
    assert sizes[1] > 1.2 * sizes[0]


def test_chunks_shrink_so_that_a_small_capacity_still_holds_windows(kit):
    replay = kit.replay(num_envs=4, capacity=100, chunk=1024, length=5)
    assert replay.chunk == 10
    kit.fill(replay, 300)
    assert replay.starts >= 100 - 4 * 4 - 10 - 4


def test_a_capacity_that_never_gets_ready_is_refused(kit):
    with pytest.raises(UserError, match=r"too small for 2 environments.*replay\.capacity_steps"):
        kit.replay(capacity=100, min_starts=95)
    with pytest.raises(UserError, match=r"replay\.capacity_bytes"):
        kit.replay(capacity=10**6, capacity_bytes=1000)
    with pytest.raises(UserError, match="context"):
        kit.replay(length=5, context=5)
    with pytest.raises(UserError, match="needs a directory"):
        kit.replay(storage="disk")


def test_the_recommended_capacity_is_enough(kit):
    with pytest.raises(UserError) as error:
        kit.replay(capacity=100, min_starts=950)
    capacity = int(str(error.value).rsplit(" ", 1)[1])
    replay = kit.replay(capacity=capacity, min_starts=950)
    kit.fill(replay, 3 * capacity // 2)
    assert replay.ready


def test_ready_from_min_starts_on(kit):
    replay = kit.replay(num_envs=2, length=5, min_starts=20)
    kit.fill(replay, 13)
    assert replay.starts == 18 and not replay.ready
    kit.fill(replay, 1, begin=13)
    assert replay.ready


def test_written_latents_come_back_the_last_one_winning(kit):
    replay = kit.replay(num_envs=1, chunk=4)
    ids = np.concatenate([replay.add(kit.rows(step, 1)) for step in range(20)])
    rows = np.stack([ids[2:10], ids[5:13]])
    new = kit.latents(np.arange(16).reshape(2, 8) + 7000)
    replay.write_back(rows, new)
    seen = {}
    for window in replay.sample(300)["row"]:
        batch = replay.gather(type(replay.draw(1))(window[:1], np.zeros(1, np.uint8)))
        seen.update(zip(batch["row"][0].tolist(), batch["latent/deter"][0]))
    for b, t in itertools.product(range(2), range(8)):
        if b == 0 and rows[0, t] in rows[1]:
            continue
        np.testing.assert_array_equal(seen[int(rows[b, t])], new["latent/deter"][b, t])
    np.testing.assert_array_equal(seen[int(ids[1])], kit.rows(1, 1)["latent/deter"][0])


def test_write_backs_of_what_is_not_stored_are_refused(kit):
    with pytest.raises(UserError, match=r"write_back got \['latent/no'\]; replay stores .*'latent/stoch'"):
        kit.replay().write_back(np.zeros((1, 1), int), {"latent/no": np.zeros((1, 1, 160), np.float32)})


def test_gathering_evicted_rows_says_so(kit):
    replay = kit.replay(capacity=60)
    kit.fill(replay, 30)
    draw = replay.draw(4)
    kit.fill(replay, 100, begin=30)
    with pytest.raises(LookupError, match="evicted"):
        replay.gather(draw)


def test_batches_are_copies(kit):
    replay = kit.replay()
    kit.fill(replay, 40)
    digest = replay.digest()
    for value in replay.sample(8).values():
        value[...] = 1
    assert replay.gather(replay.draw(1))["is_terminal"].dtype == bool
    fresh = kit.replay()
    kit.fill(fresh, 40)
    for batch in (8, 1):
        fresh.draw(batch)
    assert digest != replay.digest() == fresh.digest()


@pytest.mark.parametrize("storage", STORAGES)
def test_concurrent_adds_and_samples_never_tear_a_row(kit, storage, tmp_path):
    replay = kit.replay(num_envs=2, capacity=300, chunk=16, storage=storage, directory=tmp_path)
    kit.fill(replay, 50, episode=10**9)
    stop, errors = threading.Event(), []

    def write():
        step = 50
        while not stop.is_set() and step < 16_000:  # float32 rewards tell rows apart up to there
            replay.add(kit.rows(step, 2))
            step += 1

    def refresh():
        random = np.random.default_rng(0)
        while not stop.is_set():
            rows = replay.draw(2).rows[:, None] + np.arange(5)
            code = random.integers(0, 10**6, rows.shape)
            replay.write_back(rows, kit.latents(code))

    def read():
        try:
            for _ in range(150):
                batch = replay.sample(4)
                code = batch["reward"].astype(np.int64)
                image = (code[..., None] * 7 + np.arange(768)) // 16 % 256
                np.testing.assert_array_equal(batch["obs/image"].reshape(image.shape), image.astype(np.uint8))
                np.testing.assert_array_equal(np.diff(code, axis=1), 1000)
                latents = kit.latents(batch["latent/deter"][..., 0].astype(np.int64))
                for key, value in latents.items():
                    np.testing.assert_array_equal(batch[key], value)
        except BaseException as error:
            errors.append(error)

    helpers = [threading.Thread(target=f) for f in (write, refresh)]
    readers = [threading.Thread(target=read) for _ in range(2)]
    for thread in helpers + readers:
        thread.start()
    for thread in readers:
        thread.join()
    stop.set()
    for thread in helpers:
        thread.join()
    assert not errors
    assert replay.counts["evicted_rows"] > 0


def test_nothing_is_allocated_before_it_is_used(kit):
    tracemalloc.start()
    replay = kit.replay(capacity=10**9, chunk=1024)
    kit.fill(replay, 1)
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert used < 20e6
