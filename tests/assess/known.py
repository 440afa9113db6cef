"""Worlds whose score is known: the true environment as a simulator, and what it is when one thing is wrong with it."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from dreamworld.assess import (
    actions,
    branches,
    clips,
    coherence,
    decisions,
    dreams,
    drift,
    ground,
    objects,
    reward,
    scene,
    segments,
    sheet,
)
from dreamworld.assess.gather import gather
from dreamworld.contract import Expected, Simulator
from dreamworld.envs.jax.balls import OCCLUDER, Balls, BallsState
from dreamworld.envs.vector.jax_engine import JaxVector
from dreamworld.sessions.policies import random_policy
from dreamworld.types import Space

KEY = jax.random.PRNGKey(0)


@dataclasses.dataclass(frozen=True)
class Shown(Balls):
    """Balls that show their picture, and their positions and velocities beside it."""

    n: int = 1

    @property
    def obs_space(self):
        vector = Space((4 * self.n,), "float32")
        return {"image": Space((self.size, self.size, 3), "uint8"), "vector": vector}

    def observe(self, state):
        vector = jnp.concatenate([state.position, state.velocity], axis=1).reshape(-1)
        return {"image": self._draw(state, self.size), "vector": vector}


class World(NamedTuple):
    """Of the models: the balls now and one row before, and what only some models need."""

    now: BallsState
    before: BallsState
    age: jax.Array  # [B] int32, rows since the last observation
    gone: jax.Array  # [B] bool, ball 0 was hidden in this dream


def is_hidden(env, balls):
    """Whether not much more than half of ball 0 is to be seen beside the bar."""
    middle, slack = balls.position[:, 0, 0], 0.2 * env.radius
    return (middle > OCCLUDER[0] - slack) & (middle < OCCLUDER[1] + slack)


def has_met(env, before, after):
    """Whether the first two balls came nearer to each other before a step, and apart after it, [B]."""

    def apart(balls):
        place, speed = (x[:, 1] - x[:, 0] for x in (balls.position, balls.velocity))
        return (place * speed).sum(-1)

    near = jnp.linalg.norm(after.position[:, 1] - after.position[:, 0], axis=-1) < 3 * env.radius
    return (apart(before) < 0) & (apart(after) > 0) & near


def make_known(env: Shown, fault: str = "", after: int = 3) -> Simulator:
    """The environment as a simulator; `fault` says what is wrong with it."""

    def read(obs):
        table = obs["vector"].reshape(-1, env.n, 4)
        return BallsState(table[..., :2], table[..., 2:], jnp.zeros(len(table), jnp.int32))

    def initial(params, batch):
        zero = BallsState(
            jnp.zeros((batch, env.n, 2)), jnp.zeros((batch, env.n, 2)), jnp.zeros(batch, jnp.int32)
        )
        return World(zero, zero, jnp.zeros(batch, jnp.int32), jnp.zeros(batch, bool))

    def observe(params, state, prev_action, obs, is_first, key):
        now = read(obs)
        return World(now, state.now, jnp.zeros_like(state.age), jnp.zeros_like(state.gone))

    def imagine(params, state, action, key, temperature=1.0):
        if fault == "action_blind":
            action = jax.tree.map(lambda x: jax.random.randint(key, x.shape, 0, 5), action)
        moved, _ = jax.vmap(env.step)(state.now, action, jax.random.split(key, len(state.age)))
        if fault in ("inelastic", "absorbed"):
            mean = moved.velocity.mean(1, keepdims=True) if fault == "inelastic" else 0.0
            met = has_met(env, state.now, moved)[:, None, None]
            moved = moved._replace(velocity=jnp.where(met, mean, moved.velocity))
        if fault == "copy_last":
            moved = state.now
        if fault == "frozen":
            pick = lambda new, old: jnp.where(
                (state.age < after).reshape((-1,) + (1,) * (new.ndim - 1)), new, old
            )
            moved = jax.tree.map(pick, moved, state.now)
        hidden = is_hidden(env, state.now) | is_hidden(env, moved)
        return World(moved, state.now, state.age + 1, state.gone | (hidden & (fault == "vanishing")))

    def feature(params, state):
        flat = lambda balls: jnp.concatenate([balls.position, balls.velocity], -1).reshape(len(state.age), -1)
        extra = jnp.stack([state.age, state.gone], -1).astype(jnp.float32)
        return jnp.concatenate([flat(state.now), flat(state.before), extra], -1)

    def over_rows(one, feature):
        """`one` of each row [F] of features [..., F]."""
        found = jax.vmap(one)(feature.reshape(-1, feature.shape[-1]))
        return jax.tree.map(lambda x: x.reshape(*feature.shape[:-1], *x.shape[1:]), found)

    def tables(row):
        """Positions and velocities now and before, [n, 4] each; age; whether ball 0 is gone."""
        now, before = row[:-2].reshape(2, env.n, 4)
        return now, before, row[-2], row[-1] > 0

    def predict_row(row):
        now, before, _, _ = tables(row)
        place = (before if fault == "reward_late" else now)[0, :2]
        inside = jnp.abs(place - 0.5).max() <= env.zone
        return Expected(inside.astype(jnp.float32), jnp.float32(1))

    def decode_row(row, means):
        now, before, age, gone = tables(row)
        if fault == "mean_frame":
            return means
        table = jnp.where(age > 0, before, now) if fault == "late" else now
        shown = jnp.where(gone & (jnp.arange(env.n) == 0)[:, None], 9.0, table)  # out of the picture
        state = BallsState(shown[:, :2], shown[:, 2:], jnp.int32(0))
        image = env._draw(state, env.size).astype(jnp.float32) / 255
        return {"image": image, "vector": table.reshape(-1)}

    def predict(params, feature):
        return over_rows(predict_row, feature)

    def reward_nll(params, feature, reward):
        """Of a normal around what is expected, with standard deviation 1."""
        return 0.5 * jnp.square(predict(params, feature).reward - reward) + 0.5 * jnp.log(2 * jnp.pi)

    def decode(params, feature):
        means = {key: jnp.asarray(params[key]) for key in ("image", "vector")}
        return over_rows(lambda row: decode_row(row, means), feature)

    def surprise(params, state, prev_action, obs, is_first, key):
        """The squared error of the picture that was expected."""
        expected = decode(params, feature(params, imagine(params, state, prev_action, key)))["image"]
        error = jnp.square(expected - obs["image"].astype(jnp.float32) / 255).sum((1, 2, 3))
        return jnp.round(error, 4)  # equal pictures have equal errors

    return Simulator(initial, observe, imagine, feature, predict, decode, surprise, None, reward_nll)


def make_segments(env, *, count=64, context=3, horizon=12, steps=2000, seed=0, branched=True):
    """Segments of uniform actions, with their branches if `branched`, and their ground truth."""
    vector = JaxVector(env, 8)
    acts = {"random": random_policy(env.act_space, 8, seed)}
    gathered = gather(vector, acts, steps={"random": steps}, seed=seed)
    drawn = segments.draw(
        gathered.episodes,
        gathered.labels,
        (env.obs_space, env.act_space),
        count=count,
        context=context,
        horizon=horizon,
    )
    found = branches.with_branches(drawn, ground.make_ground(env, drawn) if branched else None, seed)
    return found, ground.make_ground(env, found)


def start(simulator, made, samples=2):
    """How a simulator dreams on what `make_segments` returned, its parameters, and an empty sheet."""
    found_segments, truth = made
    scenes = scene.scenes(found_segments)
    params = {key: value.mean for key, value in scenes.items()}
    dreaming = dreams.Dreaming(
        simulator, found_segments.obs_space, scenes, found_segments.context, samples, objects.locator(truth)
    )
    return dreaming, params, sheet.make_sheet(found_segments.episode, resamples=200)


def measure(simulator, made, samples=2):
    """What `start` returns, with the dreams before the sheet."""
    dreaming, params, page = start(simulator, made, samples)
    found = dreams.measure(dreaming, params, made[0], segments.donors(made[0]), KEY)
    return dreaming, params, found, page


def judge(simulator, made, samples=2):
    """The sheet of metrics 1 to 6 of a simulator, on what `make_segments` returned."""
    found_segments, truth = made
    donors = segments.donors(found_segments)
    dreaming, params, found, page = measure(simulator, made, samples)
    scenes = dreaming.scenes
    drift.add_drift(page, found_segments, found, scenes)
    reward.add_reward(page, found_segments, found)
    reward.add_cont(page, found_segments, found)
    actions.add_shuffle(page, found_segments, found, donors)
    decisions.add_counterfactuals(page, dreaming, params, found_segments, KEY)
    decisions.add_decisions(page, dreaming, params, found_segments, KEY)
    coherence.add_coherence(page, found_segments, found)
    objects.add_objects(page, found_segments, found, objects.make_objects(truth, found_segments))
    clips.add_surprise(page, simulator, params, found_segments, truth, KEY)
    return page
