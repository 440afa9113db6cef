"""Snapshot folders on disk: host arrays, checksums and the commit file. Loads no JAX and unpickles nothing.

    checkpoints/<step>/agent/...          device arrays, written by Orbax
    checkpoints/<step>/host_<process>/    tree.json and one .npy file per array
    checkpoints/<step>/snapshot.json      written last: a folder without it was never finished

`snapshot.json` lists every other file with its length and CRC-32, and carries a CRC-32 of itself.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import stat
import time
import zlib
from collections.abc import Iterator
from typing import IO, Any, cast

import numpy as np
from etils import epath

from dreamworld import reading, system, words
from dreamworld.fields import Fields
from dreamworld.limits import MAX_STEP
from dreamworld.reading import INT64, BadFile, BlockedFile
from dreamworld.replay import patience

COMMIT = "snapshot.json"
FORMAT = 2  # 1: until 0.1, see `upgrade`
BLOCK = 1 << 22  # bytes read at a time while checking
PEER_TIMEOUT_S = 300.0  # how long one process waits for the files of another
STEP = re.compile(r"0|[1-9][0-9]{0,12}")  # the name of a snapshot's folder, up to `MAX_STEP`
MAX_FOLDERS = 20  # that lie in each other: Orbax makes fewer
# What an error of the system has to be to speak of the data. EIO is none of them: a server may be gone for a while,
# and a folder that was moved away would not be found when it is back.
OF_THE_DATA = patience.OF_THE_DATA - {errno.EIO}
NO_DAMAGE = (
    "this says nothing of what it holds, so nothing was moved. Once it can be read, the same command goes on; "
    "to go on from an older checkpoint, move this one away"
)


class CorruptError(Exception):
    """A snapshot whose bytes are not those that were written; the text names the file and what is wrong."""


@contextlib.contextmanager
def damage(directory: epath.Path) -> Iterator[None]:
    """Turns what reading a snapshot raises into CorruptError that names the file below `directory`.

    Errors of the system that say nothing of the data are no damage: they are raised as BlockedFile.
    """
    try:
        yield
    except BlockedFile as error:
        if error.errno not in OF_THE_DATA:
            raise
        raise CorruptError(_shown(directory, error)) from None
    except BadFile as error:
        raise CorruptError(_shown(directory, error)) from None
    except OSError as error:
        blocked = BlockedFile(error.filename or directory, error)
        if error.errno not in OF_THE_DATA:
            raise blocked from None
        raise CorruptError(_shown(directory, blocked)) from None


def _shown(directory: epath.Path, error: BadFile) -> str:
    name = os.path.relpath(str(error.path), str(directory))
    return error.reason if name == "." else f"{reading.printable(name)} {error.reason}"


def is_local(path: epath.Path) -> bool:
    """Whether `path` is on a mounted file system, where fsync has a meaning."""
    return "://" not in str(path)


def snapshot_steps(directory: epath.PathLike) -> list[int]:
    """Steps of the complete snapshots in `directory`, ascending; empty where there is no such folder.

    One of which the system does not tell whether it is complete counts as such: reading it says what is wrong.
    Raises BlockedFile where the system does not list the folder.
    """
    directory = epath.Path(directory)
    try:
        folders = [path for path in directory.iterdir() if STEP.fullmatch(path.name)]
    except (FileNotFoundError, NotADirectoryError):  # there is none, or something else in its place
        return []
    except OSError as error:
        if error.errno in OF_THE_DATA:
            return []
        raise BlockedFile(directory, error) from None
    return sorted(int(path.name) for path in folders if _may_be_complete(path))


def _may_be_complete(folder: epath.Path) -> bool:
    if not is_local(folder):
        return (folder / COMMIT).exists()
    try:
        os.stat(folder / COMMIT)
    except OSError as error:
        return error.errno is not None and error.errno not in OF_THE_DATA
    return True


class Writer:
    """Hides that a file is a real one: numpy's short cut for those loses the reason of a failed write."""

    def __init__(self, file: IO[bytes]):
        self.write = file.write


