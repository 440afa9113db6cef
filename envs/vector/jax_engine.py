"""One jitted vmap over a JAX environment, with the host-side contract of the other engines."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dreamworld.envs.jax.batched import BatchedState, Rows, batched
from dreamworld.errors import UserError
from dreamworld.types import JaxEnv, JaxStep, TimeStep


class LimitedState(NamedTuple):
    """State of an environment and the steps since its reset."""

    env: Any
    age: jax.Array  # [] int32


class TimeLimit:
    """A JaxEnv whose episodes are truncated after `limit` steps."""

    def __init__(self, env: JaxEnv, limit: int):
        self._env, self._limit = env, limit
        self.obs_space, self.act_space = env.obs_space, env.act_space
        observe, render = getattr(env, "observe", None), getattr(env, "render", None)
        if observe is not None:
            self.observe = lambda state: observe(state.env)
        if render is not None:
            self.render = lambda state: render(state.env)

    def reset(self, key: jax.Array) -> tuple[LimitedState, dict[str, jax.Array]]:
        """As the environment does."""
        state, obs = self._env.reset(key)
        return LimitedState(state, jnp.zeros((), jnp.int32)), obs

    def step(
        self, state: LimitedState, action: dict[str, jax.Array], key: jax.Array
    ) -> tuple[LimitedState, JaxStep]:
        """As the environment does, and last (not terminal) at the limit."""
        inner, step = self._env.step(state.env, action, key)
        age = state.age + 1
        return LimitedState(inner, age), step._replace(is_last=step.is_last | (age >= self._limit))


def env_keys(seed: int, num: int) -> jax.Array:
    """A key per environment, [num, 2] uint32; that of environment i does not depend on `num`."""
    if seed < 0:
        raise UserError(f"environment seed {seed} is negative; use 0 or more")
    root = jax.random.PRNGKey(seed)
    return jax.vmap(lambda index: jax.random.fold_in(root, index))(jnp.arange(num, dtype=jnp.uint32))


class JaxVector:
    """`VectorEnv` over a JAX environment.

    Pure functions don't raise, hang or die by themselves: what a step raises here is raised to the caller.
    Arrays that it returns are read-only where they share memory with the device's.
    """

    engine = "jax"
    failures = 0

    def __init__(self, env: JaxEnv, num: int, *, seed: int = 0, time_limit: int = 0, reason: str = ""):
        self._env = TimeLimit(env, time_limit) if time_limit else env
        self.num_envs, self.engine_reason = num, reason
        self.obs_space, self.act_space = env.obs_space, env.act_space
        functions = batched(self._env)
        self._reset, self._step = jax.jit(functions.reset), jax.jit(functions.step)
        self._state: BatchedState | None = None
        self._current: TimeStep | None = None
        self._seed = seed

    def reset(self, seed: int) -> TimeStep:
        """See `VectorEnv.reset`."""
        self._state, rows = self._reset(env_keys(seed, self.num_envs))
        return self._finish(rows)

    def step(self, action: dict[str, np.ndarray]) -> TimeStep:
        """See `VectorEnv.step`; the action may already be on the device."""
        if self._state is None:
            self.reset(self._seed)
        _check_action(action, self.act_space, self.num_envs)
        self._state, rows = self._step(self._state, action)
        return self._finish(rows)

    def _finish(self, rows: Rows) -> TimeStep:
        self._current = TimeStep(*jax.device_get(rows))
        return self._current

    def save(self) -> dict[str, np.ndarray] | None:
        """See `VectorEnv.save`."""
        if self._state is None or self._current is None:
            return None
        step = self._current
        rows: Any = (step.obs, step.reward, step.is_first, step.is_last, step.is_terminal)
        leaves = jax.device_get(jax.tree.leaves((self._state, Rows(*rows))))
        return {f"leaf/{index}": np.array(leaf) for index, leaf in enumerate(leaves)}

    def restore(self, state: dict[str, np.ndarray]) -> TimeStep:
        """See `VectorEnv.restore`; UserError if the state is not one of as many such environments."""
        expected = jax.eval_shape(self._reset, env_keys(0, self.num_envs))
        shapes, tree = jax.tree.flatten(expected)
        leaves = [state.get(f"leaf/{index}") for index in range(len(shapes))]
        for index, (leaf, shape) in enumerate(zip(leaves, shapes)):
            if (
                leaf is None
                or (leaf.shape, leaf.dtype) != (shape.shape, shape.dtype)
                or len(state) != len(shapes)
            ):
                found = None if leaf is None else (leaf.shape, str(leaf.dtype))
                raise UserError(
                    f"saved environment state does not fit {self.num_envs} of these environments: "
                    f"array {index} is {found}, expected {(shape.shape, str(shape.dtype))}"
                )
        self._state, rows = jax.tree.unflatten(tree, [jnp.asarray(leaf) for leaf in leaves])
        return self._finish(rows)

    def render(self, index: int = 0) -> np.ndarray | None:
        """See `VectorEnv.render`."""
        render = getattr(self._env, "render", None)
        if render is None or self._state is None:
            return None
        return np.asarray(render(jax.tree.map(lambda leaf: leaf[index], self._state.env)))

    def close(self) -> None:
        """Nothing to release."""


def _check_action(action: dict[str, Any], space: dict[str, Any], num: int) -> None:
    if action.keys() != space.keys():
        raise UserError(f"action has the keys {sorted(action)}, the environment takes {sorted(space)}")
    for key, one in space.items():
        if action[key].shape != (num, *one.shape):
            raise UserError(f"action {key!r} has the shape {action[key].shape}, expected {(num, *one.shape)}")
