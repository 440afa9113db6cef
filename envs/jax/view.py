"""A JAX environment, a dream among them, as a gymnasium environment: for other libraries, and for people."""

from __future__ import annotations

from typing import Any

import gymnasium
import jax
import numpy as np

from dreamworld.types import JaxEnv, Space


class GymView(gymnasium.Env[dict[str, Any], dict[str, Any]]):
    """One JAX environment with gymnasium's methods; observations and actions are dictionaries.

    Equal seeds give equal episodes. An episode that was truncated by the environment (`is_last` without
    `is_terminal`) is `truncated` here.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - gymnasium's own form

    def __init__(self, env: JaxEnv, seed: int = 0):
        self.env = env
        self.observation_space = gymnasium.spaces.Dict(
            {key: observation_space(space) for key, space in env.obs_space.items()}
        )
        self.action_space = gymnasium.spaces.Dict(
            {key: action_space(space) for key, space in env.act_space.items()}
        )
        self._reset, self._step = jax.jit(env.reset), jax.jit(env.step)
        self._key, self._time, self.state = jax.random.PRNGKey(seed), 0, None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begins an episode; `state` is the environment's own, which may be kept, changed and put back."""
        super().reset(seed=seed)
        if seed is not None:
            self._key, self._time = jax.random.PRNGKey(seed), 0
        self.state, obs = self._reset(self._next_key())
        return self._seen(obs), {}

    def step(self, action: dict[str, Any]) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Advances by one action."""
        taken = {key: np.asarray(action[key], space.dtype) for key, space in self.env.act_space.items()}
        self.state, step = self._step(self.state, taken, self._next_key())
        last, terminal = bool(step.is_last), bool(step.is_terminal)
        return self._seen(step.obs), float(step.reward), terminal, last and not terminal, {}

    def _next_key(self) -> jax.Array:
        self._time += 1
        return jax.random.fold_in(self._key, self._time)

    def _seen(self, obs: dict[str, Any]) -> dict[str, Any]:
        return {key: np.asarray(value) for key, value in obs.items()}


def observation_space(space: Space) -> gymnasium.Space[Any]:
    """The gymnasium space of an observation."""
    dtype: Any = np.dtype(space.dtype)
    if space.discrete:
        return gymnasium.spaces.Box(0, (space.classes or 1) - 1, space.shape, dtype)
    if space.dtype == "uint8":
        return gymnasium.spaces.Box(0, 255, space.shape, dtype)
    return gymnasium.spaces.Box(space.low, space.high, space.shape, dtype)


def action_space(space: Space) -> gymnasium.Space[Any]:
    """The gymnasium space of an action; continuous ones in [-1, 1]."""
    if space.discrete and not space.shape:
        return gymnasium.spaces.Discrete(space.classes or 1)
    if space.discrete:
        return gymnasium.spaces.MultiDiscrete(np.full(space.shape, space.classes))
    return gymnasium.spaces.Box(-1.0, 1.0, space.shape, np.dtype(space.dtype).type)
