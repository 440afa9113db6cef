"""Planning in any simulator: what a plan is worth, what is remembered, and what planners make of the best ones."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamworld import score_plans
from dreamworld.behaviours.cem import CEM
from dreamworld.behaviours.mppi import MPPI
from dreamworld.behaviours.planner import Memory, Planner, colored, planned
from dreamworld.behaviours.plans import Nearness, Returns, Vectors
from dreamworld.contract import Agent, Expected, Simulator
from dreamworld.errors import UserError
from dreamworld.plan_options import PlanConfig, check
from dreamworld.types import Space

KEY = jax.random.PRNGKey(0)
MOVE = {"move": Space((2,), "float32", low=-1.0, high=1.0)}
PARAMS = {"world": None, "behaviour": None}


def world(reward, cont=lambda feature: jnp.ones(feature.shape[:-1]), noise=0.0, **more):
    """States [N, 2] that go where actions say."""

    def imagine(params, state, action, key, temperature=1.0):
        return state + action["move"] + noise * jax.random.normal(key, state.shape)

    return Simulator(
        initial=lambda params, batch: jnp.zeros((batch, 2)),
        observe=lambda params, state, prev_action, obs, is_first, key: obs["place"],
        imagine=imagine,
        feature=lambda params, state: state,
        predict=lambda params, feature: Expected(reward(feature), cont(feature)),
        **more,
    )


TARGET = world(lambda feature: -jnp.square(feature - jnp.array([[1.0, -0.5]])).sum(-1))
SMALL = PlanConfig(horizon=3, candidates=200, iterations=6, elites=20)


def make(kind: type[Planner] = CEM, simulator=TARGET, objective=None, choose=None, **options):
    config = dataclasses.replace(SMALL, **options)
    return kind(simulator, Vectors(MOVE), objective or Returns(simulator), config, choose)


def act(planner, states, memory=None, key=KEY):
    memory = planner.initial(len(states)) if memory is None else memory
    return jax.jit(planner.plan)(PARAMS, states, memory, key)


# --- what plans are worth ---------------------------------------------------------------------------------------


def test_a_return_by_hand():
    """Rewards 1, 2, 3 on the way; the episode goes on with 0.5 after the second step."""
    line = world(lambda feature: feature[..., 0], lambda feature: jnp.where(feature[..., 0] == 2, 0.5, 1.0))
    plans = {"move": jnp.array([[[1.0, 0.0]] * 3, [[0.0, 0.0]] * 3])}
    score = lambda **options: score_plans(line, None, jnp.zeros((1, 2)), plans, KEY, **options).tolist()
    assert score(ends=False) == [1 + 2 + 3, 0]
    assert score() == [1 + 2 + 0.5 * 3, 0]
    assert score(discount=0.5) == [1 + 0.5 * 2 + 0.25 * 0.5 * 3, 0]
    # What is to come after the third state has the weight of its reward; discount and end after it are its own.
    assert score(discount=0.5, value=lambda feature: 8 * feature[..., 0]) == [2 + 0.375 + 0.125 * 24, 0]


def test_a_score_is_the_mean_over_dreams():
    noisy = world(lambda feature: feature[..., 0], noise=1.0)
    plans = {"move": jnp.zeros((2, 1, 2))}
    score = lambda dreams: np.asarray(score_plans(noisy, None, jnp.zeros((1, 2)), plans, KEY, dreams=dreams))
    assert np.abs(score(1)).max() > 0.1 and np.abs(score(5000)).max() < 0.05
    assert score(1)[0] != score(1)[1]  # each plan dreams with noise of its own


def test_states_of_their_own_for_every_plan():
    plans = {"move": jnp.zeros((2, 1, 2))}
    found = score_plans(TARGET, None, jnp.array([[1.0, -0.5], [0.0, -0.5]]), plans, KEY)
    assert found.tolist() == [0, -1]


@pytest.mark.parametrize(
    ("plans", "states", "options", "told"),
    [
        ({"move": jnp.zeros((2, 3, 2)), "turn": jnp.zeros((2, 4))}, 1, {}, r"move \(2, 3, 2\), turn \(2, 4\)"),
        ({"move": jnp.zeros((2,))}, 1, {}, r"give \[M, H, \*shape\]"),
        ({"move": jnp.zeros((2, 0, 2))}, 1, {}, r"give \[M, H, \*shape\]"),
        ({}, 1, {}, "no plans"),
        ({"move": jnp.zeros((2, 3, 2))}, 3, {}, "leading axis 3; give 1 or 2"),
        ({"move": jnp.zeros((2, 3, 2))}, 1, {"dreams": 0}, "dreams 0: give at least 1"),
        ({"move": jnp.zeros((2, 3, 2))}, 1, {"dreams": 1.5}, "dreams 1.5: .* a whole number"),
        ({"move": jnp.zeros((2, 3, 2))}, 1, {"discount": "x"}, "discount 'x': give a number between 0 and 1"),
        ({"move": jnp.zeros((2, 3, 2))}, 1, {"value": 3}, "value is an int; give a function"),
        ([[1, 2]], 1, {}, "the plans are a list"),
        ({"move": [[0, 1], [0]]}, 1, {}, "'move' are no array of numbers"),
        ({"move": "left"}, 1, {}, "'move' are no array of numbers"),
    ],
)  # fmt: skip
def test_plans_that_do_not_fit_are_refused(plans, states, options, told):
    with pytest.raises(UserError, match=told):
        score_plans(TARGET, None, jnp.zeros((states, 2)), plans, KEY, **options)


@pytest.mark.parametrize(
    ("plans", "told"),
    [
        (
            {"walk": np.zeros((2, 3, 2))},
            r"plans of 'walk'; the actions are move: float32 \(2,\), turn: 3 classes",
        ),
        ({"move": np.full((2, 3, 2), 1.5)}, r"'move' hold 1.5; continuous actions are within \[-1, 1\]"),
        ({"move": np.full((2, 3, 2), np.nan)}, "'move' hold nan"),
        ({"move": np.zeros((2, 3))}, r"'move' have the shape \(2, 3\); expected \[M, H, 2\]"),
        ({"turn": np.full((2, 3), 3)}, "'turn' hold 3; expected 3 classes, from 0 to 2"),
        ({"turn": np.zeros((2, 3), np.float32)}, "'turn' hold float32; expected 3 classes"),
        ({"turn": np.zeros((2, 3, 3), np.int32)}, r"expected \[M, H\]"),
    ],
)
def test_plans_that_are_no_actions_of_the_world_are_refused(plans, told):
    known = TARGET._replace(act_space={**MOVE, "turn": Space((), "int32", classes=3)})
    right = {"move": np.zeros((2, 3, 2)), "turn": np.zeros((2, 3), np.int32)}
    plans = plans if "walk" in plans else right | plans
    with pytest.raises(UserError, match=told):
        score_plans(known, None, jnp.zeros((1, 2)), plans, KEY)
    assert score_plans(known, None, jnp.zeros((1, 2)), right, KEY).shape == (2,)


def test_what_is_no_simulator_state_or_key_is_named():
    plans: Any = {"move": jnp.zeros((2, 3, 2))}
    state, wrong = jnp.zeros((1, 2)), 3
    with pytest.raises(UserError, match=r"simulator is an int; give player\.agent\.simulator"):
        score_plans(wrong, None, state, plans, KEY)  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match="params are those of a whole agent"):
        score_plans(TARGET, PARAMS, state, plans, KEY)
    with pytest.raises(UserError, match="the state is an int"):
        score_plans(TARGET, None, wrong, plans, KEY)
    with pytest.raises(UserError, match=r"the key is an int; give jax\.random\.PRNGKey"):
        score_plans(TARGET, None, state, plans, wrong)  # pyright: ignore[reportArgumentType]


def test_a_world_without_rewards_scores_nothing():
    with pytest.raises(UserError, match="predicts no reward"):
        score_plans(
            TARGET._replace(predict=None), None, jnp.zeros((1, 2)), {"move": jnp.zeros((2, 3, 2))}, KEY
        )


# --- planners ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [CEM, MPPI])
def test_it_goes_where_the_reward_is(kind):
    states = jnp.array([[0.5, 0.0], [-1.5, 0.0]])
    memory, _ = act(make(kind, min_std=0.01), states)
    np.testing.assert_allclose(memory.mean[:, 0], [[0.5, -0.5], [1.0, -0.5]], atol=0.1)


def test_mppi_by_numpy():
    """Two iterations: weights exp(0.5 (G - max G)) over the elites, deviations within bounds; an elite is the plan."""
    planner = make(MPPI, horizon=2, candidates=30, iterations=2, elites=5, min_std=0.15)
    memory, action = act(planner, jnp.zeros((1, 2)))
    (key,) = jax.random.split(KEY, 1)
    mean, std = np.zeros((2, 2)), np.ones((2, 2))
    for own in jax.random.split(key, 2):
        noise = np.asarray(jax.random.normal(jax.random.split(own)[0], (30, 2, 2)))
        plans = np.clip(mean + std * noise, -1, 1)
        returns = -np.square(np.cumsum(plans, 1) - [1.0, -0.5]).sum((1, 2))
        order = np.argsort(-returns)[:5]
        elites, weights = plans[order], np.exp(0.5 * (returns[order] - returns.max()))
        weights /= weights.sum()
        mean = (weights[:, None, None] * elites).sum(0)
        std = np.sqrt((weights[:, None, None] * np.square(elites - mean)).sum(0) + 1e-6).clip(0.15)
    np.testing.assert_allclose(memory.mean[0], mean, rtol=1e-4, atol=1e-6)
    assert np.abs(elites[:, 0] - np.asarray(action["move"])).sum(-1).min() < 1e-5  # not the mean
    assert (std == 0.15).any() and (std > 0.15).any()


def test_mppi_draws_its_plan_by_the_weights():
    planner = make(MPPI, elites=2)
    fit = planner._fit(jnp.stack([jnp.ones((3, 2)), jnp.zeros((3, 2))]), jnp.array([2.0, 0.0]))
    drawn = jax.vmap(lambda key: planner.decide(fit, key)[0, 0])(jax.random.split(KEY, 2000))
    share = 1 / (1 + np.exp(-0.5 * 2))
    assert abs(float(drawn.mean()) - share) < 4 * np.sqrt(share * (1 - share) / 2000)


def test_a_plan_goes_on_one_step_later():
    """With nothing to find out, the second step takes the second action of the first plan."""
    planner = make(candidates=2, elites=2, iterations=1, std=1e-3, min_std=0.0)
    memory = Memory(jnp.arange(6.0).reshape((1, 3, 2)) / 10, planner.initial(1).kept)
    memory, action = act(planner, jnp.zeros((1, 2)), memory)
    np.testing.assert_allclose(action["move"], [[0.2, 0.3]], atol=5e-3)
    np.testing.assert_allclose(memory.mean, [[[0.2, 0.3], [0.4, 0.5], [0.0, 0.0]]], atol=5e-3)
    cold = make(candidates=2, elites=2, iterations=1, std=1e-3, min_std=0.0, warm=False)
    assert np.abs(act(cold, jnp.zeros((1, 2)), memory)[1]["move"]).max() < 5e-3


def test_elites_that_are_kept_are_candidates_again():
    """Of a plan that nothing drawn comes near, one step later."""
    planner = make(candidates=20, elites=4, keep=0.5, iterations=1, std=1e-3, min_std=0.0)
    assert planner.options.kept == 2
    best = jnp.array([[0.0, 0.0], [1.0, -0.5], [0.0, 0.0]])
    memory = planner.initial(1)._replace(kept=jnp.stack([best, best])[None])
    memory, _ = act(planner, jnp.zeros((1, 2)), memory)
    np.testing.assert_allclose(memory.kept[0, 0], [[1.0, -0.5], [0.0, 0.0], [0.0, 0.0]], atol=1e-6)


def test_the_actor_proposes_plans_of_its_own_dreams():
    """An actor that goes home from wherever it is, against noise that is much too small to get there."""
    home = lambda params, feature, key, mode="sample": {"move": jnp.array([[1.0, -0.5]]) - feature}
    options = {"candidates": 10, "elites": 1, "iterations": 1, "std": 1e-3, "min_std": 0.0}
    _, action = act(make(choose=home, **options), jnp.array([[0.5, 0.0]]))
    assert np.abs(action["move"]).max() < 0.01
    memory, action = act(make(choose=home, actor=1, **options), jnp.array([[0.5, 0.0]]))
    np.testing.assert_allclose(memory.mean[0], [[0.5, -0.5], [0.0, 0.0], [0.0, 0.0]], atol=1e-6)


def test_the_value_sees_beyond_the_plan():
    flat = world(lambda feature: jnp.zeros(feature.shape[:-1]))
    uphill = Returns(flat, value=lambda params, feature: feature[..., 0])
    assert float(act(make(simulator=flat, objective=uphill), jnp.zeros((1, 2)))[1]["move"][0, 0]) > 0.6
    everything = make(simulator=flat, elites=200)  # no plan is better than another
    assert abs(float(act(everything, jnp.zeros((1, 2)))[1]["move"][0, 0])) < 0.2


@pytest.mark.parametrize("kind", [CEM, MPPI])
def test_a_return_that_is_no_number_is_the_worst(kind):
    broken = world(lambda feature: jnp.where(feature[..., 0] > 0, jnp.nan, feature[..., 0]))
    _, action = act(make(kind, simulator=broken), jnp.zeros((1, 2)))
    assert np.isfinite(action["move"]).all() and float(action["move"][0, 0]) <= 0.1
    nowhere = world(lambda feature: jnp.full(feature.shape[:-1], jnp.nan))
    assert np.isfinite(act(make(kind, simulator=nowhere), jnp.zeros((1, 2)))[1]["move"]).all()


@pytest.mark.parametrize("length", [1, 2, 7, 12])
def test_coloured_noise_has_the_spectrum_of_its_exponent(length):
    np.testing.assert_allclose(colored(length, 0), np.eye(length), atol=1e-6)
    matrix = colored(length, 2)
    np.testing.assert_allclose(np.square(matrix).sum(1), 1, rtol=1e-5)
    power = np.square(np.abs(np.fft.rfft(matrix, axis=0))).sum(1)[1:]
    frequency = np.fft.rfftfreq(length)[1:]
    if length > 3:
        np.testing.assert_allclose(power / power[0], (frequency / frequency[0]) ** -2.0, rtol=1e-3)


def test_coloured_plans_change_slowly():
    planner = make(horizon=12, candidates=2000, elites=2000, iterations=1)
    change = []
    for color in (0.0, 2.0):
        own = dataclasses.replace(planner, options=dataclasses.replace(planner.options, color=color))
        fit, _ = own._begin(jax.tree.map(lambda x: x[0], own.initial(1)))
        plans = own._draw(fit._replace(std=0.1 * fit.std), 2000, KEY)
        np.testing.assert_allclose(plans.std(0), 0.1, rtol=0.1)
        change.append(float(jnp.abs(jnp.diff(plans, axis=1)).mean()))
    assert change[1] < 0.7 * change[0]


# --- goals ------------------------------------------------------------------------------------------------------

SPACES = {"place": Space((2,), "float32"), "picture": Space((4, 4, 3), "uint8")}


def decode(params, feature):
    picture = jnp.broadcast_to(feature[:, :1, None, None], (len(feature), 4, 4, 3))
    return {"place": feature, "picture": picture}


@pytest.mark.parametrize(
    ("goal", "by", "start", "move"),
    [
        ({"place": np.array([0.5, -0.5], np.float32)}, "decoded", [0.0, 0.0], [0.5, -0.5]),
        ({"place": np.array([np.nan, -0.5], np.float32)}, "decoded", [0.5, 0.0], [None, -0.5]),
        ({"picture": np.full((4, 4, 3), 51, np.uint8)}, "decoded", [0.5, 0.0], [0.2 - 0.5, None]),
        ({"place": np.array([0.5, -0.5], np.float32)}, "feature", [0.0, 0.0], [0.5, -0.5]),
    ],
)
def test_it_goes_to_a_goal_instead_of_where_rewards_are(goal, by, start, move):
    simulator = TARGET._replace(predict=None, decode=decode)
    planner = make(simulator=simulator, objective=Nearness(simulator, goal, SPACES, MOVE, by), horizon=1)
    found = np.asarray(act(planner, jnp.array([start]))[1]["move"][0])
    for one, wanted in zip(found, move):
        assert wanted is None or abs(one - wanted) < 0.1


# --- agents that plan -------------------------------------------------------------------------------------------


def test_an_agent_plans_from_what_it_sees_and_forgets_at_the_beginning_of_an_episode():
    nothing: Any = None  # all that planning needs of an agent is its world
    agent = Agent(SPACES, MOVE, {}, nothing, nothing, nothing, nothing, (), TARGET, {})
    found = planned(agent, make(candidates=4, elites=4, iterations=1, std=1e-3, min_std=0.0))
    carry = found.initial(PARAMS, 2)
    state, action, memory = carry
    assert kinds(action) == {"move": ((2, 2), jnp.float32)}
    carry = state, action, memory._replace(mean=jnp.full((2, 3, 2), 0.5))
    obs = {"place": jnp.array([[0.1, 0.2], [0.3, 0.4]]), "is_first": jnp.array([True, False])}
    (state, before, memory), action, stored = found.act(PARAMS, carry, obs, KEY)
    assert state.tolist() == obs["place"].tolist() and stored == {}
    np.testing.assert_allclose(action["move"], [[0, 0], [0.5, 0.5]], atol=5e-3)
    assert before is action and kinds(memory) == kinds(carry[2])


def kinds(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"elites": 600}, "--plan.elites 600: more than the 500 of --plan.candidates"),
        ({"candidates": 50, "actor": 50}, "leaves no plan to draw, beside 50 of --plan.actor; give more than 50"),
        (
            {"candidates": 60, "actor": 20, "keep": 0.8},
            "beside 20 of --plan.actor and 40 kept elites of --plan.keep; give more than 60",
        ),
    ],
)  # fmt: skip
def test_numbers_that_do_not_go_together_are_refused(options, told):
    with pytest.raises(UserError, match=told):
        check(PlanConfig(**options))
