"""Names of environments and of what they return, and messages for those that don't exist or can't be."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable

from dreamworld import words
from dreamworld.errors import UserError
from dreamworld.spaces import MAX_KEYS
from dreamworld.text import is_control


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """Up to three known names that look like `name`, best first."""
    lower = {key.lower(): key for key in known}
    return [lower[key] for key in difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.5)]


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a name that is not among `known`: names the nearest, or some that exist."""
    known = list(known)
    close = nearest(name, known)
    if close:
        return UserError(f"unknown {kind} {name!r}; did you mean {' or '.join(close)}?")
    some = ", ".join(known[:8]) + (", …" if len(known) > 8 else "")
    return UserError(f"unknown {kind} {name!r}; there are {some}")


def check_keys(keys: Collection[str], kind: str) -> None:
    """Raises UserError for names that no log or terminal could show, and for more than any agent is compiled for."""
    if len(keys) > MAX_KEYS:
        found = words.count(len(keys), kind.partition(" ")[2])
        raise UserError(f"the environment has {found}, of at most {MAX_KEYS:,}: join them into arrays")
    for key in keys:
        if any(is_control(character) for character in key):
            raise UserError(f"{kind} is called {key!r}: control characters are refused; rename it")
