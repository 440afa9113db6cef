"""What happened and was dreamed in an episode: moments, and the branches that they make.

A branch begins where somebody went back and did something else. The moments before that belong to both branches.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

from dreamworld.contract import State
from dreamworld.play.dreamer import Shown
from dreamworld.play.reality import Action, Row, Snapshot
from dreamworld.player import PlayerState

MOMENTS = 4000  # kept of an episode, over all branches; the states of the oldest ones are forgotten
BYTES = 192 << 20  # of their states and rows
OWN_BYTES = 3000  # of a moment beside its arrays: numbers in lists


class Moment(NamedTuple):
    """One step of both lanes."""

    t: int  # steps since the episode began
    action: Action | None  # that led here; None at the beginning
    who: str  # chose it
    row: Row | None  # of reality; None where nothing is known of it
    snapshot: Snapshot | None
    dream: State | None
    seen: State | None  # what the model makes of the rows of reality up to now; None once they have ended
    shown: Shown | None  # of the dream
    k: int  # steps since the dream saw a row
    surprise: float | None
    temperature: float
    returns: tuple[float, float]  # real and predicted rewards, added up since the beginning
    mind: PlayerState | None  # of the agent, where it has acted; what it makes of this moment comes after it

    @property
    def nbytes(self) -> int:
        """About how much it holds; a state of a model counts by its arrays."""
        import jax

        picture = self.row.picture if self.row else None
        trees = (self.dream, self.seen, self.mind and self.mind.carry, self.snapshot, picture)
        obs = (self.row and self.row.obs, self.shown and self.shown.obs)
        return sum(x.nbytes for x in jax.tree.leaves((trees, obs))) + OWN_BYTES


@dataclasses.dataclass
class Branch:
    """The moments of a branch after the one that it left its parent at."""

    id: int
    parent: int | None
    at: int  # t of the last moment that it shares with the parent; -1 of the first branch
    moments: list[Moment | None] = dataclasses.field(default_factory=list)  # None: forgotten

    @property
    def length(self) -> int:
        """Moments up to its end, those of its parents included."""
        return self.at + 1 + len(self.moments)


class Timeline:
    """The branches of one episode, and where one is. The first moment is given by `begin`."""

    def __init__(self) -> None:
        self._branches: dict[int, Branch] = {}
        self._count, self._bytes = 0, 0
        self.branch, self.t = 0, 0

    def begin(self, moment: Moment) -> None:
        """Forgets everything and begins with one moment."""
        self._branches = {0: Branch(0, None, -1)}
        self._count, self._bytes = 0, 0
        self.branch, self.t = 0, -1
        self.add(moment)

    def add(self, moment: Moment) -> None:
        """The next moment; on a new branch where the current one goes on already."""
        own = self._branches[self.branch]
        if self.t < own.length - 1:
            own = Branch(max(self._branches) + 1, own.id, self.t)
            self._branches[own.id], self.branch = own, own.id
        own.moments.append(moment)
        self.t += 1
        self._count, self._bytes = self._count + 1, self._bytes + moment.nbytes
        self._forget()

    def replace(self, moment: Moment) -> None:
        """Another moment in the place of the current one: after the dream was edited, or saw the row.

        On a new branch where something follows already.
        """
        if self.t < self._branches[self.branch].length - 1 or self._owner(self.t).id != self.branch:
            self.t -= 1  # the moment before it is where the new branch begins
            self.add(moment)
            return
        own = self._branches[self.branch]
        before = own.moments[-1]
        self._bytes += moment.nbytes - (before.nbytes if before else 0)
        own.moments[-1] = moment

    def now(self) -> Moment:
        """The current moment."""
        moment = self.at(self.t)
        assert moment is not None
        return moment

    def at(self, t: int) -> Moment | None:
        """A moment of the current branch; None where it is forgotten, or there is none."""
        if not 0 <= t < self._branches[self.branch].length:
            return None
        owner = self._owner(t)
        return owner.moments[t - owner.at - 1]

    def go(self, t: int) -> None:
        """Goes to a moment of the current branch, which must be there."""
        assert self.at(t) is not None
        self.t = t

    def switch(self, branch: int) -> bool:
        """Goes to the end of a branch; False where there is none, or its end is forgotten."""
        found = self._branches.get(branch)
        if found is None or not found.moments or found.moments[-1] is None:
            return False
        self.branch, self.t = branch, found.length - 1
        return True

    def path(self) -> list[Moment | None]:
        """The moments from the beginning to now."""
        return [self.at(t) for t in range(self.t + 1)]

    def describe(self) -> list[dict[str, int | None]]:
        """The branches, for the page; `first` is the earliest moment of each that one can go back to."""
        return [
            {"id": b.id, "from": b.parent, "at": max(b.at, 0), "length": b.length, "first": self._first(b)}
            for b in self._branches.values()
        ]

    @property
    def forgotten(self) -> int:
        """Moments whose states were given up for want of room."""
        return sum(moment is None for b in self._branches.values() for moment in b.moments)

    def _owner(self, t: int) -> Branch:
        own = self._branches[self.branch]
        while t <= own.at:
            assert own.parent is not None
            own = self._branches[own.parent]
        return own

    def _first(self, branch: Branch) -> int:
        there = next((index for index, moment in enumerate(branch.moments) if moment is not None), 0)
        return branch.at + 1 + there if there or branch.parent is None else max(branch.at, 0)

    def _forget(self) -> None:
        """Gives up the oldest moments while there are too many, but for the newest one of each branch."""
        while self._count > MOMENTS or (self._bytes > BYTES and self._count > 1):
            place = self._oldest()
            if place is None:
                return
            own, index = place
            moment = own.moments[index]
            assert moment is not None
            own.moments[index] = None
            self._count, self._bytes = self._count - 1, self._bytes - moment.nbytes

    def _oldest(self) -> tuple[Branch, int] | None:
        for own in self._branches.values():
            ends = (
                {self.t} | {other.at for other in self._branches.values()} if own.id == self.branch else set()
            )
            for index, moment in enumerate(own.moments[:-1]):
                if moment is not None and own.at + 1 + index not in ends:
                    return own, index
        return None
