"""Saves whose run directory goes away while they are written: one line each, and nothing is made in its place."""

import shutil

import numpy as np
import pytest

from dreamworld import cli
from dreamworld.__main__ import main
from dreamworld.logging.rundir import RunDir
from dreamworld.scripts.train import train
from dreamworld.training import snapshot, tensors, trees
from dreamworld.training.checkpoint import Checkpointer

WORDS = ["--configs", "debug", "--task", "jax_catch", "--eval.every", "0", "--run.report_every", "0"]
WORDS += ["--run.log_every", "16", "--run.save_every", "48", "--run.steps", "112", "--run.progress", "False"]
WORDS += ["--logger.tensorboard", "False", "--env.engine", "jax"]
MODES = {
    "host": [],
    "fused": ["--run.mode", "fused"],
    "seeds": ["--seeds", "0,1"],
    "fused seeds": ["--run.mode", "fused", "--seeds", "0,1"],
    "data": ["--data", "{data}"],
    "data seeds": ["--data", "{data}", "--seeds", "0,1"],
}
MOMENTS = {
    "before the tensors": (tensors, "write"),
    "before the host part": (trees, "write_tree"),
    "before the commit": (snapshot, "commit"),
    "while old ones are looked at": (snapshot, "retained"),
}


def do_at(patch, moment, number, act):
    """Calls `act` just before the call of that number of what is done at a moment of each save."""
    module, name = MOMENTS[moment]
    real, calls = getattr(module, name), []

    def call(*args, **options):
        calls.append(name)
        if len(calls) == number:
            act()
        return real(*args, **options)

    patch.setattr(module, name, call)


@pytest.fixture
def held(tmp_path):
    """A run directory that is held, and the checkpointer of it."""
    rundir = RunDir(tmp_path / "run")
    with (
        rundir.claim(cli.parse(["--logdir", str(rundir)])),
        Checkpointer(rundir.checkpoints, keep_last=1, away=rundir.away) as checkpointer,
    ):
        yield rundir, checkpointer


def save(checkpointer, step):
    tree = {f"w{index}": np.full(100, step) for index in range(20)}
    checkpointer.save(step, tree, {"rows": np.arange(3)}, {}, block=True)


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_move_within_a_save_is_one_line_with_the_folder_and_harms_no_checkpoint(
    held, tmp_path, moment, monkeypatch, caplog
):
    rundir, checkpointer = held
    save(checkpointer, 1)
    with monkeypatch.context() as patch:
        do_at(patch, moment, 1, lambda: rundir.path.rename(tmp_path / "elsewhere"))
        save(checkpointer, 2)
    where = f"the run directory {rundir} was moved to {tmp_path / 'elsewhere'}"
    if moment == "while old ones are looked at":
        assert checkpointer.poll() == f"old checkpoints were not deleted: {where}; tried again later"
    else:
        assert (
            checkpointer.take_problem() == f"checkpoint 2 was not saved (the next save tries again): {where}"
        )
    assert not rundir.path.exists()
    (tmp_path / "elsewhere").rename(rundir.path)
    save(checkpointer, 3)
    assert checkpointer.problem is None and [path.name for path in rundir.checkpoints.iterdir()] == ["3"]
    checkpointer.close()
    assert caplog.messages == []


def test_a_checkpoint_that_is_removed_while_it_is_written_is_said_so(held, monkeypatch):
    rundir, checkpointer = held
    with monkeypatch.context() as patch:
        do_at(patch, "before the commit", 1, lambda: shutil.rmtree(rundir.checkpoints / "1"))
        save(checkpointer, 1)
    assert checkpointer.problem == (
        f"checkpoint {rundir.checkpoints / '1'} was not saved (there is no older one; the next save tries again): "
        "a part of it was removed while it was being written"
    )


def test_what_nobody_polled_is_logged_at_the_end_and_what_was_told_is_not(tmp_path, caplog):
    (tmp_path / "checkpoints").write_text("no folder")
    with Checkpointer(tmp_path / "checkpoints") as checkpointer:
        save(checkpointer, 1)
        assert "was not saved" in (checkpointer.take_problem() or "") and checkpointer.poll() is None
        checkpointer.save(2, {"w": np.zeros(3)}, {}, {})
        assert caplog.messages == []
    (line,) = caplog.messages
    assert "checkpoints/2 was not saved" in line


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets") / "catch"
    words = ["collect", "--policy", "random", "--task", "jax_catch", "--steps", "100", "--env.num", "2"]
    assert main([*words, "--data", str(folder)]) == 0
    return folder


@pytest.mark.parametrize("mode", MODES)
def test_every_kind_of_training_names_the_folder_that_went_away_in_a_save(
    tmp_path, data, mode, monkeypatch, capfd, caplog
):
    words = [word.format(data=data) for word in MODES[mode]]
    seeds = mode.endswith("seeds")
    home = tmp_path / "run" / "seed0" if seeds else tmp_path / "run"
    do_at(monkeypatch, "before the tensors", 3 if seeds else 2, lambda: home.rename(tmp_path / "elsewhere"))
    assert train(cli.parse([*WORDS, "--logdir", str(tmp_path / "run"), *words])) == 1
    lines = capfd.readouterr().err.splitlines() + caplog.messages
    where = f"the run directory {home} was moved to {tmp_path / 'elsewhere'}"
    told = [line for line in lines if "checkpoint" in line and " was not saved" in line]
    assert len(told) == 1 and told[0].endswith(where), lines
    assert sum(where in line and "NOT WRITTEN: the log" in line for line in lines) == 1, lines
    (end,) = [line for line in lines if line.startswith("error: ")]
    assert where in end and "The newest checkpoint is that of step" in end, end
    assert not home.exists()
    other = [line for line in lines if "No such file" in line or "NOT_FOUND" in line or "Traceback" in line]
    assert other == []
