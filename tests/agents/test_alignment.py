"""Rows are aligned from the environment to the losses: an action's effect is learned from the row after it.

Two environments whose outcome depends on the previous action alone go through the vector engine, the rows
that the training loop makes, replay and the world model's loss. Both must be predicted to the floor that
their targets allow, and neither when each row gets the action before or after its own.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dreamworld import math, optim
from dreamworld.config import ReplayConfig
from dreamworld.envs.base import Step, Unsaved
from dreamworld.envs.vector.inprocess import InProcess
from dreamworld.models.rssm import Heads, make_rssm
from dreamworld.options import OptimConfig
from dreamworld.replay import Replay
from dreamworld.testing import TINY
from dreamworld.training.learner import to_batch
from dreamworld.training.loop import make_rows, mask
from dreamworld.types import Space

OBS = {"clock": Space((1,), "float32")}  # says nothing of the action
ACT = {"pick": Space((), "int32", classes=3)}
ENVS, STEPS, BATCH, LENGTH, UPDATES = 4, 1000, 16, 8, 300
HEADS = Heads(units=8, reward_layers=1, cont_layers=1, bins=255, discount=1 - 1 / 333)
WORLD = make_rssm(TINY.rssm, TINY.encoder, HEADS, OBS, ACT, context=1, dtype=jnp.float32)
OPTIMIZER = optim.make_optimizer(OptimConfig(lr=1e-2, warmup=0))


class Rewarding(Unsaved):
    """The reward is the index of the previous action; a time limit ends the episode after 6 rows."""

    obs_space, act_space = OBS, ACT

    def reset(self, seed=None, options=None):
        self.rows = 1
        return self.row(0.0, is_first=True)

    def step(self, action):
        self.rows += 1
        return self.row(float(action["pick"]), is_last=self.rows == 6)

    def row(self, reward, is_first=False, is_last=False, is_terminal=False):
        return Step({"clock": np.ones(1, np.float32)}, reward, is_first, is_last, is_terminal)

    def render(self):
        return None

    def close(self):
        pass


class Ending(Rewarding):
    """Action 2 ends the episode for good; there is no reward."""

    def step(self, action):
        over = int(action["pick"]) == 2
        return self.row(0.0, is_last=over, is_terminal=over)


def collect(make, random) -> list[dict[str, Any]]:
    """Rows of random actions, as the training loop makes them."""
    env: Any = InProcess(make, ENVS)
    latents = {key: space.zeros(ENVS) for key, space in WORLD.latent_space.items()}
    step, rows = env.reset(0), []
    for _ in range(STEPS):
        action = {"pick": mask(ACT["pick"].sample(random, ENVS), ~step.is_last)}
        rows.append(make_rows(step, action, latents))
        step = env.step(action)
    return rows


def fill(rows, shift):
    """A replay of the rows; a `shift` other than 0 gives each the action of an earlier or later one."""
    flags = {key: Space((), "bool") for key in ("is_first", "is_last", "is_terminal")}
    spaces = {"obs/clock": OBS["clock"], "action/pick": ACT["pick"], "reward": Space((), "float32")}
    replay = Replay(
        spaces | flags | WORLD.latent_space,
        ReplayConfig(capacity_steps=1e4, chunk=64, min_starts=32),
        num_envs=ENVS,
        length=LENGTH + 1,
        context=1,
    )
    for t, row in enumerate(rows):
        replay.add(row | {"action/pick": rows[(t + shift) % len(rows)]["action/pick"]})
    return replay


@jax.jit
def learn(params, opt_state, batch, key):
    def total(params):
        losses, out = WORLD.loss(params, batch, key)
        reward, cont = WORLD.predict(params, out.features)
        return sum(loss.mean() for loss in losses.values()), (losses, reward.mean(), cont.mean())

    grads, found = jax.grad(total, has_aux=True)(params)
    changes, opt_state = OPTIMIZER.update(grads, opt_state, params)
    return optax.apply_updates(params, changes), opt_state, found


def entropy(weights):
    """Of target distributions over the last axis: the least cross-entropy that a prediction can have."""
    return -(weights * np.log(np.maximum(weights, 1e-12))).sum(-1)


def measure(batch, losses, reward, cont):
    """{name: (worst error of the prediction, mean loss above its floor)} of one batch."""
    rewards, ends = np.asarray(batch.reward)[:, 1:], np.asarray(batch.is_terminal)[:, 1:]
    two_hot = np.asarray(math.two_hot(jnp.asarray(rewards), math.symexp_bins(255)), np.float64)
    target = (1 - ends) * (1 - 1 / 333)
    floor = entropy(np.stack([target, 1 - target], -1))
    return {
        "reward": (np.abs(reward - rewards).max(), (losses["reward"] - entropy(two_hot)).mean()),
        "cont": (np.abs(cont - target).max(), (losses["cont"] - floor).mean()),
    }


def train(make, shift):
    """`measure` of the last updates, averaged."""
    replay = fill(collect(make, np.random.default_rng(0)), shift)
    params = jax.jit(WORLD.init)(jax.random.PRNGKey(0))
    opt_state, measures = OPTIMIZER.init(params), []
    for update in range(UPDATES):
        batch: Any = to_batch(replay.sample(BATCH))
        params, opt_state, found = learn(params, opt_state, batch, jax.random.PRNGKey(update))
        if update >= UPDATES - 20:
            measures.append(measure(batch, *jax.device_get(found)))
    return {name: np.mean([row[name] for row in measures], 0) for name in ("reward", "cont")}


@pytest.mark.parametrize("make", [Rewarding, Ending])
def test_what_an_action_causes_is_predicted_to_its_floor(make):
    found = train(make, shift=0)
    for error, excess in found.values():
        assert error < 0.05 and excess < 0.02, found


@pytest.mark.parametrize("shift", [-1, 1])
@pytest.mark.parametrize(("make", "name"), [(Rewarding, "reward"), (Ending, "cont")])
def test_rows_that_are_off_by_one_are_not_predicted(make, name, shift):
    error, excess = train(make, shift)[name]
    assert error > 0.2 and excess > 0.05
