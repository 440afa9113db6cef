"""The jitted vmap behind the host-side contract."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import vector_toys as toys

from dreamworld.config import EnvConfig
from dreamworld.envs.vector.jax_engine import env_keys
from dreamworld.errors import UserError
from dreamworld.types import JaxStep, Space


class Noise:
    """Counts steps and observes noise; ends terminally after `length` steps. Written without `observe`."""

    obs_space = {"noise": Space((), "float32"), "count": Space((2,), "int32")}  # noqa: RUF012
    act_space = {"push": Space((2,), "float32", low=-1, high=1)}  # noqa: RUF012

    def __init__(self, length=3):
        self.length = length

    def reset(self, key):
        return jnp.int32(0), self._obs(jnp.int32(0), key)

    def step(self, state, action, key):
        state = state + 1
        over = state >= self.length
        return state, JaxStep(self._obs(state, key), action["push"].sum(), over, over)

    def _obs(self, state, key):
        return {"noise": jax.random.uniform(key), "count": jnp.stack([state, state])}


def build(env=None, num=3, **options):
    return toys.make_vector_env(env or Noise(), EnvConfig(**options), seed=0, num=num)


def push(env, value=0.5):
    return {"push": np.full((env.num_envs, 2), value, np.float32)}


def test_rows_follow_next_step_autoreset_and_the_action_of_a_last_row_is_ignored():
    env = build()
    rows = [env.reset(0)] + [env.step(push(env)) for _ in range(5)]
    assert [bool(row.is_first[0]) for row in rows] == [True, False, False, False, True, False]
    assert [bool(row.is_terminal[0]) for row in rows] == [False, False, False, True, False, False]
    assert [row.reward.tolist()[0] for row in rows] == [0, 1, 1, 1, 0, 1]
    assert [row.obs["count"].tolist()[0][0] for row in rows] == [0, 1, 2, 3, 0, 1]
    assert rows[0].reward.dtype == np.float32 and rows[0].obs["count"].dtype == np.int32


def test_rows_are_reproducible_from_the_seed_and_do_not_depend_on_the_number():
    many, few = build(num=5), build(num=2)
    a, b = [many.reset(4)], [few.reset(4)]
    for _ in range(5):
        a.append(many.step(push(many)))
        b.append(few.step(push(few)))
    for one, two in zip(a, b):
        np.testing.assert_array_equal(one.obs["noise"][:2], two.obs["noise"])
    noise = np.stack([row.obs["noise"] for row in a])
    assert len(np.unique(noise)) == noise.size  # no key is used twice
    assert (many.reset(5).obs["noise"] != a[0].obs["noise"]).all()
    assert np.array_equal(env_keys(4, 5)[:2], env_keys(4, 2))


def test_restored_state_continues_as_if_never_interrupted():
    env, other = build(), build()
    env.reset(1)
    for _ in range(3):
        current = env.step(push(env))
    saved = env.save()
    assert all(isinstance(value, np.ndarray) for value in saved.values())
    again = other.restore(saved)
    np.testing.assert_array_equal(again.obs["noise"], current.obs["noise"])
    np.testing.assert_array_equal(again.is_last, current.is_last)
    for _ in range(5):
        one, two = env.step(push(env)), other.step(push(other))
        np.testing.assert_array_equal(one.obs["noise"], two.obs["noise"])
        np.testing.assert_array_equal(one.is_first, two.is_first)


def test_state_of_another_number_is_refused_in_one_line():
    env = build(num=2)
    assert env.save() is None
    env.reset(0)
    with pytest.raises(UserError, match="does not fit 3 of these environments"):
        build(num=3).restore(env.save())
    with pytest.raises(UserError, match="does not fit"):
        build(num=2).restore({})


def test_time_limit_truncates():
    env = build(Noise(length=100), time_limit=2)
    rows = [env.reset(0)] + [env.step(push(env)) for _ in range(3)]
    assert rows[2].is_last.all() and not rows[2].is_terminal.any() and rows[3].is_first.all()


def test_named_environment_and_its_picture():
    env = toys.make_vector_env("jax_catch", EnvConfig(time_limit=4), seed=0, num=2)
    assert env.engine == "jax" and env.render() is None
    env.reset(0)
    assert env.render(1).shape[2] == 3 and env.render(1).dtype == np.uint8
    env.close()


def test_step_before_reset_starts_from_the_seed_given_at_construction():
    env, other = build(), build()
    other.reset(0)
    np.testing.assert_array_equal(env.step(push(env)).obs["noise"], other.step(push(other)).obs["noise"])


def test_actions_of_the_wrong_form_and_negative_seeds_are_refused():
    env = build()
    with pytest.raises(UserError, match="shape"):
        env.step({"push": np.zeros((2, 2), np.float32)})
    with pytest.raises(UserError, match="keys"):
        env.step({"pull": np.zeros((3, 2), np.float32)})
    with pytest.raises(UserError, match="negative"):
        env.reset(-1)
