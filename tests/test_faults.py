"""Every file of a run directory, missing or in another shape: before a training, during one, and for `eval`.

Root may read and write everything, so that what can't be read is a link to itself here.
"""

import contextlib
import io
import os
import re
import shutil
import subprocess
import time

import numpy as np
import pytest

from dreamworld import cli
from dreamworld.errors import UserError
from dreamworld.logging.progress import Progress
from dreamworld.logging.rundir import RunDir
from dreamworld.logging.writers import evaluation_row, read_jsonl
from dreamworld.sessions import build, evaluation, host, load, pieces, run
from dreamworld.training import snapshot
from dreamworld.training.evaluate import Evaluation
from dreamworld.training.hosts import Team
from dreamworld.training.learner import Learner
from dreamworld.training.run import SaveFailed
from dreamworld.training.stops import Stop

WORDS = ["--configs", "debug", "--task", "jax_catch", "--env.engine", "jax", "--eval.every", "0"]
WORDS += ["--run.report_every", "0", "--run.log_every", "4", "--run.save_every", "8"]
WORDS += ["--run.progress", "False"]
FOLDERS = ("checkpoints", "replay", "tensorboard")
FILES = ("config.yaml", ".lock", "metrics.jsonl", "episodes.jsonl", "eval.jsonl", "status.json", *FOLDERS)


def config_of(logdir, steps=10**6):
    return cli.parse([*WORDS, "--logdir", str(logdir), "--run.steps", str(steps)])


def nothing(path, folder):
    pass


def another_kind(path, folder):
    path.write_text("") if folder else path.mkdir()


def dangling(path, folder):
    path.symlink_to(path.parent.parent / "nowhere/at/all")


def unreadable(path, folder):
    path.symlink_to(path.name)


def fifo(path, folder):
    os.mkfifo(path)


FEW, MOST = (another_kind, unreadable), (nothing, another_kind, dangling, unreadable)
ALL = (*MOST, fifo)


def cases(**kinds):
    """Parameters (name, kind): the kinds of faults given by the name of a file, else another kind of file."""
    found = [(name, kind) for name in FILES for kind in kinds.get(name.strip(".").split(".")[0], FEW)]
    return [pytest.param(name, kind, id=f"{name}-{kind.__name__}") for name, kind in found]


TRAINING = cases(
    config=ALL, lock=ALL, metrics=ALL, checkpoints=MOST, replay=MOST, status=(*FEW, fifo), tensorboard=MOST
)
EVAL = cases(config=ALL, checkpoints=MOST, eval=ALL)


@contextlib.contextmanager
def fault(path, kind):
    """Puts something else in the place of a file, and what was there back afterwards, unless it was made anew."""
    aside = path.parent.parent / "aside" / f"{time.monotonic_ns()}"
    aside.parent.mkdir(exist_ok=True)
    if there := path.exists():
        path.rename(aside)
    kind(path, path.name in FOLDERS)
    try:
        yield
    finally:
        assert not (path.parent.parent / "nowhere").exists()
        _mend(path, aside if there else None, kind)


def _mend(path, aside, kind):
    if kind is nothing and path.exists():
        return
    if os.path.lexists(path):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    if aside:
        aside.rename(path)


class Parts:
    """What takes time to make, once for all cases."""

    def __init__(self):
        self.config = config = config_of("/nowhere")
        self.env = pieces.make_train_env(config)
        self.agent = pieces.build_agent(config, self.env.obs_space, self.env.act_space)
        self.learner = Learner(
            self.agent, config.seed, num_envs=self.env.num_envs, batch_size=config.run.batch_size
        )


@pytest.fixture(scope="module")
def parts():
    return Parts()


@contextlib.contextmanager
def opened(parts, logdir):
    """The loop of a run as `dreamworld train` makes it, and what it said."""
    config, said = config_of(logdir), io.StringIO()
    rundir = RunDir.of(config)
    rundir.admit(config)
    with contextlib.ExitStack() as stack:
        stack.enter_context(rundir.claim(config))
        progress = Progress(config.run.steps, show=False, file=said)
        for note in rundir.begin(config):
            progress.message(note)
        loop = host.assemble(rundir, config, parts.learner, parts.env, progress, stack, Team())
        if loop.checkpointer.latest() is not None:
            build.follow(loop, build.restore(loop))
        else:
            loop.logger.begin(0)
        loop.begin()
        yield loop, said


def advance(loop, steps=8):
    """Trains on, with all that is due on the way; asynchronous saves are complete afterwards."""
    end = loop.counters.step + steps
    while loop.counters.step < end:
        previous = loop.counters.step
        loop.iterate()
        loop.attend(previous)
    loop.checkpointer.wait()
    loop.log()


