"""One jitted vmap over a JAX environment, with the host-side contract of the other engines."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dreamworld.envs.actions import names_of
from dreamworld.envs.attributes import attribute, has
from dreamworld.envs.finite import check_class, describe_bad
from dreamworld.envs.jax.batched import BatchedState, Rows, batched, scalar, take_step
from dreamworld.envs.names import check_keys
from dreamworld.envs.scalars import Misfit
from dreamworld.envs.vector.common import Failures
from dreamworld.errors import UserError
from dreamworld.spaces import Described
from dreamworld.types import BAD_FLAG, JaxEnv, JaxStep, Spaces, TimeStep, Tree


class LimitedState(NamedTuple):
    """State of an environment and the steps since its reset."""

    env: Tree
    age: jax.Array  # [] int32


class TimeLimit:
    """A JaxEnv whose episodes are truncated after `limit` steps."""

    def __init__(self, env: JaxEnv, limit: int):
        self._env, self._limit = env, limit
        self.obs_space, self.act_space = env.obs_space, env.act_space
        observe, render = attribute(env, "observe"), attribute(env, "render")
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
        inner, step = take_step(self._env.step(state.env, action, key))
        age, last = state.age + 1, scalar("is_last", step.is_last, jnp.float32)
        over = (age >= self._limit) & ~jnp.isnan(last)
        return LimitedState(inner, age), step._replace(is_last=jnp.where(over, 1.0, last))


def env_keys(seed: int, num: int) -> jax.Array:
    """A key per environment, [num, 2] uint32; that of environment i does not depend on `num`."""
    if seed < 0:
        raise UserError(f"environment seed {seed} is negative; use 0 or more")
    root = jax.random.PRNGKey(seed)
    return jax.vmap(lambda index: jax.random.fold_in(root, index))(jnp.arange(num, dtype=jnp.uint32))


class JaxVector(Described):
    """`VectorEnv` over a JAX environment.

    Pure functions don't raise, hang or die by themselves: what a step raises here is raised to the caller. A row
    that is not finite is refused as the other engines refuse it: its episode is closed, and another one begins.
    Arrays that it returns are read-only where they share memory with the device's.
    """

    engine = "jax"

    def __init__(
        self,
        env: JaxEnv,
        num: int,
        *,
        seed: int = 0,
        time_limit: int = 0,
        max_failures: int = 10,
        reason: str = "",
    ):
        self._env = TimeLimit(env, time_limit) if time_limit else env
        self._jax, self.num_envs, self.engine_reason = env, num, reason
        self.obs_space, self.act_space = env.obs_space, env.act_space
        check_keys(self.obs_space, "an observation")
        check_keys(self.act_space, "an action")
        functions = batched(self._env)
        self._reset, self._step = jax.jit(functions.reset), jax.jit(functions.step)
        self._state: BatchedState | None = None
        self._current: TimeStep | None = None
        self._seed = seed
        self._failures = Failures(max_failures)
        self._failing: set[int] = set()  # environments whose last step was refused

    @property
    def failures(self) -> int:
        """Failures survived so far."""
        return self._failures.total

    def another(self) -> JaxVector:
        """As many environments of the same kind, which share what is compiled and nothing else."""
        other = copy.copy(self)
        other._state, other._current = None, None
        other._failures, other._failing = Failures(self._failures.limit), set()
        return other

    def reset(self, seed: int) -> TimeStep:
        """See `VectorEnv.reset`."""
        self._state, rows = self._reset(env_keys(seed, self.num_envs))
        return self._finish(self._refuse(rows))

    def step(self, action: dict[str, np.ndarray]) -> TimeStep:
        """See `VectorEnv.step`; the action may already be on the device."""
        if self._state is None:
            self.reset(self._seed)
        _check_action(action, self.act_space, self.num_envs)
        self._state, rows = self._step(self._state, action)
        return self._finish(self._refuse(rows))

    def _finish(self, step: TimeStep) -> TimeStep:
        self._current = step
        return step

    def _refuse(self, device_rows: Rows) -> TimeStep:
        """The rows on the host, those that are not finite replaced."""
        rows = Rows(*jax.device_get(device_rows))
        bad, events = bad_rows(rows, self.obs_space), []
        for index in [i for i in self._failing if not (bad[i] or rows.is_first[i])]:
            self._failures.succeeded(_name(index))
            self._failing.remove(index)
        if not bad.any():
            return TimeStep(*rows)
        rows = jax.tree.map(np.array, rows)
        while bad.any():
            events += self._record(rows, bad)
            for index in np.flatnonzero(bad & ~rows.is_first).tolist():
                self._truncate(rows, index)
            bad &= rows.is_first
            if bad.any():
                self._draw_again(rows, bad)
                bad &= bad_rows(rows, self.obs_space)
        return TimeStep(*rows, events=tuple(events))

    def _record(self, rows: Rows, bad: np.ndarray) -> list[str]:
        """Counts refused rows and lets new episodes begin after them; EnvFailure if there are too many."""
        state, self._state = self._state, None  # that of a failed environment is not saved
        assert state is not None
        indices = np.flatnonzero(bad).tolist()
        self._failing.update(indices)
        events = [
            self._failures.record(_name(index), describe_row(rows, index, self.obs_space))
            for index in indices
        ]
        self._state = state._replace(needs_reset=state.needs_reset | bad)
        return events

    def _truncate(self, rows: Rows, index: int) -> None:
        """The last row of an environment again, as the end of its episode."""
        assert self._current is not None
        for key, value in rows.obs.items():
            value[index] = self._current.obs[key][index]
        rows.reward[index], rows.is_last[index], rows.is_terminal[index] = 0.0, True, False

    def _draw_again(self, rows: Rows, which: np.ndarray) -> None:
        """Other first rows for some environments; the rest stands still."""
        action = {key: space.zeros(self.num_envs) for key, space in self.act_space.items()}
        state, fresh = self._step(self._state, action)
        pick = lambda new, old: jnp.where(jnp.asarray(which).reshape((-1,) + (1,) * (new.ndim - 1)), new, old)
        self._state = jax.tree.map(pick, state, self._state)
        for old, new in zip(jax.tree.leaves(rows), jax.tree.leaves(jax.device_get(fresh))):
            old[which] = new[which]

    def save(self) -> dict[str, np.ndarray] | None:
        """See `VectorEnv.save`."""
        if self._state is None or self._current is None:
            return None
        step = self._current
        rows = Rows(step.obs, step.reward, step.is_first, step.is_last, step.is_terminal)
        leaves = jax.device_get(jax.tree.leaves((self._state, rows)))
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
        return self._finish(TimeStep(*jax.device_get(rows)))

    def truth(self) -> dict[str, np.ndarray]:
        """The arrays of the environments' states by their paths, each [N, ...], as of the newest rows."""
        if self._state is None:
            return {}
        state = self._state.env
        leaves = jax.tree_util.tree_flatten_with_path(
            state.env if isinstance(state, LimitedState) else state
        )[0]
        named = {
            jax.tree_util.keystr(path, simple=True, separator="/") or "state": leaf for path, leaf in leaves
        }
        is_key = lambda leaf: jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        bits = {name: jax.random.key_data(leaf) if is_key(leaf) else leaf for name, leaf in named.items()}
        return jax.device_get(bits)

    @property
    def action_names(self) -> tuple[str, ...]:
        """What the environment calls its discrete actions."""
        return names_of(self._jax)

    @property
    def source(self) -> JaxEnv:
        """The environment, without the time limit of the options."""
        return self._jax

    def render(self, index: int = 0) -> np.ndarray | None:
        """See `VectorEnv.render`."""
        render = attribute(self._env, "render")
        if render is None or self._state is None:
            return None
        return np.asarray(render(jax.tree.map(lambda leaf: leaf[index], self._state.env)))

    def no_picture(self, index: int = 0) -> str:
        """Why the last picture was None."""
        return "" if has(self._env, "render") else "this JAX environment has no render(state)"

    def close(self) -> None:
        """Nothing to release."""


