"""Sweeps from start to report: crashes, kills, retries, resumption, stops."""

import csv
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from dreamworld.errors import UserError
from dreamworld.sweep import driver, state

SIX = {f"gym_{task}/seed{seed}": "finished" for task in "AB" for seed in range(3)}


@pytest.mark.parametrize("launcher", ["local", "ray"])
def test_sweep_with_a_crash_and_a_kill_ends_complete_with_its_report(run_sweep, states, tmp_path, launcher):
    faults = {"gym_A/seed1": "crash", "gym_B/seed0": "kill"}
    code, said = run_sweep(tasks=["gym_A", "gym_B"], seeds="0:3", launcher=launcher, faults=faults)
    assert code == 0 and states() == SIX
    assert "gym_A/seed1: exit status 1: RuntimeError: planned crash; will be continued" in said
    assert "gym_B/seed0: killed by SIGKILL; will be continued" in said  # what it said last is not why
    assert "planned crash" in (tmp_path / "sweep/gym_A/seed1/log.txt").read_text()
    # The report: every run counted, every score that of its episodes.
    rows = list(csv.DictReader((tmp_path / "sweep/statistics/runs.csv").open()))
    assert len(rows) == 6 and {row["counted"] for row in rows} == {"yes"}
    for row in rows:
        lines = (pathlib.Path(row["path"]) / "episodes.jsonl").read_text().splitlines()
        ends = {line["frames"]: line["return"] for line in map(json.loads, lines)}
        assert len(ends) == len(lines) == 10  # continued from where it broke off, not from the start
        assert float(row["return"]) == pytest.approx(np.mean([ends[100]]))
    assert (tmp_path / "sweep/statistics/report.html").stat().st_size > 10_000


def test_a_sweep_ends_with_the_table_of_its_runs_and_that_of_its_report(run_sweep, capsys):
    assert run_sweep(tasks=["gym_A"], seeds="0:2")[0] == 0
    shown = capsys.readouterr().out
    assert len(re.findall(r"gym_A/seed[01] +finished +100 +100%", shown)) == 2
    assert "2 finished of 2 runs" in shown and "Final scores" in shown
    assert run_sweep(tasks=["gym_A"], seeds="0:2")[0] == 0  # nothing left to train
    assert "2 finished of 2 runs" in capsys.readouterr().out


def test_of_a_large_sweep_the_table_shows_what_is_not_finished(monkeypatch, run_sweep, capsys):
    monkeypatch.setattr(driver, "SHOWN", 1)
    assert run_sweep(seeds="0:2", retries="0", faults={"gym_A/seed0": "usage"})[0] == 1
    shown = capsys.readouterr().out
    assert re.search(r"gym_A/seed0 +failed", shown) and not re.search(r"gym_A/seed1 +finished", shown)
    assert "1 failed, 1 finished of 2 runs" in shown


def test_same_command_skips_finished_runs_and_extends(run_sweep, states, tmp_path):
    assert run_sweep(seeds="0")[0] == 0
    before = (tmp_path / "sweep/gym_A/seed0/log.txt").read_text()
    code, said = run_sweep(seeds="0:2")
    assert code == 0 and "start: gym_A/seed1" in said and "start: gym_A/seed0" not in said
    assert (tmp_path / "sweep/gym_A/seed0/log.txt").read_text() == before
    names = [row["name"] for row in json.loads((tmp_path / "sweep/sweep.json").read_text())["runs"]]
    assert names == ["gym_A/seed0", "gym_A/seed1"]
    assert "nothing left to train" in run_sweep(seeds="0:2")[1]


def test_more_steps_continue_a_finished_run(run_sweep, tmp_path):
    assert run_sweep()[0] == 0
    assert run_sweep(options={"run.steps": "200"})[0] == 0
    assert json.loads((tmp_path / "sweep/gym_A/seed0/status.json").read_text())["step"] == 200


def test_a_run_that_always_fails_is_given_up_and_the_others_finish(run_sweep, states, tmp_path):
    code, said = run_sweep(seeds="0:2", retries="1", faults={"gym_A/seed0": "always"})
    assert code == 1 and states() == {"gym_A/seed0": "failed", "gym_A/seed1": "finished"}
    events = [json.loads(line) for line in (tmp_path / "sweep/sweep.jsonl").read_text().splitlines()]
    starts = [event for event in events if event["event"] == "start" and event["run"] == "gym_A/seed0"]
    assert len(starts) == 2  # the first attempt, and one that got no further
    assert "failed: gym_A/seed0: exit status 1: RuntimeError: planned crash; log:" in said
    assert "left out" in (tmp_path / "sweep/statistics/report.md").read_text()


def test_a_user_error_is_not_tried_again(run_sweep, tmp_path):
    code, said = run_sweep(seeds="0:2", faults={"gym_A/seed0": "usage"})
    assert code == 1 and said.count("start: gym_A/seed0") == 1 and "start again" not in said
    assert "exit status 2: error: --task nonsense: no such task" in said


def test_other_settings_in_the_directory_are_refused_before_anything_starts(run_sweep, tmp_path):
    assert run_sweep()[0] == 0
    plan = (tmp_path / "sweep/sweep.json").read_text()
    with pytest.raises(
        UserError, match=r"gym_A/seed0 holds a run with other settings: run\.train_ratio 256\.0 -> 64\.0"
    ):
        run_sweep(seeds="0:2", options={"run.train_ratio": "64"})
    assert (tmp_path / "sweep/sweep.json").read_text() == plan
    assert not (tmp_path / "sweep/gym_A/seed1").exists()


