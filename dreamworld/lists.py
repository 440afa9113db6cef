"""Lists written as text in one option: `a,b`, `[1, 2]`, `0:8`. Loads no JAX."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from dreamworld.brackets import split
from dreamworld.errors import UserError
from dreamworld.limits import MAX_DIGITS, SEED, shorten

MAX_SEEDS = 1000
CLOSING = {"[": "]", "(": ")"}


def split_list(texts: str | Sequence[str]) -> list[str]:
    """Items of a list: split at the commas outside of brackets and quotes, however the words were spaced.

    One pair of brackets around the whole is taken off: `a,b`, `a, b`, `[a, b]` and `a b` (two texts) are equal.
    """
    words = [texts] if isinstance(texts, str) else texts
    text = "".join(word if word.endswith(",") else f"{word}," for word in map(str.strip, words) if word)
    text = text.removesuffix(",")
    if len(text) > 1 and CLOSING.get(text[0]) == text[-1] and _encloses(text):
        text = text[1:-1]
    return split_items(text)


def split_items(text: str) -> list[str]:
    """As `split_list`, but brackets around the whole are those of a value: `[8, 8]` is one item."""
    return [item.strip() for item in split(text, ",") if item.strip()]


def split_names(words: Sequence[str]) -> list[str]:
    """Names of presets and paths of files: a comma splits, unless it is part of the path of a file that exists."""
    return [name for word in words for name in ([word] if os.path.exists(word) else split_list(word))]


def split_pairs(words: Sequence[str]) -> list[str]:
    """KEY=VALUE items: a comma splits where another KEY= follows, values may have commas."""
    return [item for word in words for item in re.split(r",\s*(?=\w+=)", word.strip().rstrip(",")) if item]


def _encloses(text: str) -> bool:
    """Whether the first bracket is closed by the last character, and not before."""
    depth = 0
    for index, char in enumerate(text):
        depth += (char in CLOSING) - (char in CLOSING.values())
        if depth == 0:
            return index == len(text) - 1
    return False


def parse_seeds(text: str, key: str = "--seeds") -> tuple[int, ...]:
    """`0:8` -> 0..7, `0,3,5` -> those, `0:3,7` -> both; UserError for others and for a seed given twice."""
    shown = f"{key} {shorten(text)}"
    seeds: list[int] = []
    for part in map(str.strip, text.split(",")):
        match = re.fullmatch(r"([0-9]+)(?::([0-9]+))?", part)
        if not match or len(part) > MAX_DIGITS:
            raise UserError(f"{shown}: {shorten(part)!r} is no seed; expects 0:8 (0 to 7) or 0,3,5")
        start, stop = int(match[1]), int(match[2]) if match[2] else int(match[1]) + 1
        if stop <= start:
            raise UserError(f"{shown}: {part} is empty; the end is not included")
        SEED.check((start, stop - 1), shown)
        if stop - start + len(seeds) > MAX_SEEDS:
            raise UserError(
                f"{shown}: {stop - start + len(seeds):,} seeds are too many; at most {MAX_SEEDS:,}"
            )
        seeds += range(start, stop)
    if twice := sorted({seed for seed in seeds if seeds.count(seed) > 1}):
        raise UserError(f"{shown}: seed {twice[0]} is given twice")
    return tuple(seeds)
