"""What can be told of a factory of environments beside its name: where it is written, and with what it is called."""

from __future__ import annotations

import functools
import re
import reprlib
import types
from collections.abc import Iterable

from dreamworld import text
from dreamworld.envs.attributes import ANY, attribute, is_a
from dreamworld.limits import shorten
from dreamworld.types import EnvSource

MOST = 400  # characters
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")  # another one in every process
PLAIN = (int, float, complex, str, bytes, bool, type(None))


def describe_source(source: EnvSource) -> str:
    """`walks:<lambda> (line 7, size=5)`: equal for the same source in another process; empty for a name.

    Neither the body of a function nor what it reads from elsewhere is in it, but for what it closes over and, of a
    lambda, the values that are written in it.
    """
    if is_a(source, str):
        return ""
    found = ADDRESS.sub("", _describe(source))
    return shorten(text.printable(" ".join(found.split())), MOST)


def _describe(source: object, depth: int = 0) -> str:
    if is_a(source, functools.partial) and depth < 5:
        given = [*map(_short, source.args), *_named(source.keywords.items())]
        return f"partial of {_describe(source.func, depth + 1)} with {_listed(given)}"
    if is_a(source, types.MethodType) and depth < 5:
        return f"{_describe(source.__func__, depth + 1)} of {_place(type(source.__self__))}"
    if is_a(source, types.FunctionType):
        return (
            f"{_place(source)} ({_listed([f'line {source.__code__.co_firstlineno}', *_of_function(source)])})"
        )
    return _place(source if is_a(source, type) else type(source))


def _of_function(function: types.FunctionType) -> list[str]:
    """Defaults, what the function closes over, and the values in a lambda, as far as they are plain."""
    code, cells = function.__code__, function.__closure__ or ()
    names = code.co_varnames[: code.co_argcount][-len(function.__defaults__ or ()) or code.co_argcount :]
    found = _named(zip(names, function.__defaults__ or ()))
    found += _named((function.__kwdefaults__ or {}).items())
    found += _named((name, _content(cell)) for name, cell in zip(code.co_freevars, cells))
    if function.__name__ == "<lambda>":
        found += [_short(value) for value in code.co_consts if type(value) in PLAIN and value is not None]
    return found


def _content(cell: types.CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # nothing was assigned yet
        return None


def _place(made: object) -> str:
    module, name = attribute(made, "__module__"), attribute(made, "__qualname__", type(made).__name__)
    return f"{module}:{name}" if isinstance(module, str) else str(name)


def _named(items: Iterable[tuple[str, object]]) -> list[str]:
    return [f"{name}={_short(value)}" for name, value in items]


def _listed(values: list[str]) -> str:
    return ", ".join(values) or "nothing"


def _short(value: object) -> str:
    """The value as Python writes it, within limits; of what can't be written its type."""
    try:
        return _WRITER.repr(value)
    except ANY:
        return type(value).__name__


_WRITER = reprlib.Repr()
_WRITER.maxlevel, _WRITER.maxlist, _WRITER.maxtuple, _WRITER.maxset, _WRITER.maxdict = 4, 20, 20, 20, 20
_WRITER.maxstring, _WRITER.maxlong, _WRITER.maxother = 100, 60, 100
