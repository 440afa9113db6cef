import json
import os
import socket
import struct
import time
import tracemalloc

import numpy as np
import pytest

from dreamworld import plainyaml, reading
from dreamworld.fields import Fields, read_fields
from dreamworld.npy import read_array
from dreamworld.reading import BadFile, MissingFile


def npy(header, data=b"", version=1):
    text = header if isinstance(header, bytes) else header.encode()
    length = struct.pack("<H", len(text)) if version == 1 else struct.pack("<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text + data


def shaped(shape, descr="<f4"):
    return f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}\n"


READERS = {
    "json": reading.read_json,
    "jsonl": lambda path: list(reading.read_rows(path)),
    "yaml": plainyaml.read_yaml,
    "typed yaml": lambda path: plainyaml.read_yaml(path, typed=True),
    "npy": read_array,
}


def put(path, kind):
    """Something other than a file at `path`."""
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            here = os.getcwd()
            os.chdir(path.parent)  # a socket's path is at most 107 bytes
            server.bind(path.name)
            os.chdir(here)
    elif kind == "link to nothing":
        path.symlink_to(path.parent / "nothing")
    elif kind == "link to itself":
        path.symlink_to(path)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", ["fifo", "folder", "device", "socket", "link to nothing", "link to itself"])
def test_only_regular_files_are_opened(tmp_path, reader, kind):
    path = tmp_path / "file"
    put(path, kind)
    with pytest.raises(BadFile) as caught:
        READERS[reader](path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
    assert str(caught.value).count(str(path)) == 1


@pytest.mark.parametrize("reader", [name for name in READERS if name != "jsonl"])
def test_a_missing_file_is_told_from_a_bad_one(tmp_path, reader):
    with pytest.raises(MissingFile):
        READERS[reader](tmp_path / "file")


def test_rows_of_a_missing_file_are_none(tmp_path):
    assert list(reading.read_rows(tmp_path / "file")) == []


def test_what_the_system_refuses_says_nothing_of_the_file(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(24, "Too many open files")

    (tmp_path / "file").write_text("{}")
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(reading.BlockedFile, match="Too many open files"):
        reading.read_json(tmp_path / "file")


BAD_JSON = {
    "empty": b"",
    "text": b"hello",
    "cut": b'{"a": [1, 2',
    "deep lists": b"[" * 200_000 + b"]" * 200_000,
    "deep mappings": b'{"a":' * 500 + b"1" + b"}" * 500,
    "not UTF-8": b'{"a": "\xff"}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "half a character": b'{"a": "\\ud800"}',
    "400 digits": b'{"a": 1' + b"0" * 400 + b"}",
    "100,000 digits": b"[" + b"9" * 100_000 + b"]",
}


@pytest.mark.parametrize("damage", BAD_JSON)
def test_damaged_json_is_one_line(tmp_path, damage):
    path = tmp_path / "file.json"
    path.write_bytes(BAD_JSON[damage])
    with pytest.raises(BadFile) as caught:
        reading.read_json(path)
    assert str(caught.value).startswith(f"{path}: ") and str(caught.value).isprintable()


@pytest.mark.parametrize("text", [b"NaN", b"-Infinity", b"1e999", b"-1e400"])
def test_numbers_that_are_none_are_refused_in_rows(text):
    assert reading.parse_row(b'{"step": 1, "a": [' + text + b"]}") is None


def test_what_json_holds_survives(tmp_path):
    value = {"a": [1, 2.5, None, True, "\u00fc", {"b": []}], "crc": 2**128, "small": 1e-300, "nan": 1e308}
    (tmp_path / "file").write_text(json.dumps(value))
    assert reading.read_json(tmp_path / "file") == value


def test_a_file_beyond_the_limit_is_not_read(tmp_path):
    with open(tmp_path / "file", "wb") as file:
        file.truncate(10 << 30)  # a hole: no bytes on the disk
    tracemalloc.start()
    with pytest.raises(BadFile, match=r"is larger than 1\.05 MB"):
        reading.read_json(tmp_path / "file", reading.MAX_STATUS)
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


def test_bad_lines_of_jsonl_cost_themselves(tmp_path):
    lines = [
        b'{"step": 1}',
        b"\xff",
        b"[1]",
        b"{" * 5000,
        b'{"a": "' + b"x" * (3 << 20) + b'"}',
        b'{"step": 2}',
    ]
    (tmp_path / "file").write_bytes(b"\n".join(lines))
    rows = list(reading.read_rows(tmp_path / "file"))
    assert rows == [{"step": 1}, None, None, None, None, {"step": 2}]


BAD_YAML = {
    "aliases": b"a: &a [1, 1]\nb: &b [*a, *a]\nc: [*b, *b]\n",
    "anchor alone": b"a: &a 1\n",
    "merge": b"base: &base {a: 1}\nc:\n  <<: *base\n",
    "tag": b"a: !!python/object/apply:os.system ['true']\n",
    "local tag": b"a: !x 1\n",
    "binary": b"a: !!binary aGVsbG8=\n",
    "deep flow": b"a: " + b"[" * 100_000,
    "deep mapping": b"".join(b" " * i + b"a:\n" for i in range(60)),
    "two documents": b"a: 1\n---\nb: 2\n",
    "escape": b'a: "\x1b[31m"\n',
    "not UTF-8": b"a: \xff\n",
    "tab": b"a:\n\t- b\n",
    "list as key": b"? [a, b]\n: 1\n",
    "half a character": b'a: "\\ud800"\n',
    "no character": b'a: "\\UFFFFFFFF"\n',
    "version": b"%YAML 1." + b"9" * 5000 + b"\n---\na: 1\n",
    "large": b"a: " + b"x" * (300 << 10),
}


@pytest.mark.parametrize("typed", [False, True])
@pytest.mark.parametrize("damage", BAD_YAML)
def test_damaged_yaml_is_one_line(tmp_path, damage, typed):
    path = tmp_path / "file.yaml"
    path.write_bytes(BAD_YAML[damage])
    begin = time.perf_counter()
    with pytest.raises(BadFile) as caught:
        plainyaml.read_yaml(path, typed=typed)
    assert str(caught.value).startswith(f"{path}: ") and str(caught.value).isprintable()
    assert time.perf_counter() - begin < 5


def test_python_yaml_is_held_to_the_same_limits(tmp_path, monkeypatch):
    import yaml

    monkeypatch.setattr(plainyaml, "_BaseLoader", yaml.BaseLoader)
    for damage, data in BAD_YAML.items():
        (tmp_path / "file").write_bytes(data)
        with pytest.raises(BadFile):
            plainyaml.read_yaml(tmp_path / "file")
            raise AssertionError(damage)


def test_yaml_is_text_or_typed(tmp_path):
    (tmp_path / "file").write_text("a: 1\nb: {c: [1.5, yes, null]}\nd: 2001-01-01\n<<: x\n")
    assert plainyaml.read_yaml(tmp_path / "file")["a"] == "1"
    typed = plainyaml.read_yaml(tmp_path / "file", typed=True)
    assert typed == {"a": 1, "b": {"c": [1.5, True, None]}, "d": "2001-01-01", "<<": "x"}


BAD_ARRAYS = {
    "empty": b"",
    "not one": b"hello there, this is text",
    "pickle": b"\x80\x04\x95.",
    "zip": b"PK\x03\x04" + b"\0" * 100,
    "objects": npy(shaped((1,), "|O"), b"\x80\x04N."),
    "10^11 numbers": npy(shaped((10**11,))),
    "10^11 by 10^11": npy(shaped((10**11, 10**11))),
    "10^400 numbers": npy(shaped(f"(1{'0' * 400},)")),
    "negative": npy(shaped((-1, -4)), b"\0" * 16),
    "flags as shape": npy(shaped((True, True)), b"\0" * 4),
    "no bytes in 10^11 elements": npy(shaped((10**11,), "|S0")),
    "long elements": npy(shaped((1,), "|V100000000000")),
    "subarray": npy(shaped((1,), "(100000000,)<f4"), b"\0" * 4),
    "records": npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }\n", b"\0" * 4),
    "too short": npy(shaped((4,)), b"\0" * 15),
    "too long": npy(shaped((4,)), b"\0" * 17),
    "shape of text": npy(shaped("'abc'")),
    "missing key": npy("{'descr': '<f4'}\n"),
    "code": npy("__import__('os').system('true')\n"),
    "deep header": npy("(" * 9000 + ")" * 900 + "\n"),
    "long header": npy("[" * 1_000_000, version=2),
    "unknown dtype": npy(shaped((1,), "nonsense")),
    "version 9": b"\x93NUMPY\x09\0",
    "many axes": npy(shaped(tuple([1] * 200)), b"\0" * 4),
}


@pytest.mark.filterwarnings("ignore:.*header parsing")
@pytest.mark.parametrize("damage", BAD_ARRAYS)
def test_damaged_arrays_are_one_line_and_no_memory(tmp_path, damage):
    path = tmp_path / "0.npy"
    path.write_bytes(BAD_ARRAYS[damage])
    tracemalloc.start()
    with pytest.raises(BadFile) as caught:
        read_array(path)
    assert tracemalloc.get_traced_memory()[1] < 80 << 20
    tracemalloc.stop()
    assert str(caught.value).startswith(f"{path}: ") and str(caught.value).isprintable()


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.asfortranarray(np.arange(24).reshape(2, 3, 4)),
        np.zeros((0, 5), np.uint8),
        np.array(3.5),
        np.array(["a", "bc"]),
        np.array(True),
        np.array(["", ""], "U0"),
        np.array(["2001-01-01"], "M8[D]"),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_arrays_come_back(tmp_path, array):
    np.save(tmp_path / "0.npy", array)
    found = read_array(tmp_path / "0.npy")
    assert found.dtype == array.dtype and found.shape == array.shape
    np.testing.assert_array_equal(found, array)
    assert found.flags.writeable


@pytest.mark.parametrize(
    "name",
    [
        "../a",
        "/etc/passwd",
        "..",
        ".",
        "",
        "a/b",
        "a\\b",
        "C:a",
        "a\0",
        "a\n",
        "\x1b[2J",
        "x" * 300,
        3,
        None,
        ["a"],
    ],
    ids=ascii,
)
def test_names_from_disk_stay_in_their_folder(tmp_path, name):
    with pytest.raises(BadFile) as caught:
        reading.inside(tmp_path, name)
    assert str(caught.value).startswith(f"{tmp_path}: ") and str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["a/../../b", "/a", "a//b", "a/", "./a", "../a"])
