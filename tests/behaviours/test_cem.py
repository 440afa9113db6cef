"""The cross-entropy method in worlds whose best plan is known."""

import jax
import jax.numpy as jnp
import numpy as np

from dreamworld.behaviours.cem import CEM
from dreamworld.behaviours.plans import Returns, Vectors
from dreamworld.contract import Expected, Simulator
from dreamworld.plan_options import PlanConfig
from dreamworld.types import Space

KEY = jax.random.PRNGKey(0)
MOVE = {"move": Space((2,), "float32", low=-1.0, high=1.0)}


def world(step, reward):
    return Simulator(
        initial=lambda params, batch: jnp.zeros((batch, 2)),
        observe=lambda params, state, prev_action, obs, is_first, key: state,
        imagine=lambda params, state, action, key, temperature=1.0: step(state, action, key),
        feature=lambda params, state: state,
        predict=lambda params, feature: Expected(reward(feature), jnp.ones(feature.shape[:-1])),
    )


# The reward is the nearness to (1, -0.5) after each step; a step goes where the action says.
WALK = world(
    lambda state, action, key: state + action["move"],
    lambda feature: -jnp.square(feature - jnp.array([[1.0, -0.5]])).sum(-1),
)


def cem(simulator=WALK, act_space=MOVE, **options):
    """As published: nothing is remembered from step to step."""
    given = {"horizon": 3, "candidates": 500, "iterations": 8, "elites": 50, "warm": False, "min_std": 0.0}
    return CEM(simulator, Vectors(act_space), Returns(simulator, ends=False), PlanConfig(**given | options))


def act(planner, states, key=KEY):
    """The actions of a first step."""
    return jax.jit(planner.plan)({"world": None}, states, planner.initial(len(states)), key)[1]


def test_it_goes_where_the_reward_is_as_fast_as_actions_let_it():
    states = jnp.array([[0.5, 0.0], [-1.5, 0.0], [1.0, -0.5]])
    action = act(cem(), states)
    np.testing.assert_allclose(action["move"], [[0.5, -0.5], [1.0, -0.5], [0.0, 0.0]], atol=0.05)


def test_it_looks_ahead_over_its_horizon():
    """A state that is only worth something after three steps in one direction."""
    far = world(
        lambda state, action, key: state + action["move"],
        lambda feature: jnp.where(feature[..., 0] > 1.8, 1.0, 0.0),
    )
    start = jnp.zeros((1, 2))
    for horizon, moves in ((1, False), (3, True)):
        assert (float(act(cem(far, horizon=horizon), start)["move"][0, 0]) > 0.5) == moves


def test_discrete_actions_are_planned_by_scores():
    act_space = {"pick": Space((), "int32", classes=4), "both": Space((2,), "int32", classes=3)}
    choice = world(
        lambda state, action, key: jnp.stack(
            [action["pick"] == 2, (action["both"] == jnp.array([[1, 0]])).all(-1)], -1
        ).astype(jnp.float32),
        lambda feature: feature.sum(-1),
    )
    action = act(cem(choice, act_space), jnp.zeros((3, 2)))
    assert action["pick"].tolist() == [2, 2, 2] and action["both"].tolist() == [[1, 0]] * 3
    assert action["pick"].dtype == jnp.int32


def test_elites_are_refitted_as_published():
    """One iteration, by NumPy: the mean of the best of the clipped samples."""
    found = act(cem(horizon=1, candidates=20, iterations=1, elites=5), jnp.zeros((1, 2)))["move"][0]
    (key,) = jax.random.split(KEY, 1)
    plan_key, _ = jax.random.split(jax.random.split(key, 1)[0])
    samples = np.clip(np.asarray(jax.random.normal(plan_key, (20, 1, 2))), -1, 1)[:, 0]
    returns = -np.square(samples - [1.0, -0.5]).sum(-1)
    np.testing.assert_allclose(found, samples[np.argsort(-returns)[:5]].mean(0), rtol=1e-5)


def test_each_environment_has_noise_of_its_own():
    noisy = world(
        lambda state, action, key: state + jax.random.normal(key, state.shape),
        lambda feature: feature[..., 0],
    )
    found = np.asarray(act(cem(noisy, iterations=1), jnp.zeros((3, 2)))["move"])
    assert len(np.unique(found[:, 0])) == 3
