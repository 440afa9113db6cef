"""Imports data sets from, and exports them to, the formats of other programs. Nothing is ever overwritten."""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from dreamworld import text, words, writing
from dreamworld.datasets.formats import Source
from dreamworld.datasets.store import DataSet, open_dataset
from dreamworld.datasets.writer import DataWriter, require_free
from dreamworld.errors import UserError
from dreamworld.text import expand_path

T = TypeVar("T")
RESERVED_BYTES = 1 << 30  # a network disk writes what others only reserve

FORMATS = ("minari", "npz", "hdf5")
Tell = Callable[[str], None]
Stop = Callable[[], bool]


class Stopped(Exception):
    """`stop()` became true; nothing was left behind."""


def never() -> bool:
    """The `stop` of what is not to be stopped."""
    return False


def import_data(
    source: Path | str,
    folder: Path | str,
    *,
    format: str = "auto",
    task: str = "",
    tell: Tell = print,
    stop: Stop = never,
) -> DataSet:
    """Makes a data set in `folder` of another program's files; UserError, leaving nothing there, where it can't.

    `task` names the environment that they were recorded in, if that is known. `tell` takes notes, one line each. Raises
    Stopped once `stop()` is true.
    """
    text.check("SOURCE", str(source))
    path = expand_path(folder).absolute()
    require_free(path)
    found = open_source(source, format)
    for note in found.notes:
        tell(f"note: {source}: {note}")
    said, task = f"import {source}", task or found.task
    with _prepared(path, folder) as part, DataWriter(part, found.schema, source=said, task=task) as writer:
        for index, (episode, label) in enumerate(_until(stop, found.episodes())):
            try:
                writer.add(episode, label)
            except UserError as error:
                raise UserError(f"{source}: {_without_number(error, index)}") from None
    return open_dataset(path)


def _until(stop: Stop, items: Iterable[T]) -> Iterator[T]:
    for item in items:
        if stop():
            raise Stopped
        yield item


def _without_number(error: UserError, index: int) -> str:
    return str(error) if str(error).startswith("episode") else f"episode {index}: {error}"


def open_source(source: Path | str, format: str = "auto") -> Source:
    """The episodes of another program's file, folder or Minari id; UserError that says what was expected."""
    if format not in ("auto", *FORMATS):
        raise unknown(format)
    chosen, path = recognise(source) if format == "auto" else (format, _place(source, format))
    return _module(chosen).open_source(path)


def unknown(format: str) -> UserError:
    """The error for a format that there is not."""
    best = words.nearest(format, FORMATS)
    return UserError(
        f"--format {format}: there is no such format; did you mean {best}? There are: {', '.join(FORMATS)}"
    )


def recognise(source: Path | str) -> tuple[str, Path]:
    """The format of a source and where it lies, by what is there."""
    minari = importlib.import_module("dreamworld.datasets.formats.minari")
    path = expand_path(source)
    if found := minari.find(str(source)):
        return "minari", found
    if path.is_file():
        if path.suffix == ".npz":
            raise UserError(f"{source}: is one episode; give the folder that holds them")
        return "hdf5", path
    if path.is_dir():
        if (path / "dataset.json").exists():
            raise UserError(f"{source}: is a data set of dreamworld already; it needs no import")
        if any(path.glob("*.npz")):
            return "npz", path
        files = sorted([*path.glob("*.h5"), *path.glob("*.hdf5")])
        hint = f"; give one of its files, such as {files[0]}" if files else ""
        raise UserError(f"{source}: is no Minari data set and holds no .npz episodes{hint}")
    hint = (
        f", and there is no such Minari data set in {minari.root()}"
        if minari.ID.fullmatch(str(source))
        else ""
    )
    raise UserError(f"{source}: there is no such file or folder{hint}")


def _place(source: Path | str, format: str) -> Path:
    path = expand_path(source)
    if format == "minari":
        found = _module(format).find(str(source))
        if found is None:
            raise UserError(f"{source}: there is no such Minari data set here or in {_module(format).root()}")
        return found
    if not (path.is_dir() if format == "npz" else path.is_file()):
        wanted = "a folder of .npz episodes" if format == "npz" else "a file"
        raise UserError(f"{source}: --format {format} reads {wanted}, and there is none")
    return path


def export_data(data: DataSet, target: Path | str, *, format: str, stop: Stop = never) -> str:
    """Writes a data set in another program's format; returns where. UserError, leaving nothing, where it can't.

    Raises Stopped once `stop()` is true.
    """
    if format not in FORMATS:
        raise unknown(format)
    text.check("TARGET", str(target))
    episodes = _until(stop, data)
    _require_space(data, target, format)
    if format == "minari":
        _module(format).export(data, str(target), episodes)
        return str(_module(format).root() / str(target))
    path = expand_path(target).absolute()
    if os.path.lexists(path):
        raise UserError(f"{target}: is there already, and nothing is overwritten; give a new name")
    with _prepared(path, target) as part:
        _module(format).export(data, part, episodes)
    return str(path)


def _require_space(data: DataSet, target: Path | str, format: str) -> None:
    """UserError where the disk is too full. The HDF5 library may crash a process whose files can't be written."""
    row_bytes = sum(space.zeros(1).nbytes for space in data.schema.row_spaces().values())
    need = data.rows * row_bytes if format == "minari" else 2 * data.packed_bytes  # Minari does not compress
    place = _module(format).root() if format == "minari" else expand_path(target).absolute().parent
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if need > free:
        raise UserError(
            f"{target}: needs up to {words.size(need)}; the disk of {place} has {words.size(free)} left"
        )
    if format != "npz" and need and hasattr(os, "posix_fallocate"):
        try:
            with tempfile.TemporaryFile(dir=place) as file:
                os.truncate(file.fileno(), int(need))
                os.posix_fallocate(file.fileno(), 0, int(min(need, RESERVED_BYTES)))
        except OSError as error:  # a quota, or a limit on the size of files
            why = error.strerror or error
            raise UserError(
                f"{target}: needs up to {words.size(need)}, which {place} can't hold: {why}"
            ) from None


def _module(format: str) -> Any:
    return importlib.import_module(f"dreamworld.datasets.formats.{format}")


@contextlib.contextmanager
def _prepared(path: Path, given: Path | str) -> Iterator[Path]:
    """A place beside `path` that becomes `path` when all went well, and is removed otherwise.

    What goes wrong names `given`, which is how the user calls it.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    told = lambda message: message.replace(str(part), str(given))
    try:
        with writing.making(path.parent):
            try:
                yield part
                _rename(part, path, given)
            finally:
                if part.is_dir():
                    shutil.rmtree(part, ignore_errors=True)
                part.unlink(missing_ok=True) if part.is_file() else None
    except UserError as error:
        raise UserError(told(str(error))) from None
    except OSError as error:
        raise UserError(f"{given} can't be written: {told(error.strerror or str(error))}") from None


def _rename(part: Path, path: Path, given: Path | str) -> None:
    if path.is_dir():
        path.rmdir()  # it is empty
    elif os.path.lexists(path):
        raise UserError(f"{given}: appeared meanwhile, and nothing is overwritten; give a new name")
    os.rename(part, path)
