"""Imports modules of the user's own."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

from dreamworld import words
from dreamworld.envs.building import survivable
from dreamworld.envs.render import prepare
from dreamworld.envs.spelling import similar_module
from dreamworld.errors import UserError
from dreamworld.text import current_folder


def import_user_module(module_name: str, label: str) -> ModuleType:
    """Imports a module from the Python path or the current directory; UserError if there is none."""
    _find_beside(module_name)
    prepare()
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise _own_problem(module_name, label, error) from error
        close = similar_module(module_name)
        where = f"looked in {current_folder()} and on the Python path" + (
            f"; did you mean {close}?" if close else ""
        )
        raise UserError(f"{label}: no module named {error.name!r} ({where})") from None
    except BaseException as error:
        raise _own_problem(module_name, label, survivable(error)) from error


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
    cause = words.exception(error, 300)
    return UserError(f"{label}: {module_name} can't be imported: {cause} ({place})")


def look_in(folder: str, name: str) -> None:
    """Lets the module of `module:Name` or `gym_module:Id` be found in a folder, that in which its run was started.

    It goes before a module of that name in the current directory, and behind one that is installed.
    """
    top = module_of(name).partition(".")[0]
    if not top or top in sys.modules or PathFinder.find_spec(top, [folder]) is None:
        return
    found = _home_of(PathFinder.find_spec(top))
    if found == "":
        sys.path.append(folder)
    elif found == current_folder() and found != folder:
        sys.path.insert(0, folder)
    importlib.invalidate_caches()


def _home_of(spec: ModuleSpec | None) -> str:
    """The folder of sys.path in which a top-level module lies, empty for none."""
    if spec is None:
        return ""
    places = spec.submodule_search_locations or [spec.origin or ""]
    return os.path.dirname(os.path.abspath(next(iter(places), "")))


def is_in(folder: str, name: str) -> bool:
    """Whether the module that a name gives lies in a folder; True for names that give none."""
    top = module_of(name).partition(".")[0]
    return not top or PathFinder.find_spec(top, [folder]) is not None


def module_of(name: str) -> str:
    """The dotted module of `module:Name` or `gym_module:Id`; empty for other names."""
    module, colon, _ = name.partition(":")
    return module.removeprefix("gym_") if colon and module.replace(".", "").isidentifier() else ""


def _find_beside(module_name: str) -> None:
    """Puts the current directory on the path where the module is not found without, as `python -m` does.

    A console script starts without it. Appended, so that it shadows nothing.
    """
    top = module_name.partition(".")[0]
    if top in sys.modules or importlib.util.find_spec(top) is not None:
        return
    here = current_folder()
    if here not in sys.path:
        sys.path.append(here)
        importlib.invalidate_caches()
