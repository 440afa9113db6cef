"""Saves are incremental, exact and never half-done; damage is named, costs what it hits, and runs no code."""

from __future__ import annotations

import inspect
import json
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from dreamworld.errors import UserError
from dreamworld.replay import Replay, SaveError
from dreamworld.replay.files import Damaged, FileWriter, read_section, read_table

STORAGES = ["raw", "lz4", "disk"]


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir() if path.is_file()}


def saved(kit, directory, storage="raw", steps=100, **options):
    replay = kit.replay(num_envs=3, chunk=16, storage=storage, directory=directory, capacity=600, **options)
    for step in range(0, steps, 25):
        kit.fill(replay, 25, begin=step)
        rows = replay.sample(4)["row"]
        replay.write_back(rows, kit.latents(rows + step))
        manifest = json.loads(json.dumps(replay.save(directory)))
    return replay, manifest


def reload(kit, directory, manifest, storage="raw", **options):
    replay = kit.replay(num_envs=3, chunk=16, storage=storage, directory=directory, capacity=600, **options)
    return replay, replay.load(directory, manifest)


def assert_every_row_is_genuine(kit, replay):
    """Each window holds what was added; latents are those of some write or zero."""
    if not replay.starts:
        return
    batch = replay.sample(64)
    code = batch["reward"].astype(np.int64)
    steps, envs = code // 1000, code % 1000
    for step in np.unique(steps):
        expected, at = kit.rows(int(step), 3), steps == step
        for key in ("obs/image", "obs/position", "action/action"):
            np.testing.assert_array_equal(batch[key][at], expected[key][envs[at]])
    assert (np.diff(code, axis=1) == 1000).all()


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("loaded", STORAGES)
def test_a_saved_replay_continues_exactly_in_any_storage(kit, tmp_path, storage, loaded):
    replay, manifest = saved(kit, tmp_path, storage, online=True, prioritized=0.5, recent=0.1)
    other, problems = reload(kit, tmp_path, manifest, loaded, online=True, prioritized=0.5, recent=0.1)
    assert problems == [] and other.digest() == replay.digest()
    for step in range(100, 400, 10):
        for each in (replay, other):
            kit.fill(each, 10, begin=step)
        a, b = replay.sample(5), other.sample(5)
        for key in a:
            np.testing.assert_array_equal(a[key], b[key], err_msg=key)
    assert other.digest() == replay.digest()


def test_a_save_writes_only_what_is_new(kit, tmp_path):
    replay, _ = saved(kit, tmp_path, steps=75)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    kit.fill(replay, 10, begin=75)
    replay.write_back(np.array([[3, 4, 5], [4, 5, 6]]), kit.latents(np.arange(6).reshape(2, 3)))
    cost = replay.save(tmp_path)["cost"]
    assert cost["rows"] == 30
    assert cost["latent_rows"] == 30 + 4  # each row once
    assert all((tmp_path / name).stat().st_mtime_ns == at for name, at in before.items())
    assert len(names(tmp_path)) == len(before) + 2
    assert replay.save(tmp_path)["cost"]["latent_rows"] == 0


def test_latent_files_are_compacted(kit, tmp_path):
    replay, manifest = saved(kit, tmp_path)
    live = replay.rows
    written = []
    for _ in range(12):
        rows = np.arange(60).reshape(1, -1)
        replay.write_back(rows, kit.latents(rows))
        manifest = replay.save(tmp_path)
        written.append(manifest["cost"]["compacted"])
        assert manifest["journal_rows"] <= 2 * live
        replay.collect_garbage([manifest])
        assert {n for n in names(tmp_path) if n.startswith("latents")} == set(manifest["journals"])
    assert any(written) and not all(written)
    other, problems = reload(kit, tmp_path, json.loads(json.dumps(manifest)))
    assert not problems and other.digest() == replay.digest()


def test_files_go_only_when_no_snapshot_needs_them(kit, tmp_path):
    replay, old = saved(kit, tmp_path)
    (tmp_path / "rows-00000099.dwr.tmp").write_bytes(b"unfinished")
    (tmp_path / "notes.txt").write_text("not ours")
    kit.fill(replay, 400, begin=100)
    new = replay.save(tmp_path)
    assert replay.collect_garbage([old, new]) == ["rows-00000099.dwr.tmp"]
    assert reload(kit, tmp_path, old)[1] == []
    removed = replay.collect_garbage([new])
    assert set(removed) >= set(old["files"]) - set(new["files"])
    assert names(tmp_path) == {*new["files"], *new["journals"], "notes.txt"}


