"""`dreamworld assess --study forgetting` and `--study scaling`: ordinary trainings, gone on with, told and refused."""

import contextlib
import io
import json

import pytest

from dreamworld import cli
from dreamworld.__main__ import main
from dreamworld.datasets import open_dataset
from dreamworld.logging.rundir import RunDir
from dreamworld.sessions import forgetting, scaling, trainings
from dreamworld.sessions.study_flags import ForgettingFlags
from dreamworld.training import snapshot

QUICK = ["--configs", "debug", "--logger.tensorboard", "False", "--run.progress", "False"]
QUICK += ["--run.log_every", "4", "--run.steps", "4", "--eval.episodes", "2", "--replay.held_out", "0.3"]
QUICK += ["--segments", "12", "--horizon", "2", "--samples", "1"]
TWO = ["--tasks", "jax_catch", "jax_catch"]
TWO += ["--first_options", "rows=10,cols=5", "--second_options", "rows=5,cols=10"]
NOTHING = ["--run.train_ratio", "0"]  # is learnt: an update takes seconds to compile
SHORT = ["--rows", "100", "--looks", "2", "--context", "2"]


def forget(folder, *words):
    return main(["assess", "--study", "forgetting", *forgetting_words(folder), *words])


def forgetting_words(folder):
    return [*TWO, *QUICK, *SHORT, *NOTHING, "--logdir", str(folder)]


def scale(data, folder, *words):
    return main(
        ["assess", "--study", "scaling", "--data", str(data), *QUICK, "--logdir", str(folder), *words]
    )


def untimed(path):
    return {key: value for key, value in json.loads(path.read_text()).items() if key != "date"}


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """A study that was stopped after the first of its trainings."""
    folder = tmp_path_factory.mktemp("study") / "forgetting"
    config, flags = cli.parse_with(forgetting_words(folder), ForgettingFlags(), prog="test")
    plan = forgetting.make_plan(config, flags, {"logdir"})
    assert forgetting.record(plan, flags) == 0
    trainings.keep_plan(folder, forgetting.KIND, forgetting.told(plan, flags, config))
    assert trainings.carry_out([forgetting.plan_run(plan, config, "first", 0)]) == 0
    return folder


