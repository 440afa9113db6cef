"""The header of a training: the number of updates that it names is the number that are done."""

import io
import re

import pytest

from dreamworld import cli
from dreamworld.logging.progress import Progress
from dreamworld.scripts.train import train
from dreamworld.sessions import announce
from dreamworld.sessions.build import opened
from dreamworld.sessions.job import Job

WORDS = ["--configs", "debug", "--task", "jax_catch", "--env.engine", "jax", "--eval.every", "0"]
WORDS += ["--run.report_every", "0", "--run.progress", "False", "--logger.tensorboard", "False"]
WORDS += ["--replay.capacity_steps", "1000", "--run.save_every", "0", "--run.log_every", "20"]
PLANET = ["--agent", "planet", "--agent.model.belief", "8", "--agent.model.hidden", "8"]
PLANET += [
    "--agent.planner.candidates",
    "4",
    "--agent.planner.elites",
    "2",
    "--agent.planner.iterations",
    "1",
]
PLANET += ["--agent.random_steps", "50"]


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    """A terminal that breaks no row of the header."""
    monkeypatch.setenv("COLUMNS", "400")


def trained(logdir, words, capfd):
    """The row of the header, updates that it promises, and the updates that the run has at its end."""
    words = [*WORDS, *words]
    if "planet" in words:  # the preset is for another agent
        few = ["--env.num", "2", "--run.batch_size", "2", "--run.batch_length", "8"]
        words = [*words[2:], *few, "--replay.min_starts", "8", "--run.train_ratio", "4"]
    capfd.readouterr()
    assert train(cli.parse([*words, "--logdir", str(logdir)])) == 0
    text = capfd.readouterr().err
    row = re.search(r"training +(.* per environment step:.*)", text)
    done = re.search(r"finished: [\d,]+ steps?, ([\d,]+) updates?", text)
    assert row and done, text
    promised = re.search(r"; (?:about )?([\d,]+) (?:more )?in (?:the )?[\d,]+ steps?", row[1])
    assert promised, row[1]
    number = lambda found: int(found[1].replace(",", ""))
    return row[1], number(promised), number(done)


@pytest.mark.parametrize("path", ["runs/a", "/home/somebody/" + "long/" * 30])
def test_no_line_of_the_header_is_wider_than_80_columns_and_nothing_is_lost(path, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    words = [*WORDS, "--logdir", str(tmp_path / path.strip("/")), "--seed", "3"]
    said = io.StringIO()
    with (
        Progress(100, show=False, file=said) as progress,
        opened(Job.of(cli.parse(words)), progress) as session,
    ):
        announce.announce(session)
        rows = announce.describe(session)
    lines = said.getvalue().splitlines()
    assert max(map(len, lines)) <= 80 and lines[0].split() == ["task", "jax_catch,", "seed", "3"]
    letters = "".join(said.getvalue().split())
    assert all("".join(text.split()) in letters for _, text in rows)


@pytest.mark.parametrize(
    "words",
    [
        ["--run.steps", "30"],
        ["--run.steps", "101", "--run.train_ratio", "96"],
        ["--run.steps", "90", "--seeds", "0,1"],
        ["--run.steps", "101", *PLANET],
    ],
    ids=" ".join,
)
def test_the_header_names_the_updates_that_are_done(tmp_path, words, capfd):
    row, promised, done = trained(tmp_path / "run", words, capfd)
    assert promised == done, row
    assert done == 0 or "from step" in row


FUSED = ["--run.mode", "fused", "--run.train_ratio", "8"]


@pytest.mark.parametrize(
    ("first", "then"), [([], ["--run.train_ratio", "64"]), (FUSED, FUSED)], ids=["host", "fused"]
)
def test_a_continued_training_counts_from_where_it_goes_on(tmp_path, first, then, capfd):
    _, promised, before = trained(tmp_path / "run", ["--run.steps", "100", *first], capfd)
    assert promised == before
    row, promised, done = trained(tmp_path / "run", ["--run.steps", "200", *then], capfd)
    assert promised == done - before, row
    assert f"that are left, after {before} updates in" in row


def test_with_a_share_held_out_the_number_is_an_estimate(tmp_path, capfd):
    words = ["--run.steps", "200", "--replay.held_out", "0.5"]
    row, promised, done = trained(tmp_path / "run", words, capfd)
    assert "; about " in row and abs(promised - done) <= 60


def test_a_training_on_data_tells_the_steps_that_are_left(tmp_path):
    from dreamworld.__main__ import main

    few = ["--steps", "200", "--env.num", "2", "--run.progress", "False", "--env.engine", "jax"]
    assert main(["collect", "--task", "jax_catch", "--data", str(tmp_path / "data"), *few]) == 0
    words = [*WORDS, "--data", str(tmp_path / "data"), "--logdir", str(tmp_path / "run"), "--run.steps"]
    assert train(cli.parse([*words, "3"])) == 0
    from dreamworld.sessions.announce import describe_ratio

    with opened(Job.of(cli.parse([*words, "8"]))) as session:
        assert describe_ratio(session.loops[0]) == "5 gradient steps more, after 3, each a step of the run"
