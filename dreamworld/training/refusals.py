"""Refuses rows of a fused program that are not finite, on the device, before they reach replay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from dreamworld.types import Array, Spaces, Tree

KINDS = ("nan", "inf", "-inf")


def sources(obs_space: Spaces) -> list[str]:
    """What of a row may hold a NaN or an infinity, in the order in which it is looked at."""
    floating = [key for key, space in sorted(obs_space.items()) if "float" in space.dtype]
    return ["reward", *(f"observation {key!r}" for key in floating)]


def refuse(env_state: Tree, rows: Tree, before: dict[str, Array] | None) -> tuple[Any, Any, Array]:
    """Closes the episodes of environments whose rows are not finite.

    Args:
      env_state: of batched environments; `needs_reset` [N] makes the next row the first of another episode.
      rows: what they returned; fields obs, reward and flags, each [N, ...].
      before: their observations one row earlier, which stand in for those refused; None for zeros.

    Returns:
      The state, the rows, and codes [N] int32: 0 for a good row, else 1 + kind + 3 * source (see `describe`).
      A refused row has reward 0 and is last, not terminal; a refused first row is an episode without steps.
    """
    values = [rows.reward, *(rows.obs[key] for key in sorted(rows.obs) if _floating(rows.obs[key]))]
    code = jnp.zeros(rows.reward.shape, jnp.int32)
    for index, value in reversed(list(enumerate(values))):
        some = lambda mask: mask.reshape(len(mask), -1).any(1)
        kind = jnp.where(some(jnp.isnan(value)), 0, jnp.where(some(jnp.isposinf(value)), 1, 2))
        code = jnp.where(some(~jnp.isfinite(value)), 1 + kind + 3 * index, code)
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


def describe(code: int, names: Sequence[str]) -> str:
    """A code of `refuse` in words; `names` are those of `sources`."""
    source, kind = divmod(code - 1, len(KINDS))
    return f"{names[source]} is {KINDS[kind]}"


class Counter(Protocol):
    """Counts failures of an environment and raises when there are too many in a row."""

    def record(self, who: str, what: str) -> str: ...
    def succeeded(self, who: str) -> None: ...


class Refusals:
    """What the host says of refused rows, and when it is too much."""

    def __init__(self, obs_space: Spaces, counter: Counter):
        self._names, self._counter = sources(obs_space), counter
        self._failing: set[int] = set()  # environments whose last step was refused

    def look(self, refused: np.ndarray, is_first: np.ndarray) -> tuple[list[str], Exception | None]:
        """Lines on rows, [T, N] codes and flags of the same rows, and the error that ends the run, if there is one."""
        events: list[str] = []
        for env in sorted(self._failing | set(np.flatnonzero(refused.any(0)).tolist())):
            for code, first in zip(refused[:, env].tolist(), is_first[:, env].tolist()):
                if code:
                    self._failing.add(env)
                    try:
                        events.append(self._counter.record(_name(env), describe(code, self._names)))
                    except RuntimeError as error:
                        return events, error
                elif not first and env in self._failing:  # a reset alone proves nothing
                    self._failing.remove(env)
                    self._counter.succeeded(_name(env))
        return events, None


def _name(index: int) -> str:
    return f"environment {index}"


def _floating(value: Array) -> bool:
    return jnp.issubdtype(value.dtype, jnp.floating)
