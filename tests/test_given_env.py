"""Training on an environment from Python: the run remembers which, and plays no other one."""

import contextlib
import dataclasses
import functools
import json
import os
import re
import shutil
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import dreamworld
from dreamworld import cli
from dreamworld.behaviours.planner import Memory
from dreamworld.envs.jax import make_jax_env
from dreamworld.errors import UserError
from dreamworld.logging.rundir import RunDir
from dreamworld.logging.writers import read_jsonl
from dreamworld.runenv import RunEnv, read_run_env
from dreamworld.scripts import eval as eval_script
from dreamworld.scripts import report
from dreamworld.sessions.beginning import accept, name_task
from dreamworld.sessions.stored import open_run
from dreamworld.types import Space

MODULE = '''
import gymnasium
import numpy as np


class Walk(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (3,), np.float32)
    action_space = gymnasium.spaces.Box(-2, 2, (1,), np.float32)
    closed = False

    def __init__(self, length=4):
        self.length = length

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return np.zeros(3, np.float32), {}

    def step(self, action):
        self.time += 1
        return np.zeros(3, np.float32), 1.0, False, self.time == self.length, {}

    def close(self):
        self.closed = True


class Wide(Walk):
    """The same, with another observation."""

    observation_space = gymnasium.spaces.Box(-1, 1, (4,), np.float32)

    def reset(self, *, seed=None, options=None):
        return np.zeros(4, np.float32), super().reset(seed=seed)[1]

    def step(self, action):
        return np.zeros(4, np.float32), *super().step(action)[1:]


class Strong(Walk):
    """The same, with other bounds of the action."""

    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
'''


def begin(run, config, source, spaces):
    """As a training that is accepted."""
    for one in accept([run], [config], source, spaces):
        one.keep()


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A home of its own, and a project folder with a module `given_walks` that can be imported."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "given_walks.py").write_text(MODULE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        patch.syspath_prepend(folder)
        yield folder
        sys.modules.pop("given_walks", None)


@pytest.fixture(scope="module")
def walks(project):
    import given_walks

    return given_walks


@pytest.fixture(autouse=True)
def inside(project, monkeypatch):
    monkeypatch.chdir(project)


