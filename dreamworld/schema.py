"""The options of a config: their names, types, ranges and marks, and unchecked values as these types. Loads no JAX."""

from __future__ import annotations

import dataclasses
import functools
import os
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from dreamworld import text, words
from dreamworld.errors import UserError
from dreamworld.limits import OPTIONAL, Mark, Range, parse_float, parse_int, show
from dreamworld.lists import split_list
from dreamworld.values import Syntax


def options(spec: object) -> dict[str, Any]:
    """Leaf options of a config: {dotted key: type, or the Syntax of its text}.

    `spec` is a config dataclass or an instance; an instance has the options of the groups that it holds, which may be
    of a subclass, and a class those of its defaults.
    """
    found: dict[str, Any] = {}
    for name, hint, marks, group in _fields(spec):
        if group is not None:
            found |= {f"{name}.{key}": value for key, value in options(group).items()}
        else:
            syntax = [mark for mark in marks if isinstance(mark, Syntax)]
            found[name] = syntax[0] if syntax else hint
    return found


def ranges(spec: object) -> dict[str, Range]:
    """Ranges of the number options of a config (see `options`), by dotted key."""
    found: dict[str, Range] = {}
    for name, _, marks, group in _fields(spec):
        if group is not None:
            found |= {f"{name}.{key}": value for key, value in ranges(group).items()}
        for mark in marks:
            if isinstance(mark, Range):
                found[name] = mark
    return found


def marked(spec: object, mark: Mark) -> list[str]:
    """Dotted keys of the options of a config (see `options`) that carry a mark, themselves or by their group."""
    found: list[str] = []
    for name, _, marks, group in _fields(spec):
        if group is not None:
            keys = options(group) if mark in marks else marked(group, mark)
            found += [f"{name}.{key}" for key in keys]
        elif mark in marks:
            found.append(name)
    return found


def _fields(spec: object) -> Iterator[tuple[str, Any, tuple[Any, ...], Any]]:
    """(name, type, marks, group or None) of each field of a dataclass, or of an instance."""
    cls = spec if isinstance(spec, type) else type(spec)
    for field, hint, marks in _hints(cls):
        group = None
        if dataclasses.is_dataclass(hint):
            group = field.default if spec is cls else getattr(spec, field.name)
            group = hint if group is dataclasses.MISSING else group
        yield field.name, hint, marks, group


@functools.cache
def _hints(cls: type) -> list[tuple[Any, Any, tuple[Any, ...]]]:
    hints = typing.get_type_hints(cls)
    own = [typing.get_type_hints(base, include_extras=True) for base in reversed(cls.__mro__)]

    def marks(name: str) -> tuple[Any, ...]:
        """Also those of the classes that it derives from: a field that is written anew keeps its marks."""
        return tuple(mark for each in own if name in each for mark in getattr(each[name], "__metadata__", ()))

    return [(field, hints[field.name], marks(field.name)) for field in dataclasses.fields(cls)]


def check_range(spec: object, key: str, value: object, shown: str) -> None:
    """Raises UserError, which names the option as `shown`, when a number is outside the range of its option."""
    known = ranges(spec)
    if key in known:
        known[key].check(value, shown)


def never_empty(spec: object) -> dict[str, Any]:
    """The options of a config (see `options`) that are text or a list, and take no empty word on a command line."""
    is_text = lambda hint: hint is str or typing.get_origin(hint) is tuple
    optional = marked(spec, OPTIONAL)
    return {key: hint for key, hint in options(spec).items() if is_text(hint) and key not in optional}


def require_words(key: str, values: Sequence[str], hint: Any) -> None:
    """UserError where one of the words given to such an option is empty.

    A shell makes such a word of a variable that is not set; it does not mean what leaving the option out means.
    """
    if not all(value.strip() for value in values):
        which = "is empty" if len(values) == 1 else "one of the values is empty"
        raise UserError(
            f"--{key}: {which}, like a shell variable that is not set; give {expected(hint)}, or leave the option out"
        )


def check_given(config: object, values: object) -> None:
    """UserError for what is no config, or no mapping of the names of options to values."""
    if isinstance(config, type) or not dataclasses.is_dataclass(config):
        raise UserError(
            f"override: the config is {words.type_of(config)}; give what dreamworld.parse returns"
        )
    if not isinstance(values, Mapping):
        raise UserError(f'override: the values are {words.type_of(values)}; give {{"run.steps": 2e4}}')
    for key in values:
        if not isinstance(key, str):
            raise UserError(
                f"override: the key {show(key)} is {words.type_of(key)}; give the name of an option"
            )


def coerce(key: str, value: object, hint: Any) -> Any:
    """`value` (text, or what YAML made of it) as the type `hint`; `1e6` is an integer where it is whole.

    Raises UserError that names key, value and the expected type.
    """
    text.check(key, value)
    try:
        return _convert(value, hint)
    except UserError as error:
        raise UserError(f"{key}: {error}") from None
    except (TypeError, ValueError, OverflowError):
        raise UserError(f"{key}: got {show(value)}, expects {expected(hint)}") from None


def expected(hint: Any) -> str:
    """What a type accepts, in words."""
    if isinstance(hint, Syntax):
        return hint.words
    if typing.get_origin(hint) is Literal:
        return "one of " + ", ".join(str(choice) for choice in typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        parts = typing.get_args(hint)
        if parts[-1] is Ellipsis:
            return f"a list, each {expected(parts[0])}"
        return f"{words.count(len(parts), 'value')}, each {expected(parts[0])}"
    return {bool: "True or False", int: "a whole number", float: "a number", str: "text"}[hint]


def _convert(value: Any, hint: Any) -> Any:
    if getattr(value, "shape", None) == ():  # a number of NumPy or JAX
        value = value.item()
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(hint, Syntax):
        if not isinstance(value, str | Mapping):
            raise TypeError(value)
        return hint.canonical(value)
    origin = typing.get_origin(hint)
    if origin is Literal:
        return _choice(value, typing.get_args(hint))
    if origin is tuple:
        return _tuple(value, typing.get_args(hint))
    if hint is bool:
        return _bool(value)
    if hint is str:
        if not isinstance(value, str):
            raise TypeError(value)
        return str(value)
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError(value)
    return parse_int(value) if hint is int else parse_float(value)


def _choice(value: object, choices: tuple[Any, ...]) -> Any:
    return choices[choices.index(value)]


def _bool(value: object) -> bool:
    if isinstance(value, str):
        value = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}.get(
            value.lower()
        )
    if not isinstance(value, bool):
        raise TypeError(value)
    return value


def _tuple(value: Any, parts: tuple[Any, ...]) -> tuple[Any, ...]:
    if isinstance(value, str):
        is_numbers = parts[0] in (int, float)
        value = split_list(re.sub(r"\s+", ",", value.strip()) if is_numbers else value)
    if not isinstance(value, list | tuple):
        value = [value]
    if parts[-1] is Ellipsis:
        return tuple(_convert(item, parts[0]) for item in value)
    if len(value) != len(parts):
        raise ValueError(value)
    return tuple(_convert(item, part) for item, part in zip(value, parts, strict=True))
