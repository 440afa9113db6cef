"""Noise on actions, and random ones at the beginning, as PlaNet and the first two Dreamers explore."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from dreamworld import nets
from dreamworld.contract import Phase, Stage
from dreamworld.types import Array, Key, Spaces


def stages(random_steps: int, phase: Phase) -> tuple[Stage, ...]:
    """Learning in one phase, after `random_steps` agent steps of random actions, if there are any."""
    random = Stage("random", (), collect="random", steps=random_steps)
    return (*([random] if random_steps else []), Stage("train", (phase,)))


def explore(action: dict[str, Array], spaces: Spaces, noise: float, key: Key) -> dict[str, Array]:
    """Normal noise on continuous actions, clipped to [-1, 1]; a share `noise` of discrete ones drawn uniformly."""
    found = {}
    for index, (name, value) in enumerate(sorted(action.items())):
        own, choose = jax.random.split(jax.random.fold_in(key, index))
        if classes := nets.class_count(spaces[name]):
            other = jax.random.randint(own, value.shape, 0, classes)
            found[name] = jnp.where(jax.random.uniform(choose, value.shape) < noise, other, value)
        else:
            found[name] = jnp.clip(value + noise * jax.random.normal(own, value.shape), -1, 1)
    return found
