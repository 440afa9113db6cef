"""The device replay against a plain list of rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamworld.replay import device
from dreamworld.types import Space

SPACES = {"obs/x": Space((2,), "float32"), "is_first": Space((), "bool"), "latent/h": Space((3,), "float32")}
ENVS, CAPACITY = 3, 8


def filled(count):
    replay = device.init(SPACES, ENVS, CAPACITY)
    add = jax.jit(device.add)
    for t in range(count):
        x = jnp.stack([jnp.array([env, t], jnp.float32) for env in range(ENVS)])
        replay = add(
            replay, {"obs/x": x, "is_first": jnp.zeros(ENVS, bool), "latent/h": jnp.zeros((ENVS, 3))}
        )
    return replay


def test_windows_are_contiguous_rows_of_one_environment_also_across_the_end_of_the_ring():
    rows, _ = device.sample(filled(13), 200, 4, jax.random.PRNGKey(0))
    env, time = np.asarray(rows["obs/x"][..., 0]), np.asarray(rows["obs/x"][..., 1])
    assert (env == env[:, :1]).all()
    np.testing.assert_array_equal(np.diff(time, axis=1), 1)


def test_every_window_that_is_stored_is_drawn_equally_often_and_no_other():
    rows, _ = device.sample(filled(13), 12_000, 4, jax.random.PRNGKey(1))
    found = np.asarray(rows["obs/x"][:, 0]).astype(int)
    pairs, counts = np.unique(found, axis=0, return_counts=True)
    assert {tuple(pair) for pair in pairs} == {(env, t) for env in range(ENVS) for t in range(5, 10)}
    expected = 12_000 / 15
    assert ((counts - expected) ** 2 / expected).sum() < 36.1  # chi-square, 14 degrees of freedom, p = 0.001


def test_starts_counts_windows_before_and_after_the_ring_is_full():
    assert [int(device.starts(filled(n), 4)) for n in (2, 4, 8, 13)] == [0, 1, 5, 5]


def test_the_first_row_of_a_window_is_first_and_no_other():
    rows, _ = device.sample(filled(8), 5, 4, jax.random.PRNGKey(0))
    np.testing.assert_array_equal(rows["is_first"], [[True, False, False, False]] * 5)


def test_write_back_reaches_the_rows_that_were_sampled_and_leaves_the_others():
    replay = filled(13)
    rows, place = device.sample(replay, 1, 4, jax.random.PRNGKey(2))
    env, times = int(rows["obs/x"][0, 0, 0]), np.asarray(rows["obs/x"][0, 1:, 1]).astype(int)
    fresh = jnp.arange(9.0).reshape((1, 3, 3))
    after = device.write_back(replay, place, {"latent/h": fresh})
    want = np.zeros((ENVS, CAPACITY, 3))
    want[env, times % CAPACITY] = fresh[0]
    np.testing.assert_array_equal(after.rows["latent/h"], want)
    np.testing.assert_array_equal(after.rows["obs/x"], replay.rows["obs/x"])


@pytest.mark.parametrize("capacity", [5, 8, 20])
@pytest.mark.parametrize("count", [4, 8, 13])
def test_rings_of_another_capacity_hold_the_newest_rows_and_go_on(count, capacity):
    replay = device.resize(filled(count), capacity)
    kept = min(count, CAPACITY, capacity)
    assert (replay.capacity, int(replay.count)) == (capacity, kept)
    for t in (count, count + 1):
        x = jnp.stack([jnp.array([env, t], jnp.float32) for env in range(ENVS)])
        replay = device.add(
            replay, {"obs/x": x, "is_first": jnp.zeros(ENVS, bool), "latent/h": jnp.zeros((ENVS, 3))}
        )
    rows, _ = device.sample(replay, 500, 2, jax.random.PRNGKey(0))
    found = {tuple(window) for window in np.asarray(rows["obs/x"][..., 1]).astype(int).tolist()}
    first = count + 2 - min(kept + 2, capacity)
    assert found == {(t, t + 1) for t in range(first, count + 1)}
