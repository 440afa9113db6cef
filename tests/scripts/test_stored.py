"""A stored run names code and folders; reading it imports, calls and writes only what its user allows."""

import dataclasses
import os
import shutil
import subprocess
import sys
from typing import Any

import jax
import numpy as np
import pytest

import dreamworld
from dreamworld import cli, presets, schema, testing
from dreamworld.agents import make_agent
from dreamworld.config import Config, EvalConfig
from dreamworld.errors import UserError
from dreamworld.logging.rundir import RunDir
from dreamworld.runenv import RunEnv
from dreamworld.scripts import eval as eval_script
from dreamworld.sessions import pieces
from dreamworld.sessions.stored import choose_env, open_run, to_continue
from dreamworld.training.checkpoint import Checkpointer
from dreamworld.types import Native, Space

MODULE = """
import pathlib
import gymnasium
import numpy as np
pathlib.Path(__file__).with_name("imported").touch()


class Walk(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (3,), np.float32)
    action_space = gymnasium.spaces.Box(-2, 2, (1,), np.float32)

    def __init__(self, length=4):
        self.length = length

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return np.zeros(3, np.float32), {}

    def step(self, action):
        self.time += 1
        return np.zeros(3, np.float32), 1.0, False, self.time == self.length, {}


class Wide(Walk):
    observation_space = gymnasium.spaces.Box(-1, 1, (7,), np.float32)


if "Walk-v0" not in gymnasium.registry:
    gymnasium.register("Walk-v0", Walk)
"""
OBS = {"vector": Space((3,), "float32")}
ACT = {"action": Space((1,), "float32", low=-1, high=1, native=Native((-2.0,), (2.0,), "float32"))}


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A home and a folder of its own, with an environment that leaves a trace when it is imported."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    project = tmp_path / "project"
    project.mkdir()
    (project / "walks.py").write_text(MODULE)
    monkeypatch.chdir(project)
    yield project
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("walks", "gym_walks"):
            del sys.modules[name]


@pytest.fixture(scope="module")
def params():
    agent = make_agent(testing.tiny_config(), OBS, ACT)
    return jax.jit(agent.init)(jax.random.PRNGKey(0))


def store(folder, params, task="walks:Walk", own: Any = True, env=None, **options):
    """A run of `task` as this user's, or as somebody else's."""
    config = dataclasses.replace(testing.tiny_config(), task=task, logdir=str(folder))
    config = presets.replace(config, {"env.num": 1, **options})
    rundir = RunDir(folder)
    rundir.begin(config)
    rundir.remember(env or RunEnv(task, False, os.getcwd(), OBS, ACT))
    with Checkpointer(rundir.checkpoints) as checkpointer:
        checkpointer.save(8, {"train": params}, {}, {}, block=True)
    if not own:
        (folder / "config.sig").unlink()
    return rundir


def evaluate(rundir, *words):
    return eval_script.main(["--logdir", str(rundir), "--episodes", "1", *words])


def imported(place):
    return (place / "imported").exists()


def test_an_own_run_evaluates_its_environment_without_a_flag(place, tmp_path, params, capsys):
    run = store(tmp_path / "run", params)
    assert evaluate(run) == 0 and imported(place)
    assert "mean return 4" in capsys.readouterr().out


NAMES = ["walks:Walk", "gym_walks:Walk-v0", "jax_walks:Walk", "./walks.py:Walk", "os:system"]


@pytest.mark.parametrize("name", NAMES)
def test_a_foreign_run_names_code_and_nothing_is_imported(name, place, tmp_path, params):
    options = {"env.options": schema.coerce("env.options", f"command=touch {tmp_path / 'imported'}", str)}
    run = store(tmp_path / "run", params, name, own=False, **(options if name == "os:system" else {}))
    with pytest.raises(
        UserError, match=f"not signed as yours.*names the environment '{name}'.*--trust.*--task"
    ):
        evaluate(run)
    assert not imported(place) and not imported(tmp_path) and "walks" not in sys.modules
    assert not list(tmp_path.rglob("eval.jsonl"))


