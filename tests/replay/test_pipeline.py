"""What is enqueued happens in that order and nothing is lost, whatever the timing of worker and device."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import traceback

import numpy as np
import pytest

from dreamworld.replay import BadRow, Pipeline


def train(kit, pipeline, replay, begin, steps, log, jitter=None):
    """A training loop in small: act, add, update, write back."""
    for step in range(begin, begin + steps):
        num = replay.num_envs
        pipeline.add(kit.rows(step, num, [step % 10 == 0] * num, [step % 10 == 9] * num))
        if jitter:
            time.sleep(jitter.random() * 0.002)
        if pipeline.ready and step % 2:
            item = pipeline.next()
            log.append((item.rows.tolist(), float(item.batch["latent/deter"].sum())))
            trained = item.rows[:, replay.context :]
            pipeline.write_back(trained, kit.latents(trained + len(log)))
            pipeline.update_priorities(trained, (trained % 13).astype(np.float32))


def options(**changes):
    return {
        "num_envs": 2,
        "chunk": 8,
        "capacity": 150,
        "min_starts": 20,
        "online": True,
        "prioritized": 0.5,
    } | changes


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_timing_changes_nothing(kit, depth):
    logs, digests = [], []
    for jitter in (None, np.random.default_rng(1), np.random.default_rng(2)):
        replay = kit.replay(**options())

        def put(batch, jitter=jitter):
            if jitter:
                time.sleep(jitter.random() * 0.003)
            return {k: v.copy() for k, v in batch.items()}

        log = []
        with Pipeline(replay, put, batch_size=4, depth=depth) as pipeline:
            train(kit, pipeline, replay, 0, 80, log, jitter)
            pipeline.drain()
            digests.append(replay.digest())
        logs.append(log)
    assert len(logs[0]) > 20 and logs[0] == logs[1] == logs[2]
    assert len(set(digests)) == 1


def test_staleness_is_exactly_the_prefetch_depth(kit):
    """The write-back of update u is seen first by batch u + 1 + depth: earlier draws were enqueued before."""
    for depth in (0, 2):
        replay = kit.replay(num_envs=1, length=5, capacity=100)
        kit.fill(replay, 5)  # a single window
        with Pipeline(replay, lambda b: b, batch_size=1, depth=depth) as pipeline:
            seen = []
            for update in range(1, 9):
                item = pipeline.next()
                seen.append(int(item.batch["latent/deter"][0, 1, 0]))
                pipeline.write_back(item.rows[:, 1:], kit.latents(np.full((1, 4), update)))
        assert seen[1 + depth :] == list(range(1, 8 - depth))


def test_a_snapshot_with_pending_batches_resumes_to_the_same_run(kit, tmp_path):
    whole = kit.replay(**options())
    expected = []
    with Pipeline(whole, lambda b: b, batch_size=4, depth=2) as pipeline:
        train(kit, pipeline, whole, 0, 100, expected)
        pipeline.drain()
    first, log = kit.replay(**options()), []
    with Pipeline(first, lambda b: b, batch_size=4, depth=2) as pipeline:
        train(kit, pipeline, first, 0, 60, log)
        pending = pipeline.pending()
        manifest = first.save(tmp_path)
    assert len(pending[""]) == 2
    second = kit.replay(**options(), seed=99)
    assert second.load(tmp_path, manifest) == []
    with Pipeline(second, lambda b: b, batch_size=4, depth=2) as pipeline:
        pipeline.restore_pending(pending)
        train(kit, pipeline, second, 60, 40, log)
        pipeline.drain()
    assert log == expected
    assert second.digest() == whole.digest()
    assert second.stats()["served_rows"] == whole.stats()["served_rows"]


def test_a_prefetched_batch_is_on_its_way_before_it_is_asked_for(kit):
    replay, put = kit.replay(), threading.Event()
    kit.fill(replay, 40)

    def count(batch):
        calls.append(1)
        if len(calls) == 3:
            put.set()
        return batch

    calls = []
    with Pipeline(replay, count, batch_size=2, depth=2) as pipeline:
        pipeline.next()
        assert put.wait(10)
        pipeline.drain()
        assert len(calls) == 3  # and no more than depth ahead
        assert pipeline.stats()["batches"] == 1


def test_waiting_for_data_is_measured(kit):
    replay = kit.replay()
    kit.fill(replay, 40)

    def slow(batch):
        time.sleep(0.05)
        return batch

    with Pipeline(replay, slow, batch_size=2, depth=0) as pipeline:
        for _ in range(2):
            pipeline.next()
        assert 0.09 < pipeline.waited_s < 5


def test_worker_errors_reach_the_loop_with_their_traceback(kit):
    replay = kit.replay()
    kit.fill(replay, 40)

    def explode(batch):
        raise RuntimeError("device on fire")

    with Pipeline(replay, explode, batch_size=2) as pipeline:
        with pytest.raises(RuntimeError, match="device on fire") as caught:
            pipeline.next()
        assert "in explode" in "".join(traceback.format_exception(caught.value))
        for call in (pipeline.next, pipeline.drain, lambda: pipeline.add({})):
            with pytest.raises(RuntimeError, match="device on fire"):
                call()


def test_a_refused_row_names_itself_at_the_next_call(kit):
    replay = kit.replay()
    rows = kit.rows(0, 2)
    rows["reward"][1] = np.nan
    with Pipeline(replay, lambda b: b, batch_size=2) as pipeline:
        pipeline.add(rows)
        with pytest.raises(BadRow, match="environment 1"):
            pipeline.drain()


def test_an_error_wakes_a_loop_that_waits_for_room(kit):
    started = threading.Event()
    replay = kit.replay()
    kit.fill(replay, 40)

    def late(batch):
        started.wait()
        raise RuntimeError("late")

    with Pipeline(replay, late, batch_size=1, depth=3, max_commands=4) as pipeline:
        threading.Timer(0.1, started.set).start()
        with pytest.raises(RuntimeError, match="late"):
            for _ in range(10):
                pipeline._enqueue(lambda: pipeline._finish("", replay.sample(1)))


def test_closing_stops_the_worker_and_later_calls_say_so(kit):
    replay = kit.replay()
    kit.fill(replay, 40)
    pipeline = Pipeline(replay, lambda b: b, batch_size=2)
    pipeline.next()
    pipeline.close()
    pipeline.close()
    assert not pipeline._thread.is_alive()
    with pytest.raises(RuntimeError, match="closed"):
        pipeline.next()
    with pytest.raises(RuntimeError, match="closed"):
        pipeline.drain()


def test_device_arrays_are_fetched_by_the_worker(kit):
    import jax.numpy as jnp

    replay = kit.replay()
    with Pipeline(
        replay, lambda b: {k: jnp.asarray(v) for k, v in b.items() if k != "row"}, batch_size=2
    ) as pipeline:
        for step in range(30):
            rows = kit.rows(step, 2)
            pipeline.add(rows | {k: jnp.asarray(v) for k, v in rows.items() if k.startswith("latent")})
        item = pipeline.next()
        assert isinstance(item.batch["reward"], jnp.ndarray) and isinstance(item.rows, np.ndarray)
        pipeline.write_back(
            item.rows[:, 1:], {k: v[:, 1:] + 1 for k, v in item.batch.items() if "latent" in k}
        )
        pipeline.drain()
        window = replay.gather(type(replay.draw(1))(item.rows[:1, 0], np.zeros(1, np.uint8)))
        np.testing.assert_array_equal(
            window["latent/stoch"][0, 1:], np.asarray(item.batch["latent/stoch"])[0, 1:] + 1
        )


def test_importing_replay_loads_no_jax():
    code = "import dreamworld.replay, sys; assert not {'jax', 'flax', 'orbax'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
