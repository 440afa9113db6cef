"""Several seeds in one fused program: each as alone, on one device and on four."""

import json
import pathlib
import subprocess
import sys

import pytest

from dreamworld import cli
from dreamworld.errors import UserError
from dreamworld.logging.rundir import RunDir
from dreamworld.logging.writers import read_jsonl
from dreamworld.scripts.train import train

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import watching

PROGRAM = pathlib.Path(__file__).with_name("fused_seeds_program.py")
WORDS = ["--configs", "debug", "--task", "jax_catch", "--run.mode", "fused", "--run.report_every", "64"]
WORDS += ["--run.steps", "192", "--run.save_every", "64", "--run.log_every", "32", "--eval.every", "64"]
WORDS += ["--run.progress", "False", "--logger.tensorboard", "False", "--eval.video", "False"]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """What fused_seeds_program.py found on four devices."""
    command = [sys.executable, str(PROGRAM), str(tmp_path_factory.mktemp("seeds"))]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def test_every_device_has_its_own_seed_and_talks_to_no_other(report):
    assert set(report["devices"]) == {4} and set(report["shards"]) == {1}
    assert report["collectives"] == []


def test_a_seed_among_others_is_what_it_is_alone(report):
    found = report["2"]
    assert found["same_tree"] and found["counts"] == [40, 40, 32]
    assert found["rows"] == 0, "equal actions, hence equal environments"
    assert found["latents"] < 1e-5 and found["train"] < 1e-4


def test_seeds_saved_on_four_devices_go_on_elsewhere_to_the_bit(report):
    assert [report[name] for name in ("restored0", "restored3", "step0", "step3")] == [0, 0, 96, 96]


@pytest.fixture(scope="module")
def watcher():
    return watching.Watcher()


@pytest.fixture(scope="module")
def group(tmp_path_factory, watcher):
    """Seeds 3 and 5 on one device, to the end."""
    logdir = tmp_path_factory.mktemp("group")
    assert train(cli.parse([*WORDS, "--logdir", str(logdir), "--seeds", "3,5"]), **watcher.callbacks) == 0
    return logdir


def test_callbacks_see_every_seed(group, watcher):
    watcher.check(group / "seed3", group / "seed5")


def test_each_seed_has_a_run_directory_of_its_own(group):
    runs = [RunDir(group / f"seed{seed}") for seed in (3, 5)]
    for seed, run in zip((3, 5), runs):
        config = run.load_config()
        assert (config.seed, config.seeds, run.read_status()["state"]) == (seed, "", "finished")
        rows = read_jsonl(run.metrics)
        assert [row["step"] for row in rows] == list(range(64 + 16, 64 + 16 + 32 * len(rows), 32))
        assert rows[-1]["replay/size_steps"] == rows[-1]["step"] >= 192
        assert len(read_jsonl(run.evals)) >= 2 and run.report.is_dir()
    first, second = (read_jsonl(run.metrics)[-1]["loss/total"] for run in runs)
    assert first != second
    assert runs[0].episodes.read_text() != runs[1].episodes.read_text()


def test_a_seed_is_continued_alone_and_the_group_then_refuses(group):
    run = RunDir(group / "seed3")
    for path in (run.checkpoints.parent, RunDir(group / "seed5").checkpoints.parent):
        assert max(int(folder.name) for folder in (path / "checkpoints").iterdir()) >= 192
    before = read_jsonl(run.metrics)
    watcher, words = watching.Watcher(), [*WORDS, "--logdir", str(run), "--seed", "3", "--run.steps", "400"]
    assert train(cli.parse(words), **watcher.callbacks) == 0
    watcher.check(run.path)  # one seed alone has a loop of its own
    rows = read_jsonl(run.metrics)
    assert rows[: len(before)] == before and rows[-1]["replay/size_steps"] == rows[-1]["step"] >= 400
    with pytest.raises(UserError, match="can't go on together"):
        train(cli.parse([*WORDS, "--logdir", str(group), "--seeds", "3,5", "--run.steps", "500"]))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--parallel.data", "2"], "--parallel.data 2 .* trains each seed on one device"),
        (["--parallel.fsdp", "2"], "--parallel.fsdp 2: .* trains each seed on one device"),
        (["--parallel.seed", "2"], "there are 1"),
        (["--parallel.coordinator", "a:1"], "in one process"),
        (["--seeds", "0:2", "--parallel.data", "2"], "trains each seed on one device"),
        (["--replay.held_out", "0.1"], "--replay.held_out 0.1: --run.mode fused holds nothing out"),
        (["--replay.beta", "0.5"], "--replay.beta 0.5: --run.mode fused draws uniformly"),
    ],
)
def test_what_the_program_can_not_do_is_refused(words, message, tmp_path):
    with pytest.raises(UserError, match=message):
        train(cli.parse([*WORDS, "--logdir", str(tmp_path / "run"), *words]))
    assert not (tmp_path / "run").exists()
