"""Real trainings that nobody hears: they train to the end, save everything and end with the code they would have had.

That the exit code survives every kind of broken stream is tested in test_streams.py, with less at stake.
"""

import subprocess
import sys

import pytest
from etils import epath

from dreamworld import cli
from dreamworld.logging.rundir import RunDir
from dreamworld.logging.writers import read_jsonl
from dreamworld.scripts.train import train
from dreamworld.training import snapshot

WORDS = ["--configs", "debug", "--task", "jax_catch", "--eval.every", "0", "--run.report_every", "0"]
WORDS += ["--run.steps", "80", "--run.save_every", "40", "--run.log_every", "10"]


def is_complete(rundir):
    return rundir.read_status()["state"] == "finished" and snapshot.verify(rundir.checkpoints / "80")


@pytest.mark.parametrize("how", [">&- 2>&-", "2>&1 | head -n 1 >/dev/null"], ids=["closed", "reader left"])
def test_a_training_that_nobody_hears_ends_as_ever(how, tmp_path):
    words = [sys.executable, "-m", "dreamworld", "train", *WORDS, "--logdir", str(tmp_path / "run")]
    line = f'"$@" {how}; exit ${{PIPESTATUS[0]}}'
    result = subprocess.run(["bash", "-c", line, *words[:1], *words], capture_output=True, text=True)
    assert result.returncode == 0 and not result.stderr
    assert is_complete(RunDir(tmp_path / "run"))


def test_a_training_in_python_survives_the_streams_of_its_caller(tmp_path, monkeypatch):
    with open(tmp_path / "said.txt", "w", encoding="ascii") as ascii_only, open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stderr", ascii_only)
        monkeypatch.setattr(sys, "stdout", full)
        assert train(cli.parse([*WORDS, "--logdir", str(tmp_path / "rün→")])) == 0
    assert is_complete(RunDir(tmp_path / "rün→"))
    assert r"finished: 80 steps" in (tmp_path / "said.txt").read_text()
    assert r"r\xfcn\u2192" in (tmp_path / "said.txt").read_text()


def test_a_mistake_is_exit_code_2_although_nobody_hears_of_it():
    words = f"{sys.executable} -m dreamworld train --run.stepz 5"
    assert subprocess.run(["bash", "-c", f"{words} >/dev/full 2>/dev/full"]).returncode == 2


def test_a_training_without_pygame_and_ffmpeg_evaluates_and_says_once_what_is_missing(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "pygame", None)  # as when it is not installed
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "none"))
    words = ["--configs", "debug", "--run.steps", "180", "--run.report_every", "60", "--eval.every", "60"]
    config = cli.parse([*words, "--run.save_every", "60", "--logdir", str(tmp_path / "run")])
    assert train(config) == 0
    rundir, said = RunDir(tmp_path / "run"), capsys.readouterr().err
    assert [row["step"] for row in read_jsonl(rundir.evals)] == [60, 120, 180]
    assert (
        said.count("compiling (about 8 s, cached next time)\n") == 1
        and said.count("evaluating (1 episode)\n") == 3
    )
    assert (
        said.count("NO MORE videos of evaluations in this run: ") == 1 and "pygame is not installed" in said
    )
    assert snapshot.verify(epath.Path(rundir.checkpoints / "180")) and rundir.learning_curve.exists()
    assert not rundir.eval.exists() and {path.name for path in rundir.report.glob("*/*")} == {
        "openloop_vector.png"
    }
