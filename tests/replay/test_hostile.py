"""Manifests and replay files that somebody crafted, checksums included: nothing outside moves, nothing hangs."""

from __future__ import annotations

import copy
import json
import os
import time
import tracemalloc
import zlib

import pytest

from dreamworld.errors import UserError
from dreamworld.reading import BadFile
from dreamworld.replay.files import END, TRAILER, read_table

OPTIONS = {"num_envs": 3, "chunk": 16, "capacity": 600, "online": True, "prioritized": 0.5, "recent": 0.1}


@pytest.fixture(params=["raw", "lz4", "disk"])
def storage(request):
    return request.param


def save(kit, folder, storage="raw"):
    replay = kit.replay(storage=storage, directory=folder, **OPTIONS)
    for step in range(0, 100, 25):
        kit.fill(replay, 25, begin=step)
        manifest = json.loads(json.dumps(replay.save(folder)))
    return manifest


def load(kit, folder, manifest, storage="raw"):
    replay = kit.replay(storage=storage, directory=folder, **OPTIONS)
    return replay, replay.load(folder, manifest, folder / "snapshot.json")


def assert_refused(kit, folder, manifest, words=""):
    """One line that names the manifest's file; the replay is as it was."""
    replay = kit.replay(directory=folder, **OPTIONS)
    kit.fill(replay, 20)
    digest = replay.digest()
    with pytest.raises(BadFile) as caught:
        replay.load(folder, manifest, folder / "snapshot.json")
    line = str(caught.value)
    assert line.startswith(f"{folder / 'snapshot.json'}: ") or "link that leaves" in line
    assert line.isprintable() and len(line) < 500 and words in line
    assert replay.digest() == digest


NAMES = [
    "../victim",
    "../../victim",
    "/etc/hostname",
    "victim",
    "quarantine/../../victim",
    "rows-00000000.dwr/../../victim",
    "rows-00000000.dwr\n",
    "rows-00000000.dwr\0",
    "rows-٠٠٠٠٠٠٠٠.dwr",
    "rows-1.dwr",
    ".",
    "",
    None,
    3,
    ["rows-00000000.dwr"],
]


@pytest.mark.parametrize("key", ["files", "journals"])
@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_no_name_in_a_manifest_moves_or_deletes_a_file(kit, tmp_path, key, name):
    folder, victim = tmp_path / "replay", tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "replay").mkdir()
    (tmp_path / "replay" / "victim").write_text("precious")
    manifest = save(kit, folder)
    manifest[key].append(name)
    assert_refused(kit, folder, manifest)
    assert victim.read_text() == (folder / "victim").read_text() == "precious"
    replay, _ = load(kit, folder, manifest | {key: manifest[key][:-1]})
    before = sorted(folder.rglob("*"))
    assert replay.collect_garbage([manifest]) == [] and sorted(folder.rglob("*")) == before
    assert "no old replay file is deleted" in replay.take_problems()[0]


@pytest.mark.parametrize("kind", ["rows", "latents"])
def test_a_link_that_leaves_is_not_read_moved_or_deleted(kit, tmp_path, kind):
    manifest = save(kit, tmp_path / "replay")
    path = sorted((tmp_path / "replay").glob(f"{kind}-*"))[0]
    path.rename(tmp_path / path.name)
    path.symlink_to(tmp_path / path.name)
    assert_refused(kit, tmp_path / "replay", manifest)
    assert (tmp_path / path.name).exists() and path.is_symlink()


def test_quarantine_is_no_way_out(kit, tmp_path):
    manifest = save(kit, tmp_path / "replay")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "rows-00000099.dwr").write_text("precious")
    (tmp_path / "replay" / "quarantine").symlink_to(tmp_path / "elsewhere")
    path = sorted((tmp_path / "replay").glob("rows-*"))[0]
    path.write_text("damaged")
    replay, problems = load(kit, tmp_path / "replay", manifest)
    assert problems and "moved" not in problems[0] and path.exists()
    replay.collect_garbage([])
    assert (tmp_path / "elsewhere" / "rows-00000099.dwr").read_text() == "precious"


@pytest.mark.parametrize("thing", ["fifo", "folder", "link to nothing"])
def test_something_else_in_place_of_a_file_costs_its_rows(kit, tmp_path, storage, thing):
    manifest = save(kit, tmp_path, storage)
    for kind in ("rows", "latents"):
        path = sorted(tmp_path.glob(f"{kind}-*"))[0]
        path.unlink()
        if thing == "fifo":
            os.mkfifo(path)
        elif thing == "folder":
            path.mkdir()
        else:
            path.symlink_to(tmp_path / "nothing")
    replay, problems = load(kit, tmp_path, manifest, storage)
    assert any(path.name in problem for problem in problems) and replay.starts > 0
    replay.sample(16)


