"""Runs that version 0.1 made go on as that version would have gone on.

`tests/golden/version1.zip` holds two tiny runs of `jax_catch` (host and fused) as it left them after their first
session, and the rows that it logged when it continued them.
"""

import dataclasses
import json
import pathlib
import zipfile

import numpy as np
import pytest

import dreamworld
from dreamworld import presets
from dreamworld.training import upgrade

# What values of a critic and a reward head that know nothing yet come to: their bins of +-5e8 have equal weights, and
# the mean is the last bits of these times 5e8.
ROUNDING = {
    *("loss/actor", "train/value", "train/imagined_return", "train/imagined_reward"),
    *("train/return_scale", "train/advantage_std"),
}
ARCHIVE = pathlib.Path(__file__).parent.parent / "golden" / "version1.zip"


@pytest.fixture(params=["host", "fused"])
def run(request, tmp_path):
    """(folder of a run of version 0.1, its config here, the rows and the episodes that it went on with)."""
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(tmp_path)
    folder = tmp_path / request.param
    config = presets.load_yaml(folder / "config.yaml")
    rows = json.loads((tmp_path / f"{request.param}_expected.json").read_text())
    episodes = (tmp_path / f"{request.param}_episodes.jsonl").read_text()
    return folder, dataclasses.replace(config, logdir=str(folder)), rows, episodes


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_run_goes_on_with_the_numbers_of_the_version_that_began_it(run):
    folder, config, expected, episodes = run
    before = len(read(folder / "metrics.jsonl"))
    longer = dataclasses.replace(config, run=dataclasses.replace(config.run, steps=128))
    assert dreamworld.train(longer) == 0
    found = read(folder / "metrics.jsonl")[before:]
    assert [(row["step"], row["updates"]) for row in found] == [(r["step"], r["updates"]) for r in expected]
    for row, want in zip(found, expected):
        for key in want.keys() - ROUNDING:
            np.testing.assert_allclose(row[key], want[key], rtol=1e-3, err_msg=f"{row['step']} {key}")
    without_time = lambda rows: [{k: v for k, v in row.items() if k != "time"} for row in rows]
    wanted = without_time(json.loads(line) for line in episodes.splitlines())
    assert without_time(read(folder / "episodes.jsonl")) == wanted


def test_a_run_can_be_loaded(run):
    folder, _, _, _ = run
    player = dreamworld.load(folder)
    _, action = player.act(player.initial(), np.zeros(50, np.float32))
    assert set(action) == {"action"}


def test_names_of_format_1_are_found_under_their_new_ones():
    names = [
        "train/params/actor/out/kernel",
        "train/opt_state/1/nu/encoder/vector/bias",
        "carry/deter",
        "step",
    ]
    found = upgrade.stored_names({"format": 1, "tensors": dict.fromkeys(names)})
    assert found == {
        "train/params/behaviour/actor/out/kernel": names[0],
        "train/opt_state/1/nu/world/encoder/vector/bias": names[1],
        "step": "step",
    }
    assert upgrade.stored_names({"format": 2, "tensors": {"carry/x": 0}}) == {"carry/x": "carry/x"}
