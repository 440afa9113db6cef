"""Recorded segments to begin a dream from: rows of a data set, or of the run's replay."""

from __future__ import annotations

from typing import NamedTuple

from dreamworld.play.reality import Action, Recorded, Row

CONTEXT = 5  # rows that the dream sees before it goes on alone


class Segment(NamedTuple):
    """Rows that follow each other in one episode."""

    rows: list[Row]
    actions: list[Action]  # the i-th led to row i
    policy: str  # who acted

    @property
    def total(self) -> float:
        """The sum of its rewards."""
        return sum(row.reward for row in self.rows)

    def reality(self) -> Recorded:
        """The segment as what happens."""
        return Recorded(self.rows, self.actions)
