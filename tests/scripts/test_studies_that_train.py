"""`dreamworld assess --study forgetting` and `--study scaling`: ordinary trainings, gone on with, told and refused."""

import json
import shutil

import pytest

from dreamworld.__main__ import main
from dreamworld.datasets import open_dataset
from dreamworld.logging.rundir import RunDir
from dreamworld.training import snapshot

QUICK = ["--configs", "debug", "--agent.behaviour.imag_length", "2", "--logger.tensorboard", "False"]
QUICK += ["--run.progress", "False", "--run.log_every", "4", "--run.steps", "4"]
QUICK += ["--segments", "12", "--horizon", "2", "--samples", "1"]
TWO = [
    "--tasks",
    "jax_catch",
    "jax_catch",
    "--first_options",
    "rows=5,cols=4",
    "--second_options",
    "rows=4,cols=5",
]
SHORT = ["--rows", "100", "--looks", "2", "--context", "2"]


def forget(folder, *words):
    return main(["assess", "--study", "forgetting", *TWO, *QUICK, *SHORT, "--logdir", str(folder), *words])


def scale(data, folder, *words):
    quiet = ["--run.train_ratio", "0"]  # nothing is learnt: an update compiles for seconds
    words = ["--data", str(data), *QUICK, *quiet, "--logdir", str(folder), *words]
    return main(["assess", "--study", "scaling", *words])


def untimed(path):
    return {key: value for key, value in json.loads(path.read_text()).items() if key != "date"}