WRONG = [None, -1, 1.5, "x", "\x1b[31m", [], [1], [[]], {}, {"a": "b"}, {"a": -1}, True, 10**29, "delete"]
ALLOWED = {  # values that a manifest may well have
    "files": [[]],
    "journals": [[]],
    "counts": [{}],
    "layout": [],
    "chunks": [[]],
    "lanes": [[]],
}


@pytest.mark.parametrize(
    "key",
    [
        "layout",
        "chunk",
        "files",
        "journals",
        "journal_rows",
        "chunks",
        "lanes",
        "next_seq",
        "next_stream",
        "sampler",
        "counts",
    ],
)
def test_every_field_of_a_manifest_is_checked(kit, tmp_path, key):
    manifest = save(kit, tmp_path)
    for value in WRONG:
        if value in ALLOWED.get(key, []) or (key == "layout" and value in ({}, {"a": "b"})):
            continue
        changed = {k: v for k, v in (manifest | {key: value}).items() if k != key or value != "delete"}
        assert_refused(kit, tmp_path, changed, key)


@pytest.mark.parametrize("key", ["random", "queue", "clock", "max_priority", "free_slots"])
def test_every_field_of_the_sampler_is_checked(kit, tmp_path, key):
    manifest = save(kit, tmp_path)
    for value in [*WRONG, [10**29], [1, 1], [-1], [1 << 40], 3]:
        if (key == "queue" and value in ([], [1], [1, 1], [-1], [1 << 40])) or (
            value in {"free_slots": ([],), "max_priority": (1.5, 3)}.get(key, ())
        ):
            continue
        if key == "free_slots" and value == [1]:
            continue
        changed = copy.deepcopy(manifest)
        changed["sampler"][key] = value
        if value == "delete":
            del changed["sampler"][key]
        assert_refused(kit, tmp_path, changed)


RANDOM = [
    {"bit_generator": "MT19937", "state": {}},
    {"bit_generator": "PCG64"},
    {"bit_generator": "PCG64", "state": {"state": "x", "inc": 1}, "has_uint32": 0, "uinteger": 0},
    {"bit_generator": "PCG64", "state": {"state": 10**290, "inc": 1}, "has_uint32": 0, "uinteger": 0},
    {"bit_generator": "PCG64", "state": {"state": 1, "inc": 1}, "has_uint32": 0, "uinteger": 10**29},
    {"bit_generator": "PCG64", "state": [1, 2], "has_uint32": 0, "uinteger": 0},
]


@pytest.mark.parametrize("state", RANDOM)
def test_a_state_of_no_random_generator_is_refused(kit, tmp_path, state):
    manifest = save(kit, tmp_path)
    manifest["sampler"]["random"] = state
    assert_refused(kit, tmp_path, manifest)


@pytest.mark.parametrize("column", range(7))
@pytest.mark.parametrize("value", [-2, 1 << 62, 10**20, "1", None, 1.0])
def test_every_number_of_a_chunk_is_checked(kit, tmp_path, column, value):
    manifest = save(kit, tmp_path)
    manifest["chunks"][1][column] = value
    assert_refused(kit, tmp_path, manifest, "chunks")


def test_chunks_in_no_order_of_a_replay_are_refused(kit, tmp_path):
    manifest = save(kit, tmp_path)
    chunks = manifest["chunks"]
    swapped = [[*chunks[1][:1], *chunks[0][1:]], [*chunks[0][:1], *chunks[1][1:]], *chunks[2:]]
    later = [[*c[:4], 10**6, *c[5:]] for c in chunks]
    for wrong in (chunks[::-1], [*chunks, chunks[-1]], swapped[::-1], later, [c[:6] for c in chunks]):
        assert_refused(kit, tmp_path, manifest | {"chunks": wrong}, "chunks")


def test_a_million_chunks_that_are_in_no_file_are_one_line(kit, tmp_path):
    manifest = save(kit, tmp_path)
    stream = manifest["next_stream"]
    first = manifest["next_seq"]
    more = [[first + i, 0, stream + i, 0, 10**6 + i, 16, -1] for i in range(1_000_000)]
    manifest["chunks"] += more
    manifest["next_seq"], manifest["next_stream"] = (
        first + 10**6,
        stream + 1,
    )  # streams below their limit only
    assert_refused(kit, tmp_path, manifest, "chunks")
    manifest["next_stream"], manifest["sampler"]["clock"] = stream + 10**6, 10**8
    begin = time.perf_counter()
    replay, problems = load(kit, tmp_path, manifest)
    assert problems == ["1,000,000 chunks of 16,000,000 rows dropped: they are in no file"]
    assert replay.rows == 300 and time.perf_counter() - begin < 15


