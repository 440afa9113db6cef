"""Real trainings killed with SIGKILL at random moments, saves included, end like one that was left alone."""

import contextlib
import io
import json
import os
import random
import re
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from dreamworld import cli
from dreamworld.logging.progress import Progress
from dreamworld.logging.rundir import RunDir
from dreamworld.sessions.build import opened
from dreamworld.sessions.job import Job
from dreamworld.training import snapshot
from dreamworld.training.loop import Loop

SAVE_EVERY = 100
WORDS = ["--configs", "debug", "--task", "jax_catch", "--eval.every", "0", "--run.report_every", "0"]
WORDS += ["--run.save_every", str(SAVE_EVERY), "--run.log_every", "20", "--logger.tensorboard", "False"]
WORDS += ["--replay.capacity_steps", "4000"]  # the long run evicts, too
TIMES = ("time", "fps/", "replay/wait")


def start(logdir, steps):
    command = [sys.executable, "-m", "dreamworld", "train", *WORDS]
    command += ["--logdir", str(logdir), "--run.steps", str(steps)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def newest(rundir):
    return max(snapshot.snapshot_steps(rundir.checkpoints), default=0)


def unfinished(rundir, since):
    """What a save that began after `since` has not completed: checkpoint folders and replay files."""
    folders = [path for path in rundir.checkpoints.glob("[0-9]*") if not (path / snapshot.COMMIT).exists()]
    found = []
    for path in [*folders, *rundir.replay.glob("*.tmp")]:
        with contextlib.suppress(FileNotFoundError):
            found += [path] * (path.stat().st_mtime > since)
    return found


def wait_inside_save(process, rundir, since, generator):
    """Leaves the process stopped at a random moment of a save, or ended."""
    while process.poll() is None:
        if unfinished(rundir, since):
            time.sleep(generator.uniform(0, 0.1))
            os.kill(process.pid, signal.SIGSTOP)
            if unfinished(rundir, since):
                return
            os.kill(process.pid, signal.SIGCONT)  # too late for this one
        time.sleep(0.001)


def kill_at_random(process, rundir, generator):
    """Waits for progress and a first snapshot, then kills: half of the times at any moment, half inside the next save.

    Returns the step reached and whether a save was under way; None if the run ended before.
    """
    before, began = rundir.read_status().get("step", 0), time.time()
    moved = lambda: rundir.read_status().get("step", 0) > before and newest(rundir) > 0
    while process.poll() is None and not moved():
        time.sleep(0.02)
    if generator.random() < 0.5:
        time.sleep(generator.uniform(0, 1.5))
    else:
        wait_inside_save(process, rundir, began, generator)
    if process.poll() is not None:
        return None
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    return rundir.read_status()["step"], bool(unfinished(rundir, began))


def continued_at(stderr):
    found = re.search(r"continued at step ([\d,]+)", stderr)
    return int(found.group(1).replace(",", "")) if found else 0


def train_through_kills(logdir, kills, steps, seed):
    """Returns how many kills fell into a save, and the steps that each kill cost."""
    rundir, generator, inside, lost = RunDir(logdir), random.Random(seed), 0, []
    while True:
        process = start(logdir, steps)
        if len(lost) < kills:
            killed = kill_at_random(process, rundir, generator)
            if killed is not None:
                step, in_save = killed
                # The save under way may be lost, the one before it never: at most one interval.
                assert newest(rundir) >= (step // SAVE_EVERY - 1) * SAVE_EVERY
                inside += in_save
                lost.append(max(0, step - newest(rundir)))
                continue
        expected = newest(rundir)
        _, stderr = process.communicate(timeout=900)
        assert process.returncode == 0, stderr
        assert "damaged" not in stderr and "dropped" not in stderr, stderr
        assert continued_at(stderr) == expected > 0, stderr
        assert len(lost) == kills, f"only {len(lost)} kills came before the end"
        return inside, lost


def restored(logdir):
    """What the last checkpoint holds: (hash of all rows, latents and sampler state; agent; counters)."""
    config = cli.parse([*WORDS, "--logdir", str(logdir)])
    with opened(Job.of(config), Progress(config.run.steps, show=False, file=io.StringIO())) as session:
        (loop,) = session.loops
        assert isinstance(loop, Loop)
        counters = loop.counters
        state = jax.device_get(loop.learner.snapshot())
        return loop.replay.digest(), state, (counters.step, counters.updates, counters.accounts)


def metrics(rundir):
    rows = [json.loads(line) for line in rundir.metrics.read_text().splitlines()]
    return [{key: value for key, value in row.items() if not key.startswith(TIMES)} for row in rows]


def orphans(rundir):
    """Files that no complete checkpoint needs."""
    folders = [path for path in rundir.checkpoints.iterdir() if not (path / snapshot.COMMIT).exists()]
    bodies = [snapshot.verify(path) for path in rundir.checkpoints.iterdir()]
    needed = set()
    for body in bodies:
        needed.update(body["meta"]["0"]["replay"]["files"], body["meta"]["0"]["replay"]["journals"])
    found = {str(path.relative_to(rundir.replay)) for path in rundir.replay.rglob("*") if path.is_file()}
    return folders, found - needed


@pytest.mark.parametrize(
    ("kills", "steps"), [(3, 1200), pytest.param(50, 20_000, marks=pytest.mark.soak)], ids=["3", "50"]
)
def test_kill_9_at_random_moments_changes_nothing_in_the_end(tmp_path, kills, steps):
    inside, lost = train_through_kills(tmp_path / "killed", kills, steps, seed=kills)
    _, stderr = (process := start(tmp_path / "alone", steps)).communicate(timeout=900)
    assert process.returncode == 0, stderr
    killed, alone = RunDir(tmp_path / "killed"), RunDir(tmp_path / "alone")
    assert inside > 0, "no kill fell into a save"
    assert orphans(killed) == orphans(alone) == ([], set())
    assert metrics(killed) == metrics(alone)
    (digest, state, counters), (want_digest, want_state, want_counters) = map(
        restored, (killed.path, alone.path)
    )
    assert digest == want_digest  # every row and latent is what the other run wrote
    assert counters == want_counters
    jax.tree.map(np.testing.assert_array_equal, state, want_state)
    print(
        f"measured: {kills} of {kills} resumed, {inside} killed inside a save, at most {max(lost)} steps lost"
    )
