"""`dreamworld benchmark env`: what it prints, and that its arithmetic is right."""

import json

import numpy as np
import psutil
import pytest

from dreamworld.benchmarks import env as benchmark
from dreamworld.benchmarks.env import Contestant, Turn
from dreamworld.config import EnvConfig
from dreamworld.envs.vector import make_vector_env


def test_one_json_line_beside_gymnasium_async(capsys):
    argv = ["--task", "gym_CartPole-v1", "--num", "2", "--rounds", "2", "--turn_s", "0.05", "--json"]
    assert benchmark.main(argv) == 0
    (line,) = capsys.readouterr().out.strip().splitlines()
    row = json.loads(line)
    assert row["task"] == "gym_CartPole-v1" and row["num"] == 2 and row["engine"] == "inprocess"
    assert row["steps_per_s"] > 0 and row["cpu_s_per_step"] >= 0
    assert row["gymnasium_async"]["steps_per_s"] > 0 and row["ratio"] == row["gymnasium_async"]["ratio"]
    assert row["machine"]["processor"] and row["machine"]["cores"] > 0
    left = [" ".join(child.cmdline()) for child in psutil.Process().children(recursive=True)]
    # Python's own resource tracker lives as long as this process.
    assert all("resource_tracker" in command for command in left)


def test_preset_of_the_suite_is_the_base_and_flags_win():
    config, flags = benchmark.parse(["--task", "atari100k_pong", "--env.atari.resize", "area"])
    assert config.env.atari.actions == "needed" and config.env.atari.resize == "area" and flags.num == 16
    config, _ = benchmark.parse(["--task", "dmc_walker_walk", "--env.dmc.obs", "vision"])
    assert config.env.dmc.obs == "vision"


def test_area_is_compared_with_the_bare_threads_and_with_async(capsys):
    argv = ["--task", "atari100k_pong", "--env.atari.resize", "area", "--num", "2", "--turn_s", "0.05"]
    benchmark.main([*argv, "--rounds", "1", "--json", "--memory_steps", "40"])
    row = json.loads(capsys.readouterr().out)
    assert row["engine"] == "atari" and {"gymnasium_async", "atari_vector_env"} <= row.keys()
    assert row["memory"]["steps"] == 40 and row["memory"]["end_mb"] > 0


def test_jax_environments_report_the_rate_of_one_scan(capsys):
    benchmark.main(["--task", "jax_catch", "--num", "64", "--rounds", "1", "--turn_s", "0.05", "--json"])
    row = json.loads(capsys.readouterr().out)
    assert row["scan_steps_per_s"] > row["steps_per_s"] > 0


def test_ratios_compare_turns_and_cpu_compares_totals():
    ours = [Turn(100, 1.0, 0.1), Turn(100, 1.0, 0.3)]
    theirs = [Turn(100, 2.0, 1.0), Turn(100, 4.0, 1.0)]
    row = benchmark.summarise({"ours": ours, "gymnasium_async": theirs})
    assert row["steps_per_s"] == 100 and row["cpu_s_per_step"] == 0.002
    assert row["ratio"] == 3 and row["gymnasium_async"]["cpu_ratio"] == 5


def test_contestants_take_turns_in_both_orders():
    order = []
    contestants = {
        name: Contestant(lambda i, name=name: order.append(name), lambda: None) for name in ("ours", "theirs")
    }
    turns = benchmark.take_turns(contestants, 4, 2, 1e-5)
    assert all(turn.steps >= 4 * 5 for turn in turns["ours"] + turns["theirs"])
    changes = [name for i, name in enumerate(order) if i == 0 or order[i - 1] != name]
    # Calibration, the first turn, then the second turn in reverse.
    assert changes == ["ours", "theirs", "ours", "theirs", "ours"]


def _growth(task, steps, **options):
    env = make_vector_env(task, EnvConfig(**options), seed=0, num=16)
    try:
        env.reset(0)
        actions = benchmark.random_actions(env.act_space, 16)
        result = benchmark.memory_growth(env, actions, steps)
    finally:
        env.close()
    assert result["steps"] == steps // 16 * 16
    return result["end_mb"] - result["early_mb"]


@pytest.mark.parametrize("engine", ["inprocess", "process"])
def test_resident_memory_does_not_grow(engine):
    assert _growth("gym_CartPole-v1", 16_000, engine=engine) < 5


@pytest.mark.soak
@pytest.mark.parametrize("task", ["gym_CartPole-v1", "atari_pong", "dmc_cheetah_run"])
def test_resident_memory_does_not_grow_over_200k_steps(task):
    assert _growth(task, 200_000) < 20


@pytest.mark.soak
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_that_keep_dying_leave_no_memory_behind(workers):
    env = make_vector_env("gym_CartPole-v1", EnvConfig(engine="process", workers=workers), seed=0, num=4)
    try:
        env.reset(0)
        action = {"action": np.zeros(4, np.int32)}
        descriptors = psutil.Process().num_fds()
        for _ in range(20):
            psutil.Process(env.pids[0]).kill()  # type: ignore[attr-defined]
            env.step(action)
            for _ in range(3):
                env.step(action)
        assert psutil.Process().num_fds() == descriptors
    finally:
        env.close()
