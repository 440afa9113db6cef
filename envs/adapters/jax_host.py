"""A JAX environment as a host environment: for tools that step one environment at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dreamworld.envs.adapters.dm import refuse_options
from dreamworld.envs.base import Step
from dreamworld.envs.scalars import Misfit
from dreamworld.spaces import Described
from dreamworld.types import BAD_FLAG, JaxEnv


class JaxHostEnv(Described):
    """Drives a JaxEnv through the jitted self-resetting functions with one environment."""

    no_picture = "it has no RGB image among its observations"
    takes_options = False

    def __init__(self, env: JaxEnv):
        import jax

        from dreamworld.envs.jax.batched import batched

        functions = batched(env)
        self._jax = jax
        self._env = env
        self._reset = jax.jit(functions.reset)
        self._step = jax.jit(functions.step)
        self._state: Any = None
        self.obs_space = dict(env.obs_space)
        self.act_space = dict(env.act_space)

    def reset(self, seed: int | None = None, options: Mapping[str, Any] | None = None) -> Step:
        """Starts an episode."""
        refuse_options(self, options)
        if seed is None and self._state is not None:
            self._state = self._state._replace(needs_reset=np.ones(1, bool))
            return self.step({key: space.zeros() for key, space in self.act_space.items()})
        seed = int(np.random.default_rng().integers(2**31)) if seed is None else seed
        self._state, rows = self._reset(self._jax.random.PRNGKey(seed)[None])
        return self._row(rows)

    def step(self, action: dict[str, np.ndarray]) -> Step:
        """Advances by one action."""
        batch = {key: np.asarray(action[key], space.dtype)[None] for key, space in self.act_space.items()}
        self._state, rows = self._step(self._state, batch)
        return self._row(rows)

    def render(self) -> np.ndarray | None:
        """The first RGB image of the current observation, enlarged; None without one."""
        for key, space in self.obs_space.items():
            if space.is_image and space.shape[2] == 3 and self._state is not None:
                image = self._rows.obs[key]
                scale = max(1, 256 // max(space.shape[:2]))
                return np.array(image).repeat(scale, 0).repeat(scale, 1)
        return None

    def save(self) -> dict[str, np.ndarray] | None:
        """State and current row, one array per leaf."""
        leaves = self._jax.tree.leaves((self._state, tuple(self._rows)))
        return {f"leaf{i:03d}": np.array(leaf) for i, leaf in enumerate(leaves)}

    def restore(self, state: dict[str, np.ndarray]) -> Step:
        """Restores `save()`."""
        if self._state is None:
            self.reset(0)
        treedef = self._jax.tree.structure((self._state, tuple(self._rows)))
        leaves = [state[f"leaf{i:03d}"] for i in range(treedef.num_leaves)]
        self._state, row = self._jax.tree.unflatten(treedef, leaves)
        self._rows = Step(*row)
        return self._copy()

    def close(self) -> None:
        """Nothing to release."""

    def _row(self, rows: Any) -> Step:
        rows = self._jax.device_get(rows)
        if rows.bad_flags[0]:
            raise Misfit(BAD_FLAG)
        self._rows = Step(
            {key: np.array(value[0]) for key, value in rows.obs.items()},
            float(rows.reward[0]),
            bool(rows.is_first[0]),
            bool(rows.is_last[0]),
            bool(rows.is_terminal[0]),
        )
        return self._copy()

    def _copy(self) -> Step:
        obs, reward, first, last, terminal = self._rows[:5]
        copies = {key: np.array(value) for key, value in obs.items()}
        return Step(copies, float(reward), bool(first), bool(last), bool(terminal))
