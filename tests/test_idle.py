"""Trainings that would end without an update: one line names the option and what would do, and what it names does."""

import re

import pytest

from dreamworld import cli
from dreamworld.__main__ import main
from dreamworld.contract import Phase, Stage, Window
from dreamworld.logging.writers import read_jsonl
from dreamworld.scripts.train import train
from dreamworld.sessions import learning, pieces
from dreamworld.types import Space

WORDS = ["--configs", "debug", "--task", "jax_catch", "--env.engine", "jax", "--eval.every", "0"]
WORDS += ["--run.report_every", "0", "--run.progress", "False", "--logger.tensorboard", "False"]
WORDS += ["--run.log_every", "4"]
PLANET = ["--agent", "planet", "--task", "jax_catch", "--env.num", "2", "--run.progress", "False"]
PLANET += [
    "--agent.model.belief",
    "8",
    "--agent.model.hidden",
    "8",
    "--run.batch_size",
    "2",
    "--run.batch_length",
    "8",
]
PLANET += ["--replay.chunk", "16", "--logger.tensorboard", "False", "--replay.min_starts", "16"]
OBS, ACT = {"vector": Space((3,), "float32")}, {"action": Space((), "int32", classes=2)}


def said_by(logdir, words, capfd):
    """Lines about nothing to train, and the updates that were done, of a training."""
    assert train(cli.parse([*words, "--logdir", str(logdir)])) == 0
    text = capfd.readouterr().err
    lines = [line for line in text.splitlines() if line.startswith(("nothing will", "nothing was"))]
    return lines, int(re.search(r"finished: [\d,]+ steps?, ([\d,]+) updates?", text)[1])  # pyright: ignore


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--replay.held_out", "0.999999"], "--replay.held_out 0.999999 leaves about 0 rows of 600"),
        (
            ["--seeds", "0,1", "--replay.held_out", "0.999"],
            "--replay.held_out 0.999 leaves about 1 row of 600",
        ),
        (["--replay.min_starts", "1024"], "comes after 1,040 steps"),
        (["--seeds", "0,1", "--replay.min_starts", "700"], "comes after 716 steps"),
        (["--run.mode", "fused", "--run.steps", "40"], "comes after 48 steps"),
        (["--run.steps", "90", "--run.batch_length", "64"], "or a smaller --env.num or --run.batch_length"),
    ],
)
def test_a_training_without_an_update_says_why_in_one_line(tmp_path, words, says, capfd):
    lines, updates = said_by(tmp_path / "run", [*WORDS, *words], capfd)
    assert updates == 0 and len(lines) == 1 and says in lines[0], lines


@pytest.mark.parametrize(
    "mode", [[], ["--seeds", "0,1"], ["--run.mode", "fused"]], ids=["host", "seeds", "fused"]
)
def test_random_steps_that_take_the_whole_run_are_named(tmp_path, mode, capfd):
    words = [*PLANET, "--agent.random_steps", "60", "--run.steps", "60", *mode]
    lines, updates = said_by(tmp_path / "run", words, capfd)
    assert updates == 0 and lines == [
        "nothing will be trained: the agent planet learns from step 60 on (--agent.random_steps 60), and --run.steps "
        "is 60; give --run.steps more than 60, or less of --agent.random_steps"
    ]


@pytest.mark.parametrize("mode", [[], ["--run.mode", "fused"]], ids=["host", "fused"])
@pytest.mark.parametrize("advice", ["run.steps", "replay.min_starts"])
def test_what_the_line_names_would_do(tmp_path, mode, advice, capfd):
    words = [*WORDS, *mode, "--run.steps", "44"]
    (line,), updates = said_by(tmp_path / "first", words, capfd)
    assert updates == 0
    found = re.search(r"--run.steps more than (\d+), or --replay.min_starts (\d+) or less", line)
    assert found
    more = (
        ["--run.steps", str(int(found[1]) + 1)]
        if advice == "run.steps"
        else ["--replay.min_starts", found[2]]
    )
    lines, updates = said_by(tmp_path / "second", [*words, *more], capfd)
    assert lines == [] and updates > 0