def test_paths_from_disk_stay_in_their_folder(tmp_path, name):
    with pytest.raises(BadFile):
        reading.inside(tmp_path, name, folders=True)
    assert reading.inside(tmp_path, "a/b.c", folders=True) == tmp_path / "a" / "b.c"


def test_links_that_leave_are_refused(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run2").mkdir()
    (tmp_path / "run2" / "x").write_text("secret")
    (tmp_path / "run" / "file").symlink_to("../run2/x")
    (tmp_path / "run" / "folder").symlink_to(tmp_path / "run2")
    (tmp_path / "run" / "own").symlink_to("other")
    (tmp_path / "link").symlink_to("run")
    for name in ("file", "folder", "folder/x", "folder/new"):
        with pytest.raises(BadFile, match="a link that leaves"):
            reading.inside(tmp_path / "run", name, folders=True)
    assert reading.inside(tmp_path / "link", "own").name == "own"


def bad(row, call):
    with pytest.raises(BadFile) as caught:
        call(Fields(row, "/x.json", "meta"))
    return str(caught.value)


def test_fields_name_file_and_key():
    assert bad({}, lambda f: f.integer("a")) == "/x.json: meta.a is missing"
    assert bad({"a": "1"}, lambda f: f.integer("a")) == (
        "/x.json: meta.a must be a whole number from 0 to 9223372036854775807, not text"
    )
    assert bad({"a": []}, lambda f: f.fields("a")) == "/x.json: meta.a must be a mapping, not a list"
    assert bad({"a": [1, "b"]}, lambda f: f.items("a", str)).endswith(
        "meta.a must be a list of texts, not a list"
    )


@pytest.mark.parametrize(
    ("getter", "value"),
    [
        ("integer", True),
        ("integer", 1.0),
        ("integer", -1),
        ("integer", 10**299),
        ("number", 10**299),
        ("number", float("nan")),
        ("number", float("inf")),
        ("number", False),
        ("number", None),
        ("flag", 1),
        ("text", 1),
        ("items", {"a": 1}),
    ],
)
def test_fields_take_no_other_type(getter, value):
    assert "must be" in bad({"a": value}, lambda f: getattr(f, getter)("a"))


@pytest.mark.parametrize(
    "rows",
    [
        [[1, 2]],
        [[1, 2, "3"]],
        [[1, 2, 3.0]],
        [1, 2, 3],
        [[1, 2, 10**30]],
        [[[1], [2], [3]]],
        {"a": 1},
        [[1, 2, 3], [1]],
    ],
)
def test_a_table_has_whole_numbers_only(rows):
    assert "must be a list" in bad({"a": rows}, lambda f: f.table("a", 3))


def test_a_table_is_read_at_once():
    rows = [[index, 0, -1] for index in range(300_000)]
    begin = time.perf_counter()
    assert Fields({"a": rows}, "x").table("a", 3).shape == (300_000, 3)
    assert time.perf_counter() - begin < 2


def test_a_file_that_holds_no_mapping_is_named(tmp_path):
    (tmp_path / "x.json").write_text("[1]")
    with pytest.raises(BadFile, match=r"x\.json: its content must be a mapping, not a list"):
        read_fields(tmp_path / "x.json")
