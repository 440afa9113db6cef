"""What a system refuses for the moment is no damage: nothing healthy is dropped, moved away or forgotten."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest

from dreamworld.reading import BlockedFile
from dreamworld.replay import patience
from dreamworld.replay.files import Damaged

PREPARE = """
import json, os, resource, sys
sys.path.insert(0, sys.argv[2])
import conftest as kit
from pathlib import Path
from dreamworld.reading import BlockedFile
from dreamworld.replay import patience
patience.PATIENCE_S = 0.3
folder = Path(sys.argv[1])
make = lambda: kit.make_replay(num_envs=3, chunk=16, storage="disk", directory=folder, capacity=3000, hot_chunks=1)
replay = make()
for step in range(0, 800, 20):
    kit.fill(replay, 20, begin=step)
    manifest = json.loads(json.dumps(replay.save(folder)))
rows, digest = replay.rows, replay.digest()
replay.files.close()
lowest = os.dup(0)
os.close(lowest)
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
limit = lambda spare: resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + spare, hard))

def blocked(action):
    try:
        action()
    except BlockedFile as error:
        assert "Too many open files" in str(error) and str(folder) in str(error), error
    else:
        raise SystemExit("nothing was refused")

def whole(replay):
    assert replay.rows == rows and replay.counts["corrupt"] == 0, replay.take_problems()
    assert not (folder / "quarantine").exists()
"""
FEW = """
limit(3)
for _ in range(30):
    replay.sample(16)
whole(replay)
kit.fill(replay, 20, begin=step + 20)
manifest = replay.save(folder)
assert replay.collect_garbage([manifest]) == []
limit(len(replay.files.open))  # others took the rest
kit.fill(replay, 20, begin=step + 40)
replay.save(folder)
"""
NONE_TO_READ = """
limit(0)
blocked(lambda: replay.sample(16))
whole(replay)
replay.collect_garbage([manifest])
assert "Too many open files" in " ".join(replay.take_problems())
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
replay.sample(16)
whole(replay)
"""
NONE_TO_LOAD = """
other = make()
limit(0)
blocked(lambda: other.load(folder, manifest))
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
assert other.load(folder, manifest) == []
whole(other)
assert other.digest() == digest
limit(1)
assert other.load(folder, manifest) == []
whole(other)
"""


@pytest.mark.parametrize(
    "program", [FEW, NONE_TO_READ, NONE_TO_LOAD], ids=["few", "none to read", "none to load"]
)
def test_without_free_descriptors_no_chunk_is_dropped(tmp_path, program):
    command = [sys.executable, "-c", PREPARE + program, str(tmp_path / "r"), str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


OF_THE_DATA = {
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ELOOP,
    errno.EIO,
    errno.EBADMSG,
    errno.EUCLEAN,
}


@pytest.mark.parametrize("number", sorted(errno.errorcode), ids=lambda number: errno.errorcode[number])
def test_only_an_error_that_speaks_of_the_data_is_damage(number, monkeypatch):
    monkeypatch.setattr(patience, "PATIENCE_S", 0.0)

    def refuse():
        raise OSError(number, "reason")

    with pytest.raises(Damaged if number in OF_THE_DATA else BlockedFile, match=r"reason|is missing"):
        patience.read(refuse, Path("rows-1.dwr"))


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOMEM, errno.ESTALE, errno.EIO, errno.ETIMEDOUT])
def test_what_passes_is_waited_for(number, monkeypatch):
    monkeypatch.setattr(patience, "FIRST_PAUSE_S", 0.001)
    tries = []

    def at_the_third_try():
        tries.append(number)
        if len(tries) < 3:
            raise OSError(number, "reason")
        return "data"

    assert patience.read(at_the_third_try, Path("rows-1.dwr")) == "data" and len(tries) == 3


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.ENOENT])
def test_what_does_not_pass_is_said_at_once(number):
    def refuse():
        tries.append(number)
        raise OSError(number, "reason")

    tries: list[int] = []
    with pytest.raises(BlockedFile if number != errno.ENOENT else Damaged):
        patience.read(refuse, Path("rows-1.dwr"))
    assert len(tries) == 1


def test_a_folder_in_place_of_a_file_is_damage_and_a_link_to_itself_too(kit, tmp_path):
    for replace in (Path.mkdir, lambda path: path.symlink_to(path)):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        replay = kit.replay(num_envs=3, chunk=16, capacity=600)
        kit.fill(replay, 60)
        manifest = json.loads(json.dumps(replay.save(folder)))
        path = folder / manifest["files"][0]
        path.unlink()
        replace(path)
        problems = kit.replay(num_envs=3, chunk=16, capacity=600).load(folder, manifest)
        assert problems and path.name in problems[0]