def retained(scores: dict[int, float | None], keep_last: int, keep_every: float, keep_best: bool) -> set[int]:
    """Steps to keep: the newest, the first at or after each multiple of `keep_every`, the best."""
    steps = sorted(scores)
    kept = set(steps[-keep_last:])
    if keep_every > 0:
        first = {}
        for step in steps:
            first.setdefault(int(step // keep_every), step)
        kept |= {step for multiple, step in first.items() if multiple > 0}
    scored = {step: score for step, score in scores.items() if score is not None and not np.isnan(score)}
    if keep_best and scored:
        kept.add(max(scored, key=lambda step: (scored[step], step)))
    return kept


def wait_for(paths: list[epath.Path], folder: epath.Path) -> None:
    """Waits until all `paths` exist; gives up when `folder` is gone (process 0 failed) or after a time."""
    deadline = time.monotonic() + PEER_TIMEOUT_S
    while missing := [path for path in paths if not path.exists()]:
        if not folder.exists() or time.monotonic() > deadline:
            raise OSError(f"{missing[0].name} of another process never came")
        time.sleep(0.2)


# --- checksums and commit --------------------------------------------------------------------------------


def checksum(path: epath.Path) -> tuple[int, int]:
    """Length in bytes and CRC-32 of a file; BadFile when it can't be read."""
    length, crc = 0, 0
    with reading.open_file(path) if is_local(path) else path.open("rb") as raw:
        file = cast(IO[bytes], raw)
        try:
            while block := file.read(BLOCK):
                length, crc = length + len(block), zlib.crc32(block, crc)
        except OSError as error:
            raise BlockedFile(path, error) from None
    return length, crc


def walk(directory: epath.Path, prefix: str = "") -> Iterator[str]:
    """Names of all files below `directory`, relative to it, the commit file left out; BadFile for a link."""
    if prefix.count("/") > MAX_FOLDERS:
        raise BadFile(directory, "lies too deep in other folders")
    for path in sorted(directory.iterdir(), key=lambda path: path.name):
        name = f"{prefix}{path.name}"
        mode = os.lstat(path).st_mode if is_local(path) else 0  # `is_dir` calls what it can't see no folder
        if stat.S_ISLNK(mode):
            raise BadFile(path, "is a link; a snapshot has none")
        if stat.S_ISDIR(mode) if mode else path.is_dir():
            yield from walk(path, f"{name}/")
        elif name not in (COMMIT, f"{COMMIT}.tmp"):
            yield name


def commit(directory: epath.Path, header: dict[str, Any]) -> None:
    """Makes a snapshot count: flushes every file, then writes the commit file in one rename."""
    files = {name: list(checksum(directory / name)) for name in walk(directory)}
    if is_local(directory):
        _flush(directory, files)
    write_commit(directory, {**header, "format": FORMAT, "files": files})


def write_commit(directory: epath.Path, body: dict[str, Any]) -> None:
    """Writes or replaces `snapshot.json` atomically (one rename locally, one object on a store)."""
    body = json.loads(
        json.dumps(body)
    )  # as it will be read: the checksum must not see tuples or integer keys
    text = json.dumps({"crc32": zlib.crc32(_canonical(body)), "snapshot": body})
    if not is_local(directory):
        (directory / COMMIT).write_text(text)
        return
    temporary = os.fspath(directory / f"{COMMIT}.tmp")
    with open(temporary, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, directory / COMMIT)
    fsync(directory)
    fsync(directory.parent)


def read_commit(directory: epath.Path) -> dict[str, Any]:
    """The body of `snapshot.json`; CorruptError when it is damaged or of a later format."""
    path = directory / COMMIT
    with damage(directory):
        if is_local(directory):
            reading.require_inside(directory.parent, path)
        stored = Fields(reading.read_json(path), path)
        body = stored.fields("snapshot")
        if stored.get("crc32") != zlib.crc32(_canonical(body.row)):
            raise BadFile(path, "does not match its own checksum")
        if body.integer("format", low=-INT64) > FORMAT:
            raise BadFile(path, f"has format {body.get('format')}; this version reads up to {FORMAT}")
        _check_body(body)
    return body.row


def _check_body(body: Fields) -> None:
    """Raises BadFile unless every field is there and of its type, whatever the checksum says."""
    body.integer("step", 0, MAX_STEP, default=0)
    body.integer("processes", low=1)
    score = body.get("score")
    if score is not None and not (isinstance(score, float) or reading.is_number(score)):
        raise body.bad("score", "a number or null")
    files, tensors, meta = body.fields("files"), body.fields("tensors"), body.fields("meta")
    for name in files:
        files.table_row(name, 2)
    for name in tensors:
        spec = tensors.items(name)
        if len(spec) != 2 or not isinstance(spec[0], list) or not isinstance(spec[1], str):
            raise tensors.bad(name, "a shape and a dtype")
        if not all(type(size) is int and 0 <= size < INT64 for size in spec[0]):
            raise tensors.bad(name, "a shape of whole numbers and a dtype")
    for process in meta:
        meta.fields(process)


def verify(directory: epath.Path) -> dict[str, Any]:
    """Checks every file against the commit file, whose body it returns; CorruptError names the bad file."""
    body = read_commit(directory)
    with damage(directory):
        present = set(walk(directory))
        for name, (length, crc) in body["files"].items():
            if name not in present:
                raise CorruptError(f"{reading.printable(name)} is missing")
            found = checksum(directory / name)
            if found[0] != length:
                raise CorruptError(
                    f"{reading.printable(name)} has {words.count(found[0], 'byte')} instead of {length}"
                )
            if found[1] != crc:
                raise CorruptError(f"{reading.printable(name)} does not match its checksum")
        if extra := sorted(present - set(body["files"])):
            raise CorruptError(f"{reading.printable(extra[0])} does not belong to the snapshot")
    return body


def remove(folder: epath.Path) -> None:
    """Deletes a folder, or whatever else has its name; of a link the link alone. Does nothing where nothing is."""
    if is_local(folder) and os.path.lexists(folder) and not stat.S_ISDIR(os.lstat(folder).st_mode):
        os.unlink(folder)
    else:
        folder.rmtree(missing_ok=True)


def fsync(path: epath.PathLike) -> None:
    """Forces a local file or folder to the disk."""
    system.sync(os.fspath(path))


def _flush(directory: epath.Path, files: dict[str, Any]) -> None:
    folders = {directory / name for name in files}
    for path in folders:
        fsync(path)
    parents = {
        parent for path in folders for parent in path.parents if directory in (parent, *parent.parents)
    }
    for path in parents:
        fsync(path)


def _canonical(body: dict[str, Any]) -> bytes:
    return json.dumps(body, sort_keys=True).encode()