@pytest.fixture(scope="module")
def finished(parts, tmp_path_factory):
    """The folder of a run with two snapshots."""
    logdir = tmp_path_factory.mktemp("finished") / "run"
    with opened(parts, logdir) as (loop, _):
        advance(loop, 64)
        loop.logger.evaluation(64, 64, "sample", [1.0], [2])
        loop.end()
    return logdir


# --- before ----------------------------------------------------------------------------------------------

REFUSED_AT_START = {
    "config.yaml": "config.yaml",
    ".lock": ".lock is ",
    "checkpoints": "checkpoints is ",
    "replay": "replay is ",
}
TOLD_AT_START = ("metrics.jsonl", "episodes.jsonl", "eval.jsonl", "tensorboard")


@pytest.mark.parametrize(("name", "kind"), TRAINING)
def test_a_training_starts_or_says_in_one_line_what_is_in_its_way(parts, finished, tmp_path, name, kind):
    shutil.copytree(finished, tmp_path / "run", symlinks=True)
    before = {path: path.read_bytes() for path in (tmp_path / "run").glob("*.jsonl")}
    with fault(tmp_path / "run" / name, kind):
        refused = name in REFUSED_AT_START and (kind is not nothing or name == "config.yaml")
        if refused:
            with pytest.raises(UserError) as caught, opened(parts, tmp_path / "run"):
                pass
            assert "\n" not in str(caught.value) and REFUSED_AT_START[name] in str(caught.value)
            assert all(path.read_bytes() == content for path, content in before.items() if path.is_file())
            return
        with opened(parts, tmp_path / "run") as (loop, said):
            step = loop.counters.step
            assert step == (0 if name == "checkpoints" else 64)
            advance(loop, 8)
        told = said.getvalue()
        assert snapshot.verify(loop.checkpointer.directory / str(loop.checkpointer.latest()))
    assert loop.checkpointer.latest() == step + 8
    if name in TOLD_AT_START and kind is not nothing:
        what = "TensorBoard" if name == "tensorboard" else name
        assert len(re.findall(f"(?:NOT WRITTEN|NO MORE).*{what}", told)) == 1, told
    if (name, kind) == ("replay", nothing):
        assert "is missing" in told
    if (name, kind) == ("checkpoints", nothing):
        assert "no checkpoint" in told


# --- during ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def live(parts, tmp_path_factory):
    """A training under way: (loop, what it says)."""
    with opened(parts, tmp_path_factory.mktemp("live") / "run") as (loop, said):
        advance(loop, 64)
        yield loop, said


def say_since(said):
    text = said.getvalue()
    said.seek(0)
    said.truncate()
    return text


@pytest.mark.parametrize(("name", "kind"), TRAINING)
def test_a_training_goes_on_whatever_happens_to_its_files(parts, live, tmp_path, name, kind):
    loop, said = live
    say_since(said)
    path, first = loop.rundir.path / name, loop.counters.step
    with fault(path, kind):
        advance(loop, 24)
        loop.logger.evaluation(loop.counters.step, loop.counters.step, "sample", [1.0], [2])
        if kind is nothing:
            assert path.exists()  # it was made again
    advance(loop, 8)
    told = say_since(said)
    assert loop.counters.step == first + 32 and "Traceback" not in told
    for line in told.splitlines():
        assert len(re.findall(re.escape(line), told)) < 5, told  # nothing is repeated at every log row
    if kind is not nothing and not (
        name in ("status.json", "config.yaml") and kind in (dangling, unreadable, fifo)
    ):
        assert ("TensorBoard" if name == "tensorboard" else name) in told, told
    # What there is now is a whole run again, with every row.
    assert loop.checkpointer.latest() == loop.counters.step
    steps = [row["step"] for row in read_jsonl(loop.rundir.metrics)]
    assert set(range(first + 4, first + 33, 4)) <= set(steps) and steps == sorted(steps)
    if name not in ("checkpoints", "replay", "config.yaml"):
        return
    shutil.copytree(loop.rundir.path, tmp_path / "copy", symlinks=True)
    with opened(parts, tmp_path / "copy") as (again, said_again):
        assert again.counters.step == loop.counters.step
        assert again.replay.rows == loop.replay.rows, said_again.getvalue()


