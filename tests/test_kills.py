"""Real trainings killed with SIGKILL at random moments, saves included, end like one that was left alone."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from dreamworld.logging.rundir import RunDir

SAVE_EVERY = 40
WORDS = ["--configs", "debug", "--task", "jax_catch", "--eval.every", "0", "--run.report_every", "0"]
WORDS += ["--run.save_every", str(SAVE_EVERY), "--run.log_every", "40", "--logger.tensorboard", "False"]


def start(logdir, steps):
    command = [sys.executable, "-m", "dreamworld", "train", *WORDS]
    command += ["--logdir", str(logdir), "--run.steps", str(steps)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def newest(rundir):
    found = [int(path.parent.name) for path in rundir.checkpoints.glob("[0-9]*/snapshot.json")]
    return max(found, default=0)


def kill_at_random(process, rundir, generator):
    """Waits for the first progress, then up to two seconds more; returns the step reached, or None if it ended."""
    before = rundir.read_status().get("step", 0)
    while process.poll() is None and rundir.read_status().get("step", 0) <= before:
        time.sleep(0.02)
    time.sleep(generator.uniform(0, 2))
    if process.poll() is not None:
        return None
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    return rundir.read_status()["step"]


def continued_at(stderr):
    found = re.search(r"continued at step ([\d,]+)", stderr)
    return int(found.group(1).replace(",", "")) if found else 0


def train_through_kills(logdir, kills, steps, seed):
    rundir, generator, reached, done = RunDir(logdir), random.Random(seed), 0, 0
    while True:
        process = start(logdir, steps)
        if done < kills:
            step = kill_at_random(process, rundir, generator)
            if step is not None:
                assert newest(rundir) >= step - SAVE_EVERY  # at most one interval is lost
                reached, done = step, done + 1
                continue
        _, stderr = process.communicate(timeout=600)
        assert process.returncode == 0, stderr
        if reached:
            assert continued_at(stderr) >= reached - SAVE_EVERY, stderr
        return done


def summary(rundir):
    last = json.loads(rundir.metrics.read_text().splitlines()[-1])
    losses = {key: value for key, value in last.items() if key.startswith(("loss/", "train/"))}
    return last["step"], last["updates"], last["replay/size_steps"], losses


def files_of_replay(rundir):
    return sorted(str(path.relative_to(rundir.replay)) for path in rundir.replay.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("kills", "steps"), [(3, 1200), pytest.param(50, 20_000, marks=pytest.mark.soak)], ids=["3", "50"]
)
def test_kill_9_at_random_moments_changes_nothing_in_the_end(tmp_path, kills, steps):
    done = train_through_kills(tmp_path / "killed", kills, steps, seed=kills)
    assert done == kills, f"only {done} kills came before the end"
    assert start(tmp_path / "alone", steps).wait(600) == 0
    killed, alone = RunDir(tmp_path / "killed"), RunDir(tmp_path / "alone")
    assert summary(killed) == summary(alone)
    kinds = lambda rundir: sorted({re.sub(r"\d+", "N", name) for name in files_of_replay(rundir)})
    assert kinds(killed) == kinds(alone)  # no temporary or orphaned files are left
    assert np.isfinite(list(summary(killed)[3].values())).all()
