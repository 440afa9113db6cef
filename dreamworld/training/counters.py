"""How far a run is, and how many updates it owes: everything that is scheduled is a function of these counts."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from dreamworld import words

BURST = 4  # iterations' worth of updates that may be owed at once


@dataclasses.dataclass
class Account:
    """The updates of a phase.

    owed = floor(((step - first_update) ratio + rows_before) / batch_rows) + 1 - (updates - updates_before)

    It begins at the first update, and a new page at each change of the ratio or of the batch: what happened before a
    change is counted with what held then.
    """

    updates: int = 0
    first_update: int = -1  # step at which the account begins; -1 while replay has too few rows
    updates_before: int = 0  # updates that were settled before `first_update`
    rows_before: float = 0.0  # trained rows due at `first_update`, less than a batch
    train_ratio: float = -1.0  # of the account; -1 in checkpoints of versions that did not record it
    batch_rows: int = 0  # batch_size * batch_length of the account

    @property
    def waiting(self) -> bool:
        """Whether the account has not begun."""
        return self.first_update < 0

    def open(self, step: int, train_ratio: float, batch_rows: int) -> None:
        """From `step` on updates are owed, one of them at once; the updates done so far are settled."""
        self.first_update, self.updates_before, self.rows_before = step, self.updates, 0.0
        self.train_ratio, self.batch_rows = train_ratio, batch_rows

    def owed(self, step: int) -> int:
        """Updates due at `step`; none without a train ratio."""
        return self.owed_with(step, self.train_ratio, self.batch_rows) if self.train_ratio > 0 else 0

    def owed_with(self, step: int, train_ratio: float, batch_rows: int) -> int:
        """`owed` as if the account had this ratio and batch."""
        return int(self._rows(step, train_ratio) // batch_rows) + 1 - (self.updates - self.updates_before)

    def settle(self, step: int, train_ratio: float, batch_rows: int, iteration_steps: int) -> list[str]:
        """Takes the train ratio and batch of a session that continues; returns a line when updates are let go.

        A change begins a new page of the account, on which what is owed at that moment stays owed: at most
        `BURST` iterations' worth, so that the next log row, save and stop are near. `iteration_steps` is the
        number of agent steps of an iteration.
        """
        if self.waiting:
            return []
        known = self.train_ratio >= 0
        old_ratio, old_rows = (self.train_ratio, self.batch_rows) if known else (train_ratio, batch_rows)
        owed = self.owed_with(step, old_ratio, old_rows)
        worth = iteration_steps * max(train_ratio / batch_rows, old_ratio / old_rows)
        kept = min(max(owed, 0), max(1, math.ceil(BURST * worth)) if train_ratio > 0 else 1)
        if (old_ratio, old_rows) != (train_ratio, batch_rows) or kept != owed:
            part = self._rows(step, old_ratio) % old_rows / old_rows
            self.first_update = step
            self.updates_before = self.updates + kept - 1
            self.rows_before = part * batch_rows
        self.train_ratio, self.batch_rows = train_ratio, batch_rows
        return [] if kept == owed or train_ratio == 0 else [_told(step, owed, kept)]

    def _rows(self, step: int, train_ratio: float) -> float:
        """Trained rows due since the account began."""
        return (step - self.first_update) * train_ratio + self.rows_before


def _told(step: int, owed: int, kept: int) -> str:
    if owed > kept:
        return (
            f"{words.count(owed, 'update')} were owed at step {step:,}, more than {BURST} iterations' worth: "
            f"{kept:,} of them are done, the others are let go"
        )
    return (
        f"by step {step:,} there were {words.count(-owed, 'update')} more than the train ratio asks for: "
        "the account begins anew there"
    )


def describe_waiting(windows: int, rows: int, least: int) -> str:
    """Why a training that had updates has none for a while: replay lost rows, or options ask for more of them."""
    held = f"{words.count(windows, 'window')} of {words.count(rows, 'row')}"
    return f"replay holds {held}: the next update waits for --replay.min_starts {least}"


@dataclasses.dataclass
class Counters:
    """Counts of a run, and an account of the updates of each phase."""

    step: int = 0  # agent steps: rows of all environments; without collection, updates
    iteration: int = 0  # vector steps
    updates: int = 0  # of all phases
    seconds: float = 0.0  # wall time of training, all sessions together
    evaluation_due: int = 0  # 1: the evaluation of this step was stopped
    stage: int = 0  # index of the stage that the run is in
    stage_step: int = 0  # step at which it began
    accounts: dict[str, Account] = dataclasses.field(default_factory=dict)  # by name of the phase

    def account(self, phase: str) -> Account:
        """The account of a phase, new where it has none."""
        return self.accounts.setdefault(phase, Account())

    def did(self, phase: str, updates: int = 1) -> None:
        """Counts updates."""
        self.account(phase).updates += updates
        self.updates += updates

    def wait_again(self) -> None:
        """All phases wait until replay has enough rows: what was done by then is settled."""
        for account in self.accounts.values():
            account.first_update = -1

    def state(self) -> dict[str, Any]:
        """Nested dictionaries of numbers."""
        return dataclasses.asdict(self)

    @classmethod
    def of(cls, state: dict[str, Any], phase: str) -> Counters:
        """The counters of `state()`. Version 0.1 had one account among them, which is that of `phase`."""
        plain = lambda row: {key: np.asarray(value).item() for key, value in row.items()}
        names = {field.name for field in dataclasses.fields(Account)}
        rest = plain({key: value for key, value in state.items() if key != "accounts"})
        if "accounts" in state:
            accounts = {name: Account(**plain(row)) for name, row in state["accounts"].items()}
            return cls(**rest, accounts=accounts)
        own = Account(**{key: rest[key] for key in names if key in rest})
        return cls(
            **{key: value for key, value in rest.items() if key == "updates" or key not in names},
            accounts={phase: own},
        )
