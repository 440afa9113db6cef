import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamworld.envs.jax import balls, make_jax_env
from dreamworld.envs.jax.balls import BallsState

advance = jax.jit(balls.advance)
KEY = jax.random.PRNGKey(0)
NOOP = {"action": jnp.int32(0)}


@functools.cache
def trajectory(env, seed, steps):
    """Positions and velocities [steps + 1, n, 2] under the no-op."""

    @jax.jit
    def run(key):
        state, _ = env.reset(key)

        def body(state, _):
            state, _ = env.step(state, NOOP, key)
            return state, state

        return state, jax.lax.scan(body, state, length=steps)[1]

    first, rest = jax.device_get(run(jax.random.PRNGKey(seed)))
    return jax.tree.map(lambda a, b: np.concatenate([a[None], b]), first, rest)


def start(seed):
    """Four balls."""
    return jax.tree.map(lambda leaf: leaf[0], trajectory(make_jax_env("jax_balls", n=4), seed, 1))


def fold(x, low, high):
    """Where a point that moved straight to x is after reflections between low and high."""
    span = high - low
    phase = (x - low) % (2 * span)
    return low + np.where(phase > span, 2 * span - phase, phase)


def test_a_single_ball_is_reflected_as_by_mirrors():
    env = make_jax_env("jax_balls", n=1, speed=0.4)
    states = trajectory(env, 0, 100)
    start, velocity = states.position[0].astype(float), states.velocity[0].astype(float)
    expected = fold(start + velocity * np.arange(101)[:, None, None], 0.1, 0.9)
    np.testing.assert_allclose(states.position, expected, atol=1e-4)
    np.testing.assert_allclose(np.abs(states.velocity), np.abs(velocity)[None].repeat(101, 0), rtol=1e-6)


def test_a_ball_faster_than_the_box_is_wide_does_not_tunnel():
    position, velocity = advance(jnp.array([[0.3, 0.5]]), jnp.array([[7.0, 0.0]]), 0.1)
    np.testing.assert_allclose(position[0], np.array([fold(7.3, 0.1, 0.9), 0.5]), atol=1e-5)
    assert abs(velocity[0, 0]) == 7


def test_energy_is_kept_and_balls_stay_apart_and_inside():
    env = make_jax_env("jax_balls", n=6)
    states = trajectory(env, 1, 2000)
    energy = (states.velocity.astype(float) ** 2).sum((1, 2))
    np.testing.assert_allclose(energy, energy[0], rtol=2e-4)
    assert states.position.min() >= 0.1
    assert states.position.max() <= np.float32(0.9)
    gaps = np.linalg.norm(states.position[:, None] - states.position[:, :, None], axis=-1)
    assert gaps[:, ~np.eye(6, dtype=bool)].min() > 0.2 - 1e-5
    # balls did collide: the speed of each changed many times
    speed = np.linalg.norm(states.velocity, axis=-1)
    assert (np.abs(np.diff(speed, axis=0)) > 1e-4).sum() > 500


def test_a_collision_keeps_momentum_and_the_tangential_velocities():
    position = jnp.array([[0.35, 0.5], [0.65, 0.55]])
    velocity = jnp.array([[0.2, 0.03], [-0.1, -0.01]])
    after, outgoing = advance(position, velocity, 0.1, 0.6)
    np.testing.assert_allclose(outgoing.sum(0), velocity.sum(0), atol=1e-6)
    np.testing.assert_allclose((outgoing**2).sum(), (velocity**2).sum(), rtol=1e-5)
    # contact: |dp + t dv| = 0.2 with dp = (0.3, 0.05), dv = (-0.3, -0.04)
    a, b, c = 0.3**2 + 0.04**2, -(0.3 * 0.3 + 0.05 * 0.04), 0.3**2 + 0.05**2 - 0.2**2
    contact = (-b - np.sqrt(b * b - a * c)) / a
    normal = (np.array([0.3, 0.05]) + contact * np.array([-0.3, -0.04])) / 0.2
    exchange = (np.array([-0.3, -0.04]) @ normal) * normal
    np.testing.assert_allclose(outgoing[0], velocity[0] + exchange, atol=1e-5)
    expected = position[0] + contact * velocity[0] + (0.6 - contact) * outgoing[0]
    np.testing.assert_allclose(after[0], expected, atol=1e-5)


def test_a_head_on_collision_exchanges_velocities():
    _, velocity = advance(jnp.array([[0.3, 0.5], [0.6, 0.5]]), jnp.array([[0.3, 0.0], [0.0, 0.0]]), 0.1)
    np.testing.assert_allclose(velocity, [[0.0, 0.0], [0.3, 0.0]], atol=1e-7)