def rewrite(path, change):
    """Changes the table of a replay file and makes its checksum right again."""
    table, _ = read_table(path)
    change(table)
    text = json.dumps(table).encode()
    data = path.read_bytes()
    length = TRAILER.unpack(data[-TRAILER.size :])[1]
    body = data[: len(data) - TRAILER.size - length]
    path.write_bytes(body + text + TRAILER.pack(zlib.crc32(text), len(text), END))


def put(where, key, value):
    def change(table):
        target = table if where == "table" else table["records"][0]
        target[key] = value

    return change


TABLES = {
    f"{where}.{key}={value!r:.30}": (where, key, value)
    for where, key, values in [
        ("table", "records", [None, 1, {}, [1], [[]], ["x"]]),
        ("table", "codec", [None, 1, "zip", []]),
        ("record", "stream", [None, -1, "0", 10**30, []]),
        ("record", "start", [None, -1, "0", 10**30, []]),
        ("record", "first", [None, -1, "0", 10**11, 1.5]),
        ("record", "rows", [None, -1, 0, "0", 10**11, 10**30]),
        ("record", "columns", [None, {}, [1, 2], [[1, 2]], [[-1, 5, 0]] * 2, [[8, 10**11, 0]] * 2, []]),
        (
            "record",
            "columns",
            [[[8, 5, "x"]] * 2, [[8, 5, 0]] * 10**5, [[True, 5, 0]] * 2, [[]] * 2, [[8]] * 2],
        ),
    ]
    for value in values
}


@pytest.mark.parametrize("damage", TABLES)
def test_a_crafted_table_of_rows_costs_its_rows(kit, tmp_path, damage):
    for storage in ("raw", "disk"):
        folder = tmp_path / storage
        manifest = save(kit, folder, storage)
        rewrite(sorted(folder.glob("rows-*"))[0], put(*TABLES[damage]))
        tracemalloc.start()
        replay, problems = load(kit, folder, manifest, storage)
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
        tracemalloc.stop()
        assert 0 < replay.rows < 300 and 0 < len(problems) < 30
        assert all(problem.isprintable() for problem in problems)
        replay.sample(8)


@pytest.mark.parametrize(
    "ends",
    [None, [], [[1]], [[-1]] * 2, [["x"]] * 2, [[5, 1]] * 2, [list(range(1, 10**5))] * 2, [[10**12]] * 2],
)
def test_crafted_blocks_cost_their_rows(kit, tmp_path, ends):
    manifest = save(kit, tmp_path, "lz4")
    rewrite(sorted(tmp_path.glob("rows-*"))[0], put("record", "ends", ends))
    replay, problems = load(kit, tmp_path, manifest, "lz4")
    assert 0 < replay.rows < 300 and problems


@pytest.mark.parametrize(
    "value", [None, 1, {}, [[8, 5, 0]], [[8, -1, 0]] * 4, [[8, 10**11, 0]] * 4, ["x"] * 4]
)
def test_a_crafted_table_of_latents_costs_latents(kit, tmp_path, value):
    manifest = save(kit, tmp_path)
    rewrite(sorted(tmp_path.glob("latents-*"))[0], put("record", "sections", value))
    replay, problems = load(kit, tmp_path, manifest)
    assert replay.rows == 300 and problems
    replay.sample(8)


def test_one_section_named_a_million_times_is_refused(kit, tmp_path):
    manifest = save(kit, tmp_path)
    path = sorted(tmp_path.glob("rows-*"))[0]
    rewrite(path, lambda table: table.update(records=table["records"][:1] * 20_000))
    replay, problems = load(kit, tmp_path, manifest)
    assert "sections overlap" in problems[0] and replay.rows < 300


def test_a_table_that_is_nested_too_deep_costs_its_file(kit, tmp_path):
    manifest = save(kit, tmp_path)
    path = sorted(tmp_path.glob("rows-*"))[0]
    text = b"[" * 100_000
    path.write_bytes(b"DWREPLY1" + text + TRAILER.pack(zlib.crc32(text), len(text), END))
    replay, problems = load(kit, tmp_path, manifest)
    assert path.name in problems[0] and replay.rows > 0


def test_more_chunks_than_fit_memory_are_refused(kit, tmp_path, monkeypatch):
    from dreamworld.replay import restore

    manifest = save(kit, tmp_path)
    monkeypatch.setattr(restore, "available_memory", lambda: (1000, ""))
    with pytest.raises(UserError, match=r"chunks of 16 rows, which need \d+ kB of memory"):
        load(kit, tmp_path, manifest)
