"""Replay as a pytree on the device, for the fused mode: one ring per environment, pure functions over it.

Sampling is uniform over all windows that hold only rows still stored. Not imported by the host replay.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dreamworld.types import Array, Key, Spaces


class DeviceReplay(NamedTuple):
    """`rows` {key: [N, capacity, ...]}; row number t of an environment lies at t % capacity."""

    rows: dict[str, Array]
    count: Array  # int32 [], rows added per environment so far

    @property
    def capacity(self) -> int:
        """Rows kept per environment."""
        return jax.tree.leaves(self.rows)[0].shape[1]


def init(spaces: Spaces, num_envs: int, capacity: int) -> DeviceReplay:
    """Empty rings of `capacity` rows for each of `num_envs` environments."""
    rows = {key: jnp.zeros((num_envs, capacity, *s.shape), jnp.dtype(s.dtype)) for key, s in spaces.items()}
    return DeviceReplay(rows, jnp.zeros((), jnp.int32))


def add(replay: DeviceReplay, rows: dict[str, Array]) -> DeviceReplay:
    """Appends one row {key: [N, ...]} per environment."""
    at = replay.count % replay.capacity
    put = lambda ring, row: jax.lax.dynamic_update_index_in_dim(ring, row.astype(ring.dtype), at, 1)
    return DeviceReplay({key: put(ring, rows[key]) for key, ring in replay.rows.items()}, replay.count + 1)


def resize(replay: DeviceReplay, capacity: int) -> DeviceReplay:
    """The newest rows in rings of another capacity; they are numbered anew when some are lost."""
    kept = jnp.minimum(replay.count, min(capacity, replay.capacity))
    source = (replay.count - kept + jnp.arange(capacity)) % replay.capacity
    return DeviceReplay({key: ring[:, source] for key, ring in replay.rows.items()}, kept)


def starts(replay: DeviceReplay, length: int) -> Array:
    """Valid start positions per environment."""
    return jnp.maximum(jnp.minimum(replay.count, replay.capacity) - length + 1, 0)


def sample(
    replay: DeviceReplay, batch: int, length: int, key: Key
) -> tuple[dict[str, Array], tuple[Array, Array]]:
    """Windows {key: [batch, length, ...]} drawn uniformly, and where they lie: (env [batch], slot [batch, length]).

    At least one valid start is needed. The first row of each window is made `is_first`, as in the host replay.
    """
    env_key, start_key = jax.random.split(key)
    num_envs = jax.tree.leaves(replay.rows)[0].shape[0]
    env = jax.random.randint(env_key, (batch,), 0, num_envs)
    oldest = jnp.maximum(replay.count - replay.capacity, 0)
    start = oldest + jax.random.randint(start_key, (batch,), 0, starts(replay, length))
    slot = (start[:, None] + jnp.arange(length)[None]) % replay.capacity
    windows = {key: ring[env[:, None], slot] for key, ring in replay.rows.items()}
    windows["is_first"] = windows["is_first"].at[:, 0].set(True)
    return windows, (env, slot)


def write_back(replay: DeviceReplay, place: tuple[Array, Array], latents: dict[str, Any]) -> DeviceReplay:
    """Replaces the latents of the last T rows of sampled windows by {key: [batch, T, ...]}."""
    env, slot = place
    rows = dict(replay.rows)
    for key, value in latents.items():
        where = slot[:, -value.shape[1] :]
        rows[key] = rows[key].at[env[:, None], where].set(value.astype(rows[key].dtype))
    return replay._replace(rows=rows)
