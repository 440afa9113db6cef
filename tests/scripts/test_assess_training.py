"""`--assess.every`: what a training logs of its world model, beside which it stays the same."""

import json

import numpy as np
import pytest

from dreamworld import presets
from dreamworld.__main__ import main
from dreamworld.assess import files
from dreamworld.datasets import open_dataset
from dreamworld.errors import UserError
from dreamworld.sessions import assessor, pieces
from dreamworld.testing import tiny_config
from dreamworld.types import Space

LOOKS = ["--assess.every", "32", "--assess.segments", "8", "--assess.horizon", "5"]


def train(folder, *options):
    """Nothing is learnt, so that nothing has to be compiled for it."""
    task = ["--configs", "debug", "--task", "jax_catch", "--env.options", "obs=image", "--env.num", "2"]
    periods = [
        "--run.train_ratio",
        "0",
        "--run.log_every",
        "32",
        "--run.report_every",
        "0",
        "--eval.every",
        "0",
    ]
    quiet = ["--logger.tensorboard", "False", "--run.progress", "False", "--logdir", str(folder)]
    return main(["train", *task, *periods, *quiet, *options])


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that was stopped after one look, and went on to another."""
    folder = tmp_path_factory.mktemp("runs") / "looks"
    assert train(folder, *LOOKS, "--run.steps", "40") == 0
    assert train(folder, *LOOKS, "--run.steps", "64") == 0
    return folder


def test_the_log_has_what_the_world_model_dreams(run):
    looks = [row for row in rows(run / "metrics.jsonl") if "assess/reward_mae" in row]
    assert [row["step"] for row in looks] == [32, 64]
    names = {"image_psnr_1", "image_psnr_5", "image_psnr_gain", "reward_mae", "cont_ece"}
    assert {key for key in looks[0] if key.startswith("assess/")} == {f"assess/{name}" for name in names}
    # nothing was learnt in between, and the segments are the same
    assert {key: looks[0][key] for key in looks[0] if key.startswith("assess/")} == pytest.approx(
        {key: looks[1][key] for key in looks[1] if key.startswith("assess/")}
    )


def test_segments_are_made_once_and_kept(run):
    assert len(list((run / "assess").glob("segments-*.npz"))) == 1


def test_segments_that_can_not_be_kept_are_looked_at_all_the_same(tmp_path, capsys):
    assert train(tmp_path / "run", "--run.steps", "40") == 0
    (tmp_path / "run" / "assess").write_text("no folder")
    assert train(tmp_path / "run", *LOOKS, "--run.steps", "96", "--run.progress", "True") == 0
    looks = [row["step"] for row in rows(tmp_path / "run" / "metrics.jsonl") if "assess/reward_mae" in row]
    assert looks == [64, 96]
    said = capsys.readouterr().err
    assert said.count(f"NOT WRITTEN: {tmp_path / 'run' / 'assess'}: File exists") == 1
    assert said.count("judging the world model (8 segments)") == 2


def test_training_is_the_same_with_and_without(run, tmp_path):
    assert train(tmp_path / "plain", "--run.steps", "40") == 0
    assert train(tmp_path / "plain", "--run.steps", "64") == 0
    returns = lambda folder: [(row["step"], row["return"]) for row in rows(folder / "episodes.jsonl")]
    assert returns(run) == returns(tmp_path / "plain")


def test_the_report_shows_it_beside_returns(run, tmp_path, capsys):
    assert main(["report", str(run), "--out", str(tmp_path / "report")]) == 0
    page = (tmp_path / "report" / "report.html").read_text()
    assert "World models" in page and "image_psnr_5" in page
    assert "| reward_mae |" in (tmp_path / "report" / "report.md").read_text()


def test_what_can_not_be_looked_at_is_refused(tmp_path, capsys):
    data = str(tmp_path / "data")
    few = ["--steps", "60", "--env.num", "2", "--run.progress", "False", "--data", data]
    assert main(["collect", "--task", "jax_catch", "--env.options", "obs=image", *few]) == 0
    capsys.readouterr()
    words = ["--data", data, "--run.train_ratio", "1", *LOOKS]
    assert train(tmp_path / "run", *words) == 2
    assert "episodes have to be held out; give --replay.held_out 0.1" in capsys.readouterr().err


def test_an_agent_without_a_simulator_has_no_world_to_look_at():
    config = presets.replace(tiny_config(), {"assess.every": 10})
    agent = pieces.build_agent(config, {"x": Space((3,), "float32")}, {"move": Space((), "int32", classes=2)})
    assessor.check_assessable(config, agent)
    with pytest.raises(UserError, match="has no simulator, so there is no world to judge"):
        assessor.check_assessable(config, agent._replace(simulator=None))


FUSED = ["--run.mode", "fused"]  # its first chunk ends where replay holds enough to learn from
LOOPS = {
    "fused": (FUSED, [""], [80, 112]),
    "seeds": (["--seeds", "3,4"], ["seed3", "seed4"], [32, 64]),
    "fused seeds": ([*FUSED, "--seeds", "3,4"], ["seed3", "seed4"], [80, 112]),
}


@pytest.mark.parametrize("loop", ["fused", "seeds", pytest.param("fused seeds", marks=pytest.mark.soak)])
def test_every_loop_looks_at_its_own_world(tmp_path, loop):
    options, names, steps = LOOPS[loop]
    vector = ["--env.options", "obs=vector", "--run.steps", str(steps[-1])]
    assert train(tmp_path / "run", *options, *vector, *LOOKS) == 0
    seen = []
    for name in names:
        (kept,) = (tmp_path / "run" / name / "assess").glob("segments-*.npz")
        looks = [row for row in rows(tmp_path / "run" / name / "metrics.jsonl") if "assess/reward_mae" in row]
        assert [row["step"] for row in looks] == steps
        assert looks[0]["assess/vector_mse_5"] == pytest.approx(looks[1]["assess/vector_mse_5"])
        seen.append((kept.name, looks[0]["assess/vector_mse_5"]))
    assert (
        len(set(seen)) == len({mse for _, mse in seen}) == len(names)
    )  # of segments and parameters of its own


def test_a_training_on_data_looks_at_what_was_held_out(tmp_path):
    data = str(tmp_path / "data")
    few = ["--env.options", "obs=vector", "--steps", "100", "--env.num", "2", "--run.progress", "False"]
    assert main(["collect", "--task", "jax_catch", *few, "--data", data]) == 0
    words = ["--data", data, "--replay.held_out", "0.4", "--run.train_ratio", "1", "--run.steps", "2"]
    looks = ["--assess.every", "1", "--assess.segments", "8", "--assess.horizon", "5", "--run.log_every", "1"]
    assert train(tmp_path / "run", *words, *looks, "--run.save_every", "0") == 0
    found = [row for row in rows(tmp_path / "run" / "metrics.jsonl") if "assess/vector_mse_5" in row]
    assert [row["step"] for row in found] == [1, 2]
    (path,) = (tmp_path / "run" / "assess").glob("segments-*.npz")
    held = open_dataset(data)
    kept, _ = files.load(path)
    chosen = list(held.iterate(held.split(0.4)[1]))
    assert 1 < len(chosen) < len(held)
    for number, (index, row) in enumerate(zip(kept.episode, kept.row)):
        shown = kept.columns["obs/vector"][number][kept.valid[number]]
        np.testing.assert_array_equal(shown, chosen[index]["obs/vector"][row:][: len(shown)])
