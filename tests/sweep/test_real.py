"""Sweeps of real trainings, of the smallest agent on JAX environments."""

import csv
import json
import pathlib
import sys

import pytest

from dreamworld.logging.rundir import RunDir
from dreamworld.sweep.driver import sweep
from dreamworld.sweep.spec import make_spec

COMMAND = (sys.executable, str(pathlib.Path(__file__).with_name("faulty_train.py")))
OPTIONS = {"env.engine": "jax", "run.steps": "160", "run.save_every": "20", "run.log_every": "20"}
OPTIONS |= {"run.report_every": "0", "eval.every": "0", "logger.tensorboard": "False", "run.train_ratio": "4"}


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("launcher", "tasks", "seeds"),
    [
        ("local", ["jax_catch"], "0:2"),
        pytest.param("local", ["jax_catch", "jax_cartpole"], "0:3", marks=pytest.mark.soak),
        pytest.param("ray", ["jax_catch", "jax_cartpole"], "0:3", marks=pytest.mark.soak),
    ],
)
def test_a_sweep_with_a_crash_and_a_kill_trains_every_run_to_its_end(
    tmp_path, monkeypatch, launcher, tasks, seeds
):
    faults = {f"{tasks[0]}/seed1": "crash", f"{tasks[-1]}/seed0": "kill"}
    monkeypatch.setenv("FAULTS", json.dumps(faults))
    tree = {"tasks": tasks, "seeds": seeds, "configs": ["debug"], "launcher": launcher, "cores": "1"}
    said = []
    spec = make_spec({**tree, "logdir": str(tmp_path / "sweep"), "options": OPTIONS})
    assert sweep(spec, command=COMMAND, say=said.append) == 0, "\n".join(said)
    assert f"{tasks[0]}/seed1: exit status 1: RuntimeError: planned crash" in "\n".join(said)
    assert f"{tasks[-1]}/seed0: killed by SIGKILL" in "\n".join(said)
    names = [f"{task}/seed{seed}" for task in tasks for seed in range(int(seeds[-1]))]
    for name in names:
        run = RunDir(tmp_path / "sweep" / name)
        assert run.read_status()["state"] == "finished"
        rows = rows_of(run.metrics)
        assert [row["step"] for row in rows] == list(range(20, 161, 20))  # each once, the broken runs, too
        assert rows[-1]["updates"] > rows[3]["updates"] > 0
        assert ("continued at step" in (run.path / "log.txt").read_text()) == (name in faults)
    counted = list(csv.DictReader((tmp_path / "sweep/statistics/runs.csv").open()))
    assert sorted(f"{row['task']}/seed{row['seed']}" for row in counted) == sorted(names)
    assert {row["counted"] for row in counted} == {"yes"}
    assert (tmp_path / "sweep/statistics/report.html").stat().st_size > 10_000
