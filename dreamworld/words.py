"""Counts, sizes, shares, rates, exceptions, near names in words, for every message: `1 episode`, `22.5 GB`, `57%`."""

from __future__ import annotations

import difflib
import math
import unicodedata
from collections.abc import Iterable

OBEYED = ("Cc", "Cs")  # Unicode categories: controls, halves of characters
UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def count(number: float, noun: str, plural: str = "") -> str:
    """`1 step`, `0 steps`, `1,234 steps`, `0.5 steps`; `plural` where it is not the noun with an s."""
    shown = f"{number:,.0f}" if float(number).is_integer() else f"{number:.4g}"
    return f"{shown} {noun if number == 1 else plural or noun + 's'}"


def type_of(value: object) -> str:
    """The type of a value with its article: `a list`, `an int`."""
    return with_article(type(value).__name__)


def with_article(noun: str) -> str:
    """`a list`, `an int`."""
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"


def size(number: float) -> str:
    """Bytes in decimal units, three digits of them: `0 B`, `512 B`, `12.3 kB`, `61.4 GB`."""
    for unit in UNITS[:-1]:
        if abs(number) < 999.5:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:,.4g} {UNITS[-1]}"


def binary_size(number: int) -> str:
    """Bytes of a processor's cache in the units that its maker uses: `48 KiB`, `32 MiB`."""
    return f"{number / 2**20:g} MiB" if number >= 2**20 else f"{number / 2**10:g} KiB"


def percent(part: float, whole: float) -> str:
    """The share of `part`: 100% only when all of it is there, never more, and 0% only when there is nothing."""
    if whole <= 0 or not math.isfinite(part / whole):
        return "?"
    share = max(0.0, 100 * part / whole)
    if share >= 100:
        return "100%"
    return "<1%" if 0 < share < 1 else f"{math.floor(share)}%"


def rate(number: float | None) -> str:
    """Something per second: `1,234`, `12`, `0.43`; `-` where nothing was measured, and `0` only where nothing moved."""
    if number is None or not math.isfinite(number):
        return "-"
    return f"{number:,.0f}" if number == 0 or abs(number) >= 9.95 else f"{number:.2g}"


def exception(error: BaseException, most: int = 200) -> str:
    """`TypeError: what it said`, as one line of `most` characters."""
    return " ".join(f"{type(error).__name__}: {said(error)}".split())[:most]


def said(error: BaseException) -> str:
    """What an exception says, also where asking it raises; what a terminal would obey is escaped, but line breaks."""
    try:
        return "".join(
            item if item in "\n\t" or unicodedata.category(item) not in OBEYED else ascii(item)[1:-1]
            for item in str(error)
        )
    except Exception:
        return "(its text can't be had)"


def nearest(key: str, choices: Iterable[str]) -> str:
    """The choice that looks most like `key`; the last part of a dotted key counts on its own, too."""
    key = key.lower()

    def likeness(choice: str) -> float:
        whole = difflib.SequenceMatcher(None, key, choice).ratio()
        leaf = difflib.SequenceMatcher(None, key.rpartition(".")[2], choice.rpartition(".")[2]).ratio()
        return max(whole, 0.95 * leaf)

    return max(sorted(choices), key=likeness)