def bad_rows(rows: Rows, spaces: Spaces) -> np.ndarray:
    """Which rows [N] can't be taken: a NaN or an infinity, or a class that its space has not; rows on the host."""
    bad = ~np.isfinite(rows.reward) | rows.bad_flags
    for key, value in rows.obs.items():
        classes, num = spaces[key].classes, len(bad)
        if jnp.issubdtype(value.dtype, jnp.floating):
            fine = np.isfinite(value)
        elif classes is not None:
            fine = (value >= 0) & (value < classes)
        else:
            continue
        if not fine.all():
            bad |= ~fine.reshape(num, -1).all(1)
    return bad


def describe_row(rows: Rows, index: int, spaces: Spaces) -> str:
    """What of a row can't be taken."""
    if not np.isfinite(rows.reward[index]):
        return f"reward is {rows.reward[index]}"
    for key, values in rows.obs.items():
        if not np.isfinite(value := values[index]).all():
            return describe_bad(key, value)
        try:
            check_class(key, value, spaces[key])
        except Misfit as error:
            return str(error)
    return BAD_FLAG


def _name(index: int) -> str:
    return f"environment {index}"


def _check_action(action: dict[str, Any], space: dict[str, Any], num: int) -> None:
    if action.keys() != space.keys():
        raise UserError(f"action has the keys {sorted(action)}, the environment takes {sorted(space)}")
    for key, one in space.items():
        if action[key].shape != (num, *one.shape):
            raise UserError(f"action {key!r} has the shape {action[key].shape}, expected {(num, *one.shape)}")
