"""A NaN or an infinity is a failure of the environment that returned it, in every engine."""

import functools
import re

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import vector_toys as toys
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from dreamworld.config import EnvConfig
from dreamworld.envs.adapters.gym_vector import GymVectorEnv
from dreamworld.envs.vector import EnvFailure
from dreamworld.types import JaxStep, Space

NAN = float("nan")


def walkers(engine, num=2, **options):
    config = EnvConfig(engine=engine, workers=1, max_failures=3)
    return toys.make_vector_env(functools.partial(toys.Walker, **options), config, seed=7, num=num)


def check_refused(rows, at=2):
    """Row `at` closes the episode of environment 0 with its row before; the next one begins another."""
    closed = rows[at]
    assert closed.is_last[0] and not closed.is_terminal[0] and closed.reward[0] == 0
    for key, value in closed.obs.items():
        np.testing.assert_array_equal(value[0], rows[at - 1].obs[key][0])
    assert rows[at + 1].is_first.tolist() == [True, False]
    assert not any(row.is_last[1] for row in rows[: at + 2])
    check_finite(rows)


def check_finite(rows):
    for row in rows:
        assert np.isfinite(row.reward).all() and all(np.isfinite(value).all() for value in row.obs.values())


@pytest.mark.parametrize(
    ("where", "value", "text"),
    [
        ("reward", NAN, "environment 0: reward is nan;"),
        ("reward", -np.inf, "environment 0: reward is -inf;"),
        ("reward", 1e300, "environment 0: reward is 1e+300;"),
        ("is_last", NAN, "environment 0: is_last is a float (nan), not True or False;"),
        ("is_terminal", np.array([NAN]), "is_terminal is an array of shape (1,) ([nan]), not True or False;"),
        ("noise", np.float32("inf"), "environment 0: observation 'noise' is inf;"),
        (
            "speed",
            np.array([0, NAN, NAN], np.float32),
            "environment 0: observation 'speed' holds nan (2 of 3 values, the first at index 1);",
        ),
        ("speed", np.array([0, -1e300, 0]), "observation 'speed' holds -1e+300, more than float32 can hold;"),
    ],
)
def test_a_value_that_is_not_finite_closes_the_episode_as_an_exception_does(tmp_path, where, value, text):
    env = walkers("inprocess", where=where, value=value, flag=str(tmp_path / "struck"))
    rows = toys.roll(env, 3)
    check_refused(rows)
    (event,) = rows[2].events
    assert text in event and "episode closed as truncated" in event and "failure 1 of at most 3" in event
    assert env.failures == 1 and rows[3].events == ()


def test_workers_refuse_it_too(tmp_path):
    env = walkers("process", value=NAN, flag=str(tmp_path / "struck"))
    try:
        rows = toys.roll(env, 3)
        check_refused(rows)
        assert "environment 0: reward is nan;" in rows[2].events[0] and env.failures == 1
    finally:
        env.close()


@pytest.mark.parametrize("engine", ["inprocess", "process"])
def test_too_many_in_a_row_end_with_the_value_and_leave_no_state_to_save(engine):
    env = walkers(engine, value=NAN, at=1)
    try:
        with pytest.raises(EnvFailure, match=r"environment 0 failed 4 times in a row .*: reward is nan$"):
            toys.roll(env, 20)
        assert env.save() is None
    finally:
        env.close()


def test_a_first_row_that_is_not_finite_is_drawn_again(tmp_path):
    env = walkers("inprocess", where="noise", value=np.float32(NAN), at=0, flag=str(tmp_path / "struck"))
    rows = toys.roll(env, 1)
    assert rows[0].is_first.all() and "observation 'noise' is nan" in rows[0].events[0]
    check_finite(rows)


