"""What a run that was stopped, and goes on, makes of its evaluations: the same scores in the same snapshots."""

import signal

import pytest

from dreamworld import cli
from dreamworld.exits import Exit
from dreamworld.logging.rundir import RunDir
from dreamworld.logging.writers import read_jsonl
from dreamworld.scripts.train import train
from dreamworld.sessions import evaluator
from dreamworld.training import snapshot

SCORES = {32: 5.0, 64: 9.0, 96: 1.0}  # of the evaluations, so that the best is not the last
WORDS = ["--configs", "debug", "--task", "jax_catch", "--env.engine", "jax", "--run.report_every", "0"]
WORDS += ["--run.log_every", "50", "--run.save_every", "16", "--run.keep_last", "9", "--eval.every", "32"]
WORDS += ["--eval.video", "False", "--run.progress", "False", "--replay.min_starts", "8"]
WORDS += ["--logger.tensorboard", "False", "--replay.capacity_steps", "512", "--run.train_ratio", "8"]


@pytest.fixture
def play(monkeypatch):
    """Evaluations that give SCORES; `play.stop_at` is the step at whose evaluation the process gets SIGTERM."""
    real = evaluator.evaluate

    def evaluate(*args, seed, stop, **options):
        step = seed - 1_000_003
        if step == evaluate.stop_at:
            evaluate.stop_at = 0
            signal.raise_signal(signal.SIGTERM)
        found = real(*args, seed=seed, stop=stop, **options)
        return found if found.stopped else found._replace(returns=[SCORES[step]])

    evaluate.stop_at = 0
    monkeypatch.setattr(evaluator, "evaluate", evaluate)
    return evaluate


def scores(rundir):
    """{step: score} of the snapshots that an uninterrupted run makes, too."""
    steps = [step for step in snapshot.snapshot_steps(rundir.checkpoints) if step % 16 == 0]
    bodies = [snapshot.verify(snapshot.epath.Path(rundir.checkpoints / str(step))) for step in steps]
    return {body["step"]: body["score"] for body in bodies}


def rows(rundir):
    return [{**row, "time": 0} for row in read_jsonl(rundir.evals)]


def test_the_same_snapshots_have_the_same_scores(tmp_path, play):
    def run(name, steps):
        return train(cli.parse([*WORDS, "--logdir", str(tmp_path / name), "--run.steps", str(steps)]))

    assert run("whole", 112) == Exit.OK
    assert run("parts", 40) == Exit.OK  # between two evaluations
    play.stop_at = 64
    assert run("parts", 112) == Exit.PREEMPTED
    parts, whole = RunDir(tmp_path / "parts"), RunDir(tmp_path / "whole")
    assert scores(parts) == {16: None, 32: 5.0, 48: 5.0, 64: 5.0}
    assert run("parts", 112) == Exit.OK
    assert scores(parts) == scores(whole)
    assert scores(whole) == {16: None, 32: 5.0, 48: 5.0, 64: 9.0, 80: 9.0, 96: 1.0, 112: 1.0}
    assert rows(parts) == rows(whole)