def test_streams_begin_anew_after_a_restart_of_the_environments(kit, tmp_path):
    _, manifest = saved(kit, tmp_path, steps=25)
    other, _ = reload(kit, tmp_path, manifest)
    other.add(kit.rows(25, 3, first=[True] * 3))
    kit.fill(other, 20, begin=26, episode=1000)
    reward = other.sample(300)["reward"] // 1000
    assert not ((reward[:, 0] < 25) & (reward[:, -1] >= 25)).any()
    assert other.counts["breaks"] == 3


@pytest.mark.parametrize("envs", [1, 5])
def test_another_number_of_environments_keeps_the_rows(kit, tmp_path, envs):
    _, manifest = saved(kit, tmp_path)
    replay = kit.replay(num_envs=envs, chunk=16, capacity=600)
    assert replay.load(tmp_path, manifest) == []
    kit.fill(replay, 50, begin=100)
    assert replay.rows == 300 + 50 * envs
    replay.sample(50)


def test_another_chunk_length_takes_that_of_the_files(kit, tmp_path):
    old, manifest = saved(kit, tmp_path)
    replay = kit.replay(num_envs=3, chunk=7, capacity=600)
    assert replay.load(tmp_path, manifest) == []
    assert replay.chunk == 16 and replay.digest() == old.digest()


def test_a_replay_of_other_spaces_or_too_small_is_refused(kit, tmp_path):
    _, manifest = saved(kit, tmp_path)
    manifest["layout"]["obs/position"] = ["float32", [4]]
    with pytest.raises(
        UserError, match=r"obs/position: saved \['float32', \[4\]\], now \['float32', \[3\]\]"
    ):
        reload(kit, tmp_path, manifest)
    _, manifest = saved(kit, tmp_path / "b")
    with pytest.raises(UserError, match="too small"):
        kit.replay(num_envs=3, capacity=60, chunk=4).load(tmp_path, manifest)
    with pytest.raises(UserError, match="format version 99"):
        reload(kit, tmp_path, manifest | {"version": 99})


def test_disk_storage_refuses_to_save_elsewhere(kit, tmp_path):
    replay, _ = saved(kit, tmp_path / "a", "disk")
    with pytest.raises(UserError, match="replay lives in"):
        replay.save(tmp_path / "b")


def test_saving_to_another_directory_writes_everything(kit, tmp_path):
    replay, _ = saved(kit, tmp_path / "a")
    manifest = replay.save(tmp_path / "b")
    assert manifest["cost"]["rows"] == replay.rows
    other, problems = reload(kit, tmp_path / "b", manifest)
    assert not problems and other.digest() == replay.digest()


def damage(path: Path, kind: str, random: np.random.Generator) -> None:
    data = bytearray(path.read_bytes())
    if kind == "missing":
        path.unlink()
    elif kind == "truncated":
        path.write_bytes(data[: random.integers(len(data))])
    elif kind == "flipped":
        data[random.integers(len(data))] ^= 1 << int(random.integers(8))
        path.write_bytes(data)
    elif kind == "empty":
        path.write_bytes(b"")
    else:
        path.write_bytes(random.bytes(len(data)))


@pytest.mark.parametrize("storage", ["raw", "disk"])
@pytest.mark.parametrize("kind", ["missing", "truncated", "flipped", "empty", "garbage"])
def test_any_damage_to_any_file_is_named_and_the_rest_trains_on(kit, tmp_path, storage, kind):
    random = np.random.default_rng(0)
    source = tmp_path / "source"
    original, manifest = saved(kit, source, storage)
    for number, name in enumerate([*manifest["files"], *manifest["journals"]]):
        for repeat in range(2 if kind in ("flipped", "truncated") else 1):
            folder = tmp_path / f"{number}-{repeat}"
            shutil.copytree(source, folder)
            damage(folder / name, kind, random)
            replay, problems = reload(kit, folder, manifest, storage)
            assert problems and all(name in p or "in no file" in p for p in problems), problems
            assert any(name in p for p in problems)
            assert replay.stats()["corrupt"] == len(problems)
            if name in manifest["journals"]:
                assert replay.rows == original.rows
            assert_every_row_is_genuine(kit, replay)
            kit.fill(replay, 40, begin=100)
            assert_every_row_is_genuine(kit, replay)
            healed = json.loads(json.dumps(replay.save(folder)))
            replay.collect_garbage([healed])
            again, problems = reload(kit, folder, healed, storage)
            assert problems == [] and again.digest() == replay.digest()