@pytest.mark.parametrize("change", ["task", "spaces", "options"])
def test_an_own_run_that_somebody_changed_is_foreign(change, place, tmp_path, params):
    run = store(tmp_path / "run", params, "gym_walks:Walk-v0" if change == "options" else "walks:Walk")
    file = run.spaces if change == "spaces" else run.config
    file.write_text(file.read_text() + "\n")
    with pytest.raises(UserError, match="not signed as yours"):
        evaluate(run)
    assert not imported(place)


def test_trust_and_a_task_are_two_ways_to_go_on(place, tmp_path, params, capsys):
    run = store(tmp_path / "run", params, own=False)
    assert evaluate(run, "--trust", "True") == 0 and imported(place)
    assert evaluate(run, "--task", "walks:Walk") == 0
    assert len(run.evals.read_text().splitlines()) == 2


def test_trust_does_not_call_what_makes_no_environment(place, tmp_path, params):
    run = store(
        tmp_path / "run", params, "os:system", False, **{"env.options": f"command=touch {tmp_path}/mark"}
    )
    for words in (["--trust", "True"], ["--task", "os:system"]):
        with pytest.raises(UserError, match="is not called"):
            evaluate(run, *words)
    assert not (tmp_path / "mark").exists()


def test_options_of_a_foreign_run_go_to_no_constructor(place, tmp_path, params):
    run = store(tmp_path / "run", params, "gym_Pendulum-v1", own=False, **{"env.options": "g=1.0"})
    with pytest.raises(UserError, match=r"not signed as yours.*with the options g=1.0"):
        evaluate(run)
    assert evaluate(run, "--task", "gym_Pendulum-v1") == 0
    own = store(tmp_path / "own", params, "gym_Pendulum-v1", **{"env.options": "g=1.0"})
    assert choose_env(open_run(own.path)).config.env.options == "g=1.0"


def test_a_foreign_run_of_a_known_environment_is_read_without_a_flag(tmp_path, params):
    run = store(tmp_path / "run", params, "gym_Pendulum-v1", own=False)
    assert evaluate(run) == 0


@pytest.mark.parametrize(("name", "own"), [("walks:Walk", False), ("no_such_simulator:Env", True)])
def test_load_builds_the_agent_from_the_spaces_and_imports_nothing(name, own, place, tmp_path, params):
    run = store(tmp_path / "run", params, name, own)
    player = dreamworld.load(run.path)
    _, action = player.act(player.initial(), [0.0, 0.0, 0.0])
    _, unit = player.act(player.initial(), [0.0, 0.0, 0.0], normalised=True)
    np.testing.assert_allclose(action["action"], 2 * unit["action"], rtol=1e-6)
    assert not imported(place)


def test_load_needs_no_package_of_the_environment(tmp_path, params, repo):
    run = store(tmp_path / "run", params, "dmc_walker_walk")
    code = f"""
import sys
for name in ("dm_control", "mujoco", "ale_py", "crafter", "gymnasium", "walks"):
    sys.modules[name] = None
import dreamworld
player = dreamworld.load({str(run)!r})
print(player.act(player.initial(), [0.0, 0.0, 0.0])[1])
"""
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(repo)},
    )
    assert found.returncode == 0 and "action" in found.stdout, found.stderr


