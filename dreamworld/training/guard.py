"""The numerical guard: keeps the first batch whose update was not finite, and names what was not.

The update itself refuses to apply a non-finite loss or gradient (types.Output.health). What is added here
runs on the device, too, and nothing waits for it: counters, a copy of the first bad batch, and a freeze once
no more bad updates are allowed, so that the host finds the last finite state at its next log step.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dreamworld import words
from dreamworld.errors import UserError
from dreamworld.training.step import all_healthy
from dreamworld.types import Array, Batch, Carry, DType, Output, TrainState, Tree

Update = Callable[[TrainState, Carry, Batch], tuple[TrainState, Carry, Output]]


class GuardState(NamedTuple):
    """Device side. The buffers (step ... batch) hold zeros until `caught`."""

    skipped: Array  # int32, updates that were not finite and not applied
    consecutive: Array  # int32, the last ones of them in a row
    held: Array  # int32, updates dropped because the guard was frozen
    frozen: Array  # bool, nothing is applied any more
    caught: Array  # bool, the buffers hold the first failure
    step: Array  # int32, train_state.step before the failure
    key: Array  # train_state.key before the failure
    health: dict[str, Array]
    carry: Carry
    batch: Any  # a Batch; None of a phase that reads none


def init_guard(batch_like: Batch | None, health_like: dict[str, Any], carry_like: Carry = ()) -> GuardState:
    """Zeros shaped (and sharded) as the arrays or `jax.ShapeDtypeStruct` given.

    Without `carry_like` the carry of a failure is not kept, and `dreamworld debug` takes the initial one.
    """

    def zero(dtype: DType = jnp.int32) -> Array:
        return jnp.zeros((), dtype)  # each its own buffer, or it can't be donated

    return GuardState(
        skipped=zero(),
        consecutive=zero(),
        held=zero(),
        frozen=zero(bool),
        caught=zero(bool),
        step=zero(),
        key=jnp.zeros((2,), jnp.uint32),
        health={name: zero(bool) for name in health_like},
        carry=jax.tree.map(_zeros, carry_like),
        batch=jax.tree.map(_zeros, batch_like),
    )


def guarded(update: Update, policy: str, limit: int = 0) -> Callable[..., Any]:
    """Returns `(guard, train_state, carry, batch) -> (guard, train_state, carry, output)`, to be jitted.

    What an update that was not applied would feed back is replaced: `writeback` by what is
    stored already, `priorities` by zeros, `carry` by the one before. `metrics["guard/skipped"]` counts.

    Args:
      update: the `update` of a phase.
      policy: "stop" freezes after the first bad update, "skip" after more than `limit` of them.
      limit: run.nan_limit; only for "skip".
    """
    if policy not in ("stop", "skip"):
        raise UserError(f"run.nan_policy is {policy!r}; choose stop or skip")
    allowed = limit if policy == "skip" else 0

    def step(
        guard: GuardState, state: TrainState, carry: Carry, batch: Batch
    ) -> tuple[GuardState, TrainState, Carry, Output]:
        new_state, new_carry, output = update(state, carry, batch)
        healthy = all_healthy(output.health)
        applied = healthy & ~guard.frozen
        failed = ~healthy & ~guard.frozen
        skipped = guard.skipped + failed
        start = carry if jax.tree.leaves(guard.carry) else guard.carry
        found = (state.step, state.key, output.health, start, batch)
        kept = (guard.step, guard.key, guard.health, guard.carry, guard.batch)
        new_guard = GuardState(
            skipped,
            jnp.where(guard.frozen, guard.consecutive, (guard.consecutive + 1) * failed),
            guard.held + guard.frozen,
            guard.frozen | (failed & (skipped > allowed)),
            guard.caught | failed,
            *_copy_when(failed & ~guard.caught, found, kept),
        )
        output = output._replace(
            metrics={**output.metrics, "guard/skipped": skipped},
            writeback=_stored(applied, output.writeback, batch),
            priorities=jax.tree.map(lambda x: jnp.where(applied, x, 0), output.priorities),
        )
        return new_guard, _select(applied, new_state, state), _select(applied, new_carry, carry), output

    return step


def first_caught(guards: Mapping[str, GuardState | None], seed: int | None = None) -> str:
    """The phase whose guard caught something, one that froze before others; of one seed. Empty for none."""
    own = lambda flag: bool(np.asarray(flag).any() if seed is None else np.asarray(flag)[seed])
    found = [name for name, each in guards.items() if each is not None and own(each.caught)]
    frozen = [name for name in found if (each := guards[name]) is not None and own(each.frozen)]
    return [*frozen, *found, ""][0]


def release(guard: GuardState) -> GuardState:
    """Empties the buffers for the next failure and lifts the freeze; the counts stay."""
    return guard._replace(frozen=jnp.zeros_like(guard.frozen), caught=jnp.zeros_like(guard.caught))


def _zeros(like: Tree) -> Array:
    sharding = getattr(like, "sharding", None)
    return jnp.zeros(like.shape, like.dtype, device=sharding)


def _select(predicate: Array, new: Tree, old: Tree) -> Tree:
    return jax.tree.map(lambda a, b: jnp.where(predicate, a, b), new, old)


def _copy_when(predicate: Array, new: Tree, old: Tree) -> Tree:
    """`new` where `predicate`; copies only then, but on GPUs, where branching makes the host wait."""

    def select() -> Tree:
        return _select(predicate, new, old)

    def branch() -> Tree:
        return jax.lax.cond(predicate, lambda: new, lambda: old)

    return jax.lax.platform_dependent(cuda=select, rocm=select, default=branch)


def _stored(applied: Array, writeback: dict[str, Array], batch: Batch) -> dict[str, Array]:
    """Latents to write back; those of an update not applied may be NaN, so the stored ones go back."""
    result = {}
    for name, fresh in writeback.items():
        old = batch.extras[name][:, -fresh.shape[1] :].astype(fresh.dtype) if name in batch.extras else 0
        result[name] = jnp.where(applied, fresh, old)
    return result


# --- host ------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Failure:
    """The first update that was not finite, in words and numbers."""

    step: int  # updates applied before it
    losses: tuple[str, ...]  # whose value was not finite
    tensors: tuple[str, ...]  # parameters the norm of whose gradient was not finite
    inputs: tuple[str, ...]  # what in the batch or the carry was not finite to begin with
    rows: np.ndarray | None  # [B, L] replay rows of the batch
    skipped: int
    consecutive: int
    held: int
    frozen: bool

    @property
    def text(self) -> str:
        """One paragraph for the log."""
        parts = [f"update {self.step} was not applied, its numbers are not finite"]
        if self.losses:
            parts.append(f"losses: {_list(self.losses)}")
        if self.tensors:
            parts.append(f"gradients: {_list(self.tensors)}")
        if self.inputs or self.rows is not None:
            parts.append(
                f"already in the batch: {_list(self.inputs)}" if self.inputs else "its batch is finite"
            )
        if self.rows is not None:
            spans = [f"{row[0]}..{row[-1]}" for row in self.rows]
            parts.append(f"replay rows {_list(spans, 4)}")
        state = "no update is applied any more" if self.frozen else "training goes on"
        parts.append(f"{self.skipped} skipped so far, {self.consecutive} in a row; {state}")
        return "; ".join(parts)


def inspect(guard: GuardState) -> Failure | None:
    """What was caught, or None; reads one flag from the device when all is well. Call it at log steps.

    With several processes all must call it, and with a seed axis once per seed, on that seed's slice.
    """
    if not bool(guard.caught):
        return None
    bad = [name for name, finite in guard.health.items() if not bool(finite)]
    batch: Batch | None = jax.tree.map(fetch, guard.batch)
    rows = np.asarray(batch.extras["row"]) if batch is not None and "row" in batch.extras else None
    if rows is not None and rows.ndim == 3:  # [B, L, 2] int32: the halves of an int64
        rows = np.ascontiguousarray(rows).view(np.int64)[..., 0]
    return Failure(
        step=int(guard.step),
        losses=tuple(name.removeprefix("loss/") for name in bad if name.startswith("loss/")),
        tensors=tuple(name.removeprefix("grad/") for name in bad if not name.startswith("loss/")),
        inputs=tuple(_nonfinite_inputs(batch, jax.tree.map(fetch, guard.carry))),
        rows=rows,
        skipped=int(guard.skipped),
        consecutive=int(guard.consecutive),
        held=int(guard.held),
        frozen=bool(guard.frozen),
    )


def fetch(leaf: Array) -> np.ndarray:
    """A device array on the host; one that several processes share is gathered, all of them calling."""
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable and not leaf.is_fully_replicated:
        from jax.experimental import multihost_utils

        return np.asarray(multihost_utils.process_allgather(leaf, tiled=True))
    return np.asarray(leaf)


def _nonfinite_inputs(batch: Batch | None, carry: Tree) -> list[str]:
    """`obs/speed (3 values, first in row 17 of chunk 2)` for each array that came in not finite."""
    found = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(
        {**(batch._asdict() if batch else {}), "carry": carry}
    ):
        if not jnp.issubdtype(leaf.dtype, jnp.inexact) or (finite := np.isfinite(leaf)).all():
            continue
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        where = np.argwhere(~finite)[0]
        place = (
            f", first in row {where[1]} of chunk {where[0]}" if len(where) > 1 and "carry" not in name else ""
        )
        found.append(f"{name} ({words.count((~finite).sum(), 'value')}{place})")
    return found


def _list(names: Iterable[str], limit: int = 5) -> str:
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
