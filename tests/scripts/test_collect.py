"""`dreamworld collect`: any policy in any environment, one line for what can't be, nothing lost or overwritten."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import dreamworld
from dreamworld import cli
from dreamworld.__main__ import main
from dreamworld.datasets import open_dataset
from dreamworld.scripts.collect import _Shown

POLICY = '''
import numpy as np


def lean(obs, random):
    """Pushes to where the pole falls; now and then anywhere."""
    assert obs["vector"].shape == (4,) and obs["is_first"].shape == ()
    return random.integers(2) if random.random() < 0.1 else int(obs["vector"][2] > 0)


def named(obs, random):
    return {"action": np.int64(1)}


def fails(obs, random):
    raise KeyError("gone")


def bad(obs, random):
    return 2


def wide(obs, random):
    return [0.0, 1.0]


def another(obs, random):
    return {"push": 1}


number = 3
'''


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of an agent that has not learned anything."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    words = ["--configs", "debug", "--run.steps", "12", "--eval.every", "0", "--run.progress", "False"]
    assert dreamworld.train(cli.parse([*words, "--logdir", str(folder)])) == 0
    return folder


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A folder with a module of policies."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "mine.py").write_text(POLICY)
    yield tmp_path
    sys.modules.pop("mine", None)


def collect(*words):
    """Exit status of a short collection on CartPole."""
    given = [] if "--task" in words else ["--task", "gym_CartPole-v1"]
    short = ["--steps", "60", "--data", "data", "--env.num", "2", "--env.engine", "auto"]
    return main(["collect", *given, *short, "--run.progress", "False", *words])


def refused(capsys, *words):
    """The line of a collection that is refused, and that nothing came of it."""
    before = {path: path.stat().st_mtime_ns for path in sorted(os.scandir("."), key=lambda e: e.name)}
    assert collect(*words) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: ") and line.count("\n") == 1
    assert [path.name for path in before] == sorted(
        e.name for e in os.scandir(".") if e.name != "__pycache__"
    )
    return line


def test_random_actions_are_recorded_and_said(capsys):
    assert collect("--policy", "random") == 0
    data = open_dataset("data")
    assert data.steps >= 60 and set(data.labels) == {"random"} and data.task == "gym_CartPole-v1"
    out = capsys.readouterr().out
    assert f"{data.steps} steps in {data.episodes} episodes, mean return" in out
    assert out.endswith("next: dreamworld data info data, dreamworld train --data data\n")


@pytest.mark.parametrize(("width", "shown"), [(0, "steps/s"), (90, "steps/s"), (50, "return 2.5  ETA")])
def test_the_progress_line_fits_the_terminal(width, shown):
    line = _Shown(1000, show=False).line(250, 0, 2.5, 2.5, width)
    assert line.startswith("250/1,000 steps") and shown in line and len(line) <= (width or 100)


def test_a_function_acts_in_each_environment(capsys):
    assert collect("--policy", "mine:lean") == 0
    data = open_dataset("data")
    for episode in data:
        right = episode["obs/vector"][:-1, 2] > 0
        assert (episode["action/action"][:-1] == right).mean() > 0.7


def test_several_policies_have_equal_shares_and_their_labels(run, capsys):
    assert collect("--policy", "random", str(run), "mine:named", "--steps", "180") == 0
    data = open_dataset("data")
    steps = dict.fromkeys(("random", str(run), "mine:named"), 0)
    for label, length in zip(data.labels, data.lengths):
        steps[label] += length - 1
    assert all(60 <= share < 160 for share in steps.values())
    assert "mine:named: " in capsys.readouterr().out
    last = data.episode(data.episodes - 1)
    assert last["action/action"][:-1].all()


def test_the_environment_of_a_run_is_played_without_a_task(run):
    words = ["--policy", str(run), "--steps", "30", "--data", "data", "--run.progress", "False"]
    assert main(["collect", *words]) == 0
    assert open_dataset("data").task == "gym_CartPole-v1"


def test_a_run_acts_in_another_environment_of_its_spaces_and_jax_keeps_its_state(run):
    assert collect("--policy", str(run), "--task", "jax_cartpole") == 0
    data = open_dataset("data")
    assert set(data.extra_space) == {"state/physics", "state/time"} and data.task == "jax_cartpole"


def test_the_state_can_be_left_out():
    assert collect("--task", "jax_cartpole", "--truth", "False") == 0
    assert not open_dataset("data").extra_space


def test_equal_commands_record_equal_data_and_another_seed_other(capsys):
    for name, seed in (("one", "3"), ("two", "3"), ("three", "4")):
        assert collect("--data", name, "--seed", seed, "--env.engine", "inprocess") == 0
    one, two, three = ([e["obs/vector"].tobytes() for e in open_dataset(n)] for n in ("one", "two", "three"))
    assert one == two != three


def test_append_goes_on_with_other_episodes():
    assert collect() == 0
    first = open_dataset("data").episodes
    assert collect("--append") == 0
    data = open_dataset("data")
    assert data.episodes > first and data.steps >= 120
    assert data.episode(0)["obs/vector"].tobytes() != data.episode(first)["obs/vector"].tobytes()


def test_a_folder_that_holds_something_is_refused(place, capsys):
    assert collect() == 0
    capsys.readouterr()
    assert "holds a data set already" in refused(capsys)
    (place / "other").mkdir()
    (place / "other" / "file").write_text("mine")
    for words in ([], ["--append"]):
        assert "is not empty" in refused(capsys, "--data", "other", *words)


def test_append_to_other_spaces_is_refused(capsys):
    assert collect() == 0
    before = pathlib.Path("data/dataset.json").read_text()
    capsys.readouterr()
    line = refused(capsys, "--append", "--task", "gym_MountainCar-v0")
    assert "observation 'vector' is float32 (2,), not float32 (4,)" in line
    assert pathlib.Path("data/dataset.json").read_text() == before


BAD = {
    "no such folder": (["--policy", "runs/none"], "there is no such folder"),
    "no run": (["--policy", "."], "no run here"),
    "mistyped": (["--policy", "rndom"], "did you mean random?"),
    "path": (["--policy", "../mine.py:lean"], "write it as mine:lean, and start in the folder .."),
    "unwritable": (["--data", "/proc/none/data"], "/proc/none/data can't be written"),
    "no module": (["--policy", "nothere:fn"], "no module named 'nothere'"),
    "no function": (["--policy", "mine:leam"], "did you mean lean?"),
    "no callable": (["--policy", "mine:number"], "mine has no function 'number'"),
    "no name": (["--policy", "mine:"], "module:function"),
    "raises": (["--policy", "mine:fails"], "raised KeyError: 'gone'"),
    "class": (["--policy", "mine:bad"], "returned 2 for 'action'; expected 2 classes"),
    "shape": (["--policy", "mine:wide"], "returned float64 (2,) for 'action'"),
    "keys": (["--policy", "mine:another"], "returned 'push'; expected action"),
    "twice": (["--policy", "random", "random"], "each once"),
    "none": (["--policy"], "--policy"),
    "no data": (["--data", ""], "--data: is empty"),
    "steps": (["--steps", "0"], "--steps"),
    "training": (["--run.steps", "100"], "did you mean --steps?"),
    "agent": (["--agent.optim.lr=1"], "--agent.optim.lr is an option of training and has no effect here"),
    "logdir": (["--logdir", "runs"], "--logdir is an option of training"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_can_not_act_is_one_line(name, capsys):
    words, expected = BAD[name]
    assert expected in refused(capsys, *words)


def test_an_agent_of_other_spaces_is_refused(run, capsys):
    line = refused(capsys, "--policy", str(run), "--task", "gym_MountainCar-v0")
    assert "does not fit" in line and "observation 'vector'" in line


def test_the_run_of_somebody_else_imports_nothing_that_it_names(run, place, capsys):
    shutil.copytree(run, place / "theirs")
    for name in ("config.yaml", "spaces.json"):
        path = place / "theirs" / name
        path.write_text(path.read_text().replace("gym_CartPole-v1", "antigravity:Env"))
    words = ["--policy", "theirs", "--steps", "30", "--data", "data", "--run.progress", "False"]
    assert main(["collect", *words]) == 2
    line = capsys.readouterr().err
    assert "names the environment 'antigravity:Env'" in line and "--trust" in line and "--task NAME" in line
    assert "antigravity" not in sys.modules
    assert main(["collect", *words, "--task", "gym_CartPole-v1", "--env.num", "2"]) == 0


def test_without_a_run_the_environment_has_to_be_named(capsys):
    assert main(["collect", "--data", "data"]) == 2
    assert "--task NAME" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_keeps_complete_episodes(place, number, status):
    words = ["collect", "--task", "gym_CartPole-v1", "--steps", "1e9", "--data", "data", "--env.num", "1"]
    code = "from dreamworld.__main__ import main; import sys; sys.exit(main())"
    code = f"import sys; sys.argv = {['dreamworld', *words]!r}; {code}"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    while "steps/s" not in process.stderr.readline():
        pass
    time.sleep(0.3)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == status and "Traceback" not in err, err
    data = open_dataset("data")
    assert f"stopped by {signal.Signals(number).name}; complete episodes are kept" in out
    assert data.episodes and all(episode["is_last"][-1] for episode in data)
    assert np.isfinite(data.returns).all()
