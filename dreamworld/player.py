"""A trained agent, ready to act: its parameters bound to its functions."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import numpy as np

from dreamworld.types import Agent, Array, Mode, Params

EVAL_STREAM = 3


class PlayerState(NamedTuple):
    """What a player remembers of the past; explicit, so that one player serves many streams."""

    carry: Any  # latents and previous action, [N, ...]
    step: int  # calls so far


class Player:
    """A trained agent with its parameters and key.

        player = dreamworld.load(DIR)
        state = player.initial(1)
        state, action = player.act(state, obs)

    `obs` holds the observation keys [N, ...] and `is_first` [N], true on the first row of an episode.
    """

    def __init__(self, agent: Agent, params: Params, seed: int = 0, mode: Mode = "sample"):
        self.obs_space, self.act_space = agent.obs_space, agent.act_space
        self._agent, self._params, self.mode = agent, params, mode
        self._root = jax.random.fold_in(jax.random.PRNGKey(seed), EVAL_STREAM)
        self._act = jax.jit(functools.partial(_act, agent), static_argnames="mode")

    def initial(self, batch: int) -> PlayerState:
        """The state before anything was seen, for `batch` parallel environments."""
        return PlayerState(self._agent.initial(self._params, batch), 0)

    def act(self, state: PlayerState, obs: dict[str, Any]) -> tuple[PlayerState, dict[str, np.ndarray]]:
        """Actions {key: [N, ...]}; continuous ones are clipped to [-1, 1]."""
        carry, action = self._act(
            self._params, state.carry, obs, self._root, np.uint32(state.step), mode=self.mode
        )
        action = {key: np.asarray(value) for key, value in action.items()}
        clip = lambda key, value: value if self.act_space[key].discrete else np.clip(value, -1, 1)
        return PlayerState(carry, state.step + 1), {key: clip(key, value) for key, value in action.items()}


def _act(agent: Agent, params: Params, carry: Any, obs: Any, root: Array, step: Array, *, mode: Mode) -> Any:
    carry, action, _ = agent.act(params, carry, obs, jax.random.fold_in(root, step), mode=mode)
    return carry, action
