"""A player as a policy of a plain gymnasium environment, with the conversions that training used."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from dreamworld.envs.base import Step, Unsaved
from dreamworld.envs.factory import wrap
from dreamworld.envs.pictures import Reading
from dreamworld.envs.spaces import make_act_codec, make_obs_codec
from dreamworld.errors import UserError
from dreamworld.player import Player, PlayerState, check_mode
from dreamworld.spaces import difference
from dreamworld.types import Mode, Spaces

if TYPE_CHECKING:
    import gymnasium


class Policy:
    """`policy(obs)` is the next action of a gymnasium environment, in the environment's own form.

        policy = player.policy(env)
        obs, info = env.reset()
        while True:
            obs, reward, terminated, truncated, info = env.step(policy(obs))
            if terminated or truncated:
                obs, info = env.reset()
                policy.reset()

    Images are resized, turned gray and stacked, and actions repeated, as the run's options `env.*` say.
    """

    def __init__(self, player: Player, env: gymnasium.Env, mode: Mode | None = None):
        if hasattr(env, "single_observation_space"):
            raise UserError("policy: got a vector environment; give one environment, or use Player.act")
        if not (hasattr(env, "observation_space") and hasattr(env, "action_space")):
            raise UserError(f"policy: got {type(env).__name__!r}; expected a gymnasium environment")
        config = player.env_config
        codec = make_obs_codec(env.observation_space, Reading.of(config))
        self._encode, self._action_codec = codec.encode, make_act_codec(env.action_space)
        self._shown = _Shown(codec.spaces)
        self._view = wrap(
            self._shown, dataclasses.replace(config, repeat=1, time_limit=0, clip_reward=0.0, randomize="")
        )
        for what, found, wanted in (
            ("observation", self._view.obs_space, player.obs_space),
            ("action", self._action_codec.spaces, player.act_space),
        ):
            if different := difference(what, found, wanted):
                raise UserError(f"policy: not the environment that the agent was trained on: {different}")
        self._player, self._repeat = player, config.repeat
        self._mode: Mode | None = None if mode is None else check_mode(mode)
        self.state: PlayerState = player.initial()
        self.reset()

    def __repr__(self) -> str:
        """Whose actions it takes, and how."""
        return f"Policy(of {self._player!r}, mode {self._mode or self._player.mode})"

    def reset(self) -> None:
        """Tells that the next observation is the first of an episode."""
        self._first, self._left, self._action = True, 0, None

    def __call__(self, obs: object) -> Any:
        """The action for an observation of the environment."""
        if self._left:
            self._left -= 1
            return self._action
        self._shown.obs = self._encode(obs)
        step = self._view.reset() if self._first else self._view.step({})
        self.state, action = self._player.act(
            self.state, {**step.obs, "is_first": self._first}, mode=self._mode, normalised=True
        )
        self._first, self._left = False, self._repeat - 1
        self._action = self._action_codec.decode(action)
        return self._action


class _Shown(Unsaved):
    """An Env whose rows are the observations that it was given, for the wrappers above it."""

    def __init__(self, obs_space: Spaces):
        self.obs_space, self.act_space = obs_space, {}
        self.obs: Any = None

    def reset(self, seed: int | None = None, options: object = None) -> Step:
        """The given observation as a first row."""
        return Step(self.obs, 0.0, True, False, False)

    def step(self, action: object) -> Step:
        """The given observation as a later row."""
        return Step(self.obs, 0.0, False, False, False)

    def render(self) -> None:
        """Nothing to see."""

    def close(self) -> None:
        """Nothing to release."""
