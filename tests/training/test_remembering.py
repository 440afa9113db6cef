"""An agent with extras, weights and mixtures of its own trains in the host loop, stops and goes on to the bit."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest

import dreamworld
from dreamworld import cli
from dreamworld.errors import UserError
from dreamworld.logging.rundir import RunDir
from dreamworld.sessions import load, pieces


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(pathlib.Path(__file__).parent)


def config_for(logdir, *more):
    words = "--agent remembering:SPEC --task jax_catch --env.num 2 --run.steps 160 --run.log_every 20"
    words += (
        " --run.save_every 0 --run.report_every 0 --replay.min_starts 4 --replay.chunk 16 --replay.beta 0.5"
    )
    words += " --replay.held_out 0.3 --run.progress False --logger.tensorboard False"
    return cli.parse([*words.split(), "--logdir", str(logdir), *more])


def counted(folder):
    """{what the phases were given: numbers of both}, and the logged rows."""
    rundir = RunDir(folder)
    params = load.restore_params(rundir, pieces.build_agent(rundir.load_config(trusted=True)))
    rows = [json.loads(line) for line in rundir.metrics.read_text().splitlines()]
    return {key: np.asarray(value).tolist() for key, value in params["world"]["count"].items()}, rows


def test_what_it_stores_comes_back_and_a_stop_changes_nothing(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert dreamworld.train(config_for(whole)) == 0
    found, rows = counted(whole)
    # 40 random steps have zeros in the place of extras; what acting stored is read as it was.
    assert found["wrong"] == [0, 0] and min(found["seen"]) > 0 and min(found["unseen"]) > 0
    assert np.add(found["seen"], found["unseen"]).tolist() == found["rows"]
    visits, weight = found["visits"], found["weight"]
    assert visits[0] > 100 and visits[1] > 0  # the other phase reads what the first one wrote back
    updates = found["rows"][0] / (4 * 6)
    assert updates < weight[0] < 4 * updates and weight[1] == 0
    assert rows[-1]["replay/held_out_starts"] > 0 and rows[-1]["replay/online"] > 0
    for steps in (60, 100, 160):
        config = config_for(parts)
        run = dataclasses.replace(config.run, steps=steps)
        assert dreamworld.train(dataclasses.replace(config, run=run)) == 0
    assert counted(parts)[0] == found


def test_seeds_in_one_program_equal_each_alone(tmp_path):
    assert dreamworld.train(config_for(tmp_path / "seeds", "--seeds", "0,5", "--run.steps", "80")) == 0
    assert dreamworld.train(config_for(tmp_path / "alone", "--seed", "5", "--run.steps", "80")) == 0
    assert counted(tmp_path / "seeds" / "seed5")[0] == counted(tmp_path / "alone")[0]


def test_a_run_that_goes_on_without_weights_drops_the_batches_that_have_them(tmp_path):
    assert dreamworld.train(config_for(tmp_path / "run", "--run.steps", "60")) == 0
    weight, rows = (counted(tmp_path / "run")[0][key] for key in ("weight", "rows"))
    assert dreamworld.train(config_for(tmp_path / "run", "--run.steps", "80", "--replay.beta", "0")) == 0
    later = counted(tmp_path / "run")[0]
    assert later["weight"] == weight and later["rows"][0] > rows[0]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--replay.held_out", "1"], "a held-out share of 1 is impossible"),
        (["--replay.beta", "2"], "replay.beta: got 2, expects between 0 and 1"),
        (["--run.mode", "fused"], "--replay.held_out 0.3: .*--run.mode host"),
        (
            ["--run.mode", "fused", "--replay.held_out", "0"],
            "--replay.beta 0.5: --run.mode fused draws uniformly",
        ),
        (
            ["--run.mode", "fused", "--replay.held_out", "0", "--replay.beta", "0"],
            "phase 'visit' reads by a mixture of its own",
        ),
    ],
)
def test_what_can_not_be_is_one_line(tmp_path, words, text):
    with pytest.raises(UserError, match=text):
        dreamworld.train(config_for(tmp_path / "run", *words))
    assert not (tmp_path / "run").exists()