@pytest.fixture(scope="module")
def trained(project, walks, tmp_path_factory):
    """A finished run on Walk, started in the project folder."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    with contextlib.chdir(project):
        assert train(folder, walks.Walk) == 0
    return folder


@pytest.fixture
def run(trained, tmp_path):
    """A copy of it."""
    return RunDir(shutil.copytree(trained, tmp_path / "run"))


def remembered(path) -> RunEnv:
    found = read_run_env(path)
    assert found
    return found


def config_of(logdir, *words):
    """So short that nothing is learnt and little is compiled."""
    quiet = ["--eval.every=0", "--run.report_every=0", "--run.progress=False", "--logger.tensorboard=False"]
    return cli.parse(
        ["--configs", "debug", *quiet, "--env.num=2", "--run.steps=8", "--logdir", str(logdir), *words]
    )


def train(logdir, env, *words):
    return dreamworld.train(config_of(logdir, *words), env=env)


def test_the_run_remembers_which_environment_it_was_and_evaluates_that_one(run, project, capsys):
    found = remembered(run.spaces)
    assert (found.name, found.given, found.folder) == ("given_walks:Walk", True, str(project))
    assert found.obs_space["vector"].shape == (3,)
    assert found.act_space["action"].native == ((-2.0,), (2.0,), "float32")
    assert run.load_config().task == "given_walks:Walk" and open_run(run.path).own
    assert eval_script.main(["--logdir", str(run), "--episodes", "2", "--json", "True"]) == 0
    assert json.loads(capsys.readouterr().out)["returns"] == [
        4.0,
        4.0,
    ]  # CartPole, the preset's task, gives more
    assert dreamworld.load(run.path).obs_space["vector"].shape == (3,)


def test_without_a_name_evaluation_asks_for_the_environment(tmp_path, walks, capsys):
    class Local(walks.Walk):
        pass

    assert train(tmp_path / "run", Local) == 0
    with pytest.raises(UserError, match=r"trained with env=Local.*--task module:Name"):
        eval_script.main(["--logdir", str(tmp_path / "run")])
    assert dreamworld.evaluate(tmp_path / "run", env=Local, episodes=1)["returns"] == [4.0]
    assert cli.run(lambda argv: dreamworld.train(cli.parse(argv)), words_of(tmp_path / "run")) == 2
    found = capsys.readouterr().err
    assert re.search(r"error: .*trained with env=Local.*train\(config, env=", found)


def words_of(logdir):
    return ["--configs", str(logdir / "config.yaml"), "--logdir", str(logdir), "--run.steps", "16"]


def test_another_environment_on_resume_is_refused_by_name_and_nothing_changes(run, walks):
    files = ("config.yaml", "spaces.json", "config.sig", "status.json", "metrics.jsonl")
    before = {name: (run.path / name).read_bytes() for name in files}
    with pytest.raises(UserError, match=r"given_walks:Walk.*given_walks:Strong"):
        train(run, walks.Strong, "--run.steps=16")
    with pytest.raises(UserError, match=r"given_walks:Walk.*gym_CartPole-v1"):
        dreamworld.train(config_of(run, "--run.steps=16"))
    assert {name: (run.path / name).read_bytes() for name in files} == before


def test_other_spaces_or_bounds_under_the_same_name_are_refused(tmp_path, walks):
    train(tmp_path / "run", lambda: walks.Walk())
    with pytest.raises(UserError, match="'action' is float32 from -1 to 1, not float32 from -2 to 2"):
        train(tmp_path / "run", lambda: walks.Strong(), "--run.steps=16")
    with pytest.raises(
        UserError, match=r"spaces: observation 'vector' is float32 \(4,\), not float32 \(3,\)"
    ):
        train(tmp_path / "run", lambda: walks.Wide(), "--run.steps=16")


def test_a_class_of_the_main_script_goes_on_from_its_module(run, walks):
    found = remembered(run.spaces)
    run.save_config(dataclasses.replace(run.load_config(), task="custom:Walk"))
    run.remember(dataclasses.replace(found, name="custom:Walk"))
    assert train(run, walks.Walk, "--run.steps=16") == 0
    assert remembered(run.spaces).name == "given_walks:Walk"
    assert dreamworld.evaluate(run.path, episodes=1)["returns"] == [4.0]


def test_a_run_from_before_names_were_kept_goes_on_as_it_was_named(run, walks):
    run.save_config(dataclasses.replace(run.load_config(), task="gym_CartPole-v1"))
    run.spaces.unlink()
    assert train(run, walks.Walk, "--run.steps=16") == 0
    assert remembered(run.spaces).name == "given_walks:Walk"
    assert name_task(config_of(run), walks.Walk)[0].task == "gym_CartPole-v1"
    assert dreamworld.evaluate(run.path, episodes=1)["returns"] == [4.0]


def test_one_environment_object_is_taken_and_left_open(tmp_path, walks):
    env = walks.Walk()
    assert train(tmp_path / "run", env, "--env.num=1") == 0
    assert not env.closed and remembered(tmp_path / "run" / "spaces.json").name == "custom:Walk"
    assert dreamworld.evaluate(tmp_path / "run", env=env, episodes=1)["returns"] == [4.0]
    for words, text in (
        ([], r"one environment, and 2 are needed.*env\.num 1"),
        (["--env.num=1", "--eval.every=4"], r"one environment.*--eval\.every 0"),
        (["--env.num=1", "--seeds=0:2"], r"one environment.*--seeds"),
    ):
        with pytest.raises(UserError, match=text):
            train(tmp_path / "other", env, *words)
        assert not (tmp_path / "other").exists()


def test_the_default_folder_is_named_after_the_environment(walks):
    for env, name in ((walks.Walk, "given_walks_Walk-0"), (lambda: walks.Walk(), "custom_lambda-0")):
        config, source = name_task(config_of("/nowhere/{task}-{seed}"), env)
        assert RunDir.of(config).path.name == name and source is env


def test_a_name_is_a_task():
    config, source = name_task(config_of("/nowhere"), "given_walks:Walk")
    assert config.task == "given_walks:Walk" and source is None


@pytest.mark.parametrize(
    "words", [["--seeds=0:2"], ["--run.mode=fused"], ["--run.mode=fused", "--seeds=0:2"]]
)
def test_every_session_remembers_its_environment(tmp_path, words, walks):
    fused = "--run.mode=fused" in words
    env = make_jax_env("jax_catch", obs="vector") if fused else walks.Walk
    assert train(tmp_path / "run", env, *words) == 0
    folders = (
        [tmp_path / "run" / f"seed{seed}" for seed in (0, 1)]
        if "--seeds=0:2" in words
        else [tmp_path / "run"]
    )
    for folder in folders:
        found = remembered(folder / "spaces.json")
        assert found.name == ("custom:Catch" if fused else "given_walks:Walk") and found.given
        assert open_run(folder).own and RunDir(folder).load_config().task == found.name
    other = make_jax_env("jax_cartpole") if fused else walks.Wide
    with pytest.raises(UserError, match="holds a run"):
        train(tmp_path / "run", other, *words, "--run.steps=16")


SPACES = ({"vector": Space((3,), "float32")}, {"action": Space((), "int32", classes=2)})


def test_a_report_names_runs_of_one_name_on_different_environments(tmp_path, capsys):
    others = {"vector": Space((4,), "float32")}
    for seed, obs_space in enumerate((SPACES[0], others)):
        run = RunDir(tmp_path / "runs" / str(seed))
        config = config_of(run, "--task=custom:lambda", f"--seed={seed}")
        begin(run, config, lambda: None, (obs_space, SPACES[1]))
        run.episodes.write_text('{"step": 5, "frames": 5, "return": 1.0, "length": 5, "time": 1.0}\n')
    with pytest.raises(
        UserError, match=r"mixes environments.*'vector' is float32 \(4,\), not float32 \(3,\)"
    ):
        report.main([str(tmp_path / "runs"), "--out", str(tmp_path / "out")])
    sides = [f"{name}={tmp_path}/runs/{seed}" for seed, name in enumerate(("a", "b"))]
    assert report.main([*sides, "--out", str(tmp_path / "out")]) == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert "custom:lambda is not one environment" in page and "float32 (4,), not float32 (3,)" in page


def test_the_folder_of_the_start_is_kept_while_the_module_is_not_elsewhere(
    tmp_path, project, walks, monkeypatch
):
    run = RunDir(tmp_path / "run")
    config = config_of(run, "--task=given_walks:Walk")
    folder = lambda: (begin(run, config, walks.Walk, SPACES), remembered(run.spaces).folder)[1]
    assert folder() == str(project)
    monkeypatch.chdir(tmp_path)
    assert folder() == str(project)
    (tmp_path / "given_walks.py").write_text(MODULE)
    assert folder() == str(tmp_path)


def test_from_another_folder_it_is_evaluated_and_continued(run, tmp_path, repo):
    code = f"""