class Classes(gymnasium.Env):
    """The third row holds a value that its space has not."""

    observation_space = spaces.Dict(
        one=spaces.Discrete(3, start=1), many=spaces.MultiDiscrete([2, 4]), lamps=spaces.MultiBinary(2)
    )
    action_space = spaces.Discrete(2)

    def __init__(self, key="one", value: object = 7):
        self.key, self.value = key, value

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return self.obs(), {}

    def step(self, action):
        self.time += 1
        return self.obs(), 1.0, False, False, {}

    def obs(self):
        good = {"one": 3, "many": [1, 3], "lamps": [1, 0]}
        return {**good, self.key: self.value} if self.time == 2 else good


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("one", 7, "observation 'one' holds the class 6, counted from 0; its space has 3 classes"),
        ("one", 0, "observation 'one' holds the class -1, counted from 0"),
        ("many", [1, 4], "observation 'many/1' holds the class 4, counted from 0; its space has 4 classes"),
        ("lamps", [0, 2], "observation 'lamps' holds the class 2, counted from 0; its space has 2 classes"),
    ],
)
def test_a_class_that_its_space_has_not_closes_the_episode(key, value, text):
    """It would be a one-hot code of zeros, and a loss that is not finite."""
    make = functools.partial(Classes, key, value)
    for env in (
        toys.make_vector_env(make, EnvConfig(engine="inprocess"), seed=0, num=1),
        GymVectorEnv(SyncVectorEnv([make], autoreset_mode=AutoresetMode.NEXT_STEP)),
    ):
        rows = [env.reset(0)] + [env.step({"action": np.zeros(1, np.int32)}) for _ in range(3)]
        assert rows[2].is_last[0] and not rows[2].is_terminal[0] and rows[3].is_first[0]
        assert text in rows[2].events[0] and env.failures == 1
        env.close()


class Drift:
    """JAX: rows count; noise below `share` is a NaN (`where` an observation, or "reward"), also in first rows."""

    act_space = {"push": Space((), "float32", low=-1, high=1)}  # noqa: RUF012
    obs_space = {"noise": Space((2,), "float32"), "count": Space((), "int32")}  # noqa: RUF012

    def __init__(self, share=0.2, where="noise"):
        self.share, self.where = share, where

    def reset(self, key):
        return jnp.int32(0), self._obs(jnp.int32(0), key)

    def step(self, state, action, key):
        obs, over = self._obs(state + 1, key), state >= 8
        reward = jnp.where(obs["noise"][1] < self.share, jnp.inf, 1.0) if self.where == "reward" else 1.0
        return state + 1, JaxStep(obs, jnp.asarray(reward, jnp.float32), over, over)

    def _obs(self, state, key):
        noise = jax.random.uniform(key, (2,))
        if self.where == "noise":
            noise = noise.at[1].set(jnp.where(noise[1] < self.share, jnp.nan, noise[1]))
        return {"noise": noise, "count": state}


def drifting(share=0.2, where="noise", num=3, max_failures=100):
    return toys.make_vector_env(Drift(share, where), EnvConfig(max_failures=max_failures), seed=0, num=num)


@pytest.mark.parametrize("where", ["noise", "reward"])
def test_the_jax_engine_closes_episodes_and_draws_first_rows_again(where):
    env = drifting(where=where)
    rows = [env.reset(0)] + [env.step({"push": np.zeros(3, np.float32)}) for _ in range(40)]
    check_finite(rows)
    events = [event for row in rows for event in row.events]
    text = "reward is inf" if where == "reward" else r"observation 'noise' holds nan \(1 of 2 values"
    assert events and all(re.match(rf"environment [012]: {text}", event) for event in events)
    assert env.failures == len(events)
    closed = 0
    for before, row, after in zip(rows, rows[1:], rows[2:]):
        np.testing.assert_array_equal(row.is_last, after.is_first)
        np.testing.assert_array_equal(after.obs["count"], np.where(after.is_first, 0, after.obs["count"]))
        for index in np.flatnonzero(row.is_last & ~row.is_terminal):
            np.testing.assert_array_equal(row.obs["noise"][index], before.obs["noise"][index])
            assert row.reward[index] == 0
            closed += 1
    assert closed > 2 and (where == "reward" or len(events) > closed)  # first rows were refused, too


