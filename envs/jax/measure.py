"""Measures what policies earn: `python -m dreamworld.envs.jax.measure` prints the documentation's table."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dreamworld import words
from dreamworld.envs.jax import JAX_ENVS, make_jax_env
from dreamworld.envs.jax.batched import batched
from dreamworld.types import JaxEnv, Space, Tree

Array = jax.Array
Policy = Callable[[Any, Array], dict[str, Array]]  # (unbatched state, key) -> unbatched action


def random_policy(env: JaxEnv) -> Policy:
    """Uniform actions."""

    def draw(space: Space, key: Array) -> Array:
        if space.classes is not None:
            return jnp.floor(jax.random.uniform(key, space.shape) * space.classes).astype(space.dtype)
        return jax.random.uniform(key, space.shape, space.dtype, -1, 1)

    def policy(state: Tree, key: Array) -> dict[str, Array]:
        keys = jax.random.split(key, len(env.act_space))
        return {name: draw(space, k) for (name, space), k in zip(env.act_space.items(), keys)}

    return policy


def episode_returns(
    env: JaxEnv, policies: Sequence[Policy], key: Array, episodes: int, max_steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns and lengths, each [policies, episodes], of the first episode of as many environments.

    One episode of each, because counting what ends within a fixed time favours short episodes. Raises
    RuntimeError when an episode is longer than `max_steps`.
    """
    functions = batched(env)
    num = len(policies) * episodes
    which = jnp.arange(num) // episodes

    def act(index: Array, state: Tree, key: Array) -> dict[str, Array]:
        return jax.lax.switch(index, policies, state, key)

    def body(carry, index):
        state, key, total, length, open_ = carry
        keys = jax.random.split(jax.random.fold_in(key, index), num)
        state, rows = functions.step(state, jax.vmap(act)(which, state.env, keys))
        total, length = total + rows.reward * open_, length + open_
        return (state, key, total, length, open_ & ~rows.is_last), None

    @jax.jit
    def run(key):
        key, reset_key = jax.random.split(key)
        state, _ = functions.reset(jax.random.split(reset_key, num))
        zero = jnp.zeros(num)
        carry = (state, key, zero, zero.astype(jnp.int32), jnp.ones(num, bool))
        return jax.lax.scan(body, carry, jnp.arange(max_steps))[0][2:]

    total, length, open_ = jax.device_get(run(key))
    if open_.any():
        raise RuntimeError(
            f"{int(open_.sum())} of {words.count(num, 'episode')} did not end within {words.count(max_steps, 'step')}"
        )
    shape = (len(policies), episodes)
    return total.reshape(shape), length.reshape(shape)


def speed(env: JaxEnv, num: int, steps: int = 200, repeats: int = 5) -> tuple[float, float]:
    """Steps per second and CPU seconds per step of `num` environments, the best of `repeats` runs.

    One jitted scan under uniform actions that keeps every row, resets included.
    """
    functions, policy = batched(env), random_policy(env)

    def body(state, key):
        return functions.step(state, jax.vmap(policy)(state.env, jax.random.split(key, num)))

    run = jax.jit(lambda state, key: jax.lax.scan(body, state, jax.random.split(key, steps)))
    state, _ = jax.jit(functions.reset)(jax.random.split(jax.random.PRNGKey(0), num))
    wall_s, cpu_s = [], []
    for seed in range(repeats + 1):  # the first one compiles
        wall, cpu = time.perf_counter(), time.process_time()
        jax.block_until_ready(run(state, jax.random.PRNGKey(seed)))
        wall_s.append(time.perf_counter() - wall)
        cpu_s.append(time.process_time() - cpu)
    return num * steps / min(wall_s), min(cpu_s) / (num * steps)


def main() -> None:
    """Prints returns (mean ± standard error) and lengths of the random and the heuristic policy, or rates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=2000)
    parser.add_argument("--envs", nargs="*", default=list(JAX_ENVS), metavar="NAME")
    parser.add_argument("--speed", type=int, metavar="N", help="steps per second of N environments instead")
    args = parser.parse_args()
    if args.speed:
        print("| environment | steps/s | CPU us/step |\n|---|---|---|")
        for name in args.envs:
            rate, cpu_s = speed(make_jax_env(name), args.speed)
            print(f"| {name} | {rate:,.0f} | {1e6 * cpu_s:.2f} |", flush=True)
        return
    print("| environment | policy | return | length |\n|---|---|---|---|")
    for name in args.envs:
        _print_returns(name, args.episodes)


def _print_returns(name: str, episodes: int) -> None:
    env = make_jax_env(name)
    policies = {"random": random_policy(env), "heuristic": env.heuristic}
    limit = getattr(env, "time_limit", 1000)
    results = episode_returns(env, list(policies.values()), jax.random.PRNGKey(0), episodes, limit)
    for label, total, length in zip(policies, *results):
        error = total.std() / np.sqrt(len(total))
        row = f"| {name} | {label} | {total.mean():.3f} ± {error:.3f} | {length.mean():.1f} |"
        print(row, flush=True)


if __name__ == "__main__":
    main()
