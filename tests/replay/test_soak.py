"""Replay at capacity neither grows nor slows: resident memory stays flat."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import gc, sys, time
import psutil
sys.path.insert(0, sys.argv[1])
import conftest as kit
from pathlib import Path
inserts, storage = int(sys.argv[2]), sys.argv[3]
replay = kit.make_replay(
    num_envs=4, chunk=128, capacity=10_000, length=17, storage=storage, directory=Path(sys.argv[4]),
    hot_chunks=8, online=True, prioritized=0.2, recent=0.2,
)
rows = [kit.make_rows(step, 4, [step % 50 == 0] * 4, [step % 50 == 49] * 4) for step in range(400)]
process, kept = psutil.Process(), []
def run(count):
    for step in range(count // 4):
        replay.add(rows[step % 400])
        if step % 25 == 24:
            ids = replay.sample(4)["row"]
            replay.write_back(ids, kit.make_latents(ids % 1000))
            replay.update_priorities(ids, (ids % 7).astype("float32"))
        if step % 2000 == 1999:
            kept[:] = [*kept, replay.save(Path(sys.argv[4]))][-2:]
            replay.collect_garbage(kept)
run(40_000)  # several times the capacity, with saves
gc.collect()
before = process.memory_info().rss
run(inserts)
gc.collect()
after = process.memory_info().rss
print(f"{before} {after} {len(list(Path(sys.argv[4]).iterdir()))}")
"""


@pytest.mark.parametrize(
    ("storage", "inserts"),
    [("raw", 100_000), ("lz4", 40_000), ("disk", 40_000)]
    + [pytest.param(storage, 1_000_000, marks=pytest.mark.soak) for storage in ("raw", "lz4", "disk")],
)
def test_memory_stays_flat_at_capacity(tmp_path, storage, inserts):
    command = [sys.executable, "-c", SCRIPT, str(Path(__file__).parent), str(inserts), storage, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr
    before, after, files_after = map(int, done.stdout.split())
    print(f"measured: {inserts:,} inserts, {before / 1e6:.1f} MB resident before, {after / 1e6:.1f} MB after")
    assert after < 1.02 * before, f"{before / 1e6:.1f} MB grew to {after / 1e6:.1f} MB"
    assert files_after < 3 * 10_000 / 128 + 20  # those in use, and those of the two snapshots kept
