"""What looking at an environment has found: one sentence for each kind of thing, however often it came up."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable

from dreamworld import words


@dataclasses.dataclass
class Finding:
    """The worst thing of its kind."""

    text: str
    badness: float
    count: int = 1
    least: float = 0.0  # badness of the mildest


class Findings:
    """Sentences by kind, in the order in which they came up first."""

    def __init__(self) -> None:
        self._found: dict[Hashable, Finding] = {}

    def add(self, text: str, kind: Hashable = None, badness: float = 0.0) -> None:
        """Counts one; of several of a kind (by default, of a text) the sentence with the largest badness stays."""
        kind = text if kind is None else kind
        found = self._found.get(kind)
        if found is None:
            self._found[kind] = Finding(text, badness, least=badness)
            return
        found.count, found.least = found.count + 1, min(found.least, badness)
        if badness > found.badness:
            found.text, found.badness = text, badness

    @property
    def total(self) -> int:
        """How often anything was added."""
        return sum(found.count for found in self._found.values())

    def __contains__(self, kind: Hashable) -> bool:
        return kind in self._found

    def lines(self) -> list[str]:
        """The sentences; those of values, whose kinds are tuples, say in how many rows they came up."""
        return [found.text + _rows(found) * isinstance(kind, tuple) for kind, found in self._found.items()]


def _rows(found: Finding) -> str:
    if found.count == 1:
        return ""
    return f" ({'the worst of ' * (found.badness > found.least)}{words.count(found.count, 'row')})"
