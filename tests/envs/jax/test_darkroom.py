import functools

import jax
import jax.numpy as jnp
import numpy as np

from dreamworld.envs.jax import make_jax_env

KEY = jax.random.PRNGKey(0)


@functools.cache
def jitted(env):
    return jax.jit(env.reset), jax.jit(env.step)


def walk(env, actions):
    """The state after the actions, and all images."""
    reset, step = jitted(env)
    state, obs = reset(KEY)
    images = [np.asarray(obs["image"])]
    for i, action in enumerate(actions):
        state, row = step(state, {"action": jnp.int32(action)}, jax.random.PRNGKey(i))
        images.append(np.asarray(row.obs["image"]))
    return state, images


def starts(env, num):
    """States [num, ...] and first images of as many episodes."""
    return jax.device_get(jax.jit(jax.vmap(env.reset))(jax.random.split(KEY, num)))


def test_only_the_lit_cells_are_visible():
    env = make_jax_env("jax_darkroom")
    _, (image,) = walk(env, [])
    # 15 cells of 2 pixels and a margin of 1; the light spans cells 5 to 9
    lit = np.zeros((32, 32), bool)
    lit[11:21, 11:21] = True
    inner = np.zeros((32, 32), bool)
    inner[1:31, 1:31] = True
    assert image[lit].all()
    assert not image[inner & ~lit].any()
    assert (image[~inner] == 64).all()
    assert (image[15:17, 15:17] == 255).all()


def test_the_goal_is_dark_at_first_and_shows_when_lit():
    env = make_jax_env("jax_darkroom")
    states, obs = starts(env, 300)
    assert np.abs(states.goal - 7).max(-1).min() > 2
    assert len(np.unique(obs["image"], axis=0)) == 1  # the first image tells nothing about the goal
    assert len(np.unique(states.goal, axis=0)) > 100
    state = jitted(env)[0](KEY)[0]._replace(goal=jnp.array([7, 9]))
    _, step = jitted(env)[1](state, {"action": jnp.int32(0)}, KEY)
    assert (np.asarray(step.obs["image"])[15:17, 19:21] == (60, 230, 90)).all()


def test_finding_the_goal_pays_and_ends():
    env = make_jax_env("jax_darkroom")
    state = jitted(env)[0](KEY)[0]._replace(goal=jnp.array([6, 7]))
    for action, found in [(1, True), (2, False), (0, False)]:
        _, step = jitted(env)[1](state, {"action": jnp.int32(action)}, KEY)
        assert (bool(step.is_last), bool(step.is_terminal), float(step.reward)) == (
            found,
            found,
            float(found),
        )


def test_moves_and_walls():
    env = make_jax_env("jax_darkroom")
    for action, place in [(0, (7, 7)), (1, (0, 7)), (2, (14, 7)), (3, (7, 0)), (4, (7, 14))]:
        state, _ = walk(env, [action] * 9)
        assert tuple(np.asarray(state.agent)) == place


def test_seen_cells_add_up():
    env = make_jax_env("jax_darkroom")
    state, _ = walk(env, [])
    assert np.isclose(env.ground_truth(state)["coverage"], 25 / 225)
    state, _ = walk(env, [4, 4, 3, 3])
    assert np.isclose(env.ground_truth(state)["coverage"], 35 / 225)


def test_the_television_is_random_while_it_is_lit_and_only_there():
    env, plain = make_jax_env("jax_darkroom_noisytv"), make_jax_env("jax_darkroom")
    actions = [3] * 7 + [0, 0]
    state, images = walk(env, actions)
    _, quiet = walk(plain, actions)
    screen = np.zeros((32, 32), bool)
    screen[13:19, 1:7] = True  # cells 6 to 8 of rows, 0 to 2 of columns
    for a, b in zip(images, quiet):
        np.testing.assert_array_equal(a[~screen], b[~screen])
    # cell 2 comes into the light of an agent at cell 4, the third step
    noisy = [not np.array_equal(a, b) for a, b in zip(images, quiet)]
    assert noisy == [False] * 3 + [True] * 7
    assert not np.array_equal(images[-1], images[-2])  # new pixels although nothing moved
    assert (images[-1][15:17, 1:3] == 255).all()  # the agent stands before it
    assert env.ground_truth(state)["tv_steps"] == 7
    assert plain.ground_truth(walk(plain, actions)[0])["tv_steps"] == 0


def test_the_television_covers_no_goal():
    env = make_jax_env("jax_darkroom_noisytv")
    states, _ = starts(env, 2000)
    rows, cols = np.asarray(states.goal).T
    assert not ((rows >= 6) & (rows <= 8) & (cols <= 2)).any()
    assert len(np.unique(states.goal, axis=0)) == 225 - 25 - 9
