"""Snapshots that somebody crafted, with valid checksums: each is one line, and the one before it is read."""

import json
import os
import shutil
import time
import tracemalloc
import zlib

import numpy as np
import pytest
from etils import epath

from dreamworld.errors import UserError
from dreamworld.replay import patience
from dreamworld.training import snapshot, tensors
from dreamworld.training.checkpoint import Checkpointer

AGENT = {"w": np.arange(4, dtype=np.float32)}
HOST = {"a": {"b": np.arange(3)}, "c": [1, "x"]}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    with Checkpointer(folder) as checkpointer:
        checkpointer.save(1, AGENT, HOST, {"n": 1}, block=True)
        checkpointer.save(2, AGENT, HOST, {"n": 2}, block=True)
    return folder


@pytest.fixture
def checkpoints(saved, tmp_path):
    folder = tmp_path / "run" / "checkpoints"
    shutil.copytree(saved, folder)
    return folder


def sign(folder, **changes):
    """Makes the checksums of a changed snapshot right again; `changes` of the body, None to delete a key."""
    body = json.loads((folder / "snapshot.json").read_text())["snapshot"]
    body["files"] = {
        name: list(snapshot.checksum(folder / name)) for name in snapshot.walk(epath.Path(folder))
    }
    body |= changes
    body = {key: value for key, value in body.items() if value != "delete"}
    text = json.dumps(body, sort_keys=True)
    (folder / "snapshot.json").write_text(f'{{"crc32": {zlib.crc32(text.encode())}, "snapshot": {text}}}')


def assert_falls_back(checkpoints, caplog, name=""):
    """The newest one is told in one line that names its folder and file; the one before is read."""
    tracemalloc.start()
    begin = time.perf_counter()
    with Checkpointer(checkpoints) as checkpointer:
        found = checkpointer.restore(None, AGENT)
    assert found.meta == {"n": 1, "step": 1}
    (line,) = [record.getMessage() for record in caplog.records]
    assert f"{checkpoints / '2'} is damaged" in line and name in line
    assert line.isprintable() and len(line) < 1000
    assert time.perf_counter() - begin < 20 and tracemalloc.get_traced_memory()[1] < 200 << 20
    tracemalloc.stop()


WRONG = [None, 1, -1, 1.5, "x", "\x1b[31m", [], [1], [["a"]], {}, {"a": 1}, {"a": [1]}, True, 10**29]
FIELDS = {
    "format": ["delete", 10**6, *[value for value in WRONG if value not in (1, -1, True)]],
    "files": ["delete", {"x": [1, 2, 3]}, {"../../../etc/passwd": [1, 2]}, *WRONG],
    "tensors": ["delete", {"w": [[10**30], "float32"]}, {"w": ["float32", [4]]}, *WRONG],
    "processes": ["delete", 0, *[value for value in WRONG if value not in (1, True)]],
    "meta": ["delete", {"0": 1}, {"1": {}}, *WRONG],
    "score": ["delete", "x", [], {}, True, 10**29],
    "step": [-1, 10**13, "x"],
}


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_of_snapshot_json_is_checked(checkpoints, field, caplog):
    for value in FIELDS[field]:
        caplog.clear()
        sign(checkpoints / "2", **{field: value})
        if field == "tensors" and value == {}:  # as of another agent
            with pytest.raises(UserError, match="does not fit this agent: missing w"):
                Checkpointer(checkpoints).restore(None, AGENT)
        else:
            assert_falls_back(checkpoints, caplog)


TREES = {
    "no JSON": "hello",
    "a list": "[]",
    "a number": "1",
    "no kind": "{}",
    "dict of numbers": '{"dict": {"a": 1}}',
    "dict as list": '{"dict": [1]}',
    "list as dict": '{"list": {"a": 1}}',
    "array by name": '{"array": "../../x", "dtype": ""}',
    "array that is not there": '{"array": 99, "dtype": ""}',
    "array of minus one": '{"array": -1, "dtype": ""}',
    "array without dtype": '{"array": 0}',
    "other dtype": '{"array": 0, "dtype": "bfloat16"}',
    "no dtype": '{"array": 0, "dtype": "__loader__"}',
    "function as dtype": '{"array": 0, "dtype": "finfo"}',
    "one array a million times": '{"list": [' + ", ".join(['{"array": 0, "dtype": ""}'] * 100_000) + "]}",
    "deep": '{"list": [' * 20_000 + "]}" * 20_000,
    "deep value": '{"value": ' + "[" * 300 + "]" * 300 + "}",
    "value that is a mapping": '{"value": {"a": 1}}',
    "10,000 digits": '{"value": 1' + "0" * 10_000 + "}",
    "not UTF-8": b'{"value": "\xff"}',
}


@pytest.mark.parametrize("damage", TREES)
def test_a_crafted_tree_is_one_line(checkpoints, damage, caplog):
    text = TREES[damage]
    (checkpoints / "2" / "host_0" / "tree.json").write_bytes(
        text if isinstance(text, bytes) else text.encode()
    )
    sign(checkpoints / "2")
    assert_falls_back(checkpoints, caplog, "host_0/")


@pytest.mark.parametrize(
    "shape", ["(100000000000,)", "(3, 100000000000)", "(-3,)", "(1000000, 1000000, 1000000)"]
)
def test_an_array_header_allocates_nothing(checkpoints, shape, caplog):
    path = checkpoints / "2" / "host_0" / "0.npy"
    header = f"{{'descr': '<i8', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"\0" * 24)
    sign(checkpoints / "2")
    assert_falls_back(checkpoints, caplog, "host_0/0.npy")


