"""The adapter against small environments written in the style of both generations of gymnax.

gymnax itself holds gymnasium below what we need, so the test against the package installs it beside
(`make soak`).
"""

import dataclasses
import subprocess
import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamworld.envs.jax import from_gymnax
from dreamworld.envs.jax.batched import batched
from dreamworld.envs.jax.gymnax import GymnaxEnv
from dreamworld.errors import UserError
from dreamworld.types import JaxEnv


class Discrete(NamedTuple):
    n: int


class Box(NamedTuple):
    low: object
    high: object
    shape: tuple
    dtype: object = np.float32


class Nest:
    def __init__(self, spaces):
        self.spaces = spaces


@dataclasses.dataclass(frozen=True)
class Params:
    goal: float = 3.0
    max_steps_in_episode: int = 6


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class State:
    x: Any
    time: Any


class Walk:
    """Adds the action (-1 to 2) to x, ends at x >= goal; `done` includes the time limit, as in gymnax 0.0."""

    default_params = Params()

    def observation_space(self, params):
        return Box(-10.0, np.array([10.0, 20.0]), (2,))

    def action_space(self, params):
        return Box(-1.0, np.array([2.0]), (1,))

    def reset_env(self, key, params):
        state = State(x=0.0, time=0)  # Python numbers, as gymnax's own environments have them
        return self.obs(state), state

    def step_env(self, key, state, action, params):
        state = State(x=state.x + action[0], time=state.time + 1)
        return self.obs(state), state, -state.x, self.is_terminal(state, params), {}

    def is_terminal(self, state, params):
        return (state.x >= params.goal) | (state.time >= params.max_steps_in_episode)

    def obs(self, state):
        return jnp.array([state.x, state.time], float)

    def reset(self, key, params=None):
        return self.reset_env(key, params)

    def step(self, key, state, action, params=None):
        raise AssertionError("gymnax's step resets by itself and must not be used")


class Walk1(Walk):
    """As in gymnax 1.0: `step_env` gives the true end, `is_truncated` the time limit."""

    def is_terminal(self, state, params):
        return state.x >= params.goal

    def is_truncated(self, state, params):
        return state.time >= params.max_steps_in_episode


class Bare:
    """Only what the style asks for: reset, step and spaces; nested and discrete ones."""

    def observation_space(self, params):
        sight = Box(0, 255, (16, 16, 3), np.uint8)
        return Nest({"sight": sight, "body": Nest((Discrete(4), Box(0.0, 1.0, (2, 2, 2))))})

    def action_space(self, params):
        return Nest({"turn": Discrete(3), "push": Box(0.0, 4.0, (2,))})

    def reset(self, key, params):
        return self.obs(0), {"total": jnp.float32(0)}

    def step(self, key, state, action, params):
        total = state["total"] + action["push"].sum() + 100 * action["turn"]
        return self.obs(total), {"total": total}, total, total > 200, {}

    def obs(self, total):
        sight = jnp.full((16, 16, 3), total).astype(jnp.uint8)
        return {"sight": sight, "body": (jnp.int32(total) % 4, jnp.ones((2, 2, 2)))}


@pytest.mark.parametrize("cls", [Walk, Walk1])
def test_the_time_limit_truncates_and_the_goal_terminates(cls):
    env = from_gymnax(cls())
    assert isinstance(env, JaxEnv)
    functions = batched(env)
    state, rows = functions.reset(jax.random.split(jax.random.PRNGKey(0), 2))
    assert rows.obs["vector"].shape == (2, 2)
    # full speed ahead is 2 a step and ends at x = 4; the middle action is 0.5, at x = 3 with the limit
    actions = {"action": jnp.array([[1.0], [-0.2]])}
    step, seen = jax.jit(functions.step), []
    for _ in range(7):
        state, rows = step(state, actions)
        seen.append(rows)
    first, last, terminal = (
        np.stack([getattr(r, k) for r in seen]) for k in ("is_first", "is_last", "is_terminal")
    )
    assert last[:, 0].tolist() == terminal[:, 0].tolist() == [False, True, False] * 2 + [False]
    assert first[:, 0].tolist() == [False, False, True] * 2 + [False]
    assert last[:, 1].tolist() == [False] * 5 + [True, False]
    assert not terminal[:, 1].any()
    np.testing.assert_allclose(seen[0].reward, [-2.0, -0.2], atol=1e-6)
    np.testing.assert_allclose(seen[1].obs["vector"][0], [4.0, 2.0])


