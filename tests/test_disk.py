"""Real trainings on a disk that fills up, and runs whose files were damaged."""

import contextlib
import io
import queue
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from dreamworld import cli
from dreamworld.errors import UserError
from dreamworld.logging.progress import Progress
from dreamworld.logging.rundir import RunDir
from dreamworld.logging.writers import read_jsonl
from dreamworld.replay.persist import read_rows
from dreamworld.scripts.train import train
from dreamworld.sessions import build, host, pieces
from dreamworld.training import snapshot
from dreamworld.training.hosts import Team
from dreamworld.training.learner import Learner

WORDS = ["--configs", "debug", "--task", "jax_catch", "--eval.every", "0", "--run.report_every", "60"]
WORDS += ["--run.save_every", "60", "--run.log_every", "20"]
PATIENCE_S = 240


class Training:
    """A training from the command line, with what it says line by line."""

    def __init__(self, logdir, steps):
        command = [sys.executable, "-m", "dreamworld", "train", *WORDS, "--logdir", str(logdir)]
        self.process = subprocess.Popen(
            [*command, "--run.steps", str(steps)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said: list[str] = []
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._lines.put(line)

    def wait_until(self, true):
        """Until `true(lines said so far)`; fails when the training ends before."""
        end = time.monotonic() + PATIENCE_S
        while not true(self.said):
            assert time.monotonic() < end, "".join(self.said)
            assert self.process.poll() is None, "".join(self.said)
            with contextlib.suppress(queue.Empty):
                self.said.append(self._lines.get(timeout=0.05))

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextlib.contextmanager
def small_disk(folder):
    """Makes the folder, a disk of its own where this machine lets us mount one; yields how a training fills it up.

    That is a function of the training's process. It returns the error that comes of it and what ends it.
    """
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        yield limit
        return
    try:
        yield lambda process: fill(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder):
    """Takes every free byte."""
    ballast = folder / "ballast"
    with open(ballast, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\0" * 4096)
    return "No space left on device", ballast.unlink


def limit(process):
    """No file of the process may be longer than some bytes."""
    soft, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (40, resource.RLIM_INFINITY))
    return "File too large", lambda: resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (soft, hard))


def is_intact(rundir, step):
    return bool(snapshot.verify(rundir.checkpoints / str(step)))


def test_a_full_disk_stops_no_training_and_later_saves_work(tmp_path):
    with small_disk(tmp_path / "disk") as exhaust:
        rundir = RunDir(tmp_path / "disk" / "run")
        training = Training(rundir.path, 1_000_000)
        complete = lambda: snapshot.snapshot_steps(rundir.checkpoints)
        try:
            training.wait_until(lambda _: len(complete()) > 1)
            cause, empty = exhaust(training.process)
            failed = lambda said: set(re.findall(r"(?:SAVE FAILED at step |checkpoints/)([\d,]+)", said))
            training.wait_until(lambda said: len(failed("".join(said))) > 2)  # it goes on, and tries again
            good = complete()
            assert good and all(is_intact(rundir, step) for step in good)
            empty()
            training.wait_until(lambda _: complete()[-1] > good[-1])
            assert training.stop() == 75, "".join(training.said)
        finally:
            training.process.kill()
            training.process.wait()
        text = "".join(training.said)
        assert re.search(rf"NOT WRITTEN: .*metrics\.jsonl .*: {cause}. Training goes on", text)
        assert cause in text[text.index("SAVE FAILED") :]
        steps = [row["step"] for row in read_jsonl(rundir.metrics)]
        assert steps == list(range(20, steps[-1] + 1, 20))  # rows that did not fit came later
        assert rundir.read_status()["state"] == "preempted"
        assert not [path for path in rundir.path.rglob("*") if path.name.endswith(".tmp")]
        last = complete()[-1]
        again = Training(rundir.path, last + 20)
        assert again.process.wait(PATIENCE_S) == 0


# --- damaged files ---------------------------------------------------------------------------------------

STEPS = 240
QUIET = ["--configs", "debug", "--task", "jax_catch", "--eval.every", "0", "--run.report_every", "0"]
QUIET += ["--run.save_every", "120", "--run.log_every", "20", "--run.progress", "False"]


def config_of(logdir, steps=STEPS):
    return cli.parse([*QUIET, "--logdir", str(logdir), "--run.steps", str(steps)])


class Content(NamedTuple):
    """What a run goes on with."""

    step: int
    agent: Any
    rows: dict[
        tuple[int, int], tuple[list[np.ndarray], list[np.ndarray]]
    ]  # observations and latents of a chunk
    said: str


def go_on(logdir, step=None):
    """Restores as `dreamworld train` does, from `step` or the newest snapshot."""
    config, said = config_of(logdir), io.StringIO()
    rundir = RunDir(logdir)
    rundir.begin(config)
    with contextlib.ExitStack() as stack:
        env = pieces.make_train_env(config)
        stack.callback(env.close)
        agent = pieces.build_agent(config, env.obs_space, env.act_space)
        learner = Learner(agent, config.seed, num_envs=env.num_envs, batch_size=config.run.batch_size)
        progress = Progress(config.run.steps, show=False, file=said)
        loop = host.assemble(rundir, config, learner, env, progress, stack, Team())
        build.follow(loop, build.restore(loop, step))
        columns = list(enumerate(loop.replay.layout.obs))
        rows = {
            (chunk.stream, chunk.start): (
                [np.array(read_rows(chunk, index, 0, chunk.rows, column)) for index, column in columns],
                [array[: chunk.rows].copy() for array in chunk.written],
            )
            for chunk in loop.replay.chunks
        }
        state = jax.device_get(loop.learner.snapshot())
        return Content(loop.counters.step, state, rows, said.getvalue())


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run with two snapshots: (its folder, what each of them holds)."""
    logdir = tmp_path_factory.mktemp("damage") / "run"
    assert train(config_of(logdir)) == 0
    assert snapshot.snapshot_steps(RunDir(logdir).checkpoints) == [120, STEPS]
    return logdir, {step: go_on(logdir, step) for step in (120, STEPS)}


# What is damaged, and what becomes of the run: the snapshot before is used, rows are left out, nothing changes
# (told or not), or the command is refused.
KINDS = {
    "checkpoints/240/snapshot.json": "before",
    "checkpoints/240/agent/**/d/*": "before",
    "checkpoints/240/agent/**/_METADATA": "before",
    "checkpoints/240/host_0/0.npy": "before",
    "checkpoints/240/host_0/tree.json": "before",
    "replay/rows-*.dwr": "rows",
    "replay/latents-*.dwl": "rows",
    "config.yaml": "refused",
    "metrics.jsonl": "told",
    "episodes.jsonl": "told",
    "status.json": "same",
    "tensorboard/*": "same",
}


def damage(path, how):
    data = bytearray(path.read_bytes())
    if how == "flip":
        data[len(data) // 2] ^= 0x80  # in text: no longer UTF-8
    else:
        del data[len(data) * 2 // 3 :]
    path.write_bytes(data)


def assert_rows_are_those_of(found, want):
    """Every row left is as it was written; latents of damaged files start again from zero."""
    for place, (obs, latents) in found.rows.items():
        want_obs, want_latents = want.rows[place]
        jax.tree.map(np.testing.assert_array_equal, obs, want_obs)
        for got, expected in zip(latents, want_latents, strict=True):
            assert ((got == expected).all(1) | (got == 0).all(1)).all()


def size(rows):
    return sum(len(obs[0]) for obs, _ in rows.values())


@pytest.mark.parametrize("how", ["flip", "truncate"])
@pytest.mark.parametrize("pattern", KINDS)
def test_a_damaged_file_is_named_and_gives_no_wrong_row(finished, tmp_path, caplog, pattern, how):
    logdir, contents = finished
    shutil.copytree(logdir, tmp_path / "run")
    path = max(tmp_path.glob(f"run/{pattern}"), key=lambda path: (path.stat().st_size, path.name))
    damage(path, how)
    effect = KINDS[pattern]
    if effect == "refused":
        with pytest.raises(UserError, match=re.escape(str(tmp_path / "run"))):
            go_on(tmp_path / "run")
        return
    found = go_on(tmp_path / "run")
    want = contents[120 if effect == "before" else STEPS]
    assert found.step == want.step
    jax.tree.map(np.testing.assert_array_equal, found.agent, want.agent)
    assert_rows_are_those_of(found, want)
    lost = size(want.rows) - size(found.rows)
    if effect == "rows":
        assert path.name in found.said and (lost > 0) == path.name.startswith("rows")
    else:
        assert lost == 0
    if effect == "before" or (effect == "told" and how == "flip"):
        assert path.name in caplog.text  # a line cut short is what every kill leaves


def test_a_damaged_latents_file_is_replaced_although_no_step_follows(finished, tmp_path):
    logdir, contents = finished
    shutil.copytree(logdir, tmp_path / "run")
    path = max(tmp_path.glob("run/replay/latents-*.dwl"))
    damage(path, "flip")
    RunDir(tmp_path / "run").write_status("preempted")  # a finished run is left as it is
    assert train(config_of(tmp_path / "run", STEPS)) == 0
    found = go_on(tmp_path / "run")
    assert found.step == STEPS and path.name not in found.said
    assert_rows_are_those_of(found, contents[STEPS])


def test_a_run_that_lost_all_its_rows_collects_new_ones(finished, tmp_path, capsys):
    logdir, _ = finished
    shutil.copytree(logdir, tmp_path / "run")
    for path in tmp_path.glob("run/replay/rows-*.dwr"):
        damage(path, "truncate")
    assert train(config_of(tmp_path / "run", STEPS + 120)) == 0
    said = capsys.readouterr().err
    assert "is truncated or its end is damaged; moved to quarantine/" in said
    assert "replay holds 0 windows of 9 rows: the next update waits for --replay.min_starts 32" in said
    last = read_jsonl(RunDir(tmp_path / "run").metrics)[-1]
    assert last["step"] == STEPS + 120 and last["replay/size_steps"] == 120


UNFIT = {
    "replay.capacity_steps=100": "a replay of 100 rows is too small .* chunks of 64",
    "agent.precision=bfloat16": "the saved replay does not fit .* latent/deter: saved .*float32",
}


@pytest.mark.parametrize("change", UNFIT)
def test_a_change_that_the_saved_replay_can_not_take_leaves_the_run_as_it_was(
    finished, tmp_path, change, caplog
):
    """It stayed in config.yaml, where `dreamworld train DIR` found it, and intact checkpoints counted as damaged."""
    shutil.copytree(finished[0], tmp_path / "run")
    files = lambda: {path: path.read_bytes() for path in (tmp_path / "run").rglob("[!.]*") if path.is_file()}
    before = files()
    with pytest.raises(UserError, match=UNFIT[change]):
        train(cli.override(config_of(tmp_path / "run", 999), dict([change.split("=")])))
    assert files() == before and "damaged" not in caplog.text
