"""Refuses rows of a fused program that can't be taken, on the device, before they reach replay."""

from __future__ import annotations

from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from dreamworld import words
from dreamworld.types import BAD_FLAG, Array, Spaces, Tree

TESTS = {"nan": jnp.isnan, "inf": jnp.isposinf, "-inf": jnp.isneginf}


def reasons(obs_space: Spaces) -> list[str]:
    """Why a row may be refused, in the order in which it is looked at; a code of `refuse` is 1 + the index."""
    numbers = ["reward", *(f"observation {key!r}" for key in _floating(obs_space))]
    classes = [
        f"observation {key!r} holds a class that its space has not: it has "
        f"{words.count(obs_space[key].classes or 0, 'class', 'classes')}, counted from 0"
        for key in _classed(obs_space)
    ]
    return [*(f"{what} is {kind}" for what in numbers for kind in TESTS), *classes, BAD_FLAG]


def refuse(
    env_state: Tree, rows: Tree, before: dict[str, Array] | None, obs_space: Spaces
) -> tuple[Any, Any, Array]:
    """Closes the episodes of environments whose rows are not finite, or hold a class that its space has not.

    Args:
      env_state: of batched environments; `needs_reset` [N] makes the next row the first of another episode.
      rows: what they returned; fields obs, reward and flags, each [N, ...], of the dtypes of `obs_space`.
      before: their observations one row earlier, which stand in for those refused; None for zeros.
      obs_space: the spaces of the observations.

    Returns:
      The state, the rows, and codes [N] int32: 0 for a good row, else that of the first of `reasons`.
      A refused row has reward 0 and is last, not terminal; a refused first row is an episode without steps.
    """
    code = jnp.zeros(rows.reward.shape, jnp.int32)
    for index, found in reversed(list(enumerate(_look(rows, obs_space)))):
        code = jnp.where(found.reshape(len(found), -1).any(1), 1 + index, code)
    bad = code > 0
    earlier = jax.tree.map(jnp.zeros_like, rows.obs) if before is None else before
    pick = lambda old, new: jnp.where(bad.reshape((-1,) + (1,) * (new.ndim - 1)), old, new)
    rows = rows._replace(
        obs=jax.tree.map(pick, earlier, rows.obs),
        reward=jnp.where(bad, 0, rows.reward),
        is_last=rows.is_last | bad,
        is_terminal=rows.is_terminal & ~bad,
    )
    return env_state._replace(needs_reset=env_state.needs_reset | bad), rows, code


def _look(rows: Tree, obs_space: Spaces) -> list[Array]:
    """For each of `reasons`, the elements [N, ...] that are one."""
    numbers = [rows.reward, *(rows.obs[key] for key in _floating(obs_space))]
    found = [test(value) for value in numbers for test in TESTS.values()]
    for key in _classed(obs_space):
        value = rows.obs[key]
        found.append((value < 0) | (value >= obs_space[key].classes))
    return [*found, rows.bad_flags]


def _floating(obs_space: Spaces) -> list[str]:
    return [key for key, space in sorted(obs_space.items()) if "float" in space.dtype]


def _classed(obs_space: Spaces) -> list[str]:
    return [key for key, space in sorted(obs_space.items()) if space.classes is not None]


class Counter(Protocol):
    """Counts failures of an environment and raises when there are too many in a row."""

    def record(self, who: str, what: str) -> str: ...
    def succeeded(self, who: str) -> None: ...


class Refusals:
    """What the host says of refused rows, and when it is too much."""

    def __init__(self, obs_space: Spaces, counter: Counter):
        self._reasons, self._counter = reasons(obs_space), counter
        self._failing: set[int] = set()  # environments whose last step was refused

    def look(self, refused: np.ndarray, is_first: np.ndarray) -> tuple[list[str], Exception | None]:
        """Lines on rows, [T, N] codes and flags of the same rows, and the error that ends the run, if there is one."""
        events: list[str] = []
        for env in sorted(self._failing | set(np.flatnonzero(refused.any(0)).tolist())):
            for code, first in zip(refused[:, env].tolist(), is_first[:, env].tolist()):
                if code:
                    self._failing.add(env)
                    try:
                        events.append(self._counter.record(_name(env), self._reasons[code - 1]))
                    except RuntimeError as error:
                        return events, error
                elif not first and env in self._failing:  # a reset alone proves nothing
                    self._failing.remove(env)
                    self._counter.succeeded(_name(env))
        return events, None


def _name(index: int) -> str:
    return f"environment {index}"