def test_a_goal_reached_at_the_time_limit_is_terminal():
    env = from_gymnax(Walk(), Params(goal=4.0, max_steps_in_episode=2))
    state, _ = env.reset(jax.random.PRNGKey(0))
    for expected in (False, True):
        state, step = env.step(state, {"action": jnp.array([1.0])}, jax.random.PRNGKey(0))
        assert (bool(step.is_last), bool(step.is_terminal)) == (expected, expected)


def test_actions_are_scaled_to_their_bounds_and_clipped():
    env = from_gymnax(Walk())
    assert env.act_space["action"].low == -1
    for action, moved in [(-1.0, -1.0), (0.0, 0.5), (1.0, 2.0), (5.0, 2.0)]:
        state, _ = env.reset(jax.random.PRNGKey(0))
        state, _ = env.step(state, {"action": jnp.array([action])}, jax.random.PRNGKey(0))
        assert np.isclose(state.x, moved)


def test_a_state_whose_types_wander_can_be_scanned_over():
    class Wander(Walk):
        def step_env(self, key, state, action, params):
            obs, new, *rest = super().step_env(key, state, action, params)
            return obs, State(x=new.x, time=new.time * 1.0), *rest

    env = from_gymnax(Wander())
    state = jax.eval_shape(env.reset, jax.random.PRNGKey(0))[0]
    after = jax.eval_shape(env.step, state, {"action": jnp.zeros(1)}, jax.random.PRNGKey(0))[0]
    assert state == after
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(state))
    assert GymnaxEnv(Walk()).ground_truth(State(jnp.zeros(()), jnp.int32(0))).keys() == {"x", "time"}


def test_nested_spaces_and_an_environment_without_extras():
    env = from_gymnax(Bare())
    assert {key: (space.shape, space.dtype, space.classes) for key, space in env.obs_space.items()} == {
        "sight": ((16, 16, 3), "uint8", None),
        "body/0": ((), "int32", 4),
        "body/1": ((8,), "float32", None),
    }
    assert env.act_space.keys() == {"turn", "push"}
    state, _ = env.reset(jax.random.PRNGKey(0))
    action = {"turn": jnp.int32(1), "push": jnp.array([-1.0, 0.5])}
    _, step = jax.jit(env.step)(state, action, jax.random.PRNGKey(0))
    assert step.reward == 103
    assert (step.obs["sight"] == 103).all()
    assert step.obs["body/0"] == 3
    assert not step.is_last
    _, step = env.step(state, action | {"turn": jnp.int32(2)}, jax.random.PRNGKey(0))
    assert step.is_last and step.is_terminal


def test_unbounded_actions_are_refused_in_one_line():
    class Unbounded(Walk):
        def action_space(self, params):
            return Box(-np.inf, np.inf, (1,))

    with pytest.raises(UserError, match="action 'action' of the environment is unbounded"):
        from_gymnax(Unbounded())


def test_unknown_spaces_are_refused_in_one_line():
    class Strange(Walk):
        def observation_space(self, params):
            return "text"

    with pytest.raises(
        UserError, match="unsupported space text; supported are Discrete, Box, Dict and Tuple"
    ):
        from_gymnax(Strange())


REAL = """
import sys
sys.path.append(sys.argv[1])
import gymnax, jax
from dreamworld.envs.jax import from_gymnax
from dreamworld.envs.jax.measure import episode_returns, random_policy
tasks = [("CartPole-v1", 500, True), ("Pendulum-v1", 200, False), ("Breakout-MinAtar", 1000, True)]
for name, limit, ends in tasks:
    env = from_gymnax(*gymnax.make(name))
    returns, lengths = episode_returns(env, [random_policy(env)], jax.random.PRNGKey(0), 256, limit)
    print(name, returns.mean(), lengths.mean())
    assert (lengths < limit).all() == ends, lengths
    if name == "CartPole-v1":
        assert 19 < returns.mean() < 26
    if name == "Pendulum-v1":
        assert (lengths == 200).all() and -1500 < returns.mean() < -1000
"""


@pytest.mark.soak
@pytest.mark.parametrize("version", ["gymnax==1.0.1", "gymnax==0.0.8"])
def test_gymnax_itself(version, tmp_path):
    packages = [version, "seaborn", "gym==0.26.2", "gym-notices"]
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(tmp_path)]
    subprocess.run(install + packages, check=True)
    subprocess.run([sys.executable, "-c", REAL, str(tmp_path)], check=True)
