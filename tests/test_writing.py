"""Files that are written where somebody put links: what the links lead to stays as it is."""

import os

import pytest

from dreamworld import presets, trust
from dreamworld.config import Config
from dreamworld.logging.rows import write_json
from dreamworld.logging.rundir import RunDir
from dreamworld.replay.files import TEMPORARY, FileWriter
from dreamworld.writing import clear, making, replace, replace_all


@pytest.mark.parametrize("make", [os.symlink, os.link])
def test_a_file_is_replaced_and_not_the_one_that_a_link_names(tmp_path, make):
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    outside.write_text("precious")
    for write in (lambda: replace(inside, "new"), lambda: clear(inside).write_text("new")):
        inside.unlink(missing_ok=True)
        make(outside, inside)
        write()
        assert inside.read_text() == "new" and outside.read_text() == "precious"


@pytest.mark.parametrize("make", [os.symlink, os.link])
def test_no_unfinished_file_is_written_through_a_link(tmp_path, make):
    """Their names are known beforehand, where process ids are small."""
    outside, rundir = tmp_path / "outside", RunDir(tmp_path / "run")
    rundir.path.mkdir()
    outside.write_text("precious")
    names = [f".{name}.{os.getpid()}" for name in ("status.json", "config.yaml", "config.sig")]
    for name in (*names, f".probe-{os.getpid()}", f"rows{TEMPORARY}"):
        make(outside, rundir.path / name)
    rundir.create()
    rundir.save_config(Config())
    write_json(rundir.status, {})
    trust.sign(rundir.path)
    with FileWriter(rundir.path / "rows"):
        pass
    assert outside.read_text() == "precious" and presets.load_yaml(rundir.config) == Config()


def test_what_a_dead_process_left_is_no_obstacle(tmp_path):
    (tmp_path / f".x.{os.getpid()}").write_text("half")
    replace(tmp_path / "x", b"whole")
    assert [path.name for path in tmp_path.iterdir()] == ["x"] and (tmp_path / "x").read_bytes() == b"whole"


def test_files_are_replaced_together_or_none(tmp_path):
    (tmp_path / "b").mkdir()
    replace(tmp_path / "b" / "one", "before")
    with pytest.raises(OSError, match="No such file") as caught:
        replace_all(tmp_path, {"b/one": "after", "gone/two": "after"})
    assert caught.value.filename == str(tmp_path / "gone" / "two")  # and no name that nobody knows
    assert [path.name for path in tmp_path.rglob("*")] == ["b", "one"]
    assert (tmp_path / "b" / "one").read_text() == "before"


@pytest.mark.parametrize("kept", [False, True])
def test_folders_that_were_made_for_what_failed_go_again_unless_they_hold_something(tmp_path, kept):
    with pytest.raises(RuntimeError), making(tmp_path / "a" / "b" / "c"):
        if kept:
            (tmp_path / "a" / "b" / "mine").write_text("precious")
        raise RuntimeError
    assert [path.name for path in sorted(tmp_path.rglob("*"))] == (["a", "b", "mine"] if kept else [])