def test_balls_that_part_or_miss_do_not_collide():
    for other in ([0.1, 0.0], [0.0, 0.3]):
        _, velocity = advance(jnp.array([[0.3, 0.3], [0.55, 0.3]]), jnp.array([[0.05, 0.0], other]), 0.1)
        np.testing.assert_array_equal(velocity, jnp.array([[0.05, 0.0], other]))


def test_one_long_step_is_many_short_ones():
    state = start(2)
    long = advance(state.position, state.velocity, 0.1, 16.0)
    short = state.position, state.velocity
    for _ in range(64):
        short = advance(*short, 0.1, 0.25)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-3), long, short)


def test_time_can_be_reversed():
    state = start(3)
    position, velocity = advance(state.position, state.velocity, 0.1, 16.0)
    assert (np.sign(velocity) != np.sign(state.velocity)).any()
    position, velocity = advance(position, -velocity, 0.1, 16.0)
    np.testing.assert_allclose(position, state.position, atol=1e-3)
    np.testing.assert_allclose(-velocity, state.velocity, atol=1e-3)


def test_the_force_moves_ball_0_only():
    env, continuous = make_jax_env("jax_balls"), make_jax_env("jax_balls", action="continuous")
    position = jnp.array([[0.5, 0.5], [0.2, 0.2], [0.8, 0.8]])
    state = BallsState(position, jnp.zeros((3, 2)), jnp.int32(0))
    step, other = (
        jax.jit(lambda action, e=e: e.step(state, {"action": action}, KEY)[0]) for e in (env, continuous)
    )
    for action, push in enumerate([(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)]):
        after = step(jnp.int32(action))
        np.testing.assert_allclose(after.velocity, 0.01 * np.array([push, (0, 0), (0, 0)]), atol=1e-9)
        np.testing.assert_allclose(after.position - position, after.velocity, atol=1e-6)
        same = other(jnp.array(push, jnp.float32))
        np.testing.assert_array_equal(same.velocity, after.velocity)


def test_reward_is_one_while_ball_0_is_in_the_middle():
    env = make_jax_env("jax_balls", n=1)
    step = jax.jit(lambda state: env.step(state, NOOP, KEY)[1].reward)
    for x, reward in [(0.36, 1.0), (0.64, 1.0), (0.34, 0.0), (0.66, 0.0)]:
        assert step(BallsState(jnp.array([[x, 0.5]]), jnp.zeros((1, 2)), jnp.int32(0))) == reward


@pytest.mark.parametrize("size", [16, 32, 64])
def test_a_disc_covers_its_area_wherever_it_is(size):
    observe = jax.jit(make_jax_env("jax_balls", n=1, size=size).observe)
    for x in (0.5, 0.51, 0.523):
        picture = observe(BallsState(jnp.array([[x, 0.47]]), jnp.zeros((1, 2)), jnp.int32(0)))["image"]
        weight = np.asarray(picture)[:, :, 0] / 255
        assert abs(weight.sum() / size**2 / (np.pi * 0.1**2) - 1) < 0.06
        # the centre of mass is the ball's position to a fiftieth of a pixel
        assert abs((weight.sum(0) * (np.arange(size) + 0.5)).sum() / weight.sum() - x * size) < 0.03
        assert ((weight > 0.05) & (weight < 0.95)).any()


def test_the_occluder_hides_the_balls_and_touches_nothing():
    plain, hidden = make_jax_env("jax_balls"), make_jax_env("jax_balls", occluder=True)
    states = trajectory(plain, 0, 50)
    jax.tree.map(np.testing.assert_array_equal, states, trajectory(hidden, 0, 50))
    open_view, view = (np.asarray(jax.jit(jax.vmap(env.observe))(states)["image"]) for env in (plain, hidden))
    bar = slice(12, 22)  # whole pixels of 0.35 to 0.7 of 32
    assert len(np.unique(view[:, :, bar])) == 1
    assert open_view[:, :, bar].any()
    np.testing.assert_array_equal(view[:, :, :11], open_view[:, :, :11])
    np.testing.assert_array_equal(view[:, :, 23:], open_view[:, :, 23:])


@pytest.mark.parametrize("n", [1, 5, 16])
def test_balls_start_apart_and_moving(n):
    env = balls.Balls(n=n, radius=float(0.45 / np.ceil(np.sqrt(n))))
    state = jax.jit(jax.vmap(lambda key: env.reset(key)[0]))(jax.random.split(jax.random.PRNGKey(n), 64))
    gaps = np.linalg.norm(state.position[:, None] - state.position[:, :, None], axis=-1)
    assert (gaps + 9 * np.eye(n) > 2 * env.radius - 1e-6).all()
    speed = np.linalg.norm(state.velocity, axis=-1)
    assert speed.min() >= 0.02 - 1e-6
    assert speed.max() <= 0.04 + 1e-6
