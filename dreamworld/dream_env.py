"""The world of any agent as an environment: what evolution, planners, metrics and players step through.

`DreamEnv` is a JAX environment (`types.JaxEnv`): pure, unbatched, to be vmapped, jitted and scanned like every other.
An episode begins in a state that the model was brought to by real rows (`burn_in`), and dreams from there.
"""

from __future__ import annotations

import dataclasses
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dreamworld import dream, nets
from dreamworld.contract import Simulator, State
from dreamworld.errors import UserError
from dreamworld.spaces import Described
from dreamworld.types import Array, Batch, JaxStep, Key, Params, Space, Spaces, Tree


class DreamState(NamedTuple):
    """Where a dream is: a pytree, so that saving, restoring and editing it is copying it."""

    model: State  # of the simulator, without a batch axis
    time: Array  # int32, steps since the beginning


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class DreamEnv(Described):
    """The dream of a simulator.

    Args:
      simulator, params: of an agent: `agent.simulator` and `agent.acting(train_state)["world"]`.
      spaces: observations of the real environment; `act_space` its actions.
      starts: states to begin in, leading axis S (`burn_in`); each episode draws one.
      horizon: steps until an episode is truncated.
      temperature: of the noise of the dream; 1 as trained, 0 the likeliest next state.
      shown: what an observation is: "feature", the state as heads and controllers see it; or "decoded", as the real
        environment shows it (only of simulators that decode; pictures uint8).
      end: whether episodes end by a draw with the predicted probability, where that is likelier than not, or never.

    Raises UserError for what the simulator can't do.
    """

    simulator: Simulator
    params: Params
    spaces: Spaces
    act_space: Spaces
    starts: State
    horizon: int = 50
    temperature: float = 1.0
    shown: Literal["feature", "decoded"] = "feature"
    end: Literal["sample", "likely", "never"] = "sample"

    def __post_init__(self) -> None:
        if self.simulator.predict is None:
            raise UserError(
                "this world predicts no reward: it can be imagined, but not played as an environment"
            )
        if self.shown == "decoded" and self.simulator.decode is None:
            raise UserError("this world can't decode observations; use shown='feature'")
        if self.horizon < 1 or self.temperature < 0:
            raise UserError(
                f"horizon {self.horizon}, temperature {self.temperature:g}: give at least 1, and at least 0"
            )

    @property
    def obs_space(self) -> Spaces:
        """{"feature": [F]}, or the decoded ones of the real environment."""
        shapes = jax.eval_shape(self._show, self._first())
        if self.shown == "decoded":
            return {key: self.spaces[key] for key in shapes}
        return {"feature": Space(shapes["feature"].shape, "float32")}

    def reset(self, key: Key) -> tuple[DreamState, dict[str, Array]]:
        """One of the starts, drawn uniformly, and what it shows."""
        count = jax.tree.leaves(self.starts)[0].shape[0]
        index = jax.random.randint(key, (), 0, count)
        state = DreamState(jax.tree.map(lambda x: jnp.asarray(x)[index], self.starts), jnp.int32(0))
        return state, self._show(state)

    def step(self, state: DreamState, action: dict[str, Array], key: Key) -> tuple[DreamState, JaxStep]:
        """Imagines one step; the reward is the one expected with the new state. Continuous actions are clipped."""
        assert self.simulator.predict is not None
        world_key, end_key = jax.random.split(key)
        taken = clip_actions(self.act_space, action)
        model = self.simulator.imagine(
            self.params, _lead(state.model), _lead(taken), world_key, self.temperature
        )
        reward, cont = self.simulator.predict(self.params, self.simulator.feature(self.params, model))
        new = DreamState(jax.tree.map(lambda x: x[0], model), state.time + 1)
        ends = {
            "sample": jax.random.uniform(end_key) > cont[0],
            "likely": cont[0] < 0.5,
            "never": jnp.zeros((), bool),
        }[self.end]
        last = ends | (new.time >= self.horizon)
        return new, JaxStep(self._show(new), reward[0].astype(jnp.float32), last, ends)

    def observe(self, state: DreamState) -> dict[str, Array]:
        """What a state shows: after an edit, say."""
        return self._show(state)

    def edit(self, state: DreamState, obs: dict[str, Array], key: Key) -> DreamState:
        """Steps into the dream: the state that the model has if it sees `obs`, of the real environment, now.

        No time passes. UserError of a model that can't do this.
        """
        if self.simulator.edit is None:
            raise UserError("this world can't be shown an observation within a dream; use set_state")
        model = self.simulator.edit(self.params, _lead(state.model), _lead(obs), key)
        return state._replace(model=jax.tree.map(lambda x: x[0], model))

    def set_state(self, state: DreamState, model: State) -> DreamState:
        """`state` with another state of the model, changed by hand or kept from before; its time goes on.

        UserError for arrays that are not those of a state of this model.
        """
        wanted, given = _kinds(state.model), _kinds(model)
        if wanted != given:
            raise UserError(f"a state of this world has the arrays {wanted}, not {given}")
        return state._replace(model=jax.tree.map(jnp.asarray, model))

    def _first(self) -> DreamState:
        return DreamState(jax.tree.map(lambda x: jnp.asarray(x)[0], self.starts), jnp.int32(0))

    def _show(self, state: DreamState) -> dict[str, Array]:
        feature = self.simulator.feature(self.params, _lead(state.model))
        if self.shown == "feature":
            return {"feature": feature[0].astype(jnp.float32)}
        assert self.simulator.decode is not None
        found = self.simulator.decode(self.params, feature)
        return {key: as_shown(self.spaces[key], value[0]) for key, value in found.items()}


def _lead(tree: Tree) -> Tree:
    """A batch of one."""
    return jax.tree.map(lambda x: jnp.asarray(x)[None], tree)


def _kinds(state: State) -> dict[str, str]:
    """The arrays of a state, in words by name."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    kind = lambda x: f"{jnp.asarray(x).dtype}{list(jnp.shape(x))}"
    return {jax.tree_util.keystr(path): kind(leaf) for path, leaf in leaves}


def clip_actions(spaces: Spaces, action: dict[str, Array]) -> dict[str, Array]:
    """Continuous actions within -1 and 1, the others as they are."""
    return {
        name: value if nets.class_count(spaces[name]) else jnp.clip(value, -1, 1)
        for name, value in action.items()
    }


def as_shown(space: Space, value: Array) -> Array:
    """A decoded observation in the dtype and range of its space: pictures as bytes, classes as they are."""
    if space.is_image:
        return jnp.round(jnp.clip(value, 0, 1) * 255).astype(jnp.uint8)
    low, high = (space.low, space.high) if np.isfinite([space.low, space.high]).all() else (-jnp.inf, jnp.inf)
    return jnp.clip(value, low, high).astype(space.dtype)


def burn_in(simulator: Simulator, params: Params, batch: Batch, key: Key) -> State:
    """States [B, ...] that the model comes to by looking at all rows of chunks [B, L, ...]: starts of dreams."""
    return dream.observe_rows(simulator, params, batch, key)[0]
