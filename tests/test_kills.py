"""Real trainings killed with SIGKILL at random moments, saves included, end like one that was left alone."""

import contextlib
import io
import json
import os
import pathlib
import random
import re
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from dreamworld import cli
from dreamworld.__main__ import main
from dreamworld.contract import mixes
from dreamworld.logging.progress import Progress
from dreamworld.logging.rundir import RunDir
from dreamworld.replay.replay import Replay
from dreamworld.sessions import pieces
from dreamworld.sessions.build import opened
from dreamworld.sessions.job import Job
from dreamworld.training import snapshot
from dreamworld.training.hosts import Team
from dreamworld.training.loop import Loop

SAVE_EVERY = 100
WORDS = ["--configs", "debug", "--task", "jax_catch", "--eval.every", "0", "--run.report_every", "0"]
WORDS += ["--run.save_every", str(SAVE_EVERY), "--run.log_every", "20", "--logger.tensorboard", "False"]
WORDS += ["--replay.capacity_steps", "4000"]  # the long run evicts, too
TIMES = ("time", "fps/", "replay/wait")


def start(logdir, steps, more=(), count=1):
    """The processes of a training, of which the first leads."""
    command = [sys.executable, "-m", "dreamworld", "train", *WORDS, *more]
    command += ["--logdir", str(logdir), "--run.steps", str(steps)]
    commands = [command]
    if count > 1:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        command += ["--parallel.coordinator", f"127.0.0.1:{port}", "--parallel.processes", str(count)]
        commands = [[*command, "--parallel.process_id", str(index)] for index in range(count)]
    started = []
    for index, words in enumerate(commands):
        with pathlib.Path(f"{logdir}-{index}.txt").open("w") as file:
            started.append(subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=file))
    return started


def wait(processes, logdir):
    """What the leading process said, once all have ended well."""
    for process in processes:
        process.wait(timeout=900)
    said = [pathlib.Path(f"{logdir}-{index}.txt").read_text() for index in range(len(processes))]
    assert [process.returncode for process in processes] == [0] * len(processes), said
    return said[0]


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


def kill(processes, rundir, generator, in_save):
    """Waits for progress and a first snapshot, then kills: at any moment, or inside the next save.

    Returns the step reached and whether a save was under way; None if the run ended before.
    """
    process, *others = processes
    before, began = rundir.read_status().get("step", 0), time.time()
    moved = lambda: rundir.read_status().get("step", 0) > before and newest(rundir) > 0
    while process.poll() is None and not moved():
        time.sleep(0.02)
    if in_save:
        wait_inside_save(process, rundir, began, generator)
    else:
        time.sleep(generator.uniform(0, 1.5))
    if process.poll() is not None:
        return None
    for each in generator.sample([process, *others], len(processes)):
        os.kill(each.pid, signal.SIGKILL)
        time.sleep(generator.uniform(0, 0.1))
    for each in processes:
        each.wait()
    status = rundir.read_status()
    assert status["updates"] > 0, "killed before the first update"
    return status["step"], bool(unfinished(rundir, began))


def continued_at(stderr):
    found = re.search(r"continued at step ([\d,]+)", stderr)
    return int(found.group(1).replace(",", "")) if found else 0


def train_through_kills(logdir, kills, steps, seed, more=(), count=1):
    """Returns how many kills fell into a save, and the steps that each kill cost."""
    rundir, generator, inside, lost = RunDir(logdir), random.Random(seed), 0, []
    while True:
        processes = start(logdir, steps, more, count)
        if len(lost) < kills:
            killed = kill(processes, rundir, generator, in_save=len(lost) % 2 == 0)
            if killed is not None:
                step, in_save = killed
                # The save under way may be lost, the one before it never: at most one interval.
                assert newest(rundir) >= (step // SAVE_EVERY - 1) * SAVE_EVERY
                inside += in_save
                lost.append(max(0, step - newest(rundir)))
                continue
        expected = newest(rundir)
        stderr = wait(processes, logdir)
        assert "damaged" not in stderr and "dropped" not in stderr, stderr
        assert continued_at(stderr) == expected > 0, stderr
        assert len(lost) == kills, f"only {len(lost)} kills came before the end"
        return inside, lost


def restored(logdir, more=()):
    """What the last checkpoint holds: (hash of all rows, latents and sampler state; agent; counters)."""
    config = cli.parse([*WORDS, *more, "--logdir", str(logdir)])
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
    wait(start(tmp_path / "alone", steps), tmp_path / "alone")
    require_equal(RunDir(tmp_path / "killed"), RunDir(tmp_path / "alone"))
    assert inside > 0, "no kill fell into a save"
    print(
        f"measured: {kills} of {kills} resumed, {inside} killed inside a save, at most {max(lost)} steps lost"
    )


def require_equal(killed, alone, more=()):
    """The two runs left the same files, log rows, rows of replay, tensors and counters."""
    assert orphans(killed) == orphans(alone) == ([], set())
    assert metrics(killed) == metrics(alone)
    (digest, state, counters), (want_digest, want_state, want_counters) = (
        restored(rundir.path, more) for rundir in (killed, alone)
    )
    assert digest == want_digest  # every row and latent is what the other run wrote
    assert counters == want_counters
    assert counters[1] > 0, "nothing was trained"
    jax.tree.map(np.testing.assert_array_equal, state, want_state)


def test_kill_9_of_a_training_on_data_changes_nothing_in_the_end(tmp_path):
    few = ["--steps", "300", "--env.num", "2", "--env.engine", "jax", "--run.progress", "False"]
    assert main(["collect", "--task", "jax_catch", "--data", str(tmp_path / "data"), *few]) == 0
    more = ["--data", str(tmp_path / "data"), "--replay.held_out", "0.2"]
    train_through_kills(tmp_path / "killed", 1, 300, 1, more)
    wait(start(tmp_path / "alone", 300, more), tmp_path / "alone")
    require_equal(RunDir(tmp_path / "killed"), RunDir(tmp_path / "alone"), more)


def rows_of_the_second(rundir):
    """A hash of the replay of the second process in the last checkpoint."""
    config = cli.parse([*WORDS, "--logdir", str(rundir)])
    body = snapshot.read_commit(rundir.checkpoints / str(newest(rundir)))
    with opened(Job.of(config), Progress(1, show=False, file=io.StringIO())) as session:
        (loop,) = session.loops
        folder, file = rundir.path / "replay_1", rundir.checkpoints / str(newest(rundir)) / snapshot.COMMIT
        replay = Replay(
            pieces.row_spaces(loop.learner.agent),
            config.replay,
            num_envs=config.env.num,
            length=config.run.replay_context + config.run.batch_length,
            context=config.run.replay_context,
            directory=folder,
            seed=Team(1, 2).seed(config.seed),
            mixes=mixes(loop.learner.agent),
        )
        assert replay.load(folder, body["meta"]["1"]["replay"], file) == []
        return replay.digest(), replay.starts


@pytest.mark.soak
def test_kill_9_of_a_training_by_two_processes_changes_nothing_in_the_end(tmp_path):
    more = ["--env.engine", "jax", "--parallel.heartbeat_s", "10"]
    train_through_kills(tmp_path / "killed", 1, 400, 2, more, count=2)  # after the first update
    wait(start(tmp_path / "alone", 400, more, count=2), tmp_path / "alone")
    killed, alone = RunDir(tmp_path / "killed"), RunDir(tmp_path / "alone")
    require_equal(killed, alone, more)
    assert rows_of_the_second(killed) == rows_of_the_second(alone)
