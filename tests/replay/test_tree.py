"""The sum tree against cumulative sums."""

from __future__ import annotations

import numpy as np

from dreamworld.replay.tree import Ranks, SumTree


def test_every_fraction_finds_the_leaf_of_the_cumulative_sum():
    random = np.random.default_rng(0)
    tree, width = SumTree(5), 5
    weights = np.zeros((7, 8))
    for slot in range(7):
        assert tree.take_slot() == slot
        weights[slot, :width] = random.integers(0, 4, width)
        tree.set(slot, np.arange(width), weights[slot, :width], activate=True)
    flat = weights.ravel()
    assert tree.total == flat.sum()
    for number in range(int(flat.sum())):
        slot, offset = tree.sample((number + 0.5) / flat.sum())
        assert slot * 8 + offset == np.searchsorted(np.cumsum(flat), number, side="right")


def test_zero_weights_are_never_drawn_even_at_the_edges():
    tree = SumTree(4)
    tree.take_slot()
    tree.set(0, np.arange(4), np.array([0.0, 0.1, 0.0, 0.0]), activate=True)
    assert {tree.sample(f) for f in (0.0, 0.5, 1.0, np.nextafter(1, 0))} == {(0, 1)}


def test_sums_do_not_drift():
    tree = SumTree(4)
    tree.take_slot()
    random = np.random.default_rng(0)
    for _ in range(2000):
        tree.set(0, np.arange(4), random.random(4) * 10.0 ** random.integers(-9, 9))
    tree.set(0, np.arange(4), np.array([0.5, 0.25, 0.0, 0.25]))
    assert tree.total == 1.0


def test_slots_are_reused_and_cleared():
    tree = SumTree(4)
    first, second = tree.take_slot(), tree.take_slot()
    tree.set(first, np.arange(4), np.ones(4), activate=True)
    tree.set(second, np.arange(4), np.ones(4), activate=True)
    tree.give_slot(first)
    assert tree.total == 4 and not tree.active(first).any()
    assert tree.take_slot() == first


def test_ranks_find_the_place_of_each_thing():
    random, ranks, counts = np.random.default_rng(0), Ranks(base=7), {}
    oldest, newest = 7, 7
    for _ in range(2000):
        newest += int(random.integers(0, 2))
        place = int(random.integers(oldest, newest + 1))
        change = int(random.integers(-counts.get(place, 0), 3))
        counts[place] = counts.get(place, 0) + change
        ranks.add(place, change)
        if random.random() < 0.3:
            for gone in range(oldest, oldest + int(random.integers(0, 8))):
                if gone < newest:
                    ranks.add(gone, -counts.pop(gone, 0))
                    oldest = gone + 1
            ranks.cut(oldest)
        assert ranks.total == sum(counts.values())
        if ranks.total:
            things = [(place, index) for place in sorted(counts) for index in range(counts[place])]
            rank = int(random.integers(ranks.total))
            assert ranks.find(rank) == things[rank]
    assert oldest > 500 and len(ranks.counts) < 2 * (newest - oldest + 64)
