"""How far a run is, and how many updates it owes: everything that is scheduled is a function of these counts."""

from __future__ import annotations

import dataclasses
import math

from dreamworld import words

BURST = 4  # iterations' worth of updates that may be owed at once


@dataclasses.dataclass
class Counters:
    """Counts of a run, and the account of its updates.

    owed = floor(((step - first_update) train_ratio + rows_before) / batch_rows) + 1 - (updates - updates_before)

    The account begins at the first update, and a new page at each change of `train_ratio` or of the batch: what
    happened before a change is counted with what held then.
    """

    step: int = 0  # agent steps: rows of all environments
    iteration: int = 0  # vector steps
    updates: int = 0
    first_update: int = -1  # step at which the account begins; -1 while replay has too few rows
    seconds: float = 0.0  # wall time of training, all sessions together
    updates_before: int = 0  # updates that were settled before `first_update`
    rows_before: float = 0.0  # trained rows due at `first_update`, less than a batch
    train_ratio: float = -1.0  # of the account; -1 in checkpoints of versions that did not record it
    batch_rows: int = 0  # batch_size * batch_length of the account
    evaluation_due: int = 0  # 1: the evaluation of this step was stopped

    @property
    def waiting(self) -> bool:
        """Whether the account has not begun."""
        return self.first_update < 0

    def open_account(self, step: int, train_ratio: float, batch_rows: int) -> None:
        """From `step` on updates are owed, one of them at once; the updates done so far are settled."""
        self.first_update, self.updates_before, self.rows_before = step, self.updates, 0.0
        self.train_ratio, self.batch_rows = train_ratio, batch_rows

    def owed(self) -> int:
        """Updates due now; none without a train ratio."""
        return self.owed_with(self.train_ratio, self.batch_rows) if self.train_ratio > 0 else 0

    def owed_with(self, train_ratio: float, batch_rows: int) -> int:
        """`owed` as if the account had this ratio and batch."""
        return int(self._rows(train_ratio) // batch_rows) + 1 - (self.updates - self.updates_before)

    def settle(self, train_ratio: float, batch_rows: int, iteration_steps: int) -> list[str]:
        """Takes the train ratio and batch of a session that continues; returns a line when updates are let go.

        A change begins a new page of the account, on which what is owed at that moment stays owed: at most
        `BURST` iterations' worth, so that the next log row, save and stop are near. `iteration_steps` is the
        number of agent steps of an iteration.
        """
        if self.waiting:
            return []
        known = self.train_ratio >= 0
        old_ratio, old_rows = (self.train_ratio, self.batch_rows) if known else (train_ratio, batch_rows)
        owed = self.owed_with(old_ratio, old_rows)
        worth = iteration_steps * max(train_ratio / batch_rows, old_ratio / old_rows)
        kept = min(max(owed, 0), max(1, math.ceil(BURST * worth)) if train_ratio > 0 else 1)
        if (old_ratio, old_rows) != (train_ratio, batch_rows) or kept != owed:
            part = self._rows(old_ratio) % old_rows / old_rows
            self.first_update = self.step
            self.updates_before = self.updates + kept - 1
            self.rows_before = part * batch_rows
        self.train_ratio, self.batch_rows = train_ratio, batch_rows
        return [] if kept == owed or train_ratio == 0 else [self._told(owed, kept)]

    def _rows(self, train_ratio: float) -> float:
        """Trained rows due since the account began."""
        return (self.step - self.first_update) * train_ratio + self.rows_before

    def _told(self, owed: int, kept: int) -> str:
        if owed > kept:
            return (
                f"{words.count(owed, 'update')} were owed at step {self.step:,}, more than {BURST} iterations' worth: "
                f"{kept:,} of them are done, the others are let go"
            )
        return (
            f"by step {self.step:,} there were {words.count(-owed, 'update')} more than the train ratio asks for: "
            "the account begins anew there"
        )
