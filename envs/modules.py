"""Imports modules of the user's own."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from types import ModuleType

from dreamworld.errors import UserError


def import_user_module(module_name: str, label: str) -> ModuleType:
    """Imports a module from the Python path or the current directory; UserError if there is none."""
    _find_beside(module_name)
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module exists, and one of its own imports does not
        where = f"looked in {os.getcwd()} and on the Python path"
        raise UserError(f"{label}: no module named {error.name!r} ({where})") from None


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