@pytest.fixture(scope="module")
def forgotten(started):
    """The study, gone on with by the command; and what it printed."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        assert forget(started, "--json", "True") == 0
    return started, out.getvalue(), err.getvalue()


def test_a_study_goes_on_where_it_was(forgotten):
    folder, out, err = forgotten
    assert "training 1 of 3 is over already" in err and "recording" not in err
    assert "training 2 of 3: " in err and "training 3 of 3: " in err
    assert json.loads(out)["rows"] == untimed(folder / "forgetting.json")["rows"]  # alone on stdout


def test_two_tasks_are_learnt_in_turn_with_and_without_the_first(forgotten):
    folder = forgotten[0]
    configs = {
        way: RunDir(folder / "runs" / way / "seed0").load_config() for way in ("first", "without", "with")
    }
    first, second = (str(folder / "data" / name) for name in ("first", "second"))
    assert {way: config.data for way, config in configs.items()} == {
        "first": first, "without": second, "with": f"{first},{second}",
    }  # fmt: skip
    begun = str(folder / "runs" / "first" / "seed0")
    assert [config.init_from for config in configs.values()] == ["", begun, begun]
    assert {config.replay.held_out for config in configs.values()} == {0.3}
    for way in configs:
        assert snapshot.snapshot_steps(RunDir(folder / "runs" / way / "seed0").checkpoints) == [2, 4]
    assert open_dataset(first).steps >= 100


def test_what_has_learnt_nothing_forgets_nothing(forgotten):
    folder = forgotten[0]
    found = untimed(folder / "forgetting.json")
    assert found["study"] == "forgetting" and found["version"] == 1
    assert found["tasks"] == ["jax_catch", "jax_catch"]
    assert found["options"] == ["rows=10,cols=5", "rows=5,cols=10"]
    ways = [(row["way"], row["measure"]) for row in found["rows"]]
    assert ways == [(way, m) for way in ("without", "with") for m in ("return", "world loss")]
    for row in found["rows"]:  # nothing was learnt, so nothing is forgotten
        assert row["forgetting"] == {"value": 0, "low": None, "high": None, "n": 1}
        assert row["best"] == row["after_first"] == row["end"]
        assert row["measure"] == "return" or row["end"]["value"] > found["baselines"]["loss"][0] > 0
    assert [one["policies"] for one in found["segments"]] == [{"random": 12}, {"random": 12}]
    assert (folder / "forgetting.html").read_text().count("<svg") == 4


def test_a_folder_holds_one_study(started, capsys):
    capsys.readouterr()
    assert forget(started, "--rows", "200") == 2
    line = capsys.readouterr().err
    assert "holds a study with other settings (rows 100); use those, or another folder" in line
    assert forget(started, "--agent.rssm.deter", "64") == 2
    assert "holds a run with other settings: agent.rssm.deter" in capsys.readouterr().err


def test_models_learn_from_shares_of_the_data(started, tmp_path, capsys):
    data, folder = started / "data" / "first", tmp_path / "scaling"
    assert scale(data, folder, "--sizes", "1", "--shares", "0.5,1", "--contexts", "1,2") == 0
    found = untimed(folder / "scaling.json")
    assert [(row["share"], row["context"]) for row in found["rows"]] == [(0.5, 1), (0.5, 2), (1, 1), (1, 2)]
    assert (
        found["rows"][0]["loss"]["value"] != found["rows"][2]["loss"]["value"]
    )  # they learnt from other rows
    assert {row["size"] for row in found["rows"]} == {"1"} and found["rows"][0]["parameters"] > 1000
    assert all(row["loss"]["low"] < row["loss"]["value"] < row["loss"]["high"] for row in found["rows"])
    assert {law["b"] for law in found["tables"]["Power laws"]} == {"needs 3 points"}
    half, whole = open_dataset(folder / "data" / "share-0.5"), open_dataset(data)
    kept, _ = whole.split(0.3)
    assert half.rows == found["rows"][0]["rows"] and 2 * half.rows >= found["rows"][-1]["rows"]
    assert set(half.returns) <= {whole.returns[index] for index in kept}
    assert (folder / "scaling.html").read_text().count("<svg") == 2  # there is one size
    assert "needs 3 points" in capsys.readouterr().out


def test_sizes_are_factors_of_all_widths_or_presets():
    base = cli.parse(["--configs", "demo"])
    twice, small = scaling.resize(base, "2").agent, scaling.resize(base, "0.1").agent
    assert (twice.rssm.deter, twice.rssm.hidden, twice.encoder.units, twice.encoder.depth) == (
        256,
        128,
        128,
        8,
    )
    assert (small.rssm.deter, small.encoder.depth) == (16, 1)  # a recurrent layer has 8 blocks
    assert twice.rssm.stoch == base.agent.rssm.stoch
    assert scaling.resize(base, "size1m").agent.rssm.deter == 512
    assert (
        scaling.resize(cli.parse(["--agent", "planet"]), "0.5").agent.model.belief == 96
    )  # as multiples of 8


def test_a_larger_share_holds_the_episodes_of_a_smaller_one(started):
    data = open_dataset(started / "data" / "first")
    kept, _ = data.split(0.3)
    shares = [scaling.choose(data, kept, share) for share in (0.2, 0.5, 1.0)]
    assert set(shares[0].episodes) < set(shares[1].episodes) < set(shares[2].episodes) == set(kept)
    assert shares[0].rows >= 0.2 * shares[2].rows > shares[0].rows - max(data.lengths)


@pytest.mark.parametrize(("words", "line"), [
    (["some/run"], "assess some/run: --study forgetting trains its own models; leave the folder out"),
    (["--tasks", "jax_catch"], "which two tasks?"),
    (["--tasks", "jax_catch", "jax_cartpole", "--first_options=a=1", "--second_options=a=1"], "jax_catch"),
    (["--tasks", "jax_catch", "jax_tworoom", "--first_options=rows=5", "--second_options=obs=vector"],
     "have different spaces, so no agent can learn both: observation 'vector'"),
    (["--second_options=rows=10,cols=5"], "both are the same, so that nothing would be forgotten"),
    (["--looks", "5"], "--looks 5: trainings have 4 updates (--run.steps)"),
    (["--data", "one"], "--data one: give two data sets"),
    (["--data", "one,two"], "one: there is no such folder"),
    (["--eval.every", "5"], "--eval.every is chosen by the study; leave it out"),
    (["--context", "10", "--rows", "20"], "no episode has a row after so many"),
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
    *recorded, error = said.splitlines()
    assert error.startswith("error: ") and line in error
    assert all(told.startswith("recording ") for told in recorded)
    assert not (tmp_path / "x" / "runs").exists()


@pytest.mark.parametrize(("words", "line"), [
    (["--sizes", "big"], "--sizes big: neither a factor, such as 0.5, nor the name of a preset"),
    (["--sizes", "0"], "--sizes 0: a factor is above 0"),
    (["--sizes", "1,2", "--agent.rssm.blocks", "64"], "--sizes 1: "),
    (["--shares", "1,1"], "--shares: give at least one, each once"),
    (["--shares", "0.05", "--run.batch_length", "60"], "fewer than a window of 61 rows"),
    (["--contexts", "1,10"], "has 10 rows, and at least one is imagined"),
    (["--data", "nowhere"], "nowhere: there is no such folder"),
    (["--task", "jax_catch"], "--task is chosen by the study; leave it out"),
])  # fmt: skip
def test_what_can_not_be_scaled_is_one_line_before_anything_is_trained(
    words, line, started, tmp_path, capsys
):
    assert scale(started / "data" / "first", tmp_path / "x", "--contexts", "1", *words) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and line in said
    assert not (tmp_path / "x").exists()


def test_a_study_that_trains_asks_where_to_and_on_what(started, capsys):
    words = ["assess", "--study", "scaling", *QUICK]
    assert main(words) == 2 and "Give the folder of the study: --logdir DIR" in capsys.readouterr().err
    assert main([*words, "--logdir", "x"]) == 2 and "Give a data set: --data DIR" in capsys.readouterr().err
    run = str(started / "runs" / "first" / "seed0")
    assert main([*words, "--logdir", run]) == 2 and "holds a run; give the study" in capsys.readouterr().err
