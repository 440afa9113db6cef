"""`dreamworld train --supervise` around a real training: killed twice it still finishes; preempted it ends with 75."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

from dreamworld.logging.rundir import RunDir
from dreamworld.training import snapshot

WORDS = ["--configs", "debug", "--task", "jax_catch", "--eval.every", "0", "--run.report_every", "0"]
WORDS += ["--run.log_every", "20", "--run.save_every", "60", "--logger.tensorboard", "False"]
PATIENCE_S = 240


@pytest.fixture
def supervised(tmp_path):
    """Starts a supervised training of so many steps; returns (process, run directory)."""
    processes = []

    def begin(steps):
        command = [sys.executable, "-m", "dreamworld", "train", *WORDS, "--supervise"]
        command += ["--logdir", str(tmp_path / "run"), "--run.steps", str(steps)]
        processes.append(
            subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        )
        return processes[-1], RunDir(tmp_path / "run")

    yield begin
    for process in processes:
        process.kill()  # the training goes with it
        process.wait()


def wait_for_snapshot(process, rundir, beyond):
    """The newest step saved, once it is beyond `beyond`."""
    end = time.monotonic() + PATIENCE_S
    while process.poll() is None and time.monotonic() < end:
        steps = snapshot.snapshot_steps(rundir.checkpoints)
        if steps and steps[-1] > beyond:
            return steps[-1]
        time.sleep(0.05)
    pytest.fail(f"no snapshot after {beyond}; exit code {process.poll()}")


def test_a_training_killed_twice_is_restarted_and_finishes(supervised):
    process, rundir = supervised(600)
    killed, saved = set(), 0
    for _ in range(2):
        saved = wait_for_snapshot(process, rundir, saved)
        killed.add(child := rundir.read_status()["pid"])
        os.kill(child, signal.SIGKILL)
    _, stderr = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, stderr
    assert stderr.count("supervise: the run was killed by SIGKILL; starting it again in 5 s") == 2
    assert len(killed) == 2 and rundir.read_status()["pid"] not in killed
    continued = [int(step.replace(",", "")) for step in re.findall(r"continued at step ([\d,]+)", stderr)]
    assert len(continued) == 2 and 0 < continued[0] < continued[1]
    assert rundir.read_status()["state"] == "finished" and rundir.read_status()["step"] == 600


def test_a_preemption_of_the_supervisor_saves_and_ends_both_with_75(supervised):
    process, rundir = supervised(1_000_000)
    wait_for_snapshot(process, rundir, 0)
    child = rundir.read_status()["pid"]
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 75, stderr
    status = rundir.read_status()
    assert status["state"] == "preempted" and status["pid"] == child
    assert snapshot.snapshot_steps(rundir.checkpoints)[-1] == status["step"]
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