@pytest.mark.parametrize("which", [0, -1])
def test_a_damaged_latents_file_is_written_anew_where_nothing_changed(kit, tmp_path, which):
    _, manifest = saved(kit, tmp_path)
    assert len(manifest["journals"]) > 1
    path = tmp_path / manifest["journals"][which]
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)
    replay, problems = reload(kit, tmp_path, manifest)
    assert problems
    healed = json.loads(json.dumps(replay.save(tmp_path)))
    assert path.name not in healed["journals"] and healed["cost"]["compacted"]
    again, problems = reload(kit, tmp_path, healed)
    assert problems == [] and again.digest() == replay.digest()
    assert again.save(tmp_path)["cost"]["latent_rows"] == 0


def test_an_unreadable_file_is_moved_to_quarantine(kit, tmp_path):
    _, manifest = saved(kit, tmp_path)
    (tmp_path / manifest["files"][0]).write_bytes(b"x" * 1000)
    _, problems = reload(kit, tmp_path, manifest)
    assert "moved to quarantine/" in problems[0]
    assert (tmp_path / "quarantine" / manifest["files"][0]).read_bytes() == b"x" * 1000
    assert reload(kit, tmp_path, manifest)[1]  # and once more: still loads, still says so


@pytest.mark.parametrize("kind", ["flipped", "truncated", "missing"])
def test_a_file_damaged_while_the_run_reads_it_never_gives_a_wrong_batch(kit, tmp_path, kind):
    replay, manifest = saved(kit, tmp_path, "disk", steps=150)
    replay.files.close()
    path = tmp_path / manifest["files"][1]
    data = bytearray(path.read_bytes())
    if kind == "flipped":
        for place in range(500, len(data) - 3000, 700):
            data[place] ^= 16
        path.write_bytes(data)
    elif kind == "truncated":
        os.truncate(path, 1000)
    else:
        path.unlink()
    rows = replay.rows
    for _ in range(30):
        assert_every_row_is_genuine(kit, replay)
    assert replay.rows < rows and replay.stats()["corrupt"] == len(replay.problems) > 0
    assert all(path.name in problem for problem in replay.take_problems())
    assert replay.take_problems() == []


def test_when_every_chunk_is_damaged_the_cause_is_named(kit, tmp_path):
    replay = kit.replay(num_envs=3, chunk=16, storage="disk", directory=tmp_path, hot_chunks=0, capacity=900)
    kit.fill(replay, 16 * 9 + 2)  # too few rows in memory for a window
    manifest = replay.save(tmp_path)
    replay.files.close()
    for name in manifest["files"]:
        os.truncate(tmp_path / name, 10)
    with pytest.raises(LookupError, match=r"no intact window any more: rows-\d+\.dwr is truncated"):
        replay.sample(16)
    assert replay.starts == 0 and not replay.ready


class Malice:
    def __reduce__(self):
        return (os.system, ("touch HACKED",))


def test_a_malicious_file_runs_nothing(kit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, manifest = saved(kit, tmp_path / "replay")
    for name in [*manifest["files"], *manifest["journals"]]:
        (tmp_path / "replay" / name).write_bytes(pickle.dumps(Malice()))
    other, problems = reload(kit, tmp_path / "replay", manifest)
    assert len(problems) > 4 and other.rows == 0
    evil = tmp_path / "replay" / "rows-00000000.dwr"
    with FileWriter(evil) as file:  # well-formed, with a pickle where rows belong
        section = file.section(pickle.dumps(Malice()))
        record = {
            "stream": 0,
            "start": 0,
            "first": 0,
            "rows": 16,
            "columns": [section] * 2,
            "ends": [[1], [1]],
        }
        file.close({"kind": "rows", "version": 1, "codec": "lz4", "records": [record]})
    other, problems = reload(kit, tmp_path / "replay", manifest | {"files": [evil.name]})
    assert problems and other.rows == 0
    assert not (tmp_path / "HACKED").exists()


def test_no_module_of_replay_can_unpickle():
    folder = Path(inspect.getfile(Replay)).parent
    for path in folder.glob("*.py"):
        text = path.read_text()
        assert "pickle" not in text and "np.load" not in text and "eval(" not in text, path.name


FULL_DISK = """
import json, resource, sys, signal
sys.path.insert(0, sys.argv[2])
import conftest as kit
from pathlib import Path
from dreamworld.replay import Replay, SaveError
folder = Path(sys.argv[1])
replay = kit.make_replay(num_envs=3, chunk=16, capacity=3000, online=True)
kit.fill(replay, 60)
first = replay.save(folder)
digest = replay.digest()
kit.fill(replay, 600, begin=60)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
for _ in range(2):
    try:
        replay.save(folder)
        raise SystemExit("the save should have failed")
    except SaveError as error:
        assert "replay was not saved: File too large" in str(error), error
left = sorted(p.name for p in folder.iterdir())
assert not [n for n in left if n.endswith(".tmp")], left
replay.sample(16)
other = kit.make_replay(num_envs=3, chunk=16, capacity=3000, online=True)
assert other.load(folder, first) == [] and other.digest() == digest
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
again = json.loads(json.dumps(replay.save(folder)))
other = kit.make_replay(num_envs=3, chunk=16, capacity=3000, online=True)
assert other.load(folder, again) == [] and other.digest() == replay.digest()
"""


@pytest.mark.parametrize("limit", [4096, 400_000])
def test_a_full_disk_is_reported_and_the_last_save_stays(tmp_path, limit):
    """The file size limit makes writes fail as a full disk does, without root: in rows, or in latents."""
    here = Path(__file__).parent
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "r"), str(here), str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_disk_storage_survives_a_full_disk_for_a_while(kit, tmp_path):
    """Chunks that can't be spilled stay in memory; when too many have, the error comes out."""
    replay = kit.replay(storage="disk", directory=tmp_path / "r", hot_chunks=2, chunk=8, capacity=2000)
    kit.fill(replay, 40)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
        kit.fill(replay, 8, begin=40)
        assert replay.stats()["spill_failures"] > 0
        assert "File too large" in replay.problems[-1]
        replay.sample(32)
        with pytest.raises(SaveError):
            kit.fill(replay, 100, begin=48)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    kit.fill(replay, 100, begin=200)
    assert len(replay.hot) <= 2 + replay.num_envs


