"""`dreamworld data`: each command from end to end, and one line for what can't be."""

import json
import os
import pathlib
import signal
import sys

import numpy as np
import pytest

from dreamworld.__main__ import main
from dreamworld.datasets import open_dataset

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "datasets"))
import made


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A folder with a data set called `data`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    made.write(tmp_path / "data")
    return tmp_path


def refused(capsys, *words):
    assert main(["data", *words]) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: ") and line.count("\n") == 1
    return line


def test_info_says_what_is_there(capsys):
    assert main(["data", "info", "data"]) == 0
    out = capsys.readouterr().out
    for text in (
        "data: 46 steps in 3 episodes",
        "recorded in gym_Made-v0",
        "image: uint8 (16, 16, 3)",
        "gear: 3 classes",
        "extra: state/place: float32 (2,)",
        "lengths: from 1 to 40 steps",
        "ends: 1 true end, 2 time limits",
        "policy half: 1 episode, 1 step, mean return",
    ):
        assert text in out


def test_info_as_json_has_the_same_numbers(capsys):
    assert main(["data", "info", "data", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    data = open_dataset("data")
    assert (row["steps"], row["episodes"], row["terminal"], row["absent"]) == (46, 3, 1, [])
    assert row["mean_return"] == np.mean(data.returns) and set(row["policies"]) == {"random", "half"}


@pytest.mark.parametrize("absent", ["reward", "action"])
def test_info_names_what_is_absent(absent, capsys):
    schema = made.Schema(made.OBS, {} if absent == "action" else made.ACT, {}, has_reward=absent != "reward")
    made.write(pathlib.Path("other"), schema)
    assert main(["data", "info", "other"]) == 0
    assert f"{absent}s: absent" in capsys.readouterr().out
    assert main(["data", "info", "other", "--json"]) == 0


def test_check_reads_everything(capsys):
    assert main(["data", "check", "data"]) == 0
    assert capsys.readouterr().out == "data: 3 episodes, 46 steps read: well\n"


def test_check_names_each_damage_and_goes_on(capsys):
    (path,) = pathlib.Path("data").glob("rows-*.dwr")
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    header = json.loads(pathlib.Path("data/dataset.json").read_text())
    header["returns"][2] += 1
    pathlib.Path("data/dataset.json").write_text(json.dumps(header))
    assert main(["data", "check", "data"]) == 1
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 3 and "episode 0 is lost" in out[0] and "episode 2 has the return" in out[1]
    assert out[2].endswith("2 problems")


@pytest.mark.parametrize(
    ("format", "target"), [("minari", "all/made-v0"), ("npz", "out"), ("hdf5", "out.h5")]
)
def test_export_and_import_from_end_to_end(format, target, capsys):
    assert main(["data", "export", "data", target, "--format", format]) == 0
    assert "46 steps in 3 episodes" in capsys.readouterr().out
    assert main(["data", "import", target, "back"]) == 0
    out, err = capsys.readouterr()
    assert (
        out == "back: 46 steps in 3 episodes\nnext: dreamworld data info back, dreamworld train --data back\n"
        and not err
    )
    assert made.same(open_dataset("data"), open_dataset("back"))


def test_an_import_takes_the_task_that_is_given():
    assert main(["data", "export", "data", "out", "--format", "npz"]) == 0
    assert main(["data", "import", "out", "back", "--task", "dmc_walker_walk"]) == 0
    assert open_dataset("back").task == "dmc_walker_walk"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["infos", "data"], "did you mean data info?"),
        (["info"], "expected dreamworld data info DIR"),
        (["info", "data", "more"], "got data more"),
        (["info", ""], "data info: DIR: is empty; expects the path of a folder"),
        (["export", "data", "", "--format", "npz"], "data export: TARGET: is empty"),
        (["import", "data", ""], "data import: DIR: is empty"),
        (["info", "nowhere"], "there is no such folder"),
        (["check", "minari"], "there is no such folder"),
        (["export", "data", "out"], "which format?"),
        (["export", "data", "out", "--format", "h5"], "did you mean hdf5?"),
        (["export", "data", "data", "--format", "npz"], "nothing is overwritten"),
        (["import", "nowhere", "new"], "there is no such file or folder"),
        (["import", "data", "new"], "is a data set of dreamworld already"),
        (["import", "data", "data"], "nothing in it is overwritten"),
        (["import", "a\x1bb", "new"], "control character"),
        (["info", "data", "--jsn"], "did you mean --json?"),
    ],
)
def test_what_can_not_be_is_one_line(words, expected, capsys):
    assert expected in refused(capsys, *words)


@pytest.mark.parametrize("command", ["info", "check", "import", "export"])
def test_help_of_each_command(command, capsys):
    assert main(["data", command, "--help"]) == 0
    assert "usage: dreamworld data" in capsys.readouterr().out


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize(
    "words",
    [
        ["export", "data", "out", "--format", "npz"],
        ["export", "data", "out", "--format", "hdf5"],
        ["export", "data", "all/made-v0", "--format", "minari"],
        ["import", "episodes", "new"],
    ],
    ids=lambda words: words[-1],
)
def test_a_signal_leaves_nothing_unfinished(place, number, status, words, capsys, monkeypatch):
    assert main(["data", "export", "data", "episodes", "--format", "npz"]) == 0
    before = sorted(path for path in place.rglob("*") if path.is_file())
    check, calls = open_dataset.__globals__["check_episode"], iter(range(9))

    def interrupt(*given):
        if next(calls) == 1:
            os.kill(os.getpid(), number)
        check(*given)

    for module in ("store", "writer"):
        monkeypatch.setattr(f"dreamworld.datasets.{module}.check_episode", interrupt)
    capsys.readouterr()
    assert main(["data", *words]) == status
    name = signal.Signals(number).name
    assert capsys.readouterr().err == f"stopped by {name}; nothing was written\n"
    after = sorted(
        path for path in place.rglob("*") if path.is_file() and path.name != "namespace_metadata.json"
    )
    assert after == before
