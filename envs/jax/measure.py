"""Measures what policies earn: `python -m dreamworld.envs.jax.measure` prints the documentation's table."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dreamworld.envs.jax import JAX_ENVS, make_jax_env
from dreamworld.envs.jax.batched import batched
from dreamworld.types import JaxEnv, Space

Array = jax.Array
Policy = Callable[[Any, Array], dict[str, Array]]  # (unbatched state, key) -> unbatched action


def random_policy(env: JaxEnv) -> Policy:
    """Uniform actions."""

    def draw(space: Space, key: Array) -> Array:
        if space.classes is not None:
            return jax.random.randint(key, space.shape, 0, space.classes).astype(space.dtype)
        return jax.random.uniform(key, space.shape, space.dtype, -1, 1)

    def policy(state: Any, key: Array) -> dict[str, Array]:
        keys = jax.random.split(key, len(env.act_space))
        return {name: draw(space, k) for (name, space), k in zip(env.act_space.items(), keys)}

    return policy


def episode_returns(
    env: JaxEnv, policy: Policy, key: Array, episodes: int, max_steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns and lengths, each [episodes], of the first episode of as many environments.

    One episode of each, because counting what ends within a fixed time favours short episodes. Raises
    RuntimeError when an episode is longer than `max_steps`.
    """
    functions = batched(env)

    def body(carry, index):
        state, key, total, length, open_ = carry
        keys = jax.random.split(jax.random.fold_in(key, index), episodes)
        state, rows = functions.step(state, jax.vmap(policy)(state.env, keys))
        total, length = total + rows.reward * open_, length + open_
        return (state, key, total, length, open_ & ~rows.is_last), None

    @jax.jit
    def run(key):
        key, reset_key = jax.random.split(key)
        state, _ = functions.reset(jax.random.split(reset_key, episodes))
        zero = jnp.zeros(episodes)
        carry = (state, key, zero, zero.astype(jnp.int32), jnp.ones(episodes, bool))
        return jax.lax.scan(body, carry, jnp.arange(max_steps))[0][2:]

    total, length, open_ = jax.device_get(run(key))
    if open_.any():
        raise RuntimeError(f"{int(open_.sum())} of {episodes} episodes did not end within {max_steps} steps")
    return total, length


def main() -> None:
    """Prints returns (mean ± standard error) and lengths of the random and the heuristic policy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=2000)
    parser.add_argument("--envs", nargs="*", default=list(JAX_ENVS), metavar="NAME")
    args = parser.parse_args()
    print("| environment | policy | return | length |\n|---|---|---|---|")
    for name in args.envs:
        env: Any = make_jax_env(name)
        for label, policy in [("random", random_policy(env)), ("heuristic", env.heuristic)]:
            limit = getattr(env, "time_limit", 1000)
            total, length = episode_returns(env, policy, jax.random.PRNGKey(0), args.episodes, limit)
            error = total.std() / np.sqrt(len(total))
            print(
                f"| {name} | {label} | {total.mean():.3f} ± {error:.3f} | {length.mean():.1f} |", flush=True
            )


if __name__ == "__main__":
    main()
