"""A sum tree over rows: draws by weight in O(log n). Sums are recomputed, so rounding never drifts."""

from __future__ import annotations

import numpy as np

MAX_STALE = 1 << 16


class SumTree:
    """Leaves are addressed by slot and offset, a slot being the rows of one chunk; slots are reused."""

    def __init__(self, width: int):
        self.width = 1 << (width - 1).bit_length()
        self.free: list[int] = []
        self.slots = 0
        self.leaves = self.width
        self.nodes = np.zeros(2 * self.leaves)  # node i has the children 2i and 2i + 1; leaves come last
        self.enabled = np.zeros(self.leaves, bool)
        self.stale: list[np.ndarray] = []  # leaves whose change is not in the sums yet
        self.stale_count = 0

    @property
    def total(self) -> float:
        """Sum of all weights."""
        self._flush()
        return float(self.nodes[1])

    def take_slot(self) -> int:
        """A slot with zero weights."""
        if self.free:
            return self.free.pop()
        self.slots += 1
        while self.slots * self.width > self.leaves:
            self._double()
        return self.slots - 1

    def reserve(self, used: list[int], free: list[int]) -> None:
        """Restores which slots are in use and in which order the others will be taken."""
        self.slots = max([*used, *free], default=-1) + 1
        while self.slots * self.width > self.leaves:
            self._double()
        self.free = [slot for slot in free if slot not in set(used)]

    def give_slot(self, slot: int) -> None:
        """Clears a slot and takes it back."""
        self.clear(slot, np.arange(self.width))
        self.free.append(slot)

    def active(self, slot: int) -> np.ndarray:
        """Which rows of the slot may be drawn, bool [width] view."""
        return self.enabled[slot * self.width : (slot + 1) * self.width]

    def weights(self, slot: int) -> np.ndarray:
        """Of the rows of a slot, [width] view."""
        return self.nodes[self.leaves + slot * self.width :][: self.width]

    def set(self, slot: int, offsets: np.ndarray, weights: np.ndarray, activate: bool = False) -> None:
        """Sets the weights of rows of one slot."""
        if len(offsets):
            if activate:
                self.active(slot)[offsets] = True
            self._update(slot * self.width + offsets, weights)

    def clear(self, slot: int, offsets: np.ndarray) -> None:
        """Weight zero, until the rows are activated again."""
        self.active(slot)[offsets] = False
        self._update(slot * self.width + offsets, 0.0)

    def sample(self, fraction: float) -> tuple[int, int]:
        """The (slot, offset) at `fraction` in [0, 1) of the total weight; never one of weight zero."""
        self._flush()
        rest, node = fraction * self.nodes[1], 1
        while node < self.leaves:
            left, right = self.nodes[2 * node], self.nodes[2 * node + 1]
            if rest < left or right <= 0:
                node = 2 * node
            else:
                rest -= left
                node = 2 * node + 1
        slot, offset = divmod(node - self.leaves, self.width)
        return slot, offset

    def _update(self, leaves: np.ndarray, weights: np.ndarray | float) -> None:
        """Sets leaves; the sums above them follow at the next draw, many at once."""
        self.nodes[self.leaves + leaves] = weights
        self.stale.append(leaves)
        self.stale_count += len(leaves)
        if self.stale_count > MAX_STALE:
            self._flush()

    def _flush(self) -> None:
        if not self.stale_count:
            return
        nodes = self.leaves + np.concatenate(self.stale)
        self.stale, self.stale_count = [], 0
        while nodes[0] > 1:
            nodes = np.unique(nodes >> 1)
            self.nodes[nodes] = self.nodes[2 * nodes] + self.nodes[2 * nodes + 1]

    def _double(self) -> None:
        self._flush()
        old, self.leaves = self.nodes[self.leaves :], self.leaves * 2
        self.nodes = np.zeros(2 * self.leaves)
        self.nodes[self.leaves : self.leaves + len(old)] = old
        for begin in (1 << level for level in range(self.leaves.bit_length() - 2, -1, -1)):
            level = self.nodes[2 * begin : 4 * begin]
            self.nodes[begin : 2 * begin] = level[0::2] + level[1::2]
        self.enabled = np.concatenate([self.enabled, np.zeros(self.leaves - len(self.enabled), bool)])


class Ranks:
    """Counts at places in a row: the place of the k-th thing is found in O(log places) (a Fenwick tree)."""

    def __init__(self, base: int = 0) -> None:
        self.base = base  # the first place
        self.counts: list[int] = []
        self.sums = [0]  # [i]: of the counts from i - (i & -i) to i - 1
        self.total = 0

    def add(self, place: int, change: int) -> None:
        """Changes the count at a place, which may be a new one."""
        if not change:
            return
        while self.base + len(self.counts) <= place:
            self._append(0)
        index = place - self.base
        self.counts[index] += change
        self.total += change
        node = index + 1
        while node < len(self.sums):
            self.sums[node] += change
            node += node & -node

    def find(self, rank: int) -> tuple[int, int]:
        """The place of thing number `rank`, counted from 0 over all places, and its number there."""
        node, step = 0, 1 << (len(self.sums).bit_length() - 1)
        while step:
            if node + step < len(self.sums) and self.sums[node + step] <= rank:
                node += step
                rank -= self.sums[node]
            step >>= 1
        return self.base + node, rank

    def cut(self, place: int) -> None:
        """Forgets the places before this one, whose counts are zero and stay so, once they are the most."""
        gone = place - self.base
        if gone >= 64 and 2 * gone > len(self.counts):
            kept = self.counts[gone:]
            self.base, self.counts, self.sums = place, [], [0]
            for count in kept:
                self._append(count)

    def _append(self, count: int) -> None:
        self.counts.append(count)
        index = len(self.counts)
        below, first = index - 1, index - (index & -index)
        while below > first:
            count += self.sums[below]
            below -= below & -below
        self.sums.append(count)