def test_a_refused_row_of_one_jax_environment_leaves_the_others_as_they_are():
    many, sound = drifting(num=5), drifting(share=0.0, num=5)
    push = {"push": np.zeros(5, np.float32)}
    rows = [many.reset(3)] + [many.step(push) for _ in range(6)]
    plain = [sound.reset(3)] + [sound.step(push) for _ in range(6)]
    struck = {event[12] for row in rows for event in row.events}
    untouched = [index for index in range(5) if str(index) not in struck]
    assert struck and untouched
    for row, other in zip(rows, plain):
        np.testing.assert_array_equal(row.obs["noise"][untouched], other.obs["noise"][untouched])


def test_a_jax_environment_without_finite_rows_ends_and_leaves_no_state_to_save():
    env = drifting(share=2.0, num=2, max_failures=3)
    with pytest.raises(
        EnvFailure, match=r"environment 0 failed 4 times in a row .*observation 'noise' holds"
    ):
        env.reset(0)
    assert env.save() is None


def test_jax_state_saved_after_a_refused_row_continues_as_if_never_interrupted():
    env, other = drifting(), drifting()
    push = {"push": np.zeros(3, np.float32)}
    row = env.reset(0)
    for _ in range(20):
        row = env.step(push)
        if row.events:
            break
    assert row.events and env.save()
    again = other.restore(env.save())
    np.testing.assert_array_equal(again.is_last, row.is_last)
    for _ in range(5):
        one, two = env.step(push), other.step(push)
        np.testing.assert_array_equal(one.obs["noise"], two.obs["noise"])
        np.testing.assert_array_equal(one.is_first, two.is_first)


class Plain(gymnasium.Env):
    """Counts; its reward or observation is bad in the rows `bad` counted over all episodes."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, bad=(), where="reward"):
        self.bad, self.where, self.rows = set(bad), where, -1

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return self._obs(), {}

    def step(self, action):
        self.count += 1
        obs = self._obs()
        reward = np.nan if self.where == "reward" and self.rows in self.bad else 1.0
        return obs, reward, self.count >= 6, False, {}

    def _obs(self):
        self.rows += 1
        bad = self.where != "reward" and self.rows in self.bad
        return np.array([self.count, np.nan if bad else 0], np.float32)


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("where", ["reward", "vector"])
def test_gymnasium_vector_environments_close_the_episode_in_every_mode(mode, where):
    makers = [functools.partial(Plain, (2,), where), Plain]
    env = GymVectorEnv(SyncVectorEnv(makers, autoreset_mode=mode))
    rows = [env.reset(0)] + [env.step({"action": np.zeros(2, np.int32)}) for _ in range(9)]
    check_refused(rows)
    what = "reward is nan" if where == "reward" else "observation 'vector' holds nan (1 of 2 values"
    assert what in rows[2].events[0] and env.failures == 1
    counts = np.stack([row.obs["vector"][:, 0] for row in rows])
    assert counts[:, 0].tolist() == [0, 1, 1, 0, 1, 2, 3, 4, 5, 6]
    assert counts[:, 1].tolist() == [0, 1, 2, 3, 4, 5, 6, 0, 1, 2]


def test_gymnasium_vector_environments_draw_a_first_row_again():
    env = GymVectorEnv(SyncVectorEnv([functools.partial(Plain, (0,), "vector"), Plain]))
    row = env.reset(0)
    assert row.is_first.all() and np.isfinite(row.obs["vector"]).all() and len(row.events) == 1


def test_a_foreign_vector_environment_that_restarts_no_single_one_says_so():
    class Foreign(SyncVectorEnv):
        @property
        def unwrapped(self):
            return object()

    env = GymVectorEnv(Foreign([functools.partial(Plain, (1,))]))
    env.reset(0)
    with pytest.raises(EnvFailure, match="environment 0: reward is nan; this vector environment can't"):
        env.step({"action": np.zeros(1, np.int32)})
