"""Real trainings on a disk that fills up, and runs whose files were damaged."""

import contextlib
import queue
import re
import resource
import signal
import subprocess
import sys
import threading
import time

import pytest

from dreamworld.logging.rundir import RunDir
from dreamworld.logging.writers import read_jsonl
from dreamworld.training import snapshot

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
def small_tmpfs(folder):
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("this machine lets us mount no tmpfs")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder):
    """Takes every free byte; returns what gives them back."""
    ballast = folder / "ballast"
    with open(ballast, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\0" * 4096)
    return ballast.unlink


def limit(process):
    """No file of the process may be longer than some bytes; returns what lifts that."""
    soft, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (40, resource.RLIM_INFINITY))
    return lambda: resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (soft, hard))


def is_intact(rundir, step):
    return bool(snapshot.verify(rundir.checkpoints / str(step)))


@pytest.mark.parametrize("disk", ["limit", "tmpfs"])
def test_a_full_disk_stops_no_training_and_later_saves_work(tmp_path, disk):
    with small_tmpfs(tmp_path / "disk") if disk == "tmpfs" else contextlib.nullcontext():
        rundir = RunDir(tmp_path / "disk" / "run")
        training = Training(rundir.path, 1_000_000)
        complete = lambda: snapshot.snapshot_steps(rundir.checkpoints)
        try:
            training.wait_until(lambda _: len(complete()) > 1)
            empty = limit(training.process) if disk == "limit" else fill(tmp_path / "disk")
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
        cause = "File too large" if disk == "limit" else "No space left on device"
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
