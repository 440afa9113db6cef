"""Several seeds in one program: the seeds given, the directories left, and continuing one alone."""

import json
import pathlib
import sys

import jax
import numpy as np
import pytest

from dreamworld import cli, parallel
from dreamworld.benchmarks import update
from dreamworld.config import ParallelConfig
from dreamworld.errors import UserError
from dreamworld.logging.rundir import RunDir
from dreamworld.scripts.train import train
from dreamworld.sessions import load, pieces
from dreamworld.training import group as groups
from dreamworld.training import learner

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import watching

WORDS = ["--configs", "debug", "--task", "jax_catch", "--env.engine", "jax", "--run.report_every", "40"]
WORDS += ["--run.steps", "80", "--run.save_every", "40", "--run.log_every", "20", "--eval.every", "0"]
WORDS += ["--run.progress", "False", "--logger.tensorboard", "False"]


@pytest.fixture(scope="module")
def updated():
    """`updated(in_turn)`: train states and metrics of two seeds after an update, and the form of the program."""
    config, flags = cli.parse_with(
        ["--configs", "debug"], update.Flags(obs="vector:4", act="discrete:2"), prog="", description=""
    )
    agent = update.make_synthetic_agent(config, flags)
    batches = [update.synthetic_batch(agent, 4, 9, seed) for seed in range(2)]

    def run(in_turn):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(learner, "IN_TURN", 0 if in_turn else 1e9)
            layout = parallel.make_layout(
                ParallelConfig(data=1), batch_size=4, seeds=2, devices=jax.local_devices()[:1]
            )
            both = learner.Learner(agent, [3, 5], num_envs=1, batch_size=4, layout=layout)
            assert both._seeds_in_turn() == in_turn
            parts = [layout.seed_row(index).put(batch) for index, batch in enumerate(batches)]
            output = both.update(parallel.join(parts, layout))
            return jax.device_get((both.state.opt_state, output.metrics))

    return run


def test_seeds_in_turn_equal_seeds_side_by_side(updated):
    beside, turn = updated(False), updated(True)
    for one, two in zip(jax.tree.leaves(beside), jax.tree.leaves(turn), strict=True):
        assert one.shape == two.shape and one.shape[0] == 2
        np.testing.assert_allclose(one, two, rtol=2e-3, atol=1e-5 * np.abs(two).max() + 1e-30)
    losses = turn[1]["loss/total"]
    assert losses[0] != losses[1]


def test_logdir_gets_the_seed():
    folders = lambda logdir: [
        c.logdir for c in groups.seed_configs(cli.parse(["--seeds", "3,4", "--logdir", logdir]))
    ]
    assert folders("/a/{task}-{seed}") == ["/a/{task}-3", "/a/{task}-4"]
    assert folders("/a") == ["/a/seed3", "/a/seed4"]


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def watcher():
    return watching.Watcher()


@pytest.fixture(scope="module")
def group(tmp_path_factory, watcher):
    """Seeds 3 and 5, stopped at step 40 and continued together to 80."""
    logdir = tmp_path_factory.mktemp("group")
    words = [*WORDS, "--logdir", str(logdir), "--seeds", "3,5"]
    assert train(cli.parse([*words, "--run.steps", "40"]), **watcher.callbacks) == 0
    assert train(cli.parse(words), **watcher.callbacks) == 0
    return logdir


def test_callbacks_see_every_seed(group, watcher):
    watcher.check(group / "seed3", group / "seed5")


def test_each_seed_has_a_run_directory_of_its_own(group):
    runs = [RunDir(group / f"seed{seed}") for seed in (3, 5)]
    for seed, run in zip((3, 5), runs):
        config = run.load_config()
        assert (config.seed, config.seeds) == (seed, "")
        assert run.read_status()["state"] == "finished"
        rows = rows_of(run.metrics)
        assert [row["step"] for row in rows] == [20, 40, 60, 80]
        assert rows[-1]["updates"] > 0 and np.isfinite(rows[-1]["loss/total"])
        assert rows[-1]["replay/size_steps"] == 80  # nothing was lost in between
        assert run.report.is_dir()
    assert runs[0].episodes.read_text() != runs[1].episodes.read_text()
    assert rows_of(runs[0].metrics)[-1]["loss/total"] != rows_of(runs[1].metrics)[-1]["loss/total"]


def test_a_seed_acts_and_starts_as_it_does_alone(group, tmp_path):
    words = [*WORDS, "--run.steps", "40", "--seed", "5", "--logdir", str(tmp_path / "alone")]
    assert train(cli.parse(words)) == 0
    without_time = lambda path: [
        {k: v for k, v in row.items() if k != "time"} for row in rows_of(path) if row["step"] <= 32
    ]
    alone, among = tmp_path / "alone", group / "seed5"
    assert without_time(among / "episodes.jsonl") == without_time(alone / "episodes.jsonl") != []


def test_a_seed_is_continued_alone_and_the_group_then_refuses(group):
    run = RunDir(group / "seed3")
    config = cli.parse([*WORDS, "--logdir", str(run), "--seed", "3", "--run.steps", "200"])
    before = load.restore_params(run, pieces.build_agent(config))
    assert train(config) == 0
    rows = rows_of(run.metrics)
    assert rows[0]["step"] == 20 and rows[-1]["step"] == 200 and rows[-1]["replay/size_steps"] == 200
    after = load.restore_params(run, pieces.build_agent(config))
    assert any((a != b).any() for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after)))
    with pytest.raises(UserError, match="can't go on together"):
        train(cli.parse([*WORDS, "--logdir", str(group), "--seeds", "3,5", "--run.steps", "300"]))
    assert max(int(path.name) for path in run.checkpoints.iterdir()) == 200


def test_snapshots_that_not_all_seeds_have_are_left_behind(tmp_path):
    runs = [RunDir(tmp_path / name) for name in "ab"]
    words = [*WORDS, "--logdir", str(tmp_path / "{seed}"), "--run.keep_last", "9"]
    for steps, run in zip(("40", "80"), runs):
        assert train(cli.parse([*words, "--logdir", str(run), "--run.steps", steps])) == 0
    meeting = groups.find_meeting(runs, save_every=40)
    groups.set_aside(runs, meeting)
    assert meeting.step == 40
    assert [path.name for path in runs[1].checkpoints.iterdir()] == ["40"]
    new = [RunDir(tmp_path / "c"), RunDir(tmp_path / "d")]
    assert groups.find_meeting(new, save_every=40).step is None


def test_seeds_and_several_processes_do_not_mix(tmp_path):
    words = [*WORDS, "--logdir", str(tmp_path), "--seeds", "0:2", "--parallel.coordinator", "a:1"]
    with pytest.raises(UserError, match="one process"):
        train(cli.parse(words))
    assert not list(tmp_path.iterdir())