def test_an_unwritable_directory_is_named(kit, tmp_path):
    replay = kit.replay()
    kit.fill(replay, 20)
    (tmp_path / "file").write_text("")
    with pytest.raises(SaveError, match=r"replay was not saved: File exists: '.*/file'$"):
        replay.save(tmp_path / "file")


def test_a_file_appears_only_when_complete(tmp_path):
    path = tmp_path / "rows-00000000.dwr"
    with pytest.raises(KeyError), FileWriter(path) as file:
        section = file.section(b"abc")
        assert not path.exists()
        raise KeyError
    assert list(tmp_path.iterdir()) == []
    with FileWriter(path) as file:
        section = file.section(b"abc")
        file.close({"x": section})
    with open(path, "rb") as opened:
        assert read_section(opened, read_table(path)[0]["x"]) == b"abc"
        with pytest.raises(Damaged, match="damaged bytes"):
            read_section(opened, [section[0], 3, section[2] ^ 1])


KILLED = """
import json, os, sys
sys.path.insert(0, sys.argv[2])
import conftest as kit
from pathlib import Path
folder = Path(sys.argv[1])
options = {"storage": sys.argv[3], "directory": folder, "online": True}
replay = kit.make_replay(num_envs=3, chunk=16, capacity=900, **options)
kept, step = [], 0
print("ready", flush=True)
while True:
    kit.fill(replay, 20, begin=step)
    step += 20
    rows = replay.sample(8)["row"]
    replay.write_back(rows, kit.make_latents(rows + step))
    kept = [*kept, replay.save(folder) | {"digest": replay.digest(), "step": step}][-2:]
    temporary = folder / "snapshot.json.new"
    temporary.write_text(json.dumps(kept))
    os.replace(temporary, folder / "snapshot.json")
    replay.collect_garbage(kept)
"""


@pytest.mark.parametrize("rounds", [4, pytest.param(50, marks=pytest.mark.soak)])
def test_after_kill_9_at_any_moment_the_newest_snapshot_is_whole(kit, tmp_path, rounds):
    random = np.random.default_rng(rounds)
    for number in range(rounds):
        folder, storage = tmp_path / str(number), STORAGES[number % 3]
        folder.mkdir()
        command = [sys.executable, "-c", KILLED, str(folder), str(Path(__file__).parent), storage]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        while not (folder / "snapshot.json").exists():
            assert process.poll() is None
            time.sleep(0.005)
        time.sleep(float(random.uniform(0, 0.4)))
        process.kill()
        process.wait()
        process.stdout.close()
        kept = json.loads((folder / "snapshot.json").read_text())
        for manifest in kept:
            replay = kit.replay(
                num_envs=3, chunk=16, capacity=900, storage=storage, directory=folder, online=True
            )
            assert replay.load(folder, manifest) == []
            assert replay.digest() == manifest["digest"]
        kit.fill(replay, 5, begin=kept[-1]["step"])
        final = replay.save(folder)
        replay.collect_garbage([final])
        assert names(folder) - {"snapshot.json", "snapshot.json.new"} == {*final["files"], *final["journals"]}
