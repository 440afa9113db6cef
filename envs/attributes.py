"""Asks objects of users for attributes: whatever they answer, or raise, is no surprise to the one who asks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from typing_extensions import TypeIs

T = TypeVar("T")

ANY = (Exception, SystemExit)  # what code of users raises, but for a Ctrl-C
NOBODYS = "an_attribute_that_no_environment_has"  # without underscores in front, which wrappers don't pass on


def attribute(value: object, name: str, default: Any = None) -> Any:
    """The attribute of that name, or `default` where there is none, where asking raises, or where any name is answered.

    An object that has an answer for every name (a proxy, a mock) has an attribute if its class or itself holds it, or
    if the answer is of another type than that for a name that nobody has.
    """
    try:
        found = getattr(value, name)
    except ANY:
        return default
    if _holds(value, name):
        return found
    try:
        answer = getattr(value, NOBODYS)
    except ANY:
        return found
    return default if _kind(answer) == _kind(found) else found


def _kind(value: object) -> tuple[str, str]:
    """The name of a type: a mock has a type of its own for every answer."""
    return type(value).__module__, type(value).__qualname__


def _holds(value: object, name: str) -> bool:
    """Whether an object, or its class, has the attribute without any code of theirs being asked."""
    try:
        inspect.getattr_static(value, name)
    except ANY:
        return False
    return True


def has(value: object, *names: str) -> bool:
    """Whether an object has all of these attributes."""
    missing = object()
    return all(attribute(value, name, missing) is not missing for name in names)


def calls(value: object, name: str) -> bool:
    """Whether an object has a method of that name."""
    return callable(attribute(value, name))


def read(value: object, *names: str) -> None:
    """Raises what the attributes raise that the object or its class holds."""
    for name in names:
        if _holds(value, name):
            getattr(value, name)


def signature(function: Callable[..., Any]) -> inspect.Signature | None:
    """None for what has none that can be read, as some builtins."""
    try:
        return inspect.signature(function)
    except ANY:  # of a callable object's own __getattr__, too
        return None


def parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter] | None:
    """Those of `signature`."""
    found = signature(function)
    return None if found is None else found.parameters


def is_a(value: object, kind: type[T]) -> TypeIs[T]:
    """`isinstance` by the real class of an object, which it is not asked for."""
    return issubclass(type(value), kind)
