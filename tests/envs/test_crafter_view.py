"""The table-drawn map of Crafter against Crafter's own."""

import crafter
import numpy as np
import pytest

from dreamworld.envs.adapters.crafter import _order_chunks
from dreamworld.envs.adapters.crafter_view import speed_up


def pair(size):
    """Two games of one seed: Crafter's own drawing and ours."""
    plain, fast = crafter.Env(seed=3, size=size), crafter.Env(seed=3, size=size)
    speed_up(fast)
    for env in (plain, fast):
        env.reset()
        _order_chunks(env)
    return plain, fast


@pytest.mark.parametrize("size", [(64, 64), (96, 80)])
def test_frames_and_random_numbers_are_those_of_crafter(size):
    plain, fast = pair(size)
    random = np.random.default_rng(0)
    for _ in range(150):
        action = int(random.integers(17))
        one, two = plain.step(action), fast.step(action)
        np.testing.assert_array_equal(one[0], two[0])
        assert one[1:3] == two[1:3]
        if one[2]:
            break
    assert plain._world.random.randint(1 << 30) == fast._world.random.randint(1 << 30)


def test_edges_of_the_world_night_and_sleep_look_the_same():
    plain, fast = pair((64, 64))
    places = [(0, 0), (63, 63), (0, 30), (30, 63), (2, 1)]
    for number, place in enumerate(places):
        frames = []
        for env in (plain, fast):
            player = env._player
            assert player is not None
            player.pos = np.array(place)
            player.sleeping = number % 2 == 1
            env._world.daylight = number / len(places)
            frames.append(env.render())
        np.testing.assert_array_equal(*frames)
        assert frames[0].any()


def test_other_sizes_can_be_rendered_in_between():
    plain, fast = pair((64, 64))
    np.testing.assert_array_equal(plain.render((90, 90)), fast.render((90, 90)))
    np.testing.assert_array_equal(plain.render(), fast.render())
