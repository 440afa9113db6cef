"""Balls are read from pictures, dreamt ones too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamworld.envs.jax.balls import Balls, BallsState


def picture(env, places):
    state = BallsState(jnp.array(places), jnp.zeros((env.n, 2)), jnp.int32(0))
    return env.observe(state)["image"].astype(jnp.float32) / 255


@pytest.mark.parametrize("size", [32, 64])
def test_balls_are_found_where_they_are(size):
    env = Balls(size=size)
    places = [[0.2, 0.3], [0.71, 0.62], [0.4, 0.83]]
    found = env.locate({"image": picture(env, places)})
    np.testing.assert_allclose(found["place"], places, atol=0.3 / size)
    np.testing.assert_allclose(found["share"], 1, atol=0.15)


def test_a_blurred_ball_is_found_and_one_that_is_not_there_is_not():
    env = Balls(n=2)
    blurred = 0.8 * picture(env, [[0.5, 0.25], [3.0, 3.0]])
    found = jax.jit(env.locate)({"image": blurred})
    np.testing.assert_allclose(found["place"][0], [0.5, 0.25], atol=0.01)
    assert found["share"][0] > 0.5 and found["share"][1] == 0


def test_a_ball_behind_the_bar_is_hidden():
    env = Balls(n=1, occluder=True)
    shares = [float(env.locate({"image": picture(env, [[x, 0.5]])})["share"][0]) for x in (0.2, 0.35, 0.52)]
    assert shares[0] > 0.9 and 0.3 < shares[1] < 0.7 and shares[2] == 0


def test_balls_of_one_colour_are_not_told_apart():
    assert Balls(n=6).can_locate and not Balls(n=7).can_locate and not Balls(obs="vector").can_locate
