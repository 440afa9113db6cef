import functools

import jax
import jax.numpy as jnp
import numpy as np

from dreamworld.envs.jax.tworoom import BAND, RADIUS, TwoRoom, TwoRoomState

KEY = jax.random.PRNGKey(0)


def place(agent, goal=(0.9, 0.9), door=0.5):
    return TwoRoomState(jnp.array(agent), jnp.array(goal), jnp.float32(door), jnp.int32(0))


@functools.cache
def jitted(env):
    return jax.jit(env.step)


def move(env, state, x, y):
    return jitted(env)(state, {"action": jnp.array([x, y], jnp.float32)}, KEY)


def test_a_free_move_is_the_action_times_the_stride():
    env = TwoRoom()
    state, step = move(env, place((0.2, 0.2)), 0.5, -1.0)
    np.testing.assert_allclose(state.agent, [0.2 + 0.03, 0.2 - 0.06], atol=1e-6)
    assert (float(step.reward), bool(step.is_last)) == (0.0, False)
    far, _ = move(env, place((0.2, 0.2)), 9.0, 0.0)
    np.testing.assert_allclose(far.agent[0], 0.26, atol=1e-6)


def test_the_wall_stops_at_any_stride_and_the_door_lets_through():
    env = TwoRoom(stride=0.5)
    for start, push, stop in [(0.3, 1.0, 0.5 - BAND), (0.7, -1.0, 0.5 + BAND)]:
        blocked, _ = move(env, place((start, 0.2)), push, 0.3)
        np.testing.assert_allclose(blocked.agent, [stop, 0.35], atol=1e-6)
        through, _ = move(env, place((start, 0.5)), push, 0.0)
        np.testing.assert_allclose(through.agent[0], start + 0.5 * push, atol=1e-6)


def test_the_doorway_holds_the_agent_between_its_posts():
    env = TwoRoom()
    state = place((0.5, 0.5))
    for _ in range(5):
        state, _ = move(env, state, 0.0, 1.0)
    np.testing.assert_allclose(state.agent, [0.5, 0.5 + env.door_width / 2 - RADIUS], atol=1e-6)
    out, _ = move(env, state, -1.0, 1.0)
    assert out.agent[0] < 0.5


def test_no_random_walk_enters_a_wall():
    env = TwoRoom(stride=0.2, reach=0.01)

    def body(state, key):
        state, _ = env.step(state, {"action": jax.random.uniform(key, (2,), minval=-2, maxval=2)}, key)
        return state, state

    def walk(key):
        return jax.lax.scan(body, env.reset(key)[0], jax.random.split(key, 300))[1]

    states = jax.device_get(jax.jit(jax.vmap(walk))(jax.random.split(KEY, 64)))
    x, y = states.agent[..., 0], states.agent[..., 1]
    assert states.agent.min() >= RADIUS
    assert states.agent.max() <= np.float32(1 - RADIUS)
    inside = (np.abs(x - 0.5) < BAND - 1e-5) & (np.abs(y - states.door) > env.door_width / 2 - RADIUS + 1e-5)
    assert not inside.any()
    crossed = (x.min(1) < 0.4) & (x.max(1) > 0.6)
    assert crossed.mean() > 0.2


def test_reaching_the_goal_pays_and_ends():
    env = TwoRoom()
    _, step = move(env, place((0.2, 0.2), goal=(0.33, 0.2)), 1.0, 0.0)
    assert (float(step.reward), bool(step.is_last), bool(step.is_terminal)) == (1.0, True, True)
    _, step = move(env, place((0.2, 0.2), goal=(0.35, 0.2)), 1.0, 0.0)
    assert (float(step.reward), bool(step.is_last)) == (0.0, False)


def test_starts_are_free_and_the_other_room_is_the_other():
    for other_room in (False, True):
        env = TwoRoom(other_room=other_room)
        state = jax.device_get(
            jax.jit(jax.vmap(lambda key, env=env: env.reset(key)[0]))(jax.random.split(KEY, 500))
        )
        for point in (state.agent, state.goal):
            assert np.abs(point[:, 0] - 0.5).min() >= BAND - 1e-6
            assert point.min() >= RADIUS - 1e-6
            assert point.max() <= 1 - RADIUS + 1e-6
        crossing = np.asarray((state.agent[:, 0] > 0.5) != (state.goal[:, 0] > 0.5))
        assert crossing.all() if other_room else 0.4 < crossing.mean() < 0.6


def test_the_picture_shows_wall_door_agent_and_goal():
    env = TwoRoom(size=64)
    picture = np.asarray(jax.jit(env.observe)(place((0.2, 0.3), (0.8, 0.7)))["image"])
    assert (picture[5, 32] == 128).all()
    assert (picture[32, 32] == 0).all()
    assert tuple(picture[19, 12]) == (255, 64, 51)
    assert tuple(picture[44, 51]) == (51, 230, 76)
