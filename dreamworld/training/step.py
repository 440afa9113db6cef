"""One learning step as a pure function: gradient, health check, optimiser, slow target."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dreamworld import parallel
from dreamworld.types import Array, Batch, Carry, Key, Output, Params, TrainState, Tree


class LossOut(NamedTuple):
    """What a loss function returns beside the scalar."""

    losses: dict[str, Array]  # unscaled, any shape; logged and checked by name
    stats: Tree
    carry: Carry
    entries: dict[str, Array]  # latents and extras to write back, [B, T, ...]
    priorities: Array | None
    metrics: dict[str, Array]


LossFn = Callable[[Params, Params, Any, Carry, Batch, Key], tuple[Array, LossOut]]


def make_update(
    loss: LossFn, optimizer: optax.GradientTransformation, update_slow: Callable[[Params, Params], Params]
) -> Callable[[TrainState, Carry, Batch], tuple[TrainState, Carry, Output]]:
    """Returns `update(train_state, carry, batch) -> (train_state, carry, output)`.

    `loss(params, slow, stats, carry, batch, key)` returns the scalar to minimise and a LossOut. An update
    whose loss or gradient is not finite is not applied: the train state, the carry and what replay holds
    stay as they were, and `output.health` names the culprit.
    """

    def gradient(same: Tree, rows: tuple[Carry, Batch]) -> tuple[Any, Any]:
        """Of the whole batch's mean loss: gradients, metrics, losses that are not finite, statistics."""
        params, slow, stats, key = same
        (total, out), grads = jax.value_and_grad(loss, has_aux=True)(params, slow, stats, *rows, key)
        losses = {f"loss/{name}": value for name, value in out.losses.items()} | {"loss/total": total}
        means = {name: value.mean() for name, value in losses.items()} | out.metrics
        broken = {name: ~jnp.isfinite(value).all() for name, value in losses.items()}
        means = parallel.mean_over_shards((grads, means, broken))
        return (*means, out.stats), (out.carry, out.entries, out.priorities)

    def update(state: TrainState, carry: Carry, batch: Batch) -> tuple[TrainState, Carry, Output]:
        key = jax.random.fold_in(state.key, state.step)
        (grads, metrics, broken, stats), (new_carry, entries, priorities) = parallel.per_shard(
            gradient, (state.params, state.slow, state.stats, key), (carry, batch)
        )
        health = {name: ~flag for name, flag in broken.items()} | _health(grads)
        with jax.named_scope("optimizer"):
            changes, opt_state = optimizer.update(grads, state.opt_state, state.params)
            params = optax.apply_updates(state.params, changes)
        new = TrainState(params, opt_state, update_slow(state.slow, params), stats, state.step + 1, state.key)
        healthy = all_healthy(health)
        keep = lambda fresh, old: jnp.where(healthy, fresh, old)
        metrics["grad_norm"] = optax.tree.norm(grads)
        writeback = {name: keep(fresh, _stored(batch, name, fresh)) for name, fresh in entries.items()}
        output = Output(metrics, writeback, priorities, health)
        return jax.tree.map(keep, new, state), jax.tree.map(keep, new_carry, carry), output

    # Traced once for all who ask for its shapes, or compile it as a part of theirs.
    return jax.jit(update, inline=True)


def batch_mean(loss: Array, batch: Batch) -> Array:
    """The mean of a loss [B, ...] over a batch: windows count by their importance weights, where they have some."""
    weight = batch.extras.get("weight")
    return loss.mean() if weight is None else (loss * weight.reshape((-1,) + (1,) * (loss.ndim - 1))).mean()


def free_mean(free_nats: float, loss: Array, batch: Batch) -> Array:
    """max(mean of the whole batch, free_nats): of all devices, so that each passes on its gradient, or none does."""
    (everywhere,) = parallel.all_rows([loss], axis=0)
    return jnp.where(
        everywhere.mean() > free_nats,
        batch_mean(loss, batch),
        batch_mean(jnp.full_like(loss, free_nats), batch),
    )


def _stored(batch: Batch, name: str, fresh: Array) -> Array:
    """What replay holds for the trained rows: what an update that is not applied writes back."""
    if name not in batch.extras:
        return jnp.zeros_like(fresh)
    return batch.extras[name][:, -fresh.shape[1] :].astype(fresh.dtype)


def all_healthy(health: dict[str, Array]) -> Array:
    """Whether every flag holds.

    The least of numbers, not an `and` of flags, which XLA would compute anew in each of the kernels that ask for it.
    """
    return jnp.stack(list(health.values())).astype(jnp.float32).min() > 0


def _health(grads: Params) -> dict[str, Array]:
    """Whether the norm of each tensor's gradient is finite, by name: clipping and metrics need it, too."""
    leaves = jax.tree_util.tree_leaves_with_path(grads)
    squares = jnp.stack([jnp.sum(jnp.square(grad.astype(jnp.float32))) for _, grad in leaves])
    return {"grad/" + tensor_name(path): flag for (path, _), flag in zip(leaves, jnp.isfinite(squares))}


def tensor_name(path: tuple[Any, ...]) -> str:
    """`dynamics/prior/logits/kernel` of a pytree path."""
    return "/".join(
        str(getattr(entry, "key", getattr(entry, "name", getattr(entry, "idx", entry)))) for entry in path
    )
