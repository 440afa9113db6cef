"""Plans that come from outside, checked: whether they are actions of the world, and what they are asked for."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from dreamworld import words
from dreamworld.contract import Simulator
from dreamworld.errors import UserError
from dreamworld.spaces import describe_space, describe_spaces
from dreamworld.types import Array, Space, Spaces

FORM = "give [M, H, *shape], the same M and H for all"
SLACK = 1e-4  # beyond [-1, 1], of continuous actions that were computed


def check_world(simulator: object, params: object, state: object) -> None:
    """UserError for what is no simulator, or can't rate plans, and for parameters and states that are not its own."""
    if not isinstance(simulator, Simulator):
        raise UserError(
            f"score_plans: the simulator is {words.type_of(simulator)}; give player.agent.simulator"
        )
    if simulator.predict is None:
        raise UserError("score_plans: this world predicts no reward, so that plans have no return")
    if isinstance(params, Mapping) and "world" in params:
        raise UserError('score_plans: the params are those of a whole agent; give player.params["world"]')
    leaves = jax.tree.leaves(state)
    if not leaves or not all(np.ndim(leaf) for leaf in leaves):
        raise UserError(
            f"score_plans: the state is {words.type_of(state)}; give what the simulator's initial or observe returned"
        )


def check_options(key: object, dreams: object, discount: object, value: object) -> None:
    """UserError for options of score_plans that are of another type, or out of range."""
    if not isinstance(key, jax.Array | np.ndarray):
        raise UserError(f"score_plans: the key is {words.type_of(key)}; give jax.random.PRNGKey(0)")
    if not isinstance(dreams, numbers.Integral) or dreams < 1:
        raise UserError(f"score_plans: dreams {dreams!r}: give at least 1, a whole number")
    if not isinstance(discount, int | float | np.floating) or not 0 <= discount <= 1:
        raise UserError(f"score_plans: discount {discount!r}: give a number between 0 and 1")
    if value is not None and not callable(value):
        raise UserError(
            f"score_plans: the value is {words.type_of(value)}; give a function of features [M, F]"
        )


def read(plans: object, spaces: Spaces | None) -> dict[str, Array]:
    """Plans {key: [M, H, *shape]} as arrays; UserError where they are none, or no actions of `spaces`."""
    known = f" ({describe_spaces(spaces)})" if spaces else ""
    if not isinstance(plans, Mapping):
        raise UserError(
            f"score_plans: the plans are {words.type_of(plans)}; give {{key: [M, H, *shape]}} for every action{known}"
        )
    if not plans:
        raise UserError(f"score_plans: no plans; give {{key: [M, H, *shape]}} for every action{known}")
    if spaces is not None and set(plans) != set(spaces):
        told = ", ".join(map(repr, plans))
        raise UserError(f"score_plans: plans of {told}; the actions are {describe_spaces(spaces)}")
    arrays = {key: _as_array(key, value) for key, value in plans.items()}
    begins = {array.shape[:2] for array in arrays.values()}
    if len(begins) != 1 or any(len(begin) != 2 or 0 in begin for begin in begins):
        told = ", ".join(f"{key} {array.shape}" for key, array in sorted(arrays.items()))
        raise UserError(f"score_plans: plans of the shapes {told}; {FORM}")
    for key, space in (spaces or {}).items():
        _check(key, arrays[key], space)
    return {key: jnp.asarray(array) for key, array in arrays.items()}


def _as_array(key: str, value: object) -> np.ndarray | Array:
    if isinstance(value, jax.Array):  # also one of a function that is being compiled
        return value
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):  # lists of unequal length
        array = np.asarray(None)
    if array.dtype.kind not in "biuf":
        raise UserError(f"score_plans: the plans {key!r} are no array of numbers; {FORM}")
    return array


def _check(key: str, array: np.ndarray | Array, space: Space) -> None:
    """UserError where an array [M, H, ...] holds no actions of the space."""
    expected = f"expected {describe_space(space)}"
    if array.shape[2:] != space.shape:
        wanted = ", ".join(map(str, ("M", "H", *space.shape)))
        raise UserError(f"score_plans: the plans {key!r} have the shape {array.shape}; expected [{wanted}]")
    if isinstance(array, Tracer):  # whose values are not known yet
        return
    low, high = (0, space.classes - 1) if space.classes is not None else (-1 - SLACK, 1 + SLACK)
    if space.discrete and array.dtype.kind not in "biu":
        raise UserError(
            f"score_plans: the plans {key!r} hold {array.dtype}; {expected}, from {low} to {high}"
        )
    values = np.asarray(array)
    wrong = values[~((values >= low) & (values <= high))]
    if wrong.size:
        span = (
            f"{expected}, from {low} to {high}" if space.discrete else "continuous actions are within [-1, 1]"
        )
        shown = "nan" if math.isnan(wrong[0]) else f"{wrong[0]:g}"
        raise UserError(f"score_plans: the plans {key!r} hold {shown}; {span}")
