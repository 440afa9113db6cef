import itertools

import numpy as np
import pytest

from dreamworld.envs import make_env
from dreamworld.errors import UserError


def rows_of(env, steps, random):
    rows = []
    for _ in range(steps):
        row = env.step({key: space.sample(random) for key, space in env.act_space.items()})
        rows.append(row)
        if row.is_last:
            rows.append(env.reset())
    return rows


@pytest.fixture(scope="module")
def env():
    return make_env("jax_catch")


def test_rows_have_host_types_and_episodes_end_and_start(env):
    first = env.reset(0)
    assert first[1:5] == (0.0, True, False, False)
    rows = rows_of(env, 30, np.random.default_rng(0))
    assert any(row.is_last for row in rows)
    for previous, row in itertools.pairwise(rows):
        assert row.is_first == previous.is_last
        assert isinstance(row.reward, float) and isinstance(row.obs["vector"], np.ndarray)


def test_seeds_reproduce(env):
    runs = []
    for seed in (1, 1, 2):
        runs.append([env.reset(seed), *rows_of(env, 25, np.random.default_rng(0))])
    flat = [np.concatenate([row.obs["vector"] for row in rows]) for rows in runs]
    np.testing.assert_array_equal(flat[0], flat[1])
    assert not np.array_equal(flat[0], flat[2])


def test_a_reset_without_a_seed_starts_another_episode(env):
    env.reset(3)
    env.step({"action": np.array(0)})
    assert env.reset()[1:5] == (0.0, True, False, False)


def test_saved_states_go_on_identically(env):
    env.reset(5)
    rows_of(env, 3, np.random.default_rng(0))
    state = env.save()
    after = rows_of(env, 20, np.random.default_rng(1))
    other = make_env("jax_catch")
    other.restore(state)
    for a, b in zip(after, rows_of(other, 20, np.random.default_rng(1))):
        np.testing.assert_array_equal(a.obs["vector"], b.obs["vector"])
        assert a[1:] == b[1:]


def test_images_are_enlarged_for_people():
    env = make_env("jax_balls")
    env.reset(0)
    frame = env.render()
    assert frame is not None and frame.dtype == np.uint8 and min(frame.shape[:2]) >= 128


def test_unknown_names_are_refused():
    with pytest.raises(UserError, match="jax_ctch"):
        make_env("jax_ctch")
