"""The table of runs, from heartbeats alone."""

import json
import os
import socket
import subprocess
import sys
import time

import pytest

from dreamworld.errors import UserError
from dreamworld.scripts import status as command
from dreamworld.sweep.status import is_over, rows, summary


@pytest.fixture
def heartbeat(tmp_path):
    def write(name, state, *, age=0.0, host="elsewhere", pid=1, config="", **fields):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(config or "task: a\nseed: 0\n")
        row = {"state": state, "task": "a", "seed": 0, "updated": time.time() - age, "host": host, "pid": pid}
        (folder / "status.json").write_text(json.dumps({**row, **fields}))

    return write


def states(tmp_path, **options):
    return {row.run: row.state for row in rows(tmp_path, **options)}


def test_heartbeats_say_who_is_alive_and_who_is_lost(heartbeat, tmp_path):
    here, gone = socket.gethostname(), subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    heartbeat("done", "finished", age=1e6)
    heartbeat("alive_here", "running", host=here, pid=os.getpid(), age=1e6)
    heartbeat("killed_here", "running", host=here, pid=gone.pid)
    heartbeat("fresh", "running", age=5)
    heartbeat("silent", "running", age=500)
    heartbeat("compiling", "starting", age=500)
    heartbeat("stuck", "starting", age=5000)
    assert states(tmp_path) == {
        "done": "finished",
        "alive_here": "running",
        "killed_here": "lost",
        "fresh": "running",
        "silent": "lost?",
        "compiling": "starting",
        "stuck": "lost?",
    }
    assert states(tmp_path, stale_s=1000)["silent"] == "running"


def test_a_slow_run_may_be_silent_for_longer(heartbeat, tmp_path):
    # 1000 agent steps between rows, action repeat 2, 5 frames/s: a row every 400 s.
    config = "task: dmc_walker_walk\nseed: 0\nenv: {repeat: 2}\nrun: {log_every: 1000}\n"
    heartbeat("slow", "running", age=900, fps=5.0, config=config)
    heartbeat("fast", "running", age=900, fps=500.0, config=config)
    assert states(tmp_path) == {"slow": "running", "fast": "lost?"}


def test_planned_and_given_up_runs_are_shown(heartbeat, tmp_path):
    heartbeat("w/seed0", "running", age=1e6, step=30, steps=100)
    plan = [{"name": f"w/seed{seed}", "task": "w", "seed": seed, "variant": ""} for seed in range(2)]
    (tmp_path / "sweep.json").write_text(json.dumps({"runs": plan}))
    (tmp_path / "sweep.jsonl").write_text('{"event": "failed", "run": "w/seed0", "code": -9, "error": ""}\n')
    first, second = rows(tmp_path)
    assert (first.state, first.error, first.step) == ("failed", "exit code -9", 30)
    assert (second.run, second.state) == ("w/seed1", "waiting")
    assert summary([first, second]) == "1 failed, 1 waiting of 2 runs" and not is_over([first, second])


def test_json_and_table_show_the_same_runs(heartbeat, tmp_path, capsys):
    fields = {"step": 500, "steps": 1000, "fps": 250.0, "return": 12.5, "eta_s": 3700}
    heartbeat("a", "running", **fields)
    heartbeat("b", "failed", error="Traceback\nRuntimeError: NaN in loss/dyn")
    assert command.main([str(tmp_path), "--json"]) == 0
    found = {row["run"]: row for row in json.loads(capsys.readouterr().out)}
    assert found["a"]["mean_return"] == 12.5 and found["b"]["error"] == "RuntimeError: NaN in loss/dyn"
    assert command.main([str(tmp_path)]) == 0
    table = capsys.readouterr().out
    for words in ("running", "50%", "250", "12.5", "1h 1m", "elsewhere", "b: RuntimeError: NaN in loss/dyn"):
        assert words in table


def test_a_share_of_steps_is_never_more_than_all(heartbeat, tmp_path, capsys):
    heartbeat("a", "finished", step=4048, steps=4000)
    heartbeat("b", "running", step=3999, steps=4000)
    assert command.main([str(tmp_path)]) == 0
    table = capsys.readouterr().out
    assert "4,048  100%" in table and "3,999   99%" in table


def test_watching_ends_when_every_run_has_ended(heartbeat, tmp_path, capsys):
    heartbeat("a", "finished", step=10, steps=10)
    assert command.main([str(tmp_path), "--watch"]) == 0
    assert "1 finished of 1 run" in capsys.readouterr().out


def test_single_run_directory_can_be_asked_about(heartbeat, tmp_path):
    heartbeat("a", "finished")
    assert [row.run for row in rows(tmp_path / "a")] == ["a"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [([], "give one directory"), (["a", "b"], "give one directory"), (["DIR"], "holds no runs and no sweep"),
     (["nowhere"], "not a directory"), (["DIR", "--wach"], "did you mean --watch")],
)  # fmt: skip
def test_bad_input_is_one_line(tmp_path, arguments, message):
    with pytest.raises(UserError, match=message):
        command.main([str(tmp_path) if word == "DIR" else word for word in arguments])


def test_status_and_sweep_load_no_jax():
    code = (
        "import sys; from dreamworld.scripts import status, sweep; from dreamworld.sweep import driver;"
        "from dreamworld.sweep.launch import local, ray, slurm;"
        "heavy = {'jax', 'flax', 'matplotlib', 'ray', 'submitit'};"
        "sys.exit(bool(heavy & {name.split('.')[0] for name in sys.modules}))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
