"""Imports modules of the user's own."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from types import ModuleType

from dreamworld.envs.spelling import similar_module
from dreamworld.errors import UserError


def import_user_module(module_name: str, label: str) -> ModuleType:
    """Imports a module from the Python path or the current directory; UserError if there is none."""
    _find_beside(module_name)
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise _own_problem(module_name, label, error) from error
        close = similar_module(module_name)
        where = f"looked in {os.getcwd()} and on the Python path" + (
            f"; did you mean {close}?" if close else ""
        )
        raise UserError(f"{label}: no module named {error.name!r} ({where})") from None
    except Exception as error:
        raise _own_problem(module_name, label, error) from error


def _own_problem(module_name: str, label: str, error: Exception) -> UserError:
    """The module is there, and something in it fails: what, and in which line."""
    lines = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<frozen")
    ]
    place = f"{lines[-1].filename}:{lines[-1].lineno}" if lines else module_name
    if isinstance(error, SyntaxError):
        place = f"{error.filename}:{error.lineno}"
    if isinstance(error, ModuleNotFoundError) and error.name:
        return UserError(f"{label}: it imports {error.name!r}, which is not installed ({place})")
    text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return UserError(f"{label}: {module_name} can't be imported: {text} ({place})")


def _find_beside(module_name: str) -> None:
    """Puts the current directory on the path where the module is not found without, as `python -m` does.

    A console script starts without it. Appended, so that it shadows nothing.
    """
    top = module_name.partition(".")[0]
    if top in sys.modules or importlib.util.find_spec(top) is not None:
        return
    here = os.getcwd()
    if here not in sys.path:
        sys.path.append(here)
        importlib.invalidate_caches()
