"""How likely a drawn window was, and the importance weights that follow (Schaul et al., 2016, arXiv:1511.05952).

A batch of B windows has n from the online queue, which serves them for certain, and B - n drawn with the shares u, p
and r of the mixture. The probability that a slot of the batch, picked at random, holds window i is therefore

    P(i) = [i was served online] / B + (B - n) / B * (u / N + p P_prioritized(i) + r P_recent(i))

with N windows in replay. Weighted by 1 / (N P(i)), the mean over a batch has the mean over all windows, each counted
once, as its expectation, as long as u > 0 or every window can be drawn otherwise.
"""

from __future__ import annotations

import math
from bisect import bisect_left

import numpy as np

from dreamworld.contract import Mix
from dreamworld.replay.chunks import Chunk
from dreamworld.replay.index import Index
from dreamworld.replay.starts import POSITION_BITS, POSITION_MASK

RETRIES = 64  # of a recent window, before a uniform one is taken


def weights(known: Index, rows: np.ndarray, online: np.ndarray, mix: Mix, beta: float) -> np.ndarray:
    """w[i] = (N P(i))^-beta / max w, float32 [B], of windows that start at rows [B], of which some were `online`."""
    raw = (known.total * slot_probabilities(known, rows, online, mix)) ** -beta
    return (raw / raw.max()).astype(np.float32)


def slot_probabilities(known: Index, rows: np.ndarray, online: np.ndarray, mix: Mix) -> np.ndarray:
    """P(i) of the windows of a batch [B]."""
    served = np.isin(rows, rows[online]) / len(rows)
    return served + (~online).mean() * probabilities(known, rows, mix)


def probabilities(known: Index, rows: np.ndarray, mix: Mix) -> np.ndarray:
    """Of drawing the windows that start at `rows` [n] by the shares of a mixture, without its queue."""
    total = mix.uniform + mix.prioritized + mix.recent
    found = np.full(len(rows), mix.uniform / total / known.total)
    if mix.prioritized:
        found += mix.prioritized / total * prioritized(known, rows)
    if mix.recent:
        found += mix.recent / total * recent(known, rows)
    return found


def prioritized(known: Index, rows: np.ndarray) -> np.ndarray:
    """The shares of a window's trained rows in all priorities, each divided by the windows that train on the row."""
    tree = known.tree
    assert tree is not None
    if tree.total <= 0:  # then uniform windows are drawn
        return np.full(len(rows), 1 / known.total)
    return np.array([_mass(known, row) for row in rows.tolist()]) / tree.total


def _mass(known: Index, row: int) -> float:
    """Priorities of the trained rows of one window, each divided by the windows that train on it.

    Trained rows t of a window at s are s + context <= t < s + L, so with T = L - context a row is trained on by the
    valid starts among the T positions up to t - context; together these are the 2 T - 1 positions around s.
    """
    stream, position = row >> POSITION_BITS, row & POSITION_MASK
    trained = known.length - known.context
    first, begin = position - trained + 1, position + known.context  # the first start and trained row
    valid, priority = np.zeros(2 * trained - 1, bool), np.zeros(trained)
    for index in range(max(first, 0) // known.chunk, (begin + trained - 1) // known.chunk + 1):
        chunk = known.chunks.get((stream << POSITION_BITS) | index)
        if chunk is not None and known.tree is not None:
            low, high = max(chunk.start, first), min(chunk.start + chunk.valid, first + len(valid))
            valid[low - first : max(high, low) - first] = True
            low, high = max(chunk.start, begin), min(chunk.start + chunk.rows, begin + trained)
            if low < high:
                leaves = known.tree.weights(chunk.slot)
                priority[low - begin : high - begin] = leaves[low - chunk.start : high - chunk.start]
    before = np.concatenate([[0], np.cumsum(valid)])
    return float((priority / (before[trained:] - before[:-trained])).sum())


def recent(known: Index, rows: np.ndarray) -> np.ndarray:
    """A try takes the window that ends at age a of one of K lanes with q = log((a + 2) / (a + 1)) / (span K).

    With Q, the sum of q over all windows, tries are repeated; the uniform draw after RETRIES of them that found none
    has the probability (1 - Q)^RETRIES. Costs O(chunks).
    """
    chunks = [chunk for lane in known.lanes.values() for chunk in lane]
    span = math.log(known.clock - min(chunk.clock for chunk in chunks) + 1)
    tries = span * len(known.lanes)
    age = lambda chunk, offset: known.clock - 1 - (chunk.clock + offset)
    hit = 0.0
    for chunk in chunks:
        first = _first_end(known, chunk)
        if first < chunk.rows:
            hit += math.log((age(chunk, first) + 2) / (age(chunk, chunk.rows - 1) + 1)) / tries
    found = []
    for row in rows.tolist():
        place = known.find(row + known.length - 1)
        assert place is not None
        found.append(math.log((age(*place) + 2) / (age(*place) + 1)) / tries)
    missed = max(1 - hit, 0.0) ** RETRIES
    return np.array(found) * ((1 - missed) / hit if hit else 0.0) + missed / known.total


def _first_end(known: Index, chunk: Chunk) -> int:
    """Offset of the first row of a chunk that ends a window, as all later ones do; its rows where none does."""

    def ends(offset: int) -> bool:
        position = chunk.start + offset - known.length + 1
        return position >= 0 and known.start((chunk.stream << POSITION_BITS) | position) is not None

    return 0 if ends(0) else bisect_left(range(chunk.rows), True, key=ends)
