"""The supervisor restarts what a restart can help, and stops when it can't."""

import dataclasses
import os
import signal
import subprocess
import sys
import time

import pytest

from dreamworld import cli
from dreamworld.exits import Exit
from dreamworld.training.group import checkpoint_folders
from dreamworld.training.supervise import describe, supervise

# Appends to `starts`, commits a snapshot when its own number is in `progress`, then ends as the plan says.
TRAINER = """
import os, pathlib, signal, sys
root, plan, progress = pathlib.Path(sys.argv[1]), sys.argv[2].split(","), sys.argv[3].split(",")
starts = root / "starts"
number = len(starts.read_text()) if starts.exists() else 0
with starts.open("a") as file: file.write("x")
if str(number) in progress:
    (root / "checkpoints" / str(number)).mkdir(parents=True)
    (root / "checkpoints" / str(number) / "snapshot.json").write_text("{}")
end = plan[min(number, len(plan) - 1)]
if end.startswith("SIG"): os.kill(os.getpid(), getattr(signal, end))
sys.exit(int(end))
"""


def run(tmp_path, plan, progress="", **options):
    argv = [sys.executable, "-S", "-c", TRAINER, str(tmp_path), plan, progress]
    options = {"max_restarts": 2, "backoff_s": 0.01, **options}
    code = supervise(argv, checkpoints=tmp_path / "checkpoints", **options)
    return code, len((tmp_path / "starts").read_text())


@pytest.mark.parametrize("code", [Exit.OK, Exit.USAGE, Exit.NUMERICAL, Exit.INTERRUPTED])
def test_a_final_end_is_not_repeated(tmp_path, code):
    assert run(tmp_path, f"{code:d},0") == (code, 1)


@pytest.mark.parametrize("end", ["75", "77", "1", "SIGABRT", "SIGKILL", "SIGSEGV"])
def test_a_preemption_an_abort_or_a_failure_is_restarted(tmp_path, end):
    assert run(tmp_path, f"{end},0") == (0, 2)


def test_it_gives_up_without_progress(tmp_path, capfd):
    assert run(tmp_path, "SIGABRT") == (134, 3)
    err = capfd.readouterr().err
    assert "killed by SIGABRT" in err and "3 times in a row without a new checkpoint: giving up" in err


def test_a_new_checkpoint_resets_the_count(tmp_path):
    assert run(tmp_path, "75", progress="2,4") == (75, 8)  # 2 and 4 bring one; 5, 6, 7 do not


def test_a_new_checkpoint_of_any_seed_is_progress(tmp_path):
    """The program saves in `checkpoints`; the first seed of the two has that folder, or the second."""
    for place in (0, 1):
        folder = tmp_path / str(place)
        folder.mkdir()
        argv = [sys.executable, "-S", "-c", TRAINER, str(folder), "75", "2,4"]
        folders = [folder / "seed0" / "checkpoints", folder / "checkpoints"][:: 1 - 2 * place]
        assert supervise(argv, checkpoints=folders, max_restarts=2, backoff_s=0.01) == 75
        assert len((folder / "starts").read_text()) == 8


def test_every_seed_s_folder_is_watched(tmp_path):
    config = cli.parse(["--seeds", "3,5", "--logdir", str(tmp_path)])
    assert checkpoint_folders(config) == [tmp_path / f"seed{seed}" / "checkpoints" for seed in (3, 5)]
    assert checkpoint_folders(dataclasses.replace(config, seeds="")) == [tmp_path / "checkpoints"]


def test_the_pause_doubles(tmp_path, capfd):
    run(tmp_path, "1", max_restarts=4, backoff_s=0.01, backoff_max_s=0.03)
    err = capfd.readouterr().err
    assert [line.split(" in ")[1].split(" s ")[0] for line in err.splitlines()[:4]] == [
        "0.01",
        "0.02",
        "0.03",
        "0.03",
    ]


SUPERVISOR = """
import sys
from dreamworld.training.supervise import supervise
code = supervise([sys.executable, "-c", sys.argv[1]], checkpoints="/nonexistent", backoff_s=30)
print("jax" in sys.modules)
sys.exit(code)
"""
CHILD = """
import os, sys, time
from dreamworld.training.stops import Stop
with Stop(10) as stop:
    print(os.getpid(), flush=True)
    stop.wait(20)
    print(stop.reason, flush=True)
sys.exit(75)
"""


def start(child, ignored=None):
    argv = [sys.executable, "-c", SUPERVISOR, child]
    process = subprocess.Popen(
        argv,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
        preexec_fn=ignored and (lambda: signal.signal(ignored, signal.SIG_IGN)),
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_supervisor_reaches_the_run_and_ends_both(number):
    process, _ = start(CHILD)
    process.send_signal(number)
    out, _ = process.communicate(timeout=10)
    assert (process.returncode, out) == (Exit.PREEMPTED, f"{number.name}\nFalse\n")


def test_a_ctrl_c_on_the_terminal_reaches_the_run_once():
    process, _ = start(CHILD)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does; a second one would end the run unsaved
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (Exit.PREEMPTED, "SIGINT\nFalse\n", "")


@pytest.mark.parametrize(
    ("ignored", "told"), [(None, "SIGTERM"), (signal.SIGHUP, "SIGINT")], ids=["", "nohup"]
)
def test_a_closed_terminal_stops_the_run_unless_it_is_ignored(ignored, told):
    process, _ = start(CHILD, ignored)
    process.send_signal(signal.SIGHUP)
    if ignored:
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (Exit.PREEMPTED, f"{told}\nFalse\n", "")


def test_a_signal_during_the_pause_ends_the_supervisor():
    process, _ = start("print('up', flush=True); raise SystemExit(1)")
    assert process.stderr is not None
    assert process.stderr.readline().startswith("supervise: the run ended with exit code 1 (failure)")
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=10)
    assert (process.returncode, err) == (1, "supervise: stopped by SIGTERM; the same command goes on\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_the_run_could_not_answer_yet_is_told_by_the_supervisor(number):
    """In the first tenths of a second an interpreter has no handlers: it dies without a word."""
    child = f"import signal, time; signal.signal({int(number)}, signal.SIG_DFL); print('up', flush=True); "
    process, _ = start(child + "time.sleep(20)")
    process.send_signal(number)
    _, err = process.communicate(timeout=10)
    line = f"supervise: stopped by {number.name}; the same command goes on\n"
    assert (process.returncode, err) == (Exit.PREEMPTED, line)


def test_a_killed_supervisor_takes_the_run_along():
    process, pid = start(CHILD)
    process.kill()
    out, _ = process.communicate(timeout=10)  # ends when the run has closed its end of the pipe
    assert out == "SIGTERM\n"
    deadline = time.monotonic() + 5
    while (
        time.monotonic() < deadline
        and subprocess.run(["kill", "-0", pid], capture_output=True).returncode == 0
    ):
        time.sleep(0.05)
    assert process.returncode == -signal.SIGKILL


def test_exit_codes_are_described():
    assert describe(75) == "the run ended with exit code 75 (preempted)"
    assert describe(134) == "the run was killed by SIGABRT"
    assert describe(42) == "the run ended with exit code 42"
