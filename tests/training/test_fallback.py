"""A run that falls back past a damaged snapshot ends with the rows of a run that did not."""

import shutil

import pytest

from dreamworld import cli
from dreamworld.logging.rundir import RunDir
from dreamworld.logging.writers import read_jsonl
from dreamworld.scripts.train import train
from dreamworld.training import snapshot

TIMES = ("time", "fps/", "replay/wait")
WORDS = ["--configs", "debug", "--task", "jax_catch", "--env.engine", "jax", "--run.report_every", "0"]
WORDS += ["--run.log_every", "16", "--run.save_every", "32", "--run.steps", "64", "--run.keep_last", "3"]
WORDS += [
    "--eval.every",
    "16",
    "--eval.video",
    "False",
    "--run.progress",
    "False",
    "--replay.min_starts",
    "8",
]
MODES = {
    "host": [],
    "fused": ["--run.mode", "fused"],
    "seeds": ["--seeds", "3,5"],
}


def rows_of(rundir):
    """All rows of a run but their clocks."""
    files = (rundir.metrics, rundir.episodes, rundir.evals)
    return [
        [{key: value for key, value in row.items() if not key.startswith(TIMES)} for row in read_jsonl(file)]
        for file in files
    ]


def runs_of(logdir, mode):
    return [RunDir(logdir / f"seed{seed}") for seed in (3, 5)] if mode == "seeds" else [RunDir(logdir)]


def config_of(logdir, mode):
    return cli.parse([*WORDS, *MODES[mode], "--logdir", str(logdir)])


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """`copied(mode, folder)`: runs that were trained without an interruption, and copies of them in a folder."""
    whole = {}

    def copy(mode, folder):
        if mode not in whole:
            whole[mode] = tmp_path_factory.mktemp(mode) / "whole"
            assert train(config_of(whole[mode], mode)) == 0
        shutil.copytree(whole[mode], folder)
        return runs_of(whole[mode], mode), runs_of(folder, mode)

    return copy


@pytest.mark.parametrize("mode", MODES)
def test_after_a_damage_the_rows_are_those_of_an_uninterrupted_run(copied, tmp_path, mode, caplog):
    whole, damaged = copied(mode, tmp_path / "run")
    newest = snapshot.snapshot_steps(damaged[-1].checkpoints)[-1]
    path = damaged[-1].checkpoints / str(newest) / "host_0" / "tree.json"
    path.write_text(path.read_text()[:-1])
    assert train(config_of(tmp_path / "run", mode)) == 0
    assert "tree.json" in caplog.text
    for one, other in zip(whole, damaged):
        rows = rows_of(one)
        assert all(rows) and rows_of(other) == rows
        assert snapshot.snapshot_steps(other.checkpoints) == snapshot.snapshot_steps(one.checkpoints)
    if mode == "seeds":  # the seed that was intact lost nothing
        snapshot.verify(snapshot.epath.Path(damaged[0].path / "set_aside" / str(newest)))


def test_seeds_killed_at_their_first_save_begin_anew_and_end_the_same(copied, tmp_path):
    """As a kill leaves them that came between the commits of two seeds."""
    whole, killed = copied("seeds", tmp_path / "run")
    for index, rundir in enumerate(killed):
        *older, newest = snapshot.snapshot_steps(rundir.checkpoints)
        for step in [*older, newest][: len(older) + index]:
            (rundir.checkpoints / str(step) / "snapshot.json").unlink()
    assert [len(snapshot.snapshot_steps(rundir.checkpoints)) for rundir in killed] == [1, 0]
    assert train(config_of(tmp_path / "run", "seeds")) == 0
    for one, other in zip(whole, killed):
        assert rows_of(other) == rows_of(one)
