"""The in-process engine: row semantics, seeds, failures, state."""

import numpy as np
import pytest
import vector_toys as toys

from dreamworld.config import EnvConfig
from dreamworld.envs.vector import EnvFailure, env_seed
from dreamworld.errors import UserError


def build(num=3, seed=0, **options):
    config = EnvConfig(num=num, engine="inprocess", max_failures=3)
    return toys.make_vector_env(toys.make(**options), config, seed=seed)


def test_rows_follow_next_step_autoreset():
    env = build(length=2)
    rows = toys.roll(env, 4)
    assert [bool(r.is_first[0]) for r in rows] == [True, False, False, True, False]
    assert [bool(r.is_last[0]) for r in rows] == [False, False, True, False, False]
    assert [bool(r.is_terminal[0]) for r in rows] == [False, False, True, False, False]
    assert [int(r.obs["image"][0, 0, 0, 0]) for r in rows] == [0, 1, 2, 0, 1]
    assert rows[3].reward.tolist() == [0, 0, 0]
    assert rows[1].reward.any()


def test_time_limit_is_last_but_not_terminal():
    rows = toys.roll(build(length=2, terminal=False), 2)
    assert rows[2].is_last.all() and not rows[2].is_terminal.any()


def test_arrays_have_the_dtypes_of_the_contract():
    step = build().reset(0)
    assert step.obs["image"].dtype == np.uint8 and step.obs["image"].shape == (3, 4, 4, 3)
    assert step.obs["noise"].dtype == np.float32 and step.obs["noise"].shape == (3,)
    assert step.reward.dtype == np.float32
    assert {step.is_first.dtype, step.is_last.dtype, step.is_terminal.dtype} == {np.dtype(bool)}


def test_returned_arrays_are_never_overwritten():
    env = build()
    first = env.reset(0)
    kept = {key: value.copy() for key, value in first.obs.items()}
    for _ in range(3):
        env.step(toys.zeros(env))
    for key, value in kept.items():
        np.testing.assert_array_equal(first.obs[key], value)


def test_same_seed_gives_the_same_rows_and_another_seed_does_not():
    env = build()
    one, two = toys.roll(env, 8), toys.roll(env, 8)
    for a, b in zip(one, two):
        np.testing.assert_array_equal(a.obs["noise"], b.obs["noise"])
    assert (env.reset(8).obs["noise"] != one[0].obs["noise"]).all()


def test_environments_draw_different_noise_that_does_not_depend_on_their_number():
    few, many = build(num=2).reset(7).obs["noise"], build(num=5).reset(7).obs["noise"]
    np.testing.assert_array_equal(few, many[:2])
    assert len(set(many.tolist())) == 5


def test_seeds_differ_by_environment_and_attempt():
    seeds = {env_seed(s, i, a) for s in range(3) for i in range(3) for a in range(3)}
    assert len(seeds) == 27 and all(0 <= s < 2**31 for s in seeds)
    with pytest.raises(UserError, match="negative"):
        env_seed(-1, 0)


def test_logs_are_nan_where_an_environment_gave_none():
    rows = toys.roll(build(length=2), 2)
    assert rows[1].log == {}
    np.testing.assert_array_equal(rows[2].log["log/count"], [2, 2, 2])


def test_raising_environment_closes_the_episode_as_truncated_and_is_rebuilt(tmp_path):
    env = build(num=2, fault="raise", at=2, flag=str(tmp_path / "struck"))
    rows = toys.roll(env, 4)
    assert rows[2].is_last.tolist() == [True, False] and not rows[2].is_terminal.any()
    assert rows[2].reward[0] == 0
    np.testing.assert_array_equal(rows[2].obs["noise"][0], rows[1].obs["noise"][0])
    assert rows[2].obs["image"][0, 0, 0, 0] == 1
    assert rows[3].is_first.tolist() == [True, False]
    assert rows[4].obs["image"][:, 0, 0, 0].tolist() == [1, 4]
    (event,) = rows[2].events
    assert "environment 0" in event and "broken at step 2" in event and "\n" not in event
    assert env.failures == 1 and rows[3].events == ()


def test_rebuilt_environment_does_not_repeat_its_first_episode(tmp_path):
    env = build(num=1, fault="raise", at=2, flag=str(tmp_path / "struck"))
    rows = toys.roll(env, 3)
    assert rows[3].is_first[0] and rows[3].obs["noise"][0] != rows[0].obs["noise"][0]


def test_observation_of_the_wrong_shape_is_a_failure_and_not_broadcast(tmp_path):
    env = build(num=1, fault="shape", flag=str(tmp_path / "struck"))
    rows = toys.roll(env, 2)
    assert "shape (1, 1, 3)" in rows[2].events[0]
    assert rows[2].obs["image"][0, 0, 0, 0] == 1


def test_failure_at_reset_is_retried_in_the_same_row(tmp_path):
    env = build(num=1, fault="reset", flag=str(tmp_path / "struck"))
    step = env.reset(0)
    assert step.is_first[0] and "broken at reset" in step.events[0]


def test_too_many_failures_in_a_row_raise_with_the_original_traceback():
    env = build(num=2, fault="raise", at=1)
    with pytest.raises(EnvFailure, match="4 times in a row") as error:
        toys.roll(env, 20)
    assert "vector_toys.py" in str(error.value) and "broken at step 1" in str(error.value)


def test_a_good_step_ends_the_row_of_failures():
    env = build(num=1, fault="raise", at=2)
    rows = toys.roll(env, 30)
    assert env.failures == 10 and sum(len(r.events) for r in rows) == 10


def test_environment_that_can_not_be_built_raises_its_own_error():
    def broken():
        raise UserError("no such game")

    with pytest.raises(UserError, match="no such game"):
        toys.make_vector_env(broken, EnvConfig(num=2, engine="inprocess"), seed=0)


def test_actions_of_the_wrong_form_are_refused():
    env = build(num=2)
    env.reset(0)
    with pytest.raises(UserError, match="shape"):
        env.step({"action": np.zeros((3, 2), np.float32)})
    with pytest.raises(UserError, match="keys"):
        env.step({"move": np.zeros((2, 2), np.float32)})


def test_restored_state_continues_as_if_never_interrupted():
    env, other = build(num=2, length=3), build(num=2, length=3)
    toys.roll(env, 3)
    saved = env.save()
    other.reset(99)
    current = other.restore(saved)
    assert current.is_last.all() and current.obs["image"][0, 0, 0, 0] == 3
    for _ in range(5):
        a, b = env.step(toys.zeros(env)), other.step(toys.zeros(env))
        np.testing.assert_array_equal(a.obs["noise"], b.obs["noise"])
        np.testing.assert_array_equal(a.is_first, b.is_first)


def test_render_shows_the_environment_asked_for():
    env = build()
    env.reset(0)
    assert env.render(1).shape == (8, 8, 3)


def test_close_closes_every_environment_and_can_be_called_twice():
    made = []

    def factory():
        made.append(toys.Counter())
        return made[-1]

    env = toys.make_vector_env(factory, EnvConfig(num=3, engine="inprocess"), seed=0)
    env.close()
    env.close()
    assert all(one.closed for one in made)


def test_engine_with_no_environment_is_refused():
    with pytest.raises(UserError, match=r"env\.num"):
        toys.make_vector_env(toys.make(), EnvConfig(), seed=0, num=0)
