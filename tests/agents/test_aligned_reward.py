"""Every agent learns a reward that depends on the previous action alone: its world predicts it, and it acts by it.

Neither can be where a row has the action before or after its own: observations say nothing of the action.
"""

from typing import Any

import jax
import numpy as np
import pytest

from dreamworld import agents, presets, schema
from dreamworld.agents import find, make_agent
from dreamworld.config import Config, RunConfig
from dreamworld.dream import observe_rows
from dreamworld.types import Batch, Space

OBS = {"clock": Space((1,), "float32")}
BATCH, LENGTH, UPDATES = 16, 8, 300
RATES = {"dreamerv3": 1e-2, "r2dreamer": 1e-2}  # of learning; that of the others is 3e-3
PICK, MOVE = Space((), "int32", classes=3), Space((), "float32", low=-1.0, high=1.0)


def space_of(name):
    """What it chooses from: classes, or a number where it takes no classes."""
    return PICK if "discrete" in find(name).actions else MOVE


def rows(space, seed, shift=0, latents=()):
    """Windows of random actions that begin with an episode; the reward of a row is the action of the row before it."""
    random = np.random.default_rng(seed)
    action = np.stack([space.sample(random, BATCH) for _ in range(LENGTH)], 1)
    led = np.concatenate([np.zeros_like(action[:, :1]), action[:, :-1]], 1)
    first = np.zeros((BATCH, LENGTH), bool)
    first[:, 0] = True
    never = np.zeros_like(first)
    obs = {"clock": np.ones((BATCH, LENGTH, 1), np.float32)}
    extras = {key: np.zeros((BATCH, LENGTH, *one.shape), one.dtype) for key, one in latents}
    stored = {"act": np.roll(action, shift, 1)}
    return Batch(obs, stored, led.astype(np.float32), first, never, never, extras)


def train(name, shift=0):
    """The agent, its train state after some updates on such rows, and the space that it chooses from."""
    space, tiny = space_of(name), find(name).tiny
    rate = RATES.get(name, 3e-3)
    changes = {"warmup": 0, "candidates": 100, "elites": 10}  # where it has them: tiny planners find little
    fast = {
        f"agent.{key}": rate if key.endswith("lr") else changes[key.split(".")[-1]]
        for key in schema.options(tiny)
        if key.endswith("lr") or key.split(".")[-1] in changes
    }
    run = RunConfig(batch_size=BATCH, batch_length=LENGTH, replay_context=0)
    agent = make_agent(presets.replace(Config(agent=tiny, run=run), fast), OBS, {"act": space})
    stored = sorted((agent.latent_space | agent.extra_space).items())
    state, update = jax.jit(agent.init)(jax.random.PRNGKey(0)), jax.jit(agent.phase.update)
    carry: Any = agent.phase.initial(state.params, BATCH)
    for seed in range(UPDATES):
        state, carry, _ = update(state, carry, rows(space, seed, shift, stored))
    return agent, state, space


def explained(agent, state, space):
    """The share of the variance of rewards that its world predicts, of rows that it did not learn from."""
    batch, params = rows(space, 10_000), agent.acting(state)["world"]
    _, states = observe_rows(agent.simulator, params, batch, jax.random.PRNGKey(1))
    found = agent.simulator.predict(params, agent.simulator.feature(params, states)).reward[:, 1:]
    wanted = batch.reward[:, 1:]
    return 1 - np.square(found - wanted).mean() / wanted.var()


def earned(agent, state):
    """The mean action that it takes when greedy, of which a larger one earns more."""
    params, taken = agent.acting(state), []
    act, carry = jax.jit(agent.act, static_argnames="mode"), agent.initial(params, BATCH)
    obs = {"clock": np.ones((BATCH, 1), np.float32)}
    for t in range(4):
        row = obs | {"is_first": np.full(BATCH, t == 0)}
        carry, action, _ = act(params, carry, row, jax.random.PRNGKey(t), mode="greedy")
        taken.append(action["act"])
    return float(np.mean(taken))


@pytest.mark.parametrize("name", agents.names())
def test_the_effect_of_an_action_is_learnt(name):
    agent, state, space = train(name)
    most = space.classes - 1 if space.classes else 1.0
    assert explained(agent, state, space) > 0.9
    assert earned(agent, state) > 0.9 * most


@pytest.mark.parametrize("shift", [-1, 1])
def test_rows_that_are_off_by_one_teach_nothing(shift):
    agent, state, space = train("planet", shift)
    assert explained(agent, state, space) < 0.3
