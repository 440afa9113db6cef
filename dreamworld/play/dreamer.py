"""One agent's world, compiled for one player: what it makes of real rows, and what it dreams.

Sessions share a `Dreamer`: it holds parameters and compiled functions, and nothing that changes.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dreamworld import nets
from dreamworld.contract import Agent, State
from dreamworld.dream_env import as_shown, clip_actions
from dreamworld.types import Array, Key, Params, Tree

CELLS = 256  # of the picture of a latent state, at most


class Keys(NamedTuple):
    """The random numbers of an episode; the same as `dreamworld.dream.open_loop` draws from its key."""

    observe: Key  # the row at time t is observed with `fold_in(observe, t)`
    imagine: Key  # the k-th step after the last observed row is imagined with `fold_in(imagine, k - 1)`


class Shown(NamedTuple):
    """What a state of the model shows, on the host and without a batch axis."""

    obs: dict[
        str, np.ndarray
    ]  # decoded, as the environment shows it: pictures uint8; empty without a decoder
    reward: float | None  # expected with the state
    cont: float | None  # probability that the episode goes on
    value: float | None  # what the critic expects from here on
    latent: list[float]  # of the feature, in 0..1


class Dreamer:
    """The simulator of an agent, batch 1. States keep the batch axis; rows and what is shown have none."""

    def __init__(self, agent: Agent, params: Params):
        assert agent.simulator is not None
        self.agent, self.simulator, self._params = agent, agent.simulator, params
        self.obs_space, self.act_space = agent.obs_space, agent.act_space
        self._observe, self._imagine = jax.jit(self._make_observe()), jax.jit(self._make_imagine())
        self._edit, self._show = jax.jit(self._make_edit()), jax.jit(self._make_show())

    @property
    def decoded(self) -> list[str]:
        """The observation keys that the model shows."""
        if self.simulator.decode is None:
            return []
        shapes = jax.eval_shape(self._show, self._params, self.initial())
        return sorted(shapes[0])

    def keys(self, seed: int, episode: int) -> Keys:
        """Those of an episode of a session."""
        return episode_keys(jax.random.fold_in(jax.random.PRNGKey(seed), episode))

    def initial(self) -> State:
        """The state before anything was seen."""
        return self.simulator.initial(self._params["world"], 1)

    def observe(
        self, state: State, action: Tree, obs: dict[str, np.ndarray], t: int, keys: Keys
    ) -> tuple[State, float | None]:
        """The state after the row at time `t`, which `action` led to, and how little it was expected, in nats.

        The row at time 0 begins an episode: state and action before it don't count.
        """
        rows = {key: np.asarray(obs[key])[None] for key in self.obs_space if key in obs}
        flag = np.full(1, t == 0)
        state, surprise = self._observe(
            self._params, state, _lead(action), rows, flag, keys.observe, np.uint32(t)
        )
        return state, None if surprise is None else float(surprise)

    def imagine(
        self, state: State, action: Tree, k: int, keys: Keys, temperature: float = 1.0
    ) -> tuple[State, Shown]:
        """The state that the model dreams after `action`, step `k` since it saw a row, and what it shows."""
        heat = np.float32(temperature)
        state, shown = self._imagine(self._params, state, _lead(action), keys.imagine, np.uint32(k - 1), heat)
        return state, _on_host(shown)

    def show(self, state: State) -> Shown:
        """What a state shows."""
        return _on_host(self._show(self._params, state))

    def edit(self, state: State, obs: dict[str, np.ndarray], key: Key) -> State:
        """The state if the model sees `obs` now, within its dream; no time passes."""
        rows = {name: np.asarray(obs[name])[None] for name in self.obs_space}
        return self._edit(self._params, state, rows, key)

    def warm_up(self) -> None:
        """Compiles everything, so that the first step of a session is as fast as the others."""
        keys, obs = self.keys(0, 0), {key: space.zeros() for key, space in self.obs_space.items()}
        action = {key: space.zeros() for key, space in self.act_space.items()}
        state, _ = self.observe(self.initial(), action, obs, 0, keys)
        self.show(state)
        state, _ = self.imagine(state, action, 1, keys)
        self.observe(state, action, obs, 1, keys)
        if self.simulator.edit is not None:
            self.edit(state, obs, keys.imagine)

    def _make_observe(self):  # type: ignore[no-untyped-def]
        simulator, spaces = self.simulator, self.act_space

        def observe(
            params: Params, state: State, action: Tree, obs: Tree, is_first: Array, root: Key, t: Array
        ) -> tuple[State, Array | None]:
            row = (
                params["world"],
                state,
                clip_actions(spaces, action),
                obs,
                is_first,
                jax.random.fold_in(root, t),
            )
            surprise = simulator.surprise(*row)[0] if simulator.surprise else None
            return simulator.observe(*row), surprise

        return observe

    def _make_imagine(self):  # type: ignore[no-untyped-def]
        simulator, spaces, show = self.simulator, self.act_space, self._make_show()

        def imagine(
            params: Params, state: State, action: Tree, root: Key, index: Array, temperature: Array
        ) -> tuple[State, Tree]:
            key = jax.random.fold_in(root, index)
            state = simulator.imagine(params["world"], state, clip_actions(spaces, action), key, temperature)
            return state, show(params, state)

        return imagine

    def _make_edit(self):  # type: ignore[no-untyped-def]
        simulator = self.simulator

        def edit(params: Params, state: State, obs: Tree, key: Key) -> State:
            assert simulator.edit is not None
            return simulator.edit(params["world"], state, obs, key)

        return edit

    def _make_show(self):  # type: ignore[no-untyped-def]
        simulator, spaces, value = self.simulator, self.obs_space, self.agent.value

        def show(params: Params, state: State) -> Tree:
            world = params["world"]
            feature = simulator.feature(world, state)
            decoded = simulator.decode(world, feature) if simulator.decode else {}
            obs = {key: as_shown(spaces[key], found[0]) for key, found in decoded.items()}
            reward = cont = None
            if simulator.predict:
                reward, cont = (x[0] for x in simulator.predict(world, feature))
            return obs, reward, cont, value(params, feature)[0] if value else None, _cells(feature[0])

        return show


def episode_keys(root: Key) -> Keys:
    """The keys that `dreamworld.dream.open_loop` makes of one."""
    return Keys(*jax.random.split(root))


def _cells(feature: Array) -> Array:
    """A feature [F] in at most `CELLS` numbers in 0..1: means of neighbours, 0.5 where they are 0."""
    size = feature.shape[0]
    width = -(-size // CELLS)
    padded = jnp.pad(feature.astype(jnp.float32), (0, -size % width))
    return 0.5 + 0.5 * jnp.tanh(padded.reshape(-1, width).mean(1))


def _lead(action: Tree) -> Tree:
    return {key: np.asarray(value)[None] for key, value in action.items()}


def _on_host(shown: Tree) -> Shown:
    obs, reward, cont, value, latent = jax.device_get(shown)
    number = lambda x: None if x is None else float(x)
    return Shown(dict(obs), number(reward), number(cont), number(value), np.round(latent, 3).tolist())


def class_dtype(space: object) -> str:
    """The dtype of an action as `Agent.act` returns it."""
    return "int32" if nets.class_count(space) else "float32"  # type: ignore[arg-type]
