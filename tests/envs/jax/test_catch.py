import jax
import numpy as np
from bsuite.environments.catch import Catch as BsuiteCatch

from dreamworld.envs.jax import make_jax_env


def test_it_steps_as_bsuites_catch():
    env, random = make_jax_env("jax_catch"), np.random.default_rng(0)
    step = jax.jit(env.step)
    for seed in range(5):
        other = BsuiteCatch(seed=seed)
        theirs = other.reset()
        state, _ = env.reset(jax.random.PRNGKey(seed))
        state = state._replace(ball_x=np.int32(theirs.observation[0].argmax()))
        np.testing.assert_array_equal(env.observe(state)["vector"].reshape(10, 5), theirs.observation)
        for _ in range(9):
            action = int(random.integers(3))
            theirs = other.step(action)
            state, ours = step(state, {"action": np.int32(action)}, jax.random.PRNGKey(0))
            np.testing.assert_array_equal(ours.obs["vector"].reshape(10, 5), theirs.observation)
            assert ours.reward == theirs.reward
            assert ours.is_last == ours.is_terminal == theirs.last()
        assert theirs.last()


def test_balls_start_in_every_column_equally_often():
    env = make_jax_env("jax_catch")
    state, _ = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.PRNGKey(0), 5000))
    counts = np.bincount(state.ball_x, minlength=5)
    assert len(counts) == 5
    assert abs(counts - 1000).max() < 150  # five standard deviations


def test_the_image_shows_the_board():
    env = make_jax_env("jax_catch", obs="image")
    state, obs = env.reset(jax.random.PRNGKey(0))
    image = np.asarray(obs["image"])[:, :, 0]
    # a 10 x 5 board of 1 x 3 pixels, three rows of margin above and below, one column to the right
    assert (image[:3] == 64).all()
    assert (image[13:] == 64).all()
    assert (image[:, 15:] == 64).all()
    board = image[3:13, 0:15:3]
    assert set(np.unique(board)) == {0, 255}
    assert board[0, int(state.ball_x)] == board[9, 2] == 255
    assert (board == 255).sum() == 2