@pytest.mark.parametrize("how", ["moved", "removed"])
def test_a_run_directory_that_goes_away_is_told_once_and_nothing_is_made_in_its_place(
    parts, live, tmp_path, how
):
    loop, said = live
    say_since(said)
    home, elsewhere, first = loop.rundir.path, tmp_path / "elsewhere", loop.counters.step
    home.rename(elsewhere)
    if (
        how == "removed"
    ):  # what the system says of a folder that was deleted, and it comes back for the others
        shutil.copytree(elsewhere, tmp_path / "kept", symlinks=True)
        shutil.rmtree(elsewhere)
    advance(loop, 16)
    told = say_since(said)
    where = f"was moved to {elsewhere}" if how == "moved" else "was removed"
    assert (
        told.count(f"NOT WRITTEN: the log (its rows wait in memory): the run directory {home} {where}") == 1
    )
    assert told.count("SAVE FAILED at step") == 2 and len(told.splitlines()) == 3 and not home.exists()
    with pytest.raises(SaveFailed, match=f"(?s)SAVE FAILED at step .*{where}"):
        loop.end()
    if how == "removed":
        return
    elsewhere.rename(home)
    advance(loop, 8)
    steps = [row["step"] for row in read_jsonl(loop.rundir.metrics)]
    assert set(range(first + 4, first + 25, 4)) <= set(steps)
    assert loop.checkpointer.latest() == first + 24


def test_a_training_whose_directory_was_moved_ends_with_one_line_and_exit_code_1(parts, tmp_path):
    with opened(parts, tmp_path / "run") as (loop, said):
        (tmp_path / "run").rename(tmp_path / "elsewhere")
        stop = Stop(30)
        stop.request("a test")
        assert run.run_to_end(loop, [loop], loop.progress, stop) == 1
    (line,) = [line for line in said.getvalue().splitlines() if line.startswith("error: ")]
    assert f"was moved to {tmp_path / 'elsewhere'}" in line and "There is no checkpoint" in line
    assert not (tmp_path / "run").exists()


# --- eval ------------------------------------------------------------------------------------------------


def play(parts, logdir):
    """What `dreamworld eval` does with the files of a run; returns the row."""
    rundir = RunDir(logdir)
    config = rundir.require()
    load.restore_params(rundir, parts.agent)
    row = evaluation_row(64, 64, config.eval.mode, [1.0, 2.0], [3, 4])
    frames = np.zeros((2, 8, 8, 3), np.uint8)
    return evaluation.keep(rundir, row, Evaluation([1.0, 2.0], [3, 4], {}, frames))


@pytest.mark.parametrize(("name", "kind"), EVAL)
def test_eval_gives_its_returns_or_says_in_one_line_what_is_in_its_way(
    parts, finished, tmp_path, capsys, name, kind
):
    shutil.copytree(finished, tmp_path / "run", symlinks=True)
    with fault(tmp_path / "run" / name, kind):
        if name in ("config.yaml", "checkpoints"):
            with pytest.raises(UserError, match=name) as caught:
                play(parts, tmp_path / "run")
            assert "\n" not in str(caught.value)
            return
        row = play(parts, tmp_path / "run")
        assert row["mean"] == 1.5 and row["video"].endswith("64.mp4")
        told = capsys.readouterr().err
        if name != "eval.jsonl" or kind is nothing:
            assert told == "" and read_jsonl(tmp_path / "run" / "eval.jsonl")[-1]["mean"] == 1.5
        else:
            assert len(told.splitlines()) == 1 and "NOT WRITTEN: " in told and "eval.jsonl" in told


@pytest.fixture
def read_only(tmp_path, finished):
    """The finished run on a file system that can't be written, which binds root, too."""
    shutil.copytree(finished, tmp_path / "run", symlinks=True)
    mount = lambda *words: (
        subprocess.run(["mount", *words, str(tmp_path / "run")], capture_output=True).returncode
    )
    if mount("--bind", str(tmp_path / "run")) == 0 and mount("-o", "remount,bind,ro") == 0:
        yield tmp_path / "run"
        subprocess.run(["umount", str(tmp_path / "run")], check=True)
        return
    # Where nothing may be mounted: folders and files in the way of everything that eval writes.
    for name in ("eval.jsonl", "eval"):
        path = tmp_path / "run" / name
        path.unlink(missing_ok=True)
        path.mkdir() if name == "eval.jsonl" else path.write_text("")
    yield tmp_path / "run"


def test_eval_of_a_run_that_cannot_be_written_prints_its_returns(parts, read_only, capsys):
    row = play(parts, read_only)
    told = capsys.readouterr().err.splitlines()
    assert row["returns"] == [1.0, 2.0] and "video" not in row
    assert len(told) == 2 and all(line.startswith("NOT WRITTEN: ") for line in told)
    assert "eval.jsonl" in told[0] and "videos of evaluations" in told[1]


def test_a_training_in_a_folder_that_cannot_be_written_is_refused_in_one_line(parts, read_only):
    with pytest.raises(UserError, match=str(read_only)), opened(parts, read_only):
        (read_only / "eval.jsonl").rmdir()  # only where nothing may be mounted: nothing is refused there
        raise UserError(str(read_only))
