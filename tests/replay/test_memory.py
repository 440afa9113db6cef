"""The estimate is what a full replay takes, and the memory that is there is what the machine or a group leaves."""

from __future__ import annotations

import pytest

from dreamworld.config import ReplayConfig
from dreamworld.replay import available_memory, estimate
from dreamworld.types import Space

FLAGS = {k: Space((), "bool") for k in ("is_first", "is_last", "is_terminal")} | {
    "reward": Space((), "float32")
}
IMAGES = FLAGS | {
    "obs/image": Space((64, 64, 3), "uint8"),
    "action/action": Space((6,), "float32"),
    "latent/deter": Space((2048,), "bfloat16"),
    "latent/stoch": Space((32,), "uint8"),
}
GIB = 1 << 30


def test_the_estimate_is_what_a_full_replay_takes(kit):
    replay = kit.replay(num_envs=1, capacity=512, chunk=32)
    kit.fill(replay, 600)
    need = estimate(kit.SPACES, replay.config, 10**6)
    assert need.rows == 512
    assert need.ram_bytes == pytest.approx(replay.stats()["size_bytes"], rel=0.07)


def test_fewer_steps_than_the_capacity_need_less():
    config = ReplayConfig(capacity_steps=5e6)
    assert estimate(IMAGES, config, 1e5).rows == 100_000
    assert estimate(IMAGES, config, 1e7).rows == 5_000_000


def test_the_limit_of_a_container_counts(tmp_path):
    root, process = tmp_path / "cgroup", tmp_path / "self"
    job = root / "slurm" / "job_7"
    job.mkdir(parents=True)
    process.write_text("0::/slurm/job_7\n")
    (job / "memory.max").write_text("max\n")
    (job.parent / "memory.max").write_text(f"{GIB}\n")
    (job.parent / "memory.current").write_text(f"{GIB // 2}\n")
    (job.parent / "memory.stat").write_text(f"anon 5\ninactive_file {GIB // 4}\n")
    free, source = available_memory(root, process)
    assert free == GIB * 3 // 4 and source.endswith("slurm")


def test_the_limit_of_an_old_style_container_counts(tmp_path):
    root, process = tmp_path / "cgroup", tmp_path / "self"
    (root / "memory").mkdir(parents=True)
    process.write_text("7:memory:/\n3:cpu,cpuacct:/\n")
    (root / "memory" / "memory.limit_in_bytes").write_text(f"{GIB}\n")
    (root / "memory" / "memory.usage_in_bytes").write_text("0\n")
    assert available_memory(root, process)[0] == GIB


def test_without_a_container_the_machine_limits(tmp_path):
    free, source = available_memory(tmp_path, tmp_path / "none")
    assert free > 10**6 and "machine" in source
