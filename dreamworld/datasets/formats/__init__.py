"""Formats of other programs. Each module has `open_source(path) -> Source` and `export(data, target, episodes)`."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from types import ModuleType
from typing import Protocol

from dreamworld import words
from dreamworld.datasets.episodes import Episode, Schema
from dreamworld.errors import UserError
from dreamworld.reading import BadFile, PathLike


class Source(Protocol):
    """Episodes of a file or folder of another program."""

    schema: Schema
    task: str  # "" where that is not known
    notes: list[str]  # what was assumed or left out, one line each

    def episodes(self) -> Iterator[tuple[Episode, str]]:
        """Each episode and the label of who acted in it."""
        ...


def require(package: str) -> ModuleType:
    """Imports a package of the extra `data`; UserError that names the extra where it is missing."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        name = error.name or package
        raise UserError(
            f"this format needs {name}, which is not installed: pip install 'dreamworld[data]'"
        ) from None


@contextlib.contextmanager
def understood(path: PathLike) -> Iterator[None]:
    """Makes BadFile of whatever a library raises while it reads a file that is not as it should be."""
    try:
        yield
    except UserError:
        raise
    except MemoryError:
        raise BadFile(path, "claims more than fits into memory") from None
    except Exception as error:
        raise BadFile(path, f"can't be read: {words.exception(error)}") from None