def test_what_a_foreign_config_says_of_folders_and_services_is_not_used(tmp_path, params):
    evil = tmp_path / "elsewhere"
    foreign = {
        "run.compile_cache": str(evil / "cache"),
        "logdir": str(evil / "log"),
        "init_from": str(evil / "init"),
        "logger.wandb": "stolen",
        "parallel.coordinator": "evil.example:1",
        "run.platform": "tpu",
        "eval.every": 5.0,
    }
    run = store(tmp_path / "run", params, "gym_Pendulum-v1", own=False, **foreign)
    found, default = open_run(run.path).config, Config()
    for key in foreign:
        assert presets.flat(found)[key] == presets.flat(default)[key]
    assert found.agent == testing.tiny_config().agent and found.run.batch_length == 4
    assert found.eval == EvalConfig()
    jax_config: Any = jax.config
    used = jax_config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    try:
        pieces.setup_jax(found)
        assert jax_config.jax_compilation_cache_dir == os.path.expanduser(default.run.compile_cache)
    finally:
        jax.config.update("jax_compilation_cache_dir", used)
    assert not evil.exists()
    own = store(tmp_path / "own", params, "gym_Pendulum-v1", **{"run.compile_cache": str(evil / "cache")})
    assert open_run(own.path).config.run.compile_cache == str(evil / "cache")
    assert open_run(run.path, trusted=True).config.run.compile_cache == str(evil / "cache")


def test_a_run_from_before_spaces_were_kept_is_built_from_its_environment(place, tmp_path, params):
    run = store(tmp_path / "known", params, "gym_Pendulum-v1", own=False)
    run.spaces.unlink()
    dreamworld.load(run.path)
    assert evaluate(run) == 0
    run = store(tmp_path / "code", params, own=False)
    run.spaces.unlink()
    for read in (evaluate, lambda run: dreamworld.load(run.path)):
        with pytest.raises(UserError, match="not signed as yours"):
            read(run)
    assert not imported(place)
    found: list[dict[str, Any]] = [{"trust": True}, {"env": lambda: sys.modules["walks"].Walk()}]
    for options in found:
        assert dreamworld.load(run.path, **options).obs_space["vector"].shape == (3,)


def test_damaged_spaces_are_one_line(tmp_path, params):
    run = store(tmp_path / "run", params)
    run.spaces.write_text("{")
    with pytest.raises(UserError, match=r"spaces\.json: is not valid JSON"):
        dreamworld.load(run.path)


def test_an_own_run_evaluates_from_another_folder(place, tmp_path, params, monkeypatch, capsys):
    run = store(tmp_path / "run", params)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "walks.py").write_text(MODULE.replace("(3,)", "(9,)"))
    for folder in (tmp_path, elsewhere):  # nothing of that name, and something else of that name
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
        sys.modules.pop("walks", None)
        assert evaluate(run) == 0
    assert imported(place) and not imported(elsewhere)


