"""What else could have happened: from the last observed rows, the real environment is played under other actions.

The fan holds each of a few actions for some steps; the plans are sequences of which a model has to find the best one.
Both are played once and kept with the segments, so that all models are asked the same.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from dreamworld.assess.ground import Ground, play, start_states
from dreamworld.assess.segments import Segments
from dreamworld.types import Space, Spaces

FAN_STARTS, FAN_STEPS, FAN_ACTIONS = 32, 10, 9
PLAN_STARTS, PLAN_STEPS, PLANS = 64, 50, 5


def with_branches(segments: Segments, ground: Ground | None, seed: int = 0) -> Segments:
    """The segments with their branches; without ground truth, as they are."""
    if ground is None:
        return segments
    random = np.random.default_rng([seed, 1])
    found = {f"fan/{name}": value for name, value in make_fan(segments, ground, random).items()}
    found |= {f"plan/{name}": value for name, value in make_plans(segments, ground, random).items()}
    return dataclasses.replace(segments, branches=found)


def held_actions(act_space: Spaces) -> dict[str, np.ndarray]:
    """Up to `FAN_ACTIONS` actions {key: [A, *shape]}: all zero, then each class, or -1 and 1, of one element."""
    zero = {key: np.zeros(space.shape, space.dtype) for key, space in act_space.items()}
    found = [zero]
    for key, space in act_space.items():
        for place in range(space.size):
            for value in _values(space):
                action = {name: array.copy() for name, array in zero.items()}
                action[key].reshape(-1)[place] = value
                found.append(action)
    return {key: np.stack([action[key] for action in found[:FAN_ACTIONS]]) for key in act_space}


def _values(space: Space) -> list[float]:
    return list(range(1, space.classes)) if space.classes is not None else [-1.0, 1.0]


def make_fan(segments: Segments, ground: Ground, random: np.random.Generator) -> dict[str, np.ndarray]:
    """`segment` [M]; `action/<key>` [A, *shape]; `obs/<key>` [M, A, K, *shape] and `alive` [M, A, K]."""
    starts = _choose(segments.imagined[:, 0], FAN_STARTS, random)
    held, steps = held_actions(segments.act_space), min(FAN_STEPS, segments.horizon)
    count = len(next(iter(held.values())))
    states, age = start_states(ground, segments, np.repeat(starts, count))
    repeat = lambda x: np.broadcast_to(x[None, :, None], (len(starts), count, steps, *x.shape[1:])).reshape(
        -1, steps, *x.shape[1:]
    )
    actions = {key: repeat(value) for key, value in held.items()}
    told = jax.device_get(
        jax.jit(lambda *args: play(ground, *args, keep=True))(
            states, age, actions, _keys(1, len(starts), count)
        )
    )
    shaped = lambda x: np.asarray(x).reshape(len(starts), count, *x.shape[1:])
    found = {f"obs/{key}": shaped(told.obs[key]) for key in segments.obs_space}
    found |= {f"action/{key}": value for key, value in held.items()}
    return found | {"segment": starts, "alive": shaped(told.alive)}


def make_plans(segments: Segments, ground: Ground, random: np.random.Generator) -> dict[str, np.ndarray]:
    """`segment` [M]; `action/<key>` [M, P, K, ...]; `reward` and `alive` [M, P, K].

    The plans are the recorded actions, those of other segments, and uniformly random ones. Starts are segments with all
    their rows; there may be none.
    """
    whole = np.all(segments.imagined, axis=1)
    starts = _choose(whole, PLAN_STARTS, random)
    steps = min(PLAN_STEPS, segments.horizon)
    if not len(starts):
        return {}
    donors = np.flatnonzero(whole)
    others = random.choice(donors, (len(starts), PLANS - 2))
    first = segments.context - 1
    actions = {}
    for key, space in segments.act_space.items():
        rows = segments.columns[f"action/{key}"][:, first : first + steps]
        drawn = space.sample(random, len(starts), 1, steps)
        actions[key] = np.concatenate([rows[starts][:, None], rows[others], drawn.astype(rows.dtype)], 1)
    states, age = start_states(ground, segments, np.repeat(starts, PLANS))
    flat = {key: value.reshape(-1, *value.shape[2:]) for key, value in actions.items()}
    told = jax.device_get(
        jax.jit(lambda *args: play(ground, *args, keep=False))(
            states, age, flat, _keys(2, len(starts), PLANS)
        )
    )
    shaped = lambda x: np.asarray(x).reshape(len(starts), PLANS, steps)
    found = {f"action/{key}": value for key, value in actions.items()}
    return found | {"segment": starts, "reward": shaped(told.reward), "alive": shaped(told.alive)}


def _keys(stream: int, starts: int, branches: int) -> jax.Array:
    """Keys of all branches of all starts: those of one start have the same, so that actions alone differ."""
    return jnp.repeat(jax.random.split(jax.random.PRNGKey(stream), starts), branches, 0)


def _choose(fit: np.ndarray, most: int, random: np.random.Generator) -> np.ndarray:
    """Up to `most` segments of those that fit, ascending."""
    places = np.flatnonzero(fit)
    return np.sort(random.permutation(places)[:most]).astype(np.int32)
