"""The demo replaces what an earlier demo left, and nothing else."""

import dataclasses
import json
import os

import pytest

from dreamworld import cli, presets
from dreamworld.errors import UserError
from dreamworld.logging.rundir import RunDir
from dreamworld.scripts import demo
from dreamworld.spaces import DATA_SET


def config_of(logdir, seed=0):
    return cli.parse(["--configs", "demo", "--logdir", str(logdir), "--seed", str(seed)])


def leave(logdir, **changes):
    """What a demo left: its mark, its config, a checkpoint and a lock that nobody holds."""
    with demo.place(logdir, config_of(logdir)):
        (logdir / "checkpoints").mkdir()
        (logdir / "checkpoints" / "1").write_text("x")
        (logdir / ".lock").write_text("pid 1\n")
        presets.save_yaml(dataclasses.replace(config_of(logdir, 7), **changes), logdir / "config.yaml")
        RunDir(logdir).write_status("finished")


def content(folder):
    """All files but locks, which hold who had them last."""
    return sorted(
        (str(path), path.is_symlink() or path.is_dir() or path.read_text())
        for path in folder.rglob("*")
        if path.name != ".lock"
    )


def test_what_an_earlier_demo_left_is_replaced(tmp_path):
    leave(tmp_path / "demo")
    with demo.place(tmp_path / "demo", config_of(tmp_path / "demo")):
        assert os.listdir(tmp_path / "demo") == [demo.MARKER]


def test_what_assess_left_there_is_replaced_too(tmp_path):
    leave(tmp_path / "demo")
    (tmp_path / "demo" / "assess").mkdir()
    with demo.place(tmp_path / "demo", config_of(tmp_path / "demo")):
        assert os.listdir(tmp_path / "demo") == [demo.MARKER]


def test_an_empty_folder_name_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.run(demo.main, ["--logdir", ""]) == 2
    assert "error: --logdir: is empty" in capsys.readouterr().err and tmp_path.exists()


def test_a_home_that_no_shell_filled_in_is_found(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes").write_text("mine")
    assert cli.run(demo.main, ["--logdir", "~/notes"]) == 2
    assert f"--logdir {tmp_path / 'notes'} is no folder" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["notes"]


def a_run(logdir):
    leave(logdir)
    (logdir / demo.MARKER).unlink()


def a_folder(logdir):
    logdir.mkdir()
    (logdir / "thesis.tex").write_text("x")


def a_file(logdir):
    logdir.write_text("x")


def a_link(logdir):
    leave(logdir.parent / "other")
    logdir.symlink_to("other")


def a_link_to_nothing(logdir):
    logdir.symlink_to("nothing")


def notes_beside_it(logdir):
    leave(logdir)
    (logdir / "notes.txt").write_text("x")


def another_mark(logdir):
    leave(logdir)
    (logdir / demo.MARKER).write_text("mine")


def a_mark_that_is_a_folder(logdir):
    leave(logdir)
    (logdir / demo.MARKER).unlink()
    (logdir / demo.MARKER).mkdir()


def a_link_inside(logdir):
    leave(logdir)
    (logdir / "replay").symlink_to(logdir.parent)


def a_run_that_goes_on_from_it(logdir):
    leave(logdir, task="gym_Pendulum-v1")


def a_broken_config(logdir):
    leave(logdir)
    (logdir / "config.yaml").write_text("task: [")


def a_run_of_another_process(logdir):
    """The mark of a demo that was killed in its first seconds stayed, and somebody trained there."""
    leave(logdir)
    status = json.loads((logdir / "status.json").read_text())
    (logdir / "status.json").write_text(json.dumps({**status, "pid": status["pid"] + 1}))


def a_run_without_a_heartbeat(logdir):
    leave(logdir)
    (logdir / "status.json").unlink()


KEPT = [a_run_of_another_process, a_run_without_a_heartbeat]
KEPT += [a_run, a_folder, a_file, a_link, a_link_to_nothing, notes_beside_it, another_mark]
KEPT += [a_mark_that_is_a_folder, a_link_inside, a_run_that_goes_on_from_it, a_broken_config]


@pytest.mark.parametrize("make", KEPT, ids=lambda make: make.__name__)
def test_anything_else_is_one_line_and_stays(tmp_path, make, capsys):
    make(tmp_path / "demo")
    before = content(tmp_path)
    assert cli.run(demo.main, ["--logdir", str(tmp_path / "demo")]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: --logdir {tmp_path / 'demo'}") and err.count("\n") == 1
    assert "another --logdir" in err and content(tmp_path) == before


@pytest.mark.parametrize("is_there", [False, True])
def test_a_demo_that_is_refused_leaves_no_mark_for_the_next_one(tmp_path, is_there, capsys):
    """The mark stayed, and a training of the same options in this folder was replaced by the next demo."""
    if is_there:
        leave(tmp_path / "runs" / "demo")
    (tmp_path / DATA_SET).write_text("{}")
    before = content(tmp_path)
    assert cli.run(demo.main, ["--logdir", str(tmp_path / "runs" / "demo")]) == 2
    err = capsys.readouterr().err
    assert "can't lie in the folder of a data set" in err and err.count("\n") == 1
    assert content(tmp_path) == before


def test_a_demo_that_does_not_begin_leaves_the_results_of_the_one_before(tmp_path):
    """A refusal of the training, or Ctrl-C while it compiled, came when they were gone."""
    leave(tmp_path / "demo")
    before = content(tmp_path)
    with (
        pytest.raises(UserError, match="no GPU"),
        demo.place(tmp_path / "demo", config_of(tmp_path / "demo")),
    ):
        raise UserError("no GPU")
    assert content(tmp_path) == before


def test_results_wait_beside_a_demo_until_it_trains(tmp_path):
    leave(tmp_path / "demo")
    before = content(tmp_path / "demo")
    with demo.place(tmp_path / "demo", config_of(tmp_path / "demo")) as replace:
        assert len(content(tmp_path / "demo.before")) == len(before)
        (tmp_path / "demo" / "config.yaml").write_text("task: x")
        replace()
    assert sorted(os.listdir(tmp_path)) == ["demo"] and demo.MARKER in os.listdir(tmp_path / "demo")


def test_results_that_a_killed_demo_set_aside_are_put_back(tmp_path):
    logdir = tmp_path / "demo"
    leave(logdir)
    before = content(logdir)
    killed = demo.place(logdir, config_of(logdir))
    killed.__enter__()  # as a kill leaves it
    assert os.listdir(logdir) == [demo.MARKER]
    with pytest.raises(UserError, match="no GPU"), demo.place(logdir, config_of(logdir)):
        raise UserError("no GPU")
    assert content(logdir) == before and os.listdir(tmp_path) == ["demo"]


def test_a_folder_of_somebody_else_is_never_taken_for_earlier_results(tmp_path):
    leave(tmp_path / "demo")
    (tmp_path / "demo.before").mkdir()
    (tmp_path / "demo.before" / "thesis.tex").write_text("x")
    before = content(tmp_path)
    with (
        pytest.raises(UserError, match=r"demo\.before is in the way"),
        demo.place(tmp_path / "demo", config_of(tmp_path / "demo")),
    ):
        pass
    assert content(tmp_path) == before


def test_a_demo_that_is_running_keeps_its_folder(tmp_path):
    leave(tmp_path / "demo")
    with RunDir(tmp_path / "demo").lock():
        before = content(tmp_path)
        with (
            pytest.raises(UserError, match="pid"),
            demo.place(tmp_path / "demo", config_of(tmp_path / "demo")),
        ):
            pass
        assert content(tmp_path) == before
