"""Training on data sets: no environment is built, a step is an update, and what does not fit is one line."""

import dataclasses
import json
import pathlib
import shutil
import sys

import numpy as np
import pytest

import dreamworld
from dreamworld import cli
from dreamworld.__main__ import main
from dreamworld.config import ReplayConfig
from dreamworld.contract import Phase, Stage, Window
from dreamworld.datasets import DataWriter, Schema, make_episode, open_dataset
from dreamworld.errors import UserError
from dreamworld.logging.rundir import RunDir
from dreamworld.replay import Replay
from dreamworld.sessions import pieces
from dreamworld.training.counters import Counters
from dreamworld.training.offline import fill, open_all
from dreamworld.training.schedule import Schedule
from dreamworld.types import Space

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import watching

OBS, ACT = {"vector": Space((3,), "float32")}, {"action": Space((), "int32", classes=2)}


@pytest.fixture(scope="module")
def caught(tmp_path_factory):
    """A data set of jax_catch."""
    folder = tmp_path_factory.mktemp("sets") / "catch"
    words = ["collect", "--policy", "random", "--task", "jax_catch", "--steps", "300", "--env.num", "2"]
    assert main([*words, "--data", str(folder)]) == 0
    return folder


def write(folder, episodes=6, length=9, seed=0, schema=Schema(OBS, ACT)):  # noqa: B008
    """Episodes whose observation is its number and its time."""
    random = np.random.default_rng(seed)
    size = schema.obs_space["vector"].size
    with DataWriter(folder, schema, source="test") as writer:
        for index in range(episodes):
            values = random.normal(size=(length, size)).astype(np.float32)
            values[:, 0], values[:, 1] = index, np.arange(length)
            action = {key: space.sample(random, length - 1) for key, space in schema.act_space.items()}
            reward = random.normal(size=length - 1) if schema.has_reward else None
            extra = {key: np.arange(length, dtype=np.int32) for key in schema.extra_space}
            terminal = bool(index % 2)
            writer.add(
                make_episode(schema, {"vector": values}, action, reward, terminal=terminal, extra=extra)
            )
    return folder


def config_for(logdir, data, *more):
    words = ["--configs", "debug", "--data", str(data), "--logdir", str(logdir), "--run.progress", "False"]
    words += [
        "--run.steps",
        "20",
        "--run.log_every",
        "5",
        "--run.save_every",
        "10",
        "--run.report_every",
        "10",
    ]
    return cli.parse([*words, "--eval.every", "0", "--logger.tensorboard", "False", *more])


def rows_of(folder):
    timed = ("time", "fps/", "time/")
    rows = [json.loads(line) for line in RunDir(folder).metrics.read_text().splitlines()]
    return [{key: value for key, value in row.items() if not key.startswith(timed)} for row in rows]


def test_it_trains_without_an_environment_and_goes_on_to_the_same_bits(tmp_path, caught, monkeypatch):
    def no_env(*args, **kwargs):
        raise AssertionError("an environment was built")

    monkeypatch.setattr(pieces, "make_train_env", no_env)
    monkeypatch.setattr(pieces, "make_eval_env", no_env)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    watcher = watching.Watcher()
    assert dreamworld.train(config_for(whole, caught), **watcher.callbacks) == 0
    watcher.check(whole)
    for steps in (10, 20):
        config = config_for(parts, caught)
        assert (
            dreamworld.train(dataclasses.replace(config, run=dataclasses.replace(config.run, steps=steps)))
            == 0
        )
    rows = rows_of(whole)
    assert rows_of(parts) == rows
    assert [(row["step"], row["updates"]) for row in rows] == [(5, 5), (10, 10), (15, 15), (20, 20)]
    assert rows[0]["replay/inserts"] == open_dataset(caught).rows == rows[-1]["replay/inserts"]
    assert (whole / "report" / "10").is_dir() and RunDir(whole).load_config().task == "data_catch"


def test_a_run_goes_on_where_the_data_set_is_gone(tmp_path):
    data = write(tmp_path / "data")
    config = config_for(tmp_path / "run", data, "--replay.min_starts", "1", "--replay.chunk", "16")
    assert dreamworld.train(dataclasses.replace(config, run=dataclasses.replace(config.run, steps=10))) == 0
    shutil.rmtree(data)
    assert main(["train", str(tmp_path / "run"), "--run.steps", "15"]) == 0
    assert rows_of(tmp_path / "run")[-1]["step"] == 15