@pytest.fixture(scope="module")
def forgotten(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study") / "forgetting"
    assert forget(folder) == 0
    return folder


def test_two_tasks_are_learnt_in_turn_with_and_without_the_first(forgotten):
    configs = {
        way: RunDir(forgotten / "runs" / way / "seed0").load_config() for way in ("first", "without", "with")
    }
    first, second = (str(forgotten / "data" / name) for name in ("first", "second"))
    assert {way: config.data for way, config in configs.items()} == {
        "first": first, "without": second, "with": f"{first},{second}",
    }  # fmt: skip
    begun = str(forgotten / "runs" / "first" / "seed0")
    assert [config.init_from for config in configs.values()] == ["", begun, begun]
    assert {config.replay.held_out for config in configs.values()} == {0.1}
    for way in configs:
        assert snapshot.snapshot_steps(RunDir(forgotten / "runs" / way / "seed0").checkpoints) == [2, 4]
    assert open_dataset(first).steps >= 100


def test_forgetting_is_told_of_returns_and_of_losses(forgotten):
    found = untimed(forgotten / "forgetting.json")
    assert found["study"] == "forgetting" and found["version"] == 1
    assert found["tasks"] == ["jax_catch", "jax_catch"] and found["options"] == [
        "rows=5,cols=4",
        "rows=4,cols=5",
    ]
    ways = [(row["way"], row["measure"]) for row in found["rows"]]
    assert ways == [(f"{way} replay", m) for way in ("without", "with") for m in ("return", "world loss")]
    for row in found["rows"]:
        assert row["forgetting"]["value"] >= 0 and row["forgetting"]["n"] == 1
        worse = -1 if row["measure"] == "return" else 1
        assert row["forgetting"]["value"] == pytest.approx(
            worse * (row["end"]["value"] - row["best"]["value"])
        )
    assert found["rows"][1]["end"] != found["rows"][3]["end"]  # the two ways learnt from other rows
    assert [one["count"] for one in found["segments"]] == [12, 12]
    assert (forgotten / "forgetting.html").read_text().count("<svg") == 4


def test_a_study_that_was_cut_goes_on_to_the_same_numbers(forgotten, capsys):
    before = untimed(forgotten / "forgetting.json")
    shutil.rmtree(forgotten / "runs" / "with")
    (forgotten / "forgetting.json").unlink()
    capsys.readouterr()
    assert forget(forgotten, "--json", "True") == 0
    said = capsys.readouterr()
    assert "training 1 of 3 is over already" in said.err and "training 2 of 3 is over already" in said.err
    assert "training 3 of 3: " in said.err and "recording" not in said.err
    after = untimed(forgotten / "forgetting.json")
    assert after == before
    assert json.loads(said.out)["rows"] == before["rows"]  # and nothing of the trainings on stdout


def test_a_folder_holds_one_study(forgotten, capsys):
    capsys.readouterr()
    assert forget(forgotten, "--rows", "200") == 2
    line = capsys.readouterr().err
    assert "holds a study with other settings (rows 100); use those, or another folder" in line
    assert forget(forgotten, "--agent.rssm.deter", "64") == 2
    assert "holds a run with other settings: agent.rssm.deter" in capsys.readouterr().err


def test_models_of_all_sizes_learn_from_all_shares(forgotten, tmp_path, capsys):
    data, folder = forgotten / "data" / "first", tmp_path / "scaling"
    assert scale(data, folder, "--sizes", "1,2", "--shares", "0.5,1", "--contexts", "1,2") == 0
    found = untimed(folder / "scaling.json")
    cells = [(row["size"], row["share"], row["context"]) for row in found["rows"]]
    assert cells == [(size, share, context) for size in "12" for share in (0.5, 1) for context in (1, 2)]
    small, large = found["rows"][0], found["rows"][-1]
    assert large["parameters"] > small["parameters"] and large["rows"] > small["rows"]
    assert all(row["loss"]["low"] < row["loss"]["value"] < row["loss"]["high"] for row in found["rows"])
    assert {law["b"] for law in found["tables"]["Power laws"]} == {"needs 3 points"}
    half = open_dataset(folder / "data" / "share-0.5")
    kept, _ = open_dataset(data).split(0.1)
    assert half.rows == small["rows"] and set(half.returns) <= {
        open_dataset(data).returns[index] for index in kept
    }
    capsys.readouterr()
    assert scale(data, folder, "--sizes", "1,2", "--shares", "0.5,0.7,1", "--contexts", "1,2") == 0
    said = capsys.readouterr()
    assert (
        said.err.count("is over already") == 4 and said.out.count("needs 3 points") == 3
    )  # over size and context
    assert (folder / "scaling.html").read_text().count("<svg") == 3


@pytest.mark.parametrize(("words", "line"), [
    (["some/run"], "assess some/run: --study forgetting trains its own models; leave the folder out"),
    (["--tasks", "jax_catch"], "which two tasks?"),
    (["--tasks", "jax_catch", "jax_cartpole", "--first_options=a=1", "--second_options=a=1"], "jax_catch"),
    (["--tasks", "jax_catch", "jax_tworoom", "--first_options=rows=5", "--second_options=obs=vector"],
     "have different spaces, so no agent can learn both: observation 'vector'"),
    (["--second_options=rows=5,cols=4"], "both are the same, so that nothing would be forgotten"),
    (["--looks", "5"], "--looks 5: trainings have 4 updates (--run.steps)"),
    (["--data", "one"], "--data one: give two data sets"),
    (["--data", "one,two"], "one: there is no such folder"),
    (["--eval.every", "5"], "--eval.every is chosen by the study; leave it out"),
    (["--context", "9", "--rows", "20"], "no episode has a row after so many"),
])  # fmt: skip
def test_what_can_not_be_forgotten_is_one_line_before_anything_is_trained(words, line, tmp_path, capsys):
    first = [words[0]] if not words[0].startswith("--") else []
    rest = words[len(first) :]
    command = [
        "assess",
        *first,
        "--study",
        "forgetting",
        *TWO,
        *QUICK,
        *SHORT,
        "--logdir",
        str(tmp_path / "x"),
        *rest,
    ]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") <= 3 and line in said
    assert not (tmp_path / "x" / "runs").exists()


@pytest.mark.parametrize(("words", "line"), [
    (["--sizes", "big"], "--sizes big: neither a factor, such as 0.5, nor the name of a preset"),
    (["--sizes", "0"], "--sizes 0: a factor is above 0"),
    (["--shares", "1,1"], "--shares: give at least one, each once"),
    (["--shares", "0.05", "--run.batch_length", "60"], "fewer than a window of 61 rows"),
    (["--contexts", "1,5"], "has 5 rows, and at least one is imagined"),
    (["--data", "nowhere"], "nowhere: there is no such folder"),
    (["--task", "jax_catch"], "--task is chosen by the study; leave it out"),
])  # fmt: skip
def test_what_can_not_be_scaled_is_one_line_before_anything_is_trained(
    words, line, forgotten, tmp_path, capsys
):
    assert scale(forgotten / "data" / "first", tmp_path / "x", "--contexts", "1", *words) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and line in said
    assert not (tmp_path / "x").exists()


def test_a_study_that_trains_asks_where_to_and_on_what(forgotten, capsys):
    words = ["assess", "--study", "scaling", *QUICK]
    assert main(words) == 2 and "Give the folder of the study: --logdir DIR" in capsys.readouterr().err
    assert main([*words, "--logdir", "x"]) == 2 and "Give a data set: --data DIR" in capsys.readouterr().err
    run = str(forgotten / "runs" / "first" / "seed0")
    assert main([*words, "--logdir", run]) == 2 and "holds a run; give the study" in capsys.readouterr().err