def test_the_share_that_is_named_leaves_enough():
    config = cli.parse([*WORDS, "--replay.held_out", "0.999999"])
    agent = pieces.build_agent(config, OBS, ACT)
    line = learning.why_nothing_is_trained(config, agent, 2)
    (most,) = re.findall(r"give --replay.held_out ([\d.]+) or less", line)
    assert learning.why_nothing_is_trained(cli.parse([*WORDS, "--replay.held_out", most]), agent, 2) == ""
    more = str(float(most) + 0.01)
    assert learning.why_nothing_is_trained(cli.parse([*WORDS, "--replay.held_out", more]), agent, 2) != ""


def test_a_replay_that_never_keeps_enough_trained_rows_is_named_however_long_the_training():
    config = cli.parse(
        [*WORDS, "--replay.held_out", "0.99", "--run.steps", "1e9", "--replay.min_starts", "200"]
    )
    line = learning.why_nothing_is_trained(config, pieces.build_agent(config, OBS, ACT), 2)
    assert "leaves about 100 rows of 10,000 to train on" in line


def test_stages_that_come_to_no_update_are_named_without_an_option():
    phase = Phase("late", Window(4, 8), lambda *_: None, 32.0, begins=50)  # pyright: ignore[reportArgumentType]
    config = cli.parse([*WORDS, "--run.steps", "900"])
    agent = pieces.build_agent(config, OBS, ACT)
    stages = (Stage("look", (), collect="random", steps=300), Stage("train", (phase,)))
    assert learning.why_nothing_is_trained(config, agent._replace(stages=stages), 2) == ""
    short = cli.parse([*WORDS, "--run.steps", "350"])
    line = learning.why_nothing_is_trained(short, agent._replace(stages=stages), 2)
    assert "learns from step 350 on, and --run.steps is 350; give --run.steps more than 350" in line


def test_episodes_that_happen_to_be_held_out_are_said_at_the_end(tmp_path, capfd):
    """Of 24 rows that the share of the eight episodes leaves on average, there are 20 here, with 4 windows."""
    words = [*WORDS, "--replay.held_out", "0.7", "--run.steps", "80", "--replay.min_starts", "6"]
    lines, updates = said_by(tmp_path / "run", words, capfd)
    assert updates == 0 and len(lines) == 1, lines
    assert re.search("nothing was trained: at the end replay held 4 windows to train on", lines[0])
    assert "that --replay.held_out keeps apart" in lines[0]


def test_without_an_environment_a_train_ratio_of_0_is_said(tmp_path, capfd):
    words = ["collect", "--policy", "random", "--task", "jax_catch", "--steps", "100", "--env.num", "2"]
    assert main([*words, "--data", str(tmp_path / "data")]) == 0
    given = [*WORDS, "--data", str(tmp_path / "data"), "--run.steps", "8"]
    lines, updates = said_by(tmp_path / "idle", [*given, "--run.train_ratio", "0"], capfd)
    assert updates == 0 and lines == ["nothing will be trained: run.train_ratio is 0; give more than 0"]


def test_to_collect_only_is_a_wish_and_needs_no_line(tmp_path, capfd):
    words = [*WORDS, "--run.train_ratio", "0", "--run.steps", "64"]
    assert said_by(tmp_path / "run", words, capfd) == ([], 0)
    assert read_jsonl(tmp_path / "run" / "metrics.jsonl")


def test_a_run_goes_on_in_its_stage_where_the_one_before_is_taken_away(tmp_path, capfd):
    """Stages were known by their number: with one less, the run was over as soon as it went on."""
    words = [*PLANET, "--logdir", str(tmp_path / "run"), "--run.train_ratio", "0"]
    words += [
        "--agent.planner.candidates",
        "4",
        "--agent.planner.elites",
        "2",
        "--agent.planner.iterations",
        "1",
    ]
    for steps, random in ((16, 8), (24, 0)):
        more = ["--run.steps", str(steps), "--agent.random_steps", str(random)]
        assert train(cli.parse([*words, *more])) == 0
        assert f"finished: {steps} steps" in capfd.readouterr().err
