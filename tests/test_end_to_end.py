"""Whole runs from the command line and from Python: training, loading, starting from another run."""

import contextlib
import dataclasses
import io
import json
import os
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest

import dreamworld
from dreamworld import __main__ as console
from dreamworld import cli
from dreamworld.errors import UserError
from dreamworld.logging.rundir import RunDir
from dreamworld.scripts.train import read, train
from dreamworld.sessions import load, pieces
from dreamworld.sessions.evaluation import Flags, evaluate_run

DEBUG = ["--configs", "debug", "--eval.every", "0", "--run.report_every", "0", "--run.progress", "False"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished debug run on CartPole."""
    logdir = tmp_path_factory.mktemp("run") / "cart pole"
    config = cli.parse([*DEBUG, "--logdir", str(logdir), "--run.steps", "200", "--run.save_every", "100"])
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        assert train(config) == 0
    (logdir / "said.txt").write_text(said.getvalue())
    return config, RunDir(logdir)


def test_a_run_leaves_what_the_documentation_names(finished):
    _, rundir = finished
    for path in (
        rundir.config,
        rundir.metrics,
        rundir.episodes,
        rundir.status,
        rundir.learning_curve,
        rundir.replay,
    ):
        assert path.exists(), path
    assert rundir.read_status()["state"] == "finished"


def test_load_acts_in_five_lines(finished):
    _, rundir = finished
    player = dreamworld.load(rundir.path)
    state = player.initial(1)
    obs = {"vector": np.zeros((1, 4), np.float32), "is_first": np.array([True])}
    after, action = player.act(state, obs)
    again, same = player.act(state, obs)
    assert action["action"].shape == (1,) and action["action"][0] in (0, 1)
    np.testing.assert_array_equal(action["action"], same["action"])  # the state is explicit
    assert after.step == again.step == 1


def test_the_end_says_returns_time_curve_and_commands_that_run(finished, capsys):
    _, rundir = finished
    lines = (rundir.path / "said.txt").read_text().partition("finished: ")[2].splitlines()
    assert re.fullmatch(rf"200 steps, \d+ updates in \d+m?s.*\. {re.escape(str(rundir))}", lines[0])
    assert re.fullmatch(r"  returns +last \S+, mean \S+ of the last \d+ episodes", lines[1])
    assert lines[2].split(maxsplit=1) == ["curve", str(rundir.learning_curve)]
    assert rundir.learning_curve.is_file()
    evaluate, compare, go_on = (shlex.split(line.partition("dreamworld ")[2]) for line in lines[3:])
    before = rundir.evals.read_text() if rundir.evals.exists() else ""
    assert console.main([*evaluate, "--episodes", "1", "--max_steps", "5"]) == 0
    assert rundir.evals.read_text().startswith(before)
    rundir.evals.write_text(before)
    assert console.main([*compare, "--out", str(rundir.path.parent / "report")]) == 0
    config, _ = read(go_on[1:])
    assert config.run.steps == 400 and config.logdir == str(rundir)
    capsys.readouterr()
    assert console.main(go_on[:2]) == 0
    assert "finished already: all 200 steps are done" in capsys.readouterr().out


def test_eval_adds_a_row_with_every_return(finished):
    _, rundir = finished
    row = evaluate_run(Flags(logdir=str(rundir.path), episodes=3, mode="greedy"))
    assert len(row["returns"]) == 3 and row["mode"] == "greedy"
    assert json.loads(rundir.evals.read_text().splitlines()[-1])["returns"] == row["returns"]


def test_init_from_takes_the_named_modules_and_leaves_the_others(finished, tmp_path):
    import jax

    from dreamworld.sessions.initialise import initialise_from

    config, rundir = finished
    agent = pieces.build_agent(config)
    fresh = agent.init(jax.random.PRNGKey(7))
    state = initialise_from(f"{rundir.path}:encoder,critic", agent, fresh)
    trained = load.restore_params(rundir, agent)
    same = lambda a, b: all(jax.tree.leaves(jax.tree.map(lambda x, y: bool((x == y).all()), a, b)))
    assert same(state.params["world"]["encoder"], trained["world"]["encoder"]) and same(
        state.params["behaviour"]["critic"], trained["behaviour"]["critic"]
    )
    assert same(state.params["behaviour"]["actor"], fresh.params["behaviour"]["actor"])
    with pytest.raises(UserError, match="no module decode;"):
        initialise_from(f"{rundir.path}:decode", agent, fresh)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--task", "dmc_wlaker_walk"], "wlaker"),
        (["--task", "gym_Nothing-v0"], "Nothing-v0"),
        (["--task", "nonsense"], "nonsense"),
        (["--run.platform", "gpu"], "no such device"),
        (["--logdir", "/proc/nowhere"], "can't be written"),
        (["--run.batch_length", "1"], "batch_length"),
    ],
)
def test_what_a_user_can_mend_is_one_line_and_writes_nothing(words, message, tmp_path, capsys):
    logdir = [] if "--logdir" in words else ["--logdir", str(tmp_path / "run")]
    status = cli.run(lambda argv: train(cli.parse(argv)), [*DEBUG, *logdir, *words])
    error = capsys.readouterr().err.strip().splitlines()
    assert status == 2
    assert len(error) == 1 and error[0].startswith("error: ") and message in error[0]
    assert not (tmp_path / "run" / "config.yaml").exists()


@pytest.mark.parametrize("platform", ["rocm", "nonsense"])
def test_a_platform_that_the_environment_asks_for_and_is_not_there_is_one_line(platform, tmp_path):
    """JAX fails by an assertion where it has no plugin for it, else by a RuntimeError."""
    words = [sys.executable, "-m", "dreamworld", "train", *DEBUG, "--logdir", str(tmp_path / "run")]
    environ = {**os.environ, "JAX_PLATFORMS": platform}
    found = subprocess.run(words, capture_output=True, text=True, env=environ)
    assert found.returncode == 2 and found.stderr.count("\n") == 1, found.stderr
    assert found.stderr.startswith(f"error: JAX_PLATFORMS={platform}: JAX has no such device here; unset")
    assert not (tmp_path / "run").exists()


def test_another_task_in_the_same_folder_is_refused(finished):
    config, rundir = finished
    before = rundir.config.read_text()
    other = dataclasses.replace(config, task="gym_Acrobot-v1")
    with pytest.raises(UserError, match="task"):
        train(other)
    assert rundir.config.read_text() == before
