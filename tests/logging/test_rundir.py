"""The run directory: whose it is, what may change, and who may write."""

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys

import pytest

from dreamworld import cli
from dreamworld.errors import UserError
from dreamworld.logging.rows import dumps
from dreamworld.logging.rundir import RunDir
from dreamworld.sessions import beginning, ending
from dreamworld.sweep.state import locked
from dreamworld.types import Space


def config_of(tmp_path, *argv):
    return cli.parse(["--configs", "debug", "--logdir", str(tmp_path / "run"), *argv])


def test_the_name_is_filled_in():
    config = cli.parse(["--task", "bsuite_catch/0", "--seed", "3", "--logdir", "~/x/{task}-{seed}"])
    assert str(RunDir.of(config)) == os.path.expanduser("~/x/bsuite_catch_0-3")


def test_a_run_is_begun_and_found_again(tmp_path):
    config = config_of(tmp_path)
    rundir = RunDir.of(config)
    assert not rundir.exists()
    assert rundir.begin(config) == []
    assert rundir.exists() and rundir.require() == config == RunDir.of(config).load_config()
    assert rundir.begin(config) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--task", "gym_Acrobot-v1"], ["task 'gym_CartPole-v1' -> 'gym_Acrobot-v1'"]),
        (["--seed", "4"], ["seed 0 -> 4"]),
        (["--agent.rssm.deter", "64", "--env.repeat=2"], ["agent.rssm.deter 32 -> 64", "env.repeat 1 -> 2"]),
    ],
)
def test_another_run_is_refused_with_the_difference_and_nothing_is_written(change, words, tmp_path):
    config = config_of(tmp_path)
    rundir = RunDir.of(config)
    rundir.begin(config)
    before = {file.name: file.read_bytes() for file in rundir.path.iterdir()}
    with pytest.raises(UserError) as caught:
        rundir.begin(config_of(tmp_path, *change))
    assert all(word in str(caught.value) for word in [*words, str(rundir)])
    assert {file.name: file.read_bytes() for file in rundir.path.iterdir()} == before


def test_a_continued_run_may_change_the_rest_and_says_so(tmp_path):
    rundir = RunDir.of(config_of(tmp_path))
    rundir.begin(config_of(tmp_path))
    changed = config_of(
        tmp_path, "--run.steps=9e9", "--eval.every=0", "--agent.optim.lr=1", "--run.train_ratio=2"
    )
    notes = rundir.begin(changed)
    assert notes == [
        "continued with a change: agent.optim.lr 4e-05 -> 1.0",
        "continued with a change: run.train_ratio 32.0 -> 2.0",
    ]
    assert rundir.load_config() == changed


def test_resume_must_and_never_are_kept(tmp_path):
    with pytest.raises(UserError, match="no run to continue"):
        RunDir.of(config_of(tmp_path)).begin(config_of(tmp_path, "--resume", "must"))
    assert not (tmp_path / "run").exists()
    RunDir.of(config_of(tmp_path)).begin(config_of(tmp_path))
    with pytest.raises(UserError, match="holds a run already"):
        RunDir.of(config_of(tmp_path)).begin(config_of(tmp_path, "--resume", "never"))


def test_an_unwritable_folder_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/run: can't be written to \(Not a directory\)"):
        RunDir(tmp_path / "file" / "run").create()
    with pytest.raises(UserError, match="can't be written to"):
        RunDir("/proc/run").create()


def test_going_on_is_said_with_more_steps_than_were_done(tmp_path):
    """Also where the command that found the run finished asked for fewer."""
    config = config_of(tmp_path, "--run.steps", "100")
    rundir = RunDir.of(config)
    rundir.begin(config)
    for done, more in ((None, 200), (600, 1200)):
        if done:
            rundir.write_status("finished", step=done)
        assert ending.next_lines([rundir], [config])[-1].endswith(f" --run.steps {more}")


@contextlib.contextmanager
def room_for(size):
    """For a file of more bytes the system says what it says on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_new_run_or_sweep_that_can_not_be_held_leaves_nothing(tmp_path):
    config = config_of(tmp_path / "a" / "b")
    for make in (lambda: RunDir.of(config).claim(config), lambda: locked(tmp_path / "a" / "sweep")):
        with pytest.raises(UserError, match=r"lock can't be written \(File too large\)"), room_for(0), make():
            raise AssertionError("held")
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "size", [100, 8000]
)  # of config.yaml nothing, or all of it and not of what comes next
def test_a_new_run_whose_files_can_not_be_written_leaves_nothing(tmp_path, size):
    config, spaces = config_of(tmp_path / "a"), {"x": Space((999,) * 99, "float32")}
    rundir = RunDir.of(config)
    with pytest.raises(OSError) as caught, rundir.claim(config), room_for(size):
        (run,) = beginning.accept([rundir], [config], None, ({**spaces, "y" * 8000: spaces["x"]}, {}))
        run.keep()
    assert caught.value.filename == str(rundir.config if size == 100 else rundir.spaces)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("logdir", ["gs://bucket/run", "s3://bucket/{task}"])
def test_a_store_is_refused_with_what_to_do_instead(logdir):
    with pytest.raises(UserError, match=f"--logdir {logdir[:14]}.* a local folder .* mount the store"):
        RunDir.of(cli.parse(["--logdir", logdir]))


def test_a_folder_without_a_run_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"no run here \(there is no config.yaml\)"):
        RunDir(tmp_path).require()


def test_status_keeps_what_was_written_and_who(tmp_path):
    rundir = RunDir(tmp_path)
    assert rundir.read_status() == {}
    rundir.write_status("starting", task="x", steps=5)
    started = rundir.read_status()["started"]
    rundir.write_status("running", step=3, fps=float("nan"))
    status = rundir.read_status()
    assert (status["state"], status["task"], status["step"], status["fps"]) == ("running", "x", 3, None)
    assert status["pid"] == os.getpid() and status["updated"] >= started == status["started"]
    assert [file.name for file in tmp_path.iterdir()] == ["status.json"]


def test_a_new_process_starts_a_new_status(tmp_path):
    (tmp_path / "status.json").write_text(json.dumps({"pid": -1, "error": "old", "started": 5}))
    RunDir(tmp_path).write_status("starting")
    status = RunDir(tmp_path).read_status()
    assert "error" not in status and status["started"] > 5


def test_a_second_training_is_refused_until_the_first_is_gone(tmp_path):
    code = f"""
import time
from dreamworld.logging.rundir import RunDir
with RunDir({str(tmp_path)!r}).lock():
    print("locked", flush=True)
    time.sleep(60)
"""
    first = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout and first.stdout.readline() == "locked\n"
        with (
            pytest.raises(UserError, match=f"in use by a training .*pid {first.pid}"),
            RunDir(tmp_path).lock(),
        ):
            pass
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    with RunDir(tmp_path).lock():
        assert (tmp_path / ".lock").read_text().startswith(f"pid {os.getpid()} on ")


def test_json_is_strict():
    import numpy as np

    row = {
        "a": float("nan"),
        "b": [np.float32(1.5), float("inf")],
        "c": np.arange(2),
        "d": {"e": np.int64(3)},
    }
    assert json.loads(dumps(row)) == {"a": None, "b": [1.5, None], "c": [0, 1], "d": {"e": 3}}