def test_the_folder_of_a_foreign_run_is_not_searched(place, tmp_path, params, monkeypatch):
    run = store(tmp_path / "run", params, own=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no module named 'walks'"):
        evaluate(run, "--task", "walks:Walk")
    assert not imported(place)


def test_another_environment_is_named_and_its_returns_are_not_recorded_as_the_run_s(tmp_path, params, capsys):
    run = store(tmp_path / "run", params)
    assert evaluate(run, "--task", "gym_Pendulum-v1") == 0
    found = capsys.readouterr()
    assert "trained on walks:Walk" in found.err and "gym_Pendulum-v1" in found.err
    assert not run.evals.exists() and (run.eval / "gym_Pendulum_v1" / "eval.jsonl").exists()


def test_an_environment_with_other_spaces_is_refused_by_name(tmp_path, params):
    run = store(tmp_path / "run", params)
    with pytest.raises(
        UserError, match=r"'walks:Wide' does not fit.*'vector' is float32 \(7,\), not float32 \(3,\)"
    ):
        evaluate(run, "--task", "walks:Wide")
    import walks

    with pytest.raises(UserError, match=r"'walks:Wide' does not fit"):
        dreamworld.load(run.path, env=walks.Wide)
    with pytest.raises(UserError, match=r"'walks:Wide' does not fit"):
        dreamworld.evaluate(run.path, env=walks.Wide, episodes=1)


def test_an_environment_from_python_without_a_name_is_asked_for(tmp_path, params):
    env = RunEnv("custom:Walk", True, os.getcwd(), OBS, ACT)
    for own in (False, True):
        run = store(tmp_path / f"run{own}", params, "custom:Walk", own, env=env)
        with pytest.raises(UserError, match=r"trained with env=Walk.*--task module:Name.*env="):
            evaluate(run)
    assert evaluate(run, "--task", "walks:Walk") == 0
    import walks

    for given in (walks.Walk, walks.Walk()):
        assert dreamworld.evaluate(run.path, env=given, episodes=1)["returns"] == [4.0]
    assert len(run.evals.read_text().splitlines()) == 3


def test_an_environment_from_python_is_imported_by_its_name(place, tmp_path, params):
    env = RunEnv("walks:Walk", True, os.getcwd(), OBS, ACT)
    assert evaluate(store(tmp_path / "run", params, env=env)) == 0 and imported(place)
    foreign = store(tmp_path / "foreign", params, env=env, own=False)
    with pytest.raises(UserError, match="not signed as yours"):
        evaluate(foreign)


def test_a_moved_run_is_still_own(place, tmp_path, params):
    run = store(tmp_path / "run", params)
    shutil.move(run.path, tmp_path / "moved")
    assert open_run(tmp_path / "moved").own


def test_init_from_reads_a_foreign_run_and_builds_nothing_of_it(place, tmp_path, params):
    from dreamworld.sessions.initialise import initialise_from

    run = store(tmp_path / "run", params, own=False)
    agent = make_agent(testing.tiny_config(), OBS, ACT)
    initialise_from(str(run), agent, params)
    assert not imported(place)


def test_the_flags_are_documented(capsys):
    with pytest.raises(SystemExit):
        cli.run(eval_script.main, ["--help"])
    found = capsys.readouterr().out
    assert "--trust" in found and "--task" in found


def test_the_config_of_a_foreign_run_as_a_preset_runs_and_writes_nothing_that_it_names(tmp_path, params):
    foreign = {"run.compile_cache": str(tmp_path / "cache"), "logger.wandb": "stolen", "env.options": "a=1"}
    run = store(tmp_path / "run", params, own=False, **foreign)
    own = store(tmp_path / "own", params, **foreign)
    words = ["--configs", str(run.config)]
    for text in (
        "logdir '.*env.options 'a=1'.*run.compile_cache '.*logger.wandb 'stolen', task 'walks:Walk'",
    ):
        with pytest.raises(UserError, match=f"not signed as yours sets {text}; give a value.*--trust"):
            cli.parse(words)
    mine = ["--logdir", "x", "--run.compile_cache=", "--logger.wandb=", "--env.options="]
    with pytest.raises(UserError, match="not signed as yours sets task 'walks:Walk'; "):
        cli.parse([*words, *mine])
    assert cli.parse([*words, *mine, "--task", "walks:Walk"]).run.batch_length == 4
    with pytest.raises(UserError, match="not signed"):
        cli.parse([*words, "--trust", "False"])
    assert cli.parse([*words, "--trust"]).logger.wandb == "stolen"
    assert cli.parse(["--configs", str(own.config)]).logger.wandb == "stolen"
    shutil.copy(run.config, tmp_path / "config.yaml")  # a file that one took out of there, and looked at
    assert cli.parse(["--configs", str(tmp_path / "config.yaml")]).task == "walks:Walk"


def test_a_foreign_run_is_not_continued_by_its_folder_alone(tmp_path, params):
    own, foreign = store(tmp_path / "own", params), store(tmp_path / "run", params, own=False)
    assert to_continue(own.path) == own.load_config()
    with pytest.raises(UserError, match=r"not signed as yours.*--configs.*--trust"):
        to_continue(foreign.path)
    assert to_continue(foreign.path, trusted=True) == foreign.load_config()
