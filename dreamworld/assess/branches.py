"""What else could have happened: from the last observed rows, the real environment is played under other actions.

The fan holds each of a few actions for some steps; the plans are sequences of which a model has to find the best one;
the loops are actions and then their inverses. All are played once and kept with the segments, so that all models are
asked the same.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from dreamworld.assess.ground import Ground, Played, play, start_states
from dreamworld.assess.host import HostGround
from dreamworld.assess.segments import Segments
from dreamworld.types import Space, Spaces

FAN_STARTS, FAN_STEPS, FAN_ACTIONS = 32, 10, 9
PLAN_STARTS, PLAN_STEPS, PLANS = 64, 50, 5
LOOP_STARTS, LOOP_STEPS = 32, 10  # steps of each half


def with_branches(segments: Segments, ground: Ground | HostGround | None, seed: int = 0) -> Segments:
    """The segments with their branches; where their states can't be restored, as they are."""
    if ground is None:
        return segments
    random = np.random.default_rng([seed, 1])
    found = {f"fan/{name}": value for name, value in make_fan(segments, ground, random).items()}
    found |= {f"plan/{name}": value for name, value in make_plans(segments, ground, random).items()}
    found |= {f"loop/{name}": value for name, value in make_loops(segments, ground, random).items()}
    return dataclasses.replace(segments, branches=segments.branches | found)


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


def make_fan(
    segments: Segments, ground: Ground | HostGround, random: np.random.Generator
) -> dict[str, np.ndarray]:
    """`segment` [M]; `action/<key>` [A, *shape]; `obs/<key>` [M, A, K, *shape] and `alive` [M, A, K].

    There may be none, where no state was reached.
    """
    starts = _choose(segments.imagined[:, 0], FAN_STARTS, random)
    held, steps = held_actions(segments.act_space), min(FAN_STEPS, segments.horizon)
    repeat = lambda x: np.broadcast_to(x[None, :, None], (len(starts), len(x), steps, *x.shape[1:]))
    actions = {key: repeat(value) for key, value in held.items()}
    told, reached = _play(segments, ground, starts, actions, stream=1, keep=True)
    if not reached.any():
        return {}
    found = {f"obs/{key}": told.obs[key] for key in segments.obs_space}
    found |= {"segment": starts, "alive": told.alive}
    found = {name: value[reached] for name, value in found.items()}
    return found | {f"action/{key}": value for key, value in held.items()}


def make_plans(
    segments: Segments, ground: Ground | HostGround, random: np.random.Generator
) -> dict[str, np.ndarray]:
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
    told, reached = _play(segments, ground, starts, actions, stream=2, keep=False)
    if not reached.any():
        return {}
    found = {f"action/{key}": value for key, value in actions.items()}
    found |= {"segment": starts, "reward": told.reward, "alive": told.alive}
    return {name: value[reached] for name, value in found.items()}


def make_loops(
    segments: Segments, ground: Ground | HostGround, random: np.random.Generator
) -> dict[str, np.ndarray]:
    """`segment` [M]; `action/<key>` and `alive` [M, 2, K, ...], there and back; `obs/<key>` [M, 2, *shape], their ends.

    On the way there the actions are the recorded ones, on the way back their inverses in reverse order; there are none
    where actions have no inverses.
    """
    steps, first = min(LOOP_STEPS, segments.horizon), segments.context - 1
    starts = _choose(np.all(segments.imagined[:, :steps], axis=1), LOOP_STARTS, random)
    actions = {}
    for key, space in segments.act_space.items():
        there = segments.columns[f"action/{key}"][starts, first : first + steps]
        back = inverse(space, there[:, ::-1], getattr(getattr(ground, "env", None), "inverse_actions", ()))
        if back is None or not len(starts):
            return {}
        actions[key] = np.concatenate([there, back], 1)[:, None]
    told, reached = _play(segments, ground, starts, actions, stream=3, keep=True)
    if not reached.any():
        return {}
    halves = lambda x: np.asarray(x).reshape(len(starts), 2, steps, *x.shape[3:])
    found = {f"action/{key}": halves(value) for key, value in actions.items()}
    found |= {f"obs/{key}": halves(told.obs[key])[:, :, -1] for key in segments.obs_space}
    found |= {"segment": starts, "alive": halves(told.alive)}
    return {name: value[reached] for name, value in found.items()}


def inverse(space: Space, actions: np.ndarray, declared: tuple[int, ...]) -> np.ndarray | None:
    """The actions that undo others; None where they have none.

    Of continuous ones of a symmetric range -a, of classes what the environment declares: class c is undone by
    `declared[c]`.
    """
    if space.classes is None:
        symmetric = space.low == -space.high and actions.dtype.kind == "f"
        return -actions if symmetric else None
    whole = sorted(declared) == list(range(space.classes))
    return np.asarray(declared, actions.dtype)[actions] if whole else None


def _play(
    segments: Segments,
    ground: Ground | HostGround,
    starts: np.ndarray,
    actions: dict[str, np.ndarray],
    stream: int,
    keep: bool,
) -> tuple[Played, np.ndarray]:
    """Rows [M, A, K, ...] of actions {key: [M, A, K, ...]} from each start, and which starts [M] were reached."""
    if isinstance(ground, HostGround):
        return ground.play(segments, starts, actions, keep)
    lead = next(iter(actions.values())).shape[:3]
    states, age = start_states(ground, segments, np.repeat(starts, lead[1]))
    flat = {key: value.reshape(-1, *value.shape[2:]) for key, value in actions.items()}
    run = jax.jit(lambda *args: play(ground, *args, keep=keep))
    told = jax.device_get(run(states, age, flat, _keys(stream, lead[0], lead[1])))
    shaped = jax.tree.map(lambda x: np.asarray(x).reshape(*lead, *x.shape[2:]), told)
    return shaped, np.ones(lead[0], bool)


def _keys(stream: int, starts: int, branches: int) -> jax.Array:
    """Keys of all branches of all starts: those of one start have the same, so that actions alone differ."""
    return jnp.repeat(jax.random.split(jax.random.PRNGKey(stream), starts), branches, 0)


def _choose(fit: np.ndarray, most: int, random: np.random.Generator) -> np.ndarray:
    """Up to `most` segments of those that fit, ascending."""
    places = np.flatnonzero(fit)
    return np.sort(random.permutation(places)[:most]).astype(np.int32)