@pytest.mark.parametrize("dry", [True, False])
def test_a_sweep_in_the_folder_of_a_run_is_refused_before_anything_starts(run_sweep, tmp_path, dry):
    (tmp_path / "sweep").mkdir()
    for name in ("config.yaml", "status.json"):
        (tmp_path / "sweep" / name).write_text("{}")
    with pytest.raises(UserError, match=r"can't lie in the folder of another one, .*/sweep;"):
        run_sweep(dry_run=dry)
    assert len(list((tmp_path / "sweep").iterdir())) == 2


def test_a_second_sweep_in_the_same_directory_is_refused(run_sweep, tmp_path):
    with (
        state.locked(tmp_path / "sweep"),
        pytest.raises(UserError, match=rf"a sweep is at work there \(pid {os.getpid()} on "),
    ):
        run_sweep()
    assert [path.name for path in (tmp_path / "sweep").iterdir()] == [".sweep.lock"]
    assert run_sweep()[0] == 0


def test_grid_points_are_methods_of_the_report(run_sweep, tmp_path):
    code, _ = run_sweep(
        grid={"run.train_ratio": ["256", "512"]}, tasks=["dmc_walker_walk"], options={"env.repeat": "2"}
    )
    assert code == 0
    rows = list(csv.DictReader((tmp_path / "sweep/statistics/scores.csv").open()))
    assert {(row["method"], float(row["return"])) for row in rows} == {
        ("train_ratio=256", 100.0),
        ("train_ratio=512", 200.0),
    }
    improvement = list(csv.DictReader((tmp_path / "sweep/statistics/improvement.csv").open()))
    assert float(improvement[0]["probability_x_above_y"]) == 0.0


def test_each_run_is_bound_to_cores_of_its_own(run_sweep, tmp_path):
    cores = sorted(os.sched_getaffinity(0))
    count = min(2, len(cores))
    assert run_sweep(seeds=f"0:{count}", workers=str(count))[0] == 0
    bound = [json.loads(path.read_text()) for path in (tmp_path / "sweep").rglob("cores")]
    assert sorted(bound) == [[core] for core in cores[:count]]


STOPPED = """
import json, os, sys
from dreamworld.sweep.driver import sweep
from dreamworld.sweep.spec import make_spec
sys.exit(sweep(make_spec(json.loads(sys.argv[1])), command=json.loads(sys.argv[2])))
"""


def test_ctrl_c_stops_the_runs_cleanly_and_the_same_command_continues(run_sweep, states, tmp_path):
    tree = {
        "tasks": ["gym_A"],
        "seeds": "0:2",
        "logdir": str(tmp_path / "sweep"),
        "cores": "1",
        "options": {"run.steps": "100"},
    }
    command = [sys.executable, str(pathlib.Path(__file__).with_name("fake_train.py"))]
    faults = json.dumps({"gym_A/seed0": "hang"})
    arguments = [sys.executable, "-c", STOPPED, json.dumps(tree), json.dumps(command)]
    child = subprocess.Popen(
        arguments, env={**os.environ, "FAKE_TRAIN": faults}, stdout=subprocess.PIPE, text=True
    )
    status = tmp_path / "sweep/gym_A/seed0/status.json"
    deadline = time.monotonic() + 60
    while not (status.exists() and '"step": 50' in status.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    said, _ = child.communicate(timeout=60)
    assert child.returncode == 75 and "stopping: runs save and end" in said
    assert states()["gym_A/seed0"] == "preempted"
    assert run_sweep(seeds="0:2")[0] == 0 and set(states().values()) == {"finished"}


def test_cost_comes_from_measured_runs_and_says_so(run_sweep):
    _, said = run_sweep()
    assert "no estimate of the time: no run was measured here" in said
    _, said = run_sweep(seeds="0:3", options={"run.steps": "100"}, fps="50")
    assert "200 environment frames left: about" in said and "1 run of gym_A measured here" in said
    _, said = run_sweep(tasks=["gym_B"], fps="50", dry_run="true")
    assert "from the stated 50 frames/s" in said


def test_dry_run_writes_nothing(run_sweep, tmp_path, capsys):
    assert run_sweep(seeds="0:3", tasks=["gym_A", "gym_B"], dry_run="true")[0] == 0
    assert not (tmp_path / "sweep").exists()
    assert "6 runs in" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("sweep.jsonl", "NOT WRITTEN: events of the sweep: "),
        ("sweep.json", "NOT WRITTEN: the plan of the sweep: "),
        ("gym_A/seed0/log.txt", "finished: gym_A/seed0"),
        ("statistics", "no report yet: "),
    ],
)
def test_what_a_sweep_cannot_write_stops_none_of_its_runs(run_sweep, states, tmp_path, name, told):
    path = tmp_path / "sweep" / name
    path.parent.mkdir(parents=True)
    path.write_text("") if name == "statistics" else path.mkdir()
    code, said = run_sweep(seeds="0:2")
    assert code == 0 and states() == {"gym_A/seed0": "finished", "gym_A/seed1": "finished"}
    assert said.count(told) == 1


def test_a_run_that_cannot_be_started_fails_alone(run_sweep, states, tmp_path):
    (tmp_path / "sweep/gym_A").mkdir(parents=True)
    (tmp_path / "sweep/gym_A/seed0").write_text("in the way")
    code, said = run_sweep(seeds="0:3", workers="1")
    assert code == 1 and states() == {"gym_A/seed1": "finished", "gym_A/seed2": "finished"}
    assert "failed: gym_A/seed0: can't be started: [Errno 17] File exists" in said


def test_a_sweep_that_nobody_hears_goes_on(run_sweep, states, monkeypatch):
    with open("/dev/full", "w") as nobody:
        monkeypatch.setattr(sys, "stdout", nobody)
        assert run_sweep()[0] == 0
    assert states() == {"gym_A/seed0": "finished"}