def test_a_run_that_goes_on_says_what_its_replay_holds_and_why_nothing_is_trained(tmp_path, capfd):
    """Its rows are those of the data sets, however many steps are left."""
    data = write(tmp_path / "data")
    config = config_for(tmp_path / "run", data, "--replay.min_starts", "1", "--replay.chunk", "16")
    begun = lambda **changes: dataclasses.replace(config, run=dataclasses.replace(config.run, **changes))
    assert dreamworld.train(begun(steps=5)) == 0
    assert "54 rows x" in capfd.readouterr().err
    assert dreamworld.train(begun(steps=8, train_ratio=0.0)) == 0
    said = capfd.readouterr().err
    assert "54 rows x" in said and "nothing will be trained: run.train_ratio is 0; give more than 0" in said
    with pytest.raises(UserError, match=r"holds no window to draw; give a shorter --run.batch_length"):
        dreamworld.train(begun(steps=10, batch_length=400))
    assert "54 rows x" in capfd.readouterr().err


def test_it_is_evaluated_where_a_task_is_given(tmp_path, caught):
    config = config_for(
        tmp_path / "run", caught, "--task", "jax_catch", "--eval.every", "10", "--eval.video", "False"
    )
    assert dreamworld.train(config) == 0
    assert len(RunDir(tmp_path / "run").evals.read_text().splitlines()) == 2
    assert dreamworld.load(tmp_path / "run").obs_space == open_dataset(caught).obs_space


SEEDS = ["--task", "jax_catch", "--eval.every", "10", "--eval.video", "False", "--run.log_every", "1"]


def train_seeds(logdir, data, steps=20):
    """Trains seeds 3 and 5 together, with evaluations."""
    assert (
        dreamworld.train(config_for(logdir, data, *SEEDS, "--seeds", "3,5", "--run.steps", str(steps))) == 0
    )
    return {seed: RunDir(logdir / f"seed{seed}") for seed in (3, 5)}


@pytest.fixture(scope="module")
def together(tmp_path_factory, caught):
    """The runs of two seeds that trained in one session."""
    return train_seeds(tmp_path_factory.mktemp("together"), caught)


def test_seeds_train_together_as_each_does_alone(tmp_path, caught, together):
    assert dreamworld.train(config_for(tmp_path / "alone", caught, *SEEDS, "--seed", "5")) == 0
    one, among, other = (
        rows_of(folder) for folder in (tmp_path / "alone", together[5].path, together[3].path)
    )
    counts = ("step", "updates", "replay/inserts", "replay/size_steps")
    assert [[row[key] for key in counts] for row in among] == [[row[key] for key in counts] for row in one]
    losses = {key for key in one[0] if key.startswith("loss/")}
    assert len(losses) > 3 and len(among) == 20
    for key in losses:  # the programs round in other ways, and later updates draw other latents
        np.testing.assert_allclose(among[0][key], one[0][key], rtol=2e-3, atol=1e-5, err_msg=key)
    assert among[0]["loss/total"] != other[0]["loss/total"]


def test_seeds_are_evaluated_where_a_task_is_given(caught, together):
    for run in together.values():
        assert [json.loads(line)["step"] for line in run.evals.read_text().splitlines()] == [10, 20]
        assert dreamworld.load(run.path).obs_space == open_dataset(caught).obs_space


def test_seeds_go_on_to_the_same_bits_without_the_data_set_and_each_alone(tmp_path, caught, together):
    data, parts = tmp_path / "catch", tmp_path / "parts"
    shutil.copytree(caught, data)
    train_seeds(parts, data, steps=10)
    shutil.rmtree(data)
    assert main(["train", str(parts), "--run.steps", "20"]) == 0
    for seed, run in together.items():
        assert rows_of(parts / f"seed{seed}") == rows_of(run.path)
    assert main(["train", str(parts / "seed3"), "--run.steps", "25"]) == 0
    assert rows_of(parts / "seed3")[-1]["step"] == 25


def make_replay(sets, length=4, **config):
    flags = dict.fromkeys(("is_first", "is_last", "is_terminal"), Space((), "bool"))
    spaces = {
        "obs/vector": OBS["vector"],
        "action/action": ACT["action"],
        "reward": Space((), "float32"),
        **flags,
    }
    spaces |= {"latent/deter": Space((2,), "float32"), "extra/time": Space((), "int32")}
    options = ReplayConfig(**{"capacity_steps": 1000, "chunk": 16, "min_starts": 1, **config})
    return Replay(spaces, options, num_envs=1, length=length, context=1)


def test_replay_holds_every_row_of_the_episodes_that_are_not_held_out(tmp_path):
    with_time = Schema(OBS, ACT, {"time": Space((), "int32")})
    one, two = write(tmp_path / "one", 20, schema=with_time), write(tmp_path / "two", 5, seed=1)
    sets = open_all(f"{one},{two}", ("reward", "action"), "dreamerv3")
    replay = make_replay(sets)
    count = fill(replay, sets, 0.3)
    kept = [data.split(0.3)[0] for data in sets]
    assert count == sum(map(len, kept)) and 0 < len(kept[0]) < 20
    drawn = replay.sweep(400, 3, 1, 0)
    found = {tuple(row) for row in drawn["obs/vector"][..., :2].reshape(-1, 2).astype(int).tolist()}
    assert found == {(index, time) for index in {*kept[0], *kept[1]} for time in range(9)}
    episode = next(sets[0].iterate([kept[0][0]]))
    start = (drawn["obs/vector"][:, 0, :2] == episode["obs/vector"][0, :2]).all(-1).argmax()
    for key in ("reward", "is_last", "is_terminal", "action/action"):
        np.testing.assert_array_equal(drawn[key][start], episode[key][:4], err_msg=key)
    assert not drawn["latent/deter"].any()
    lacking = (drawn["extra/time"] == 0) & (drawn["obs/vector"][..., 1] > 0)  # rows of the second set
    np.testing.assert_array_equal(drawn["extra/time"], np.where(lacking, 0, drawn["obs/vector"][..., 1]))
    assert 0 < lacking.mean() < 0.5