PLACES = [
    "snapshot.json",
    "host_0/tree.json",
    "host_0/0.npy",
    "agent/_METADATA",
    "host_0",
    "agent",
    "agent/d",
]
THINGS = ["fifo", "folder", "link out", "link to nothing", "link to itself", "link in"]


@pytest.mark.parametrize("thing", THINGS)
@pytest.mark.parametrize("place", PLACES)
def test_something_else_in_place_of_a_file(checkpoints, place, thing, caplog):
    path = checkpoints / "2" / place
    outside = checkpoints.parent.parent / "outside"
    if path.is_dir():
        shutil.move(path, outside)
    else:
        shutil.move(path, outside)
    if thing == "fifo":
        os.mkfifo(path)
    elif thing == "folder":
        path.mkdir()
    else:
        targets = {"link out": outside, "link to nothing": "nothing", "link to itself": path}
        path.symlink_to(targets.get(thing, checkpoints / "1" / place))
    if place == "snapshot.json" and thing.startswith("link to"):  # as if it were not there: never finished
        assert Checkpointer(checkpoints).restore(None, AGENT).meta["n"] == 1
    else:
        assert_falls_back(checkpoints, caplog)
    assert outside.exists()


def test_a_snapshot_that_is_a_link_out_of_the_run_is_neither_read_nor_deleted(checkpoints, tmp_path, caplog):
    outside = tmp_path / "other"
    shutil.move(checkpoints / "2", outside)
    (checkpoints / "2").symlink_to(outside)
    with Checkpointer(checkpoints, keep_last=1) as checkpointer:
        assert checkpointer.restore(None, AGENT).meta["n"] == 1
        checkpointer.save(3, AGENT, HOST, {"n": 3}, block=True)
        assert checkpointer.steps() == [3]
    assert (outside / "snapshot.json").exists() and (outside / "host_0" / "tree.json").exists()


@pytest.mark.parametrize("thing", ["file", "link out", "link to nothing", "pipe"])
def test_what_has_the_name_of_a_snapshot_stops_no_save(checkpoints, tmp_path, thing):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "precious").touch()
    for step in ("3", "7"):
        path = checkpoints / step
        if thing == "file":
            path.touch()
        elif thing == "pipe":
            os.mkfifo(path)
        else:
            path.symlink_to(tmp_path / ("outside" if thing == "link out" else "nothing"))
    with Checkpointer(checkpoints, keep_last=1) as checkpointer:
        checkpointer.save(3, AGENT, HOST, {"n": 3}, block=True)
        assert checkpointer.problem is None and checkpointer.steps() == [3]
    assert (tmp_path / "outside" / "precious").exists() and os.path.lexists(checkpoints / "7")


def test_folders_with_odd_names_are_no_snapshots(checkpoints):
    for name in ("²", "٣", "007", "9" * 200, "1" + "0" * 13, "-1", "1e3"):
        shutil.copytree(checkpoints / "2", checkpoints / name)
    with Checkpointer(checkpoints) as checkpointer:
        assert checkpointer.steps() == [1, 2]
        checkpointer.save(3, AGENT, HOST, {"n": 3}, block=True)
        assert checkpointer.problem is None
    assert (checkpoints / "²").exists()


@pytest.mark.parametrize("damage", ["_METADATA", "manifest.ocdbt"])
def test_what_orbax_can_not_read_is_one_line(checkpoints, damage, caplog):
    for junk in (b"", b"[" * 100_000, b"{}", b'{"tree_metadata": 1}', b"\xff" * 100):
        caplog.clear()
        (checkpoints / "2" / "agent" / damage).write_bytes(junk)
        sign(checkpoints / "2")
        assert_falls_back(checkpoints, caplog, "agent")


def test_a_tensor_of_another_shape_or_in_large_blocks_is_not_read(checkpoints, caplog):
    import tensorstore

    folder = checkpoints / "2" / "agent"
    shutil.rmtree(folder)
    writer = tensors.make_writer()
    tensors.write(writer, epath.Path(folder), {"w": np.zeros(4000, np.float32)})
    writer.wait_until_finished()
    writer.close()
    sign(checkpoints / "2")
    assert_falls_back(checkpoints, caplog, "w has the shape (4000,) in its file instead of (4,)")
    caplog.clear()
    shutil.rmtree(folder)
    shutil.copytree(checkpoints / "1" / "agent", folder)
    place = {"driver": "ocdbt", "base": f"file://{folder}", "path": "w"}
    spec = {"driver": "zarr", "kvstore": place, "metadata": {"shape": [4], "chunks": [5000], "dtype": "<f4"}}
    tensorstore.open(spec, create=True, delete_existing=True).result().write(AGENT["w"]).result()
    sign(checkpoints / "2")
    assert_falls_back(checkpoints, caplog, "w of shape (4,) is stored in blocks of (5000,)")


def test_state_too_deep_to_be_read_back_is_refused_when_saved(checkpoints):
    tree = {"x": np.zeros(1)}
    for _ in range(60):
        tree = {"x": tree}
    with Checkpointer(checkpoints) as checkpointer, pytest.raises(TypeError, match="nested more than"):
        checkpointer.save(3, AGENT, tree, {}, block=True)


def test_too_many_open_files_is_no_damage(checkpoints, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(patience, "PATIENCE_S", 0.0)
    with Checkpointer(checkpoints) as checkpointer:
        monkeypatch.setattr(os, "open", refuse)
        with pytest.raises(UserError, match="Too many open files"):
            checkpointer.restore(None, AGENT)
        monkeypatch.undo()
        assert checkpointer.restore(None, AGENT).meta["n"] == 2
