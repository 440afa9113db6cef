"""What somebody's environment raises while it is built, as one line that says where."""

from __future__ import annotations

import contextlib
import re
import traceback
from collections.abc import Iterator

from dreamworld import words
from dreamworld.errors import UserError

REMOTE = re.compile(
    r'File "([^"]+)", line (\d+), in (\S+)'
)  # of a traceback that came as text, from a worker


class NotBuilt(UserError):
    """An environment could not be built; `__cause__` is what it raised."""


class Exited(RuntimeError):
    """Code of a user ended the process, or raised what ends one: a panic of Rust, a cancelled task."""


def survivable(error: BaseException) -> Exception:
    """What code of a user raised, as an exception; that it ended the process is one, too (Exited).

    Raised again are a Ctrl-C, and a SystemExit of a kind of its own, which somebody waits for.
    """
    if isinstance(error, Exception):
        return error
    if type(error) is SystemExit:
        said = f"it ended the process with exit status {0 if error.code is None else error.code}"
    elif isinstance(error, KeyboardInterrupt | GeneratorExit | SystemExit):
        raise error
    else:
        said = words.exception(error, 300)
    return Exited(said).with_traceback(error.__traceback__)


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """For what nobody waits for any more, such as closing: what code of a user raises there is of no interest."""
    try:
        yield
    except BaseException as error:
        survivable(error)


@contextlib.contextmanager
def building(name: str) -> Iterator[None]:
    """For building the environment `name`: what it raises, or that it ends the process, becomes a NotBuilt."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise NotBuilt(f"environment {name!r} can't be built: {where(error)}") from error
    except BaseException as error:
        raise NotBuilt(f"environment {name!r} can't be built: {survivable(error)}") from error


def where(error: Exception) -> str:
    """An exception and the line that raised it, in words."""
    if isinstance(error, UserError):
        return str(error)
    said = words.said(error)
    first, *lines = said.splitlines() or [""]
    if remote := REMOTE.findall("\n".join(lines)):  # the engine raised it with the traceback of a worker
        file, line, function = remote[-1]
        return f"it raised {first[:300]} ({file}:{line}, in {function})"
    frame = traceback.extract_tb(error.__traceback__)[-1]
    text = " ".join(said.split())[:300]
    return f"it raised {type(error).__name__}: {text} ({frame.filename}:{frame.lineno}, in {frame.name})"