def test_what_does_not_fit_is_one_line(tmp_path):
    data = write(tmp_path / "data")
    sets = [open_dataset(data)]
    with pytest.raises(UserError, match=r"50 rows fit, and the data sets have 54 rows"):
        fill(make_replay(sets, capacity_steps=50, chunk=4), sets, 0.0)
    with pytest.raises(UserError, match="54 rows to train on, fewer than a window of 60 rows"):
        fill(make_replay(sets, length=60), sets, 0.0)
    other = write(tmp_path / "other", schema=Schema({"vector": Space((4,), "float32")}, ACT))
    with pytest.raises(UserError, match=r"other does not fit .*data: observation 'vector' is"):
        open_all(f"{data},{other}", ("reward",), "some")
    with pytest.raises(UserError, match="can't learn from data alone"):
        open_all(str(data), ("environment",), "some")
    with pytest.raises(UserError, match="there is no such folder"):
        open_all(f"{data},{tmp_path / 'none'}", (), "some")


def test_rewards_and_actions_may_be_absent_where_the_agent_allows_it(tmp_path):
    bare = write(tmp_path / "bare", schema=Schema(OBS, {}, has_reward=False))
    with pytest.raises(
        UserError, match=r"it has no rewards and no actions, which the agent dreamerv3 learns from"
    ):
        open_all(str(bare), ("reward", "action"), "dreamerv3")
    with pytest.raises(UserError, match="it has no actions, which"):
        open_all(str(bare), ("action",), "some")
    sets = open_all(str(bare), (), "some")
    replay = make_replay(sets)
    assert fill(replay, sets, 0.0) == 6 and not replay.sample(4)["reward"].any()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--seeds", "0,1", "--parallel.coordinator", "a:1"],
            "--parallel.coordinator does not go with --data",
        ),
        (["--run.mode", "fused"], "--run.mode fused does not go with --data"),
        (["--task", "gym_CartPole-v1", "--eval.every", "5"], "--task gym_CartPole-v1 does not fit --data"),
        (["--replay.held_out", "1"], "a held-out share of 1 is impossible"),
    ],
)
def test_what_does_not_go_with_data_is_one_line_and_writes_no_run(tmp_path, caught, words, message):
    with pytest.raises(UserError, match=message):
        dreamworld.train(config_for(tmp_path / "run", caught, *words))
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


@pytest.mark.parametrize("words", [",", " , ", "{data},{data}"])
def test_a_list_of_no_data_set_or_of_one_twice_is_refused(tmp_path, caught, words):
    """Without a data set it would be a training in the environment."""
    config = config_for(tmp_path / "run", words.format(data=caught))
    with pytest.raises(UserError, match=r"give the folder of a data set|is given twice"):
        dreamworld.train(config)
    assert not (tmp_path / "run").exists()


def test_several_folders_can_be_given_in_several_ways(tmp_path):
    for words in (
        ["--data", "a", "b"],
        ["--data", "a,b"],
        ["--data", "a", "--data", "b"],
        ["--data=a", "--data=b"],
    ):
        assert cli.parse(words).data == "a,b"


def test_phases_come_in_their_proportions_without_an_environment():
    phase = lambda name, ratio: Phase(name, Window(4, 8), lambda *_: None, ratio)  # pyright: ignore
    stages = (
        Stage("random", (), collect="random", steps=100),
        Stage("train", (phase("often", 64), phase("rare", 16), phase("never", 0)), steps=8),
        Stage("tail", (dataclasses.replace(phase("last", 1), at_most=2),), collect="none"),
    )
    counters = Counters()
    schedule = Schedule(stages, counters, lambda _: 0, offline=True)
    found = []
    while not schedule.finished:
        assert not schedule.collects
        due = {phase.name: count for phase, count in schedule.owed(lambda: False)}
        for name, count in due.items():
            counters.did(name, count)
        counters.step += 1
        found.append(due)
        schedule.advance()
    assert sum(due.get("often", 0) for due in found) == 8 and sum(due.get("rare", 0) for due in found) == 2
    assert found[-2:] == [{"last": 1}] * 2 and not any("never" in due for due in found)
