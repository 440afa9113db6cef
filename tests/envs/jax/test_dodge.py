import functools

import jax
import jax.numpy as jnp
import numpy as np

from dreamworld.envs.jax import make_jax_env
from dreamworld.envs.jax.measure import episode_returns


@functools.cache
def jitted(**options):
    env = make_jax_env("jax_dodge", **options)
    return jax.jit(env.reset), jax.jit(env.step)


def follow_gap(state, key):
    """Steps to where the row above is free."""
    return {"action": jnp.sign(state.gap[-2] - state.player) + 1}


def test_every_episode_can_be_survived():
    env = make_jax_env("jax_dodge", density=1.0)  # nothing but the gap is free
    returns, lengths = episode_returns(env, [follow_gap], jax.random.PRNGKey(0), 256, 200)
    assert (returns == env.optimal_return).all()
    assert (lengths == 200).all()


def test_a_hit_ends_the_episode_without_reward():
    reset, step = jitted()
    state, _ = reset(jax.random.PRNGKey(0))
    state = state._replace(objects=state.objects.at[-2, 3].set(True))
    for action, hit in [(0, True), (1, False)]:  # the player is in column 4
        _, row = step(state, {"action": jnp.int32(action)}, jax.random.PRNGKey(1))
        assert bool(row.is_terminal) == bool(row.is_last) == hit
        assert row.reward == (0.0 if hit else 1.0)


def test_objects_fall_one_row_per_step():
    reset, step = jitted()
    state, _ = reset(jax.random.PRNGKey(0))
    for i in range(5):
        before = state
        state, _ = step(state, {"action": jnp.int32(1)}, jax.random.PRNGKey(i))
        np.testing.assert_array_equal(state.objects[1:], before.objects[:-1])
    assert state.objects.any()


def test_walls_hold_the_player_back():
    reset, step = jitted(density=0.0)
    for action, column in [(0, 0), (2, 7)]:
        state, _ = reset(jax.random.PRNGKey(0))
        for _ in range(10):
            state, _ = step(state, {"action": jnp.int32(action)}, jax.random.PRNGKey(0))
        assert state.player == column


def test_the_heuristic_looks_at_what_is_visible_only():
    env = make_jax_env("jax_dodge")
    state, _ = env.reset(jax.random.PRNGKey(0))
    # a barrier at the top with one hole far to the left: staying survives seven steps, going left eight
    state = state._replace(objects=state.objects.at[0].set(True).at[0, 0].set(False), player=jnp.int32(7))
    moved = state._replace(gap=state.gap + 1)
    choose = jax.jit(lambda state: env.heuristic(state, jax.random.PRNGKey(0))["action"])
    assert choose(state) == choose(moved) == 0


def test_the_image_shows_player_and_objects():
    env = make_jax_env("jax_dodge", size=16)
    state, _ = env.reset(jax.random.PRNGKey(0))
    image = np.asarray(env.observe(state._replace(objects=state.objects.at[2, 5].set(True)))["image"])
    assert (image[4:6, 10:12] == (230, 60, 60)).all()
    assert (image[14:16, 8:10] == (80, 220, 120)).all()
    assert (image.any(-1)).sum() == 8
