"""Data sets with everything in them: pictures, vectors, classes, nested names, terminals, time limits, extras."""

import numpy as np

from dreamworld.datasets import DataWriter, Schema, make_episode, open_dataset
from dreamworld.types import Native, Space

OBS = {
    "image": Space((16, 16, 3), "uint8", low=0, high=255),
    "vector": Space((3,), "float32"),
    "state/phase": Space((), "int32", classes=4),
    "state/cells": Space((2, 2), "int32", classes=3),
}
STEER = Space((2,), "float32", low=-1, high=1, native=Native((-2.0, 0.0), (2.0, 5.0), "float64"))
ACT = {"steer": STEER, "gear": Space((), "int32", classes=3)}
EXTRA = {
    "state/place": Space((2,), "float32"),
    "state/time": Space((), "int32"),
    "state/on": Space((), "bool"),
}
WHOLE = Schema(OBS, ACT, EXTRA)
KINDS = {
    "whole": WHOLE,
    "vector, classes": Schema({"vector": OBS["vector"]}, {"action": ACT["gear"]}),
    "image, continuous": Schema({"image": OBS["image"]}, {"action": STEER}),
}


def make_rows(schema, steps, seed, terminal=False):
    """An episode of random values, negative zeros and the smallest numbers among them."""
    random = np.random.default_rng(seed)
    draw = lambda spaces, rows: {
        key: random.integers(0, 2, (rows, *space.shape)).astype(space.dtype)
        if space.dtype == "bool"
        else space.sample(random, rows)
        for key, space in spaces.items()
    }
    obs, extra = draw(schema.obs_space, steps + 1), draw(schema.extra_space, steps + 1)
    action = draw(schema.act_space, steps)
    for values in [*obs.values(), *action.values()]:
        if values.dtype.kind == "f":
            values.flat[0], values.flat[1] = -0.0, 1e-42
    reward = random.normal(size=steps).astype(np.float32) if schema.has_reward else None
    return make_episode(schema, obs, action, reward, terminal=terminal, extra=extra)


def write(folder, schema=WHOLE, lengths=(5, 1, 40), **options):
    """A data set in which every second episode ends truly, by two policies."""
    with DataWriter(folder, schema, task="gym_Made-v0", **options) as writer:
        for index, steps in enumerate(lengths):
            writer.add(
                make_rows(schema, steps, index, terminal=index % 2 == 1), ("random", "half")[index % 2]
            )
    return open_dataset(folder)


def same(one, other):
    """Whether two data sets hold the same, to the bit."""
    assert one.schema == other.schema
    for key, space in one.act_space.items():
        assert space.native == other.act_space[key].native
    assert (one.task, one.labels, one.returns) == (other.task, other.labels, other.returns)
    assert one.episodes == other.episodes
    for first, second in zip(one, other):
        assert first.keys() == second.keys()
        for key in first:
            assert first[key].dtype == second[key].dtype and first[key].shape == second[key].shape, key
            assert first[key].tobytes() == second[key].tobytes(), key
    return True
