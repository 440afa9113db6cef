"""A snapshot that the system does not give is not a damaged one: one line, and every file stays where it is."""

import builtins
import errno
import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from dreamworld.errors import UserError
from dreamworld.logging.rundir import RunDir
from dreamworld.reading import BlockedFile
from dreamworld.replay import patience
from dreamworld.training import group, snapshot
from dreamworld.training.checkpoint import Checkpointer
from dreamworld.training.supervise import supervise

AGENT = {"w": np.arange(4, dtype=np.float32)}
HOST = {"a": np.arange(3)}
BLOCKED = [errno.EACCES, errno.EPERM, errno.ESTALE, errno.EIO, errno.ETIMEDOUT, errno.EMFILE, errno.ENODEV]
PLACES = ["2/snapshot.json", "2/host_0/tree.json", "2/host_0/0.npy", "2/agent/_METADATA", "2/agent/d", "2"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    with Checkpointer(folder) as checkpointer:
        checkpointer.save(1, AGENT, HOST, {"n": 1}, block=True)
        checkpointer.save(2, AGENT, HOST, {"n": 2}, block=True)
    return folder


@pytest.fixture
def checkpoints(saved, tmp_path, monkeypatch):
    monkeypatch.setattr(patience, "PATIENCE_S", 0.0)
    folder = tmp_path / "run" / "checkpoints"
    shutil.copytree(saved, folder)
    return folder


class Refusing:
    """Lets the system refuse everything at and below a path, as long as `number` is not 0.

    Permissions would not do: tests may run as root, for whom there are none.
    """

    def __init__(self, monkeypatch, path: Path, number: int):
        self.path, self.number, self.times = str(path), number, 1 << 30
        for module, name in [
            (os, "open"),
            (os, "stat"),
            (os, "lstat"),
            (os, "listdir"),
            (os, "scandir"),
            (io, "open"),
        ]:
            monkeypatch.setattr(module, name, self._refusing(getattr(module, name)))
        monkeypatch.setattr(builtins, "open", io.open)

    def _refusing(self, action):
        def call(path=".", *args, **options):
            if self.number and self.times and isinstance(path, str | os.PathLike):
                text = os.fspath(path)
                if text == self.path or text.startswith(f"{self.path}/"):
                    self.times -= 1
                    raise OSError(self.number, os.strerror(self.number), text)
            return action(path, *args, **options)

        return call


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("number", BLOCKED, ids=lambda number: errno.errorcode[number])
@pytest.mark.parametrize("place", PLACES)
def test_it_is_one_line_and_nothing_is_moved(checkpoints, place, number, monkeypatch):
    before = names(checkpoints)
    refusing = Refusing(monkeypatch, checkpoints / place, number)
    # What can't be listed can't be pruned either.
    with Checkpointer(checkpoints, keep_last=1 if place in ("2", "2/snapshot.json") else 3) as checkpointer:
        with pytest.raises(UserError) as caught:
            checkpointer.restore(None, AGENT)
        text = str(caught.value)
        assert os.strerror(number) in text and str(checkpoints / "2") in text and "\n" not in text
        assert "nothing was moved" in text
        checkpointer.save(3, AGENT, HOST, {"n": 3}, block=True)
        refusing.number = 0
        assert set(before) <= set(names(checkpoints))
        assert not list(checkpoints.glob("*.damaged*")) and checkpointer.restore(2, AGENT).meta["n"] == 2


def test_the_folder_of_all_of_them_too(checkpoints, monkeypatch):
    refusing = Refusing(monkeypatch, checkpoints, errno.EACCES)
    with Checkpointer(checkpoints) as checkpointer:
        with pytest.raises(UserError, match="Permission denied"):
            checkpointer.latest()  # else a run would begin anew beside them
        with pytest.raises(UserError, match="Permission denied"):
            checkpointer.restore(None, AGENT)
        checkpointer.save(3, AGENT, HOST, {"n": 3}, block=True)  # is told, and does not end a training
        assert "Permission denied" in (checkpointer.problem or "")
        refusing.number = 0
        assert checkpointer.steps() == [1, 2]


def test_what_passes_is_waited_for(checkpoints, monkeypatch):
    monkeypatch.setattr(patience, "PATIENCE_S", 20.0)
    monkeypatch.setattr(patience, "FIRST_PAUSE_S", 0.001)
    refusing = Refusing(monkeypatch, checkpoints / "2" / "host_0", errno.ESTALE)
    refusing.times = 3
    with Checkpointer(checkpoints) as checkpointer:
        assert checkpointer.restore(None, AGENT).meta["n"] == 2 and refusing.times == 0


def test_seeds_that_can_not_be_read_are_not_set_aside(checkpoints, monkeypatch):
    other = checkpoints.parent.parent / "other" / "checkpoints"
    shutil.copytree(checkpoints, other)
    rundirs = [RunDir(checkpoints.parent), RunDir(other.parent)]
    for rundir in rundirs:
        rundir.config.write_text("task: x")
    Refusing(monkeypatch, other / "2" / "host_0" / "0.npy", errno.EACCES)
    with pytest.raises(UserError, match=r"0\.npy: can't be read: Permission denied; this says nothing"):
        group.find_meeting(rundirs, save_every=10)


def test_only_an_error_that_speaks_of_the_data_is_damage(checkpoints):
    for number in errno.errorcode:
        speaks = number in patience.OF_THE_DATA and number != errno.EIO
        for error in (OSError(number, "reason"), BlockedFile(checkpoints / "x", OSError(number, "reason"))):
            kind = snapshot.CorruptError if speaks else BlockedFile
            with pytest.raises(kind, match="reason"), snapshot.damage(checkpoints):
                raise error


def test_a_supervisor_goes_on_where_it_sees_no_snapshots(checkpoints, monkeypatch):
    Refusing(monkeypatch, checkpoints, errno.EACCES)
    assert supervise(["true"], checkpoints=checkpoints) == 0


def test_a_folder_of_snapshots_that_is_no_folder_has_none(tmp_path):
    (tmp_path / "file").write_text("")
    assert snapshot.snapshot_steps(tmp_path / "file") == snapshot.snapshot_steps(tmp_path / "none") == []
