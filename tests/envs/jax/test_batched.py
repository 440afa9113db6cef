import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamworld.envs.jax import make_jax_env
from dreamworld.envs.jax.batched import batched
from dreamworld.envs.jax.measure import speed
from dreamworld.errors import UserError
from dreamworld.types import JaxStep, Space


@functools.cache
def build(name):
    env = make_jax_env(name)
    return env, *(jax.jit(function) for function in batched(env))


def rollout(functions, keys, actions):
    """The last state and the rows [steps + 1, N, ...]."""
    reset, step = functions
    state, rows = reset(keys)
    seen = [rows]
    for action in actions:
        state, rows = step(state, {"action": action})
        seen.append(rows)
    return jax.device_get((state, jax.tree.map(lambda *leaves: np.stack(leaves), *seen)))


def stay(steps, num):
    return np.ones((steps, num), np.int32)


def test_an_is_last_row_is_followed_by_the_first_row_of_a_new_episode():
    keys = jax.random.split(jax.random.PRNGKey(0), 4)
    _, rows = rollout(build("jax_catch")[1:], keys, stay(40, 4))
    # 9 steps and one first row: episodes are 10 rows long
    t = np.arange(41)
    np.testing.assert_array_equal(rows.is_first, np.broadcast_to((t % 10 == 0)[:, None], (41, 4)))
    np.testing.assert_array_equal(rows.is_last, np.broadcast_to((t % 10 == 9)[:, None], (41, 4)))
    np.testing.assert_array_equal(rows.is_last, rows.is_terminal)
    assert (rows.reward[~rows.is_last] == 0).all()
    assert (np.abs(rows.reward[rows.is_last]) == 1).all()
    # the last row still shows the end of its episode: ball and paddle in the bottom row
    board = rows.obs["vector"].reshape(41, 4, 10, 5)
    assert (board[9, :, :9] == 0).all()
    assert (board[10, :, 0].sum(-1) == 1).all()


def test_the_action_after_an_is_last_row_is_ignored():
    keys = jax.random.split(jax.random.PRNGKey(0), 4)
    _, expected = rollout(build("jax_catch")[1:], keys, stay(12, 4))
    for action in (0, 2):
        actions = stay(12, 4)
        actions[9] = action
        _, rows = rollout(build("jax_catch")[1:], keys, actions)
        jax.tree.map(np.testing.assert_array_equal, rows, expected)


def test_random_bits_do_not_depend_on_the_number_of_environments():
    keys = jax.random.split(jax.random.PRNGKey(3), 4)
    _, many = rollout(build("jax_dodge")[1:], keys, stay(30, 4))
    _, few = rollout(build("jax_dodge")[1:], keys[2:3], stay(30, 1))
    assert many.is_last.any()
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[:, 2:3], b), many, few)
    assert not np.array_equal(many.obs["image"][:, 0], many.obs["image"][:, 1])


def test_episodes_of_one_environment_differ():
    keys = jax.random.split(jax.random.PRNGKey(0), 4)
    _, rows = rollout(build("jax_catch")[1:], keys, stay(199, 4))
    columns = rows.obs["vector"].reshape(200, 4, 10, 5)[::10, :, 0].argmax(-1)
    assert rows.is_first[::10].all()
    assert all(len(set(column)) == 5 for column in columns.T)


def test_typed_and_raw_keys_give_the_same_rows():
    raw, typed = jax.random.split(jax.random.PRNGKey(1), 4), jax.random.split(jax.random.key(1), 4)
    functions = build("jax_catch")[1:]
    jax.tree.map(
        np.testing.assert_array_equal,
        rollout(functions, raw, stay(12, 4)),
        rollout(functions, typed, stay(12, 4)),
    )


def test_a_copied_state_continues_alike():
    reset, step = build("jax_dodge")[1:]
    keys = jax.random.split(jax.random.PRNGKey(3), 4)
    saved, _ = rollout((reset, step), keys, stay(8, 4))  # plain numpy arrays
    _, expected = rollout((reset, step), keys, stay(30, 4))
    _, again = rollout((lambda _: step(saved, {"action": stay(1, 4)[0]}), step), keys, stay(21, 4))
    assert expected.is_last[9:].any()
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b[9:]), again, expected)


class Unobserved:
    """Hides `observe`, as an environment that lacks it."""

    def __init__(self, env):
        self.obs_space, self.act_space = env.obs_space, env.act_space
        self.reset, self.step = env.reset, env.step


def test_an_environment_without_observe_gives_the_same_rows():
    env, *functions = build("jax_dodge")
    keys = jax.random.split(jax.random.PRNGKey(3), 4)
    others = [jax.jit(function) for function in batched(Unobserved(env))]
    _, rows = rollout(functions, keys, stay(30, 4))
    jax.tree.map(np.testing.assert_array_equal, rows, rollout(others, keys, stay(30, 4))[1])


def test_catch_makes_a_million_steps_a_second():
    # a microsecond of CPU per step is a million steps a second on one core, whatever else runs on the machine
    assert speed(make_jax_env("jax_catch"), 1024)[1] < 1e-6


class Wrapped:
    """Returns its reward and ends as arrays of `size` elements."""

    obs_space = {"x": Space((), "float32")}  # noqa: RUF012
    act_space = {"action": Space((), "int32", classes=2)}  # noqa: RUF012

    def __init__(self, size):
        self.size = size

    def reset(self, key):
        return jnp.zeros(()), {"x": jnp.zeros(())}

    def step(self, state, action, key):
        one = jnp.ones(self.size)
        return state, JaxStep({"x": state}, one, one, one)


def test_a_reward_and_ends_of_size_one_are_taken_and_vectors_named():
    keys = jax.random.split(jax.random.PRNGKey(0), 3)
    _, rows = rollout(batched(Wrapped(1)), keys, stay(1, 3))
    for value in (rows.reward, rows.is_last, rows.is_terminal):
        assert value[1].tolist() == [1, 1, 1]
    with pytest.raises(
        UserError, match=r"is_last of the JAX environment has the shape \(2,\), not one number"
    ):
        rollout(batched(Wrapped(2)), keys, stay(1, 3))
