"""Callbacks of `dreamworld.train`: what they see, and that nothing but StopTraining ends a training."""

import pathlib
import sys
from typing import Any

import pytest

import dreamworld
from dreamworld import cli
from dreamworld.exits import Exit
from dreamworld.logging.rundir import RunDir
from dreamworld.sessions import build
from dreamworld.sessions.job import Job
from dreamworld.training.callbacks import Callbacks
from dreamworld.training.hosts import Team

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import watching

WORDS = ["--configs", "debug", "--task", "jax_catch", "--env.engine", "jax", "--run.report_every", "0"]
WORDS += ["--run.steps", "80", "--run.save_every", "40", "--run.log_every", "20", "--eval.every", "0"]
WORDS += ["--run.progress", "False", "--logger.tensorboard", "False"]


def fail(*args):
    raise KeyError("train/\x1bfoo")


async def later(row):
    pass


def test_a_host_loop_shows_its_rows_ends_by_stop_training_and_goes_on_past_errors(tmp_path, capsys):
    config = cli.parse([*WORDS, "--logdir", str(tmp_path)])
    watcher, seen = watching.Watcher(), []

    def on_episode(row):
        seen.append(row)
        watcher.callbacks["on_episode"](row)
        if len(seen) == 4:
            raise dreamworld.StopTraining(f"{len(seen)} episodes are enough")

    watching_all: dict[str, Any] = {**watcher.callbacks, "on_episode": on_episode}
    stopped = dreamworld.train(config, **watching_all)
    run, said = RunDir(tmp_path), capsys.readouterr().err
    assert (stopped, run.read_status()["state"]) == (Exit.PREEMPTED, "preempted")
    step = seen[-1]["step"]
    assert len(seen) == 4 and step < 80 and watcher.saved == [(run.checkpoints / str(step), step)]
    assert f"stopped by on_episode (4 episodes are enough); saved at step {step}" in said
    watcher.check(tmp_path)
    assert all({"seed", "env", "return", "length"} < set(row) for row in seen)

    assert (
        dreamworld.train(
            config, on_log=fail, on_episode=fail, on_checkpoint=watcher.callbacks["on_checkpoint"]
        )
        == 0
    )
    said = capsys.readouterr().err
    assert [step for _, step in watcher.saved][1:] == [40, 80] and run.read_status()["state"] == "finished"
    for name in ("on_log", "on_episode"):
        assert (
            said.count(f"warning: {name} (fail) raised KeyError: 'train/\\x1bfoo' (test_callbacks.py, line")
            == 1
        )


def test_a_stop_at_the_end_is_none(tmp_path):
    def on_checkpoint(path, step):
        raise dreamworld.StopTraining

    config = cli.parse([*WORDS, "--logdir", str(tmp_path), "--run.steps", "8", "--run.save_every", "8"])
    assert dreamworld.train(config, on_checkpoint=on_checkpoint) == Exit.OK
    assert RunDir(tmp_path).read_status()["state"] == "finished"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"on_log": "print"}, r"on_log is a str; give a function that is called as on_log\(row\)"),
        ({"on_episode": later}, r"on_episode \(later\) is asynchronous; give a plain function"),
        (
            {"on_checkpoint": lambda path: None},
            r"can't be called as on_checkpoint\(path, step\): too many pos",
        ),
        ({"on_log": lambda: None}, r"on_log .*<lambda>\) can't be called as on_log\(row\): too many"),
    ],
)
def test_what_can_not_be_called_is_refused_before_anything_is_written(given, message, tmp_path):
    with pytest.raises(dreamworld.UserError, match=f"^train: .*{message}"):
        dreamworld.train(cli.parse([*WORDS, "--logdir", str(tmp_path / "run")]), **given)
    assert not (tmp_path / "run").exists()


def test_of_several_processes_the_first_alone_calls(tmp_path):
    config = cli.parse([*WORDS, "--logdir", str(tmp_path)])
    job = Job.of(config, callbacks=Callbacks(on_log=dict))
    with build.opened(job) as session:
        (loop,) = session.loops
        assert "on_log" in loop.callbacks and "on_episode" not in loop.callbacks
        loop.callbacks = Callbacks()
        build.add_callbacks(job._replace(team=Team(1, 2)), [loop])
        assert "on_log" not in loop.callbacks


def test_an_interrupt_in_a_callback_is_not_held_up():
    def interrupt(row):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Callbacks(on_log=interrupt).call("on_log", {}, tell=print, stop=print)


def test_an_error_that_can_not_be_printed_is_told_all_the_same():
    class Silent(Exception):
        def __str__(self):
            raise RuntimeError

    def on_log(row):
        raise Silent

    said = []
    Callbacks(on_log=on_log).call("on_log", {}, tell=said.append, stop=print)
    assert len(said) == 1 and "raised Silent: (its text can't be had) (test_callbacks.py, line" in said[0]
