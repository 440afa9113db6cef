"""Text that people wrote or that lies on disk: control characters are refused at the door, escaped at every exit.

A control character here is whatever a terminal, a shell, a YAML file or a reader takes for more than a letter: C0
and C1 controls (escape, newline, tab), line separators, invisible and direction-changing characters, halves of
characters. The two joiners, which words in Persian or Hindi need, are letters.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dreamworld import words
from dreamworld.errors import UserError

CONTROL = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # Unicode categories
JOINERS = "\u200c\u200d"
FORMULA = tuple("=+-@\t\r\n＝＋－＠")  # what a spreadsheet takes for the beginning of a formula


def is_control(character: str) -> bool:
    """Whether a character is refused in options and escaped in output."""
    return unicodedata.category(character) in CONTROL and character not in JOINERS


def printable(value: object) -> str:
    """`value` as one line that shows control characters: an escape is printed as `\\x1b`, a newline as `\\n`."""
    text = str(value)
    if text.isprintable():
        return text
    return "".join(_escaped(item) if is_control(item) else item for item in text)


def printable_lines(value: object, quoted: Sequence[str] = ()) -> str:
    """As `printable`, with the line breaks kept, but those of `quoted` words: for messages of several lines."""
    text = str(value)
    for word in quoted:
        text = text.replace(word, printable(word)) if "\n" in word else text
    return "\n".join(printable(line) for line in text.split("\n"))


def marked(value: object) -> str:
    """`value` as one line that rich prints as it stands: markup in it is no markup."""
    from rich.markup import escape

    return escape(printable(value))


def check(name: str, value: object) -> None:
    """Raises UserError where `value` (or an element or key of it) is text with a control character."""
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list | tuple):
        for item in value:
            check(name, item)
    bad = next((item for item in value if is_control(item)), "") if isinstance(value, str) else ""
    if bad:
        shown = printable(value)
        shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
        raise UserError(
            f"{printable(name)}: got '{shown}', which holds the control character {_escaped(bad)}; "
            "expects text without newlines, escapes and invisible characters"
        )


def check_path(name: str, value: object) -> None:
    """Raises UserError where `value` is no path, or an empty one, as of a shell variable that is not set."""
    if not isinstance(value, str | os.PathLike):
        raise UserError(f"{printable(name)}: got {words.type_of(value)}; expects the path of a folder")
    if not str(value).strip():
        raise UserError(f"{printable(name)}: is empty; expects the path of a folder (. is the current one)")


def check_filled(name: str, value: str, expects: str) -> None:
    """Raises UserError where `value` is empty or blank: a shell makes that of a variable that is not set."""
    if not value.strip():
        raise UserError(
            f"{printable(name)}: is empty, like a shell variable that is not set; expects {expects}"
        )


def current_folder() -> str:
    """The folder that relative paths begin in; UserError where it was removed."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        raise UserError("the current folder was removed; change to another one, and call again") from None


def expand_path(path: str | os.PathLike[str]) -> Path:
    """The path with the home folder in place of `~`; UserError for one that the locale has no bytes for, and for the
    home of a user who is not there.
    """
    found = os.path.expanduser(path)
    if not os.path.isabs(found):
        current_folder()
    try:
        os.fsencode(found)
    except UnicodeEncodeError:
        shown = printable(path).encode("ascii", "backslashreplace").decode()
        raise UserError(
            f"{shown}: the locale can't name this file; set LC_ALL=C.UTF-8 or PYTHONUTF8=1"
        ) from None
    if found.startswith("~"):
        user, _, below = found[1:].partition("/")
        if not user:
            raise UserError(
                f"{printable(path)}: this machine knows no home folder of yours; set HOME, or give another path"
            )
        own = f"~/{user}/{below}".rstrip("/")
        raise UserError(
            f"{printable(path)}: there is no user {printable(user)!r} here; {printable(own)} is in your home folder"
        )
    return Path(found)


def cell(value: object) -> Any:
    """`value` for a CSV file: a spreadsheet takes no text for a formula, numbers stay numbers."""
    if value is None or isinstance(value, bool | int | float) or hasattr(value, "dtype"):
        return value
    text = printable(value)
    return f"'{text}" if str(value).startswith(FORMULA) else text


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