from dreamworld.scripts import eval, train
assert eval.main(["--logdir", {str(run)!r}, "--episodes", "1"]) == 0
assert train.main({words_of(run.path)}) == 0
"""
    environ = {**os.environ, "PYTHONPATH": str(repo)}
    words = [sys.executable, "-c", code]
    found = subprocess.run(words, capture_output=True, text=True, env=environ, cwd=tmp_path)
    assert found.returncode == 0 and "mean return 4" in found.stdout, found.stderr
    assert run.read_status()["step"] == 16


def test_frames_of_a_module_called_atari_are_not_atari_s(tmp_path):
    assert config_of(tmp_path, "--task", "atari_mine:Env").frames_per_step == 1
    assert config_of(tmp_path, "--task", "atari_pong").frames_per_step == 4


@pytest.mark.parametrize(
    "values",
    [
        {"episodes": 0}, {"episodes": -1}, {"episodes": 1.5}, {"episodes": "many"}, {"max_steps": 0}, {"seed": 10**30},
        {"seed": -1}, {"seed": 0.5}, {"step": "newest"}, {"step": 10**30}, {"mode": "best"}, {"video": 3},
        {"planner": "best"}, {"plan": {"horizon": 3}}, {"plan": [("horizon", 3)]}, {"plan": "horizon=3"},
        {"episodes": np.array([1, 2])},
    ],
    ids=str,
)  # fmt: skip
def test_what_eval_would_refuse_is_refused_in_python_and_nothing_is_recorded(run, project, values):
    (key,) = values
    calls = [dreamworld.evaluate] + (
        [dreamworld.load] if key in ("seed", "step", "mode", "planner", "plan") else []
    )
    for call in calls:
        with pytest.raises(UserError, match=key):
            call(run.path, **values)
    assert not run.evals.exists()


FEW = {"horizon": 2, "candidates": 4, "elites": 2, "iterations": 1}


def test_planned_actions_are_evaluated_and_kept_apart(run, project, capsys):
    options = [f"--plan.{key}={value}" for key, value in FEW.items()]
    assert eval_script.main([str(run), "--episodes", "1", "--planner", "cem", *options, "--json"]) == 0
    (row,) = read_jsonl(run.eval / "cem" / "eval.jsonl")
    assert json.loads(capsys.readouterr().out) == row and not run.evals.exists()
    assert row["planner"] == "cem" and row["plan"]["horizon"] == 2 and row["returns"] == [4.0]
    assert row["envs"] == 1 and row["act_ms"] > 0
    assert dreamworld.evaluate(run.path, episodes=1, planner="cem", plan=FEW)["returns"] == [4.0]
    player = dreamworld.load(run.path, planner="mppi", plan=FEW)
    state, action = player.act(player.initial(), [0.0, 0.0, 0.0])
    assert isinstance(state.carry[2], Memory) and -2 <= action["action"][0] <= 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--plan.horizon", "3"], "--plan.horizon: has no effect without a planner; add --planner cem or mppi"),
        (["--planner", "cem", "--plan.elites", "501"], "--plan.elites 501: more than the 500 of"),
        (["--planner", "cem", "--plan.goal", "nowhere.npz"], "nowhere.npz"),
        (["--planner", "cem", "--plan.goal", "words.npz"], "dtype"),
        (["--planner", "cem", "--plan.goal", "other.npz"], "'place' is not an observation of this agent; expected vec"),
        (["--planner", "cem", "--plan.goal", "wide.npz"], r"has the shape \(4,\); expected \(3,\)"),
        (["--planner", "cem", "--plan.goal", "blank.npz"], "holds nothing to plan towards"),
        (["--planner", "cem", "--plan.goal", "part.npz", "--plan.goal_by", "feature"], "'vector' is not all there"),
        (["--planner", "cem", "--plan.goal", "endless.npz"], "inf"),
    ],
)  # fmt: skip
def test_plans_that_can_t_be_made_are_refused(run, project, words, told):
    np.savez(project / "words.npz", vector=np.array(["up"]))
    np.savez(project / "other.npz", place=np.zeros(3))
    np.savez(project / "wide.npz", vector=np.zeros(4))
    np.savez(project / "blank.npz", vector=np.full(3, np.nan))
    np.savez(project / "part.npz", vector=np.array([0, np.nan, 0]))
    np.savez(project / "endless.npz", vector=np.array([0, np.inf, 0]))
    with pytest.raises(UserError, match=told):
        eval_script.main([str(run), "--episodes", "1", *words])
    assert not (run.eval / "cem").exists()


def test_numbers_of_numpy_and_the_newest_checkpoint_are_taken(run, project):
    eight: Any = np.int64(8)
    one: Any = np.int64(1)
    three: Any = np.int32(3)
    for step in (None, -1, eight):
        found = dreamworld.evaluate(run.path, episodes=one, max_steps=4, step=step)
        assert found["step"] == 8 and len(found["returns"]) == 1
    assert dreamworld.load(str(run.path), step=eight, seed=three).obs_space


@pytest.mark.parametrize("config", [None, {}, "debug", ["--configs", "debug"]], ids=str)
def test_what_is_no_config_is_answered_with_how_to_make_one(config, walks):
    with pytest.raises(UserError, match=r"give dreamworld\.parse\(\[\.\.\.\]\)"):
        dreamworld.train(config, env=walks.Walk)


def lengths(walks, length):
    """Factories that make walks of one length, each written elsewhere; their names are the same."""
    if length == 4:
        return {"lambda": lambda: walks.Walk(), "partial": functools.partial(walks.Walk, length=4)}
    return {"lambda": lambda: walks.Walk(length), "partial": functools.partial(walks.Walk, length=length)}


@pytest.mark.parametrize("kind", ["lambda", "partial"])
def test_a_factory_that_is_not_the_one_before_is_named_in_one_line_and_the_same_one_is_not(
    tmp_path, walks, kind, capsys
):
    said = lambda: [line for line in capsys.readouterr().err.splitlines() if "looks changed" in line]
    assert train(tmp_path / "run", lengths(walks, 4)[kind]) == 0
    assert train(tmp_path / "run", lengths(walks, 4)[kind], "--run.steps=16") == 0
    assert said() == []
    assert train(tmp_path / "run", lengths(walks, 5)[kind], "--run.steps=24") == 0
    (line,) = said()
    assert "continued with an environment that looks changed: it was made by " in line
    wanted = r"(\(line \d+.*){2}length=5" if kind == "lambda" else "with length=4, now by .* with length=5"
    assert re.search(wanted, line), line
    assert train(tmp_path / "run", lengths(walks, 5)[kind], "--run.steps=32") == 0
    assert said() == []


def test_each_of_several_seeds_remembers_the_factory(tmp_path, walks, capsys):
    assert train(tmp_path / "run", functools.partial(walks.Walk, length=4), "--seeds=0,1") == 0
    again = functools.partial(walks.Walk, length=5)
    assert train(tmp_path / "run", again, "--seeds=0,1", "--run.steps=16") == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "looks changed" in line]
    assert [line.partition(":")[0] for line in told] == ["seed 0", "seed 1"]


def test_runs_that_remember_no_factory_go_on_without_a_word(tmp_path, walks, capsys):
    assert train(tmp_path / "run", functools.partial(walks.Walk, length=4)) == 0
    path = RunDir(tmp_path / "run").spaces
    row = json.loads(path.read_text())
    assert row.pop("made").startswith("partial of given_walks:Walk with length=4")
    path.write_text(json.dumps(row))
    assert train(tmp_path / "run", functools.partial(walks.Walk, length=5), "--run.steps=16") == 0
    assert "looks changed" not in capsys.readouterr().err
