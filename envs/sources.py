"""What names and makes an environment: names for values, and which callables may be called at all."""

from __future__ import annotations

import functools
import re
import sys
import sysconfig
import types
from pathlib import Path
from typing import Any

from dreamworld import words
from dreamworld.envs.attributes import attribute, has, is_a
from dreamworld.envs.families import find_family
from dreamworld.errors import UserError
from dreamworld.runenv import CUSTOM
from dreamworld.types import EnvSource


def is_env(value: object) -> bool:
    """Whether an object, or the objects of a class, step and reset."""
    return has(value, "step", "reset")


def is_object(value: object) -> bool:
    """Whether a value is one environment, not a name, a class or a factory."""
    return not (is_a(value, str) or is_a(value, type)) and is_env(value)


def name_of(source: EnvSource) -> str:
    """The task, `module:qualname` where that leads to `source` itself, else `custom:<name>`."""
    if is_a(source, str):
        return str(source)
    module, qualname = attribute(source, "__module__"), attribute(source, "__qualname__")
    if (
        not is_object(source)
        and isinstance(module, str)
        and isinstance(qualname, str)
        and module != "__main__"
    ):
        value: Any = sys.modules.get(module)
        for part in qualname.split("."):
            value = getattr(value, part, None)
        if value == source:
            return f"{module}:{qualname}"
    return CUSTOM + _plain_name(source)


def _plain_name(source: EnvSource) -> str:
    if is_object(source):
        spec_id = attribute(attribute(source, "spec"), "id")
        text = spec_id if is_a(spec_id, str) else type(source).__name__
    else:
        made = _innermost(source)
        name = attribute(made, "__qualname__")
        text = (name if is_a(name, str) else type(made).__name__).rpartition("<locals>.")[2]
    return re.sub(r"[^\w.\-]", "", text) or "environment"


def names_code(name: str, options: object) -> bool:
    """Whether building this environment imports a module that the name gives, or calls a constructor with options.

    False for names of the families and of installed packages, which decide themselves what a name may do.
    """
    family = find_family(name)
    if family is None:
        return bool(options) or re.fullmatch(r"\w+", name) is None
    return ":" in name or (bool(options) and family.prefix != "jax_")


def check_factory(value: EnvSource, name: str) -> None:
    """UserError unless `value` may be called to make an environment.

    That is a class with `step` and `reset`, or a function or callable object written in Python outside of the
    standard library. Anything else is not called: `os:system` would be.
    """
    made = _innermost(value)
    if is_a(made, type):
        allowed = _may_step(made) and not _of_python_itself(made.__module__)
    elif is_a(made, types.FunctionType):
        allowed = not _of_python_itself(made.__module__, made.__code__.co_filename)
    else:
        call = getattr(type(made), "__call__", None)  # noqa: B004  looked up, not asked for
        allowed = isinstance(call, types.FunctionType) and not _of_python_itself(type(made).__module__)
    if not allowed:
        kind = f"the class {made.__qualname__}" if is_a(made, type) else words.type_of(made)
        raise UserError(
            f"environment {name!r} is {kind} that makes no environment, and is not called; give a class with step "
            "and reset, or a Python function that makes one"
        )


def _may_step(made: type) -> bool:
    """Whether objects of a class may step and reset: as methods, as attributes set in __init__, or passed through."""
    if is_env(made) or "__getattr__" in {name for base in made.__mro__ for name in vars(base)}:
        return True
    code = getattr(made.__init__, "__code__", None)
    return code is not None and {"step", "reset"} <= {*dir(made), *code.co_names}


def _innermost(value: EnvSource) -> EnvSource:
    """What is called in the end: partials, bound methods and wrapped functions are looked through."""
    for _ in range(100):
        if is_a(value, functools.partial):
            value = value.func
        elif is_a(value, types.MethodType):
            value = value.__func__
        elif not is_a(value, type) and "__wrapped__" in (attribute(value, "__dict__") or {}):
            value = value.__dict__["__wrapped__"]
        else:
            break
    return value


def _of_python_itself(module: str | None, filename: str | None = None) -> bool:
    """Whether a module, or a file of code, is part of Python: built in, frozen, or in the standard library."""
    if module == "__main__":
        return False
    filename = filename or getattr(sys.modules.get(module or ""), "__file__", None)
    if filename is None:
        return True
    if filename.startswith("<"):
        return filename.startswith("<frozen")  # otherwise code of a notebook or of `exec`
    path = Path(filename).resolve()
    library = Path(sysconfig.get_paths()["stdlib"]).resolve()
    return path.is_relative_to(library) and not {"site-packages", "dist-packages"} & set(path.parts)
