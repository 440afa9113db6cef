"""Random sequences of operations agree with a naive list implementation, in all storages and across saves."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

PHASES = [Phase.generate]  # failures are printed as found: shrinking takes minutes
ENVS, LENGTH, CONTEXT, CHUNK, CAPACITY = 2, 5, 1, 3, 60


class Naive:
    """Chunks as lists of rows, oldest first; everything else is computed by brute force."""

    def __init__(self):
        self.chunks: list[list[dict]] = []
        self.open: list[list[dict]] = [[] for _ in range(ENVS)]
        self.next_id = [-1] * ENVS
        self.ended = [True] * ENVS
        self.streams = 0
        self.max_priority = 1.0

    def add(self, rows):
        while sum(map(len, self.chunks)) + ENVS > CAPACITY:
            self.chunks.pop(0)
        ids = []
        for env in range(ENVS):
            if (rows["is_first"][env] and not self.ended[env]) or self.next_id[env] < 0:
                self.next_id[env] = self.streams << 40
                self.streams += 1
                self.open[env] = []
            if len(self.open[env]) in (0, CHUNK):
                self.open[env] = []
                self.chunks.append(self.open[env])
            row = {k: np.array(v[env]) for k, v in rows.items()}
            self.open[env].append({"id": self.next_id[env], "row": row, "priority": self.max_priority})
            ids.append(self.next_id[env])
            self.next_id[env] += 1
            self.ended[env] = bool(rows["is_last"][env])
        return ids

    def rows(self):
        return {entry["id"]: entry for chunk in self.chunks for entry in chunk}

    def starts(self):
        rows = self.rows().keys()
        return {i for i in rows if all(i + k in rows for k in range(LENGTH))}

    def weights(self):
        trained = {s + k for s in self.starts() for k in range(CONTEXT, LENGTH)}
        return {i: entry["priority"] for i, entry in self.rows().items() if i in trained}


class Machine(RuleBasedStateMachine):
    kit: Any = None

    @initialize(
        storage=st.sampled_from(["raw", "lz4", "disk"]),
        mixture=st.sampled_from([(1, 0, 0), (0, 1, 0), (0, 0, 1), (0.4, 0.3, 0.3)]),
        online=st.booleans(),
        seed=st.integers(0, 1000),
    )
    def start(self, storage, mixture, online, seed):
        self.folder = tempfile.TemporaryDirectory()
        shares = dict(zip(("uniform", "prioritized", "recent"), mixture))
        sizes = {"num_envs": ENVS, "length": LENGTH, "context": CONTEXT, "capacity": CAPACITY, "chunk": CHUNK}
        places = {"storage": storage, "hot_chunks": 1, "directory": Path(self.folder.name)}
        self.options = sizes | places | shares | {"online": online, "seed": seed}
        self.replay = self.kit.replay(**self.options)
        self.naive, self.step, self.served = Naive(), 0, 0
        self.snapshots = []

    def teardown(self):
        if hasattr(self, "folder"):
            self.replay.files.close()
            self.folder.cleanup()

    @rule(count=st.integers(1, 12), seed=st.integers(0, 10**6), share=st.sampled_from([0.0, 0.05, 0.3]))
    def add(self, count, seed, share):
        flags = np.random.default_rng(seed).random((count, 2, ENVS)) < share
        for first, last in flags:
            rows = self.kit.rows(self.step, ENVS, first, last)
            assert self.replay.add(rows).tolist() == self.naive.add(rows)
            self.step += 1

    @rule(batch=st.integers(1, 6))
    def sample(self, batch):
        starts = self.naive.starts()
        if not starts:
            with pytest.raises(LookupError):
                self.replay.draw(batch)
            return
        result = self.replay.sample(batch)
        self.served += batch * (LENGTH - CONTEXT)
        rows = self.naive.rows()
        for b in range(batch):
            assert int(result["row"][b, 0]) in starts
            for k in range(LENGTH):
                row = rows[int(result["row"][b, 0]) + k]["row"]
                for key, value in row.items():
                    expected = np.True_ if key == "is_first" and k == 0 else value
                    np.testing.assert_array_equal(result[key][b, k], expected, err_msg=key)

    @rule(data=st.data(), value=st.integers(0, 10**6))
    def write_back(self, data, value):
        if self.step < LENGTH:
            return
        begins = data.draw(st.lists(st.sampled_from(self.known_ids()), min_size=1, max_size=4))
        ids = np.array(begins)[:, None] + np.arange(LENGTH)
        latents = self.kit.latents(value + np.arange(ids.size).reshape(ids.shape))
        priorities = (ids % 7).astype(np.float32)
        self.replay.write_back(ids, latents)
        self.replay.update_priorities(ids, priorities)
        rows = self.naive.rows()
        for index in np.ndindex(ids.shape):
            entry = rows.get(int(ids[index]))
            if entry:
                entry["row"].update({k: v[index] for k, v in latents.items()})
                entry["priority"] = float(priorities[index])
                self.naive.max_priority = max(self.naive.max_priority, entry["priority"])

    def known_ids(self):
        return [
            (stream << 40) | position for stream in range(self.naive.streams) for position in range(0, 40, 3)
        ]

    @rule()
    def save(self):
        manifest = json.loads(json.dumps(self.replay.save(Path(self.folder.name))))
        self.snapshots = [*self.snapshots, manifest][-2:]
        self.replay.collect_garbage(self.snapshots)

    @rule(save=st.booleans())
    def restore(self, save):
        if save or not self.snapshots:
            self.save()
            before, total = self.replay.digest(), self.replay.stats()
            other = self.kit.replay(**self.options)
            assert other.load(Path(self.folder.name), self.snapshots[-1]) == []
            assert other.digest() == before
            assert other.stats()["served_rows"] == total["served_rows"]
            if self.naive.starts():  # the same draws follow, in both
                expected, actual = self.replay.sample(4), other.sample(4)
                for key in expected:
                    np.testing.assert_array_equal(expected[key], actual[key], err_msg=key)
                self.served += 4 * (LENGTH - CONTEXT)
            self.replay.files.close()
            self.replay = other
        else:  # an older snapshot still loads, too
            other = self.kit.replay(**self.options)
            assert other.load(Path(self.folder.name), self.snapshots[0]) == []
            other.files.close()

    @invariant()
    def same_content(self):
        if not hasattr(self, "naive"):
            return
        assert self.replay.rows == len(self.naive.rows()) <= CAPACITY
        starts = self.naive.starts()
        assert set(self.kit.starts(self.replay)) == starts
        assert self.replay.starts == len(starts)
        assert self.replay.counts["served_rows"] == self.served
        tree = self.replay.sampler.tree
        if tree:
            weights = self.naive.weights()
            for chunk in self.replay.chunks:
                leaves = tree.nodes[tree.leaves :][chunk.slot * tree.width :][: chunk.rows]
                expected = [
                    weights.get((chunk.stream << 40) | (chunk.start + i), 0.0) for i in range(chunk.rows)
                ]
                assert leaves.tolist() == expected
            assert abs(tree.total - sum(weights.values())) < 1e-6


@pytest.mark.parametrize("examples", [40, pytest.param(400, marks=pytest.mark.soak)])
def test_random_operations_agree_with_a_naive_list(kit, examples):
    machine = type("BoundMachine", (Machine,), {"kit": kit})
    options = settings(
        max_examples=examples,
        stateful_step_count=30,
        deadline=None,
        phases=PHASES,
        derandomize=examples < 100,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    run_state_machine_as_test(machine, settings=options)
