"""Plans in the dream of any simulator: as vectors that a planner draws, and what they are worth.

A plan is a sequence of actions. As a vector, a continuous action is itself, within [-1, 1]; a discrete one a score for
each class, of which the largest is taken.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from dreamworld import nets
from dreamworld.behaviours import given_plans
from dreamworld.contract import Choose, Simulator, State, Value
from dreamworld.errors import UserError
from dreamworld.types import Array, Key, Params, Spaces, Tree

Actions = dict[str, Array]


@dataclasses.dataclass(frozen=True)
class Vectors:
    """Actions {key: [..., *shape]} as vectors [..., A] and back."""

    spaces: Spaces

    @property
    def sizes(self) -> dict[str, int]:
        """Entries of each action, in the order of a vector."""
        entries = lambda space: math.prod(space.shape) * (nets.class_count(space) or 1)
        return {name: entries(space) for name, space in sorted(self.spaces.items())}

    @property
    def size(self) -> int:
        """A."""
        return sum(self.sizes.values())

    def as_actions(self, vectors: Array) -> Actions:
        """[..., A] -> {key: [..., *shape]}."""
        actions, begin = {}, 0
        for name, size in self.sizes.items():
            space, part = self.spaces[name], vectors[..., begin : begin + size]
            classes = nets.class_count(space)
            shape = (*vectors.shape[:-1], *space.shape)
            if classes:
                scores = part.reshape((*shape, classes))
                actions[name] = jnp.argmax(scores, -1).astype(jnp.int32)
            else:
                actions[name] = part.reshape(shape)
            begin += size
        return actions

    def of_actions(self, actions: Actions) -> Array:
        """{key: [..., *shape]} -> [..., A]; the score of a class is 1 where it is chosen, else 0."""
        parts = [nets.flat_input(self.spaces[name], actions[name], jnp.float32) for name in self.sizes]
        return self.clip(jnp.concatenate(parts, -1))

    def clip(self, vectors: Array) -> Array:
        """Continuous entries within [-1, 1]; scores as they are."""
        limits: list[Any] = []
        for name, size in self.sizes.items():
            limits += [jnp.inf if nets.class_count(self.spaces[name]) else 1.0] * size
        limit = jnp.array(limits).reshape((1,) * (vectors.ndim - 1) + (-1,))
        return jnp.clip(vectors, -limit, limit)


class Objective(Protocol):
    """What plans are worth; `params` is what acting needs."""

    def __call__(self, params: Params, state: State, plans: Actions, key: Key) -> Array:
        """[M] of states [M, ...] and plans {key: [M, H, *shape]}."""
        ...


@dataclasses.dataclass(frozen=True)
class Returns:
    """Returns as the simulator expects them, each in one dream."""

    simulator: Simulator
    discount: float = 1.0
    value: Value | None = None
    ends: bool = True

    def __call__(self, params: Params, state: State, plans: Actions, key: Key) -> Array:
        value = None if self.value is None else functools.partial(self.value, params)
        world, own = params["world"], {"discount": self.discount, "value": value, "ends": self.ends}
        return _returns(self.simulator, world, state, plans, key, **own)


@dataclasses.dataclass(frozen=True)
class Nearness:
    """How near the dream of a plan comes to an observation: minus the mean squared difference, summed over its steps.

    Args:
      goal: observations {key: array} of those keys that count; of a key "decoded", entries that are nan don't.
      spaces: of all observations.
      by: "decoded", what the dream shows of these keys; "feature", the state as heads see it, compared with that of a
        model which begins an episode with the goal (of which it must have all observations that it reads).
    """

    simulator: Simulator
    goal: dict[str, Any]
    spaces: Spaces
    act_space: Spaces
    by: str = "decoded"

    def __call__(self, params: Params, state: State, plans: Actions, key: Key) -> Array:
        simulator, world = self.simulator, params["world"]
        dream_key, goal_key = jax.random.split(key)
        if self.by == "feature":
            wanted = self._feature(world, goal_key)
            seen = lambda feature: {"feature": feature}
        else:
            decode = simulator.decode
            assert decode is not None
            wanted = {name: nets.target(self.spaces[name], jnp.asarray(x)) for name, x in self.goal.items()}
            seen = lambda feature: decode(world, feature)

        def near(feature: Array) -> Array:
            found = seen(feature)
            apart = [_apart(found[name], value) for name, value in wanted.items()]
            return -jnp.asarray(sum(apart))

        def step(state: State, row: tuple[Actions, Key]) -> tuple[State, Array]:
            state = simulator.imagine(world, state, *row)
            return state, near(simulator.feature(world, state))

        return jax.lax.scan(step, state, _rows(plans, dream_key))[1].sum(0)

    def _feature(self, world: Params, key: Key) -> dict[str, Array]:
        """That of the goal."""
        simulator = self.simulator
        still = {name: space.zeros(1) for name, space in self.act_space.items()}
        obs = {name: jnp.asarray(value)[None] for name, value in self.goal.items()}
        state = simulator.observe(world, simulator.initial(world, 1), still, obs, jnp.ones(1, bool), key)
        return {"feature": simulator.feature(world, state)}


def score_plans(
    simulator: Simulator,
    params: Params,
    state: State,
    plans: Actions,
    key: Key,
    *,
    dreams: int = 1,
    discount: float = 1.0,
    value: Callable[[Array], Array] | None = None,
    ends: bool = True,
) -> Array:
    """What a simulator expects of plans, whoever proposes them: returns [M], best the largest.

        player = dreamworld.load(DIR)
        world, simulator = player.params["world"], player.agent.simulator
        scores = dreamworld.score_plans(simulator, world, state, plans, jax.random.PRNGKey(0))

    The return of a plan is the sum over its steps h = 1 ... H of discount^(h-1) x p x the expected reward, p the
    predicted probability that the episode has not ended before (1 without `ends`), the mean over `dreams` dreams.

    Args:
      params: of the world: `agent.acting(train_state)["world"]`, or `player.params["world"]`.
      state: of the simulator, leading axis 1 (all plans begin there) or M.
      plans: {key: [M, H, *shape]} for every action, continuous ones within [-1, 1].
      value: of features [M, F] after the last step, the return that is to come, as `Agent.value` gives it; it is added
        with the weight of the last reward.

    Raises UserError for plans that are no actions of this world or of unequal shapes, and for a simulator that
    expects no rewards.
    """
    given_plans.check_world(simulator, params, state)
    given_plans.check_options(key, dreams, discount, value)
    plans = given_plans.read(plans, simulator.act_space)
    count, begun = jax.tree.leaves(plans)[0].shape[0], jax.tree.leaves(state)[0].shape[0]
    if begun not in (1, count):
        raise UserError(
            f"score_plans: the state has the leading axis {begun}; give 1 or {count}, one for each plan"
        )
    start = jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *x.shape[1:])), state)
    rate = lambda state, plans, key: _returns(
        simulator, params, state, plans, key, discount=discount, value=value, ends=ends
    )
    return repeated(rate, dreams)(start, plans, key)


def repeated(
    rate: Callable[[State, Actions, Key], Array], dreams: int
) -> Callable[[State, Actions, Key], Array]:
    """`rate`, the mean over several dreams of each plan."""
    if dreams == 1:
        return rate

    def mean(state: State, plans: Actions, key: Key) -> Array:
        often: Callable[[Tree], Tree] = lambda tree: jax.tree.map(lambda x: jnp.repeat(x, dreams, 0), tree)
        return rate(often(state), often(plans), key).reshape((-1, dreams)).mean(1)

    return mean


def propose(
    simulator: Simulator, choose: Choose, vectors: Vectors, params: Params, state: State, steps: int, key: Key
) -> Array:
    """Plans [M, H, A] of an actor that acts in the dream from states [M, ...]."""

    def step(state: State, key: Key) -> tuple[State, Array]:
        act_key, dream_key = jax.random.split(key)
        feature = simulator.feature(params["world"], state)
        vector = vectors.of_actions(choose(params, feature, act_key))
        return simulator.imagine(params["world"], state, vectors.as_actions(vector), dream_key), vector

    return jax.lax.scan(step, state, jax.random.split(key, steps))[1].swapaxes(0, 1)


def _returns(
    simulator: Simulator,
    params: Params,
    state: State,
    plans: Actions,
    key: Key,
    *,
    discount: float,
    value: Callable[[Array], Array] | None,
    ends: bool,
) -> Array:
    """[M] of plans {key: [M, H, *shape]} from states [M, ...]."""
    predict = simulator.predict
    assert predict is not None

    def step(carry: tuple[State, Array], row: tuple[Actions, Key]) -> tuple[Any, tuple[Array, Array]]:
        state, weight = carry
        state = simulator.imagine(params, state, *row)
        expected = predict(params, simulator.feature(params, state))
        ahead = weight * discount * (expected.cont if ends else 1.0)
        return (state, ahead), (weight * expected.reward, weight)

    ones = jnp.ones(jax.tree.leaves(state)[0].shape[0])
    (last, _), (rewards, weights) = jax.lax.scan(step, (state, ones), _rows(plans, key))
    total = rewards.sum(0)
    return total if value is None else total + weights[-1] * value(simulator.feature(params, last))


def _apart(found: Array, wanted: Array) -> Array:
    """The mean squared difference [M] of arrays [M, ...] to one [...], or [1, ...], over entries that are numbers."""
    wanted = jnp.broadcast_to(wanted, found.shape).astype(jnp.float32)
    counts, axes = ~jnp.isnan(wanted), tuple(range(1, found.ndim))
    squares = jnp.where(counts, jnp.square(found.astype(jnp.float32) - wanted), 0)
    return squares.sum(axes) / jnp.maximum(counts.sum(axes), 1)


def _rows(plans: Actions, key: Key) -> tuple[Actions, Key]:
    """Plans {key: [M, H, ...]} and keys by step."""
    length = jax.tree.leaves(plans)[0].shape[1]
    return jax.tree.map(lambda x: x.swapaxes(0, 1), plans), jax.random.split(key, length)
