"""Splits text at marks that stand in no brackets and no quotes. Loads no JAX."""

from __future__ import annotations

from collections.abc import Iterator

from dreamworld.errors import UserError

MAX_DEPTH = 16  # brackets inside each other
CLOSING = {"[": "]", "{": "}"}


def split(text: str, mark: str) -> Iterator[str]:
    """Splits at a mark that is in no brackets and no quotes; those count only where a value can begin."""
    closers: list[str] = []
    start, index, fresh = 0, 0, True
    while index < len(text):
        char = text[index]
        if fresh and char in "\"'":
            index = _end_of_quotes(text, index)
            fresh = False
        elif (fresh or closers) and char in CLOSING:
            closers.append(CLOSING[char])
            if len(closers) > MAX_DEPTH:
                raise UserError(f"more than {MAX_DEPTH} brackets inside each other")
            fresh = True
        elif closers and char == closers[-1]:
            closers.pop()
            fresh = False
        elif char == mark and not closers:
            yield text[start:index]
            start = index + 1
            fresh = True
        else:
            fresh = char in "=,|:" or (fresh and char.isspace())
        index += 1
    if closers:
        raise UserError(f"{text!r}: {closers[-1]!r} is missing")
    yield text[start:]


def _end_of_quotes(text: str, start: int) -> int:
    """Index of the quote that closes the one at `start`."""
    quote, index = text[start], start + 1
    while index < len(text):
        if text[index] == "\\" and quote == '"':
            index += 1
        elif text[index] == quote:
            if quote == '"' or text[index + 1 : index + 2] != quote:
                return index
            index += 1  # two single quotes are one
        index += 1
    raise UserError(f"{text!r}: the quote {quote} is not closed")
