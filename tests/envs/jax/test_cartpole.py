import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleEnv

from dreamworld.envs.jax import make_jax_env
from dreamworld.envs.jax.cartpole import CartPoleState


def test_it_steps_as_gymnasiums_cartpole():
    env, random = make_jax_env("jax_cartpole"), np.random.default_rng(0)
    other, step = gymnasium.make("CartPole-v1"), jax.jit(env.step)
    fallen = 0
    for seed in range(20):
        theirs, _ = other.reset(seed=seed)
        state, _ = env.reset(jax.random.PRNGKey(seed))
        state = state._replace(physics=jnp.asarray(theirs))
        for _ in range(500):
            action = int(random.integers(2))
            theirs, reward, terminated, truncated, _ = other.step(action)
            state, ours = step(state, {"action": np.int32(action)}, jax.random.PRNGKey(0))
            np.testing.assert_allclose(ours.obs["vector"], theirs, atol=1e-5)
            assert ours.reward == reward
            assert bool(ours.is_terminal) == terminated
            assert bool(ours.is_last) == (terminated or truncated)
            if terminated or truncated:
                fallen += terminated
                break
    assert fallen == 20


def test_a_balanced_episode_is_truncated_when_gymnasium_truncates_it():
    env, other = make_jax_env("jax_cartpole"), gymnasium.make("CartPole-v1")
    step, choose = jax.jit(env.step), jax.jit(env.heuristic)
    theirs, _ = other.reset(seed=0)
    state, key = env.reset(jax.random.PRNGKey(0))[0], jax.random.PRNGKey(0)
    for t in range(1, 501):
        state = state._replace(physics=jnp.asarray(theirs))  # float32 drifts from float64 over 500 steps
        action = choose(state, key)
        theirs, _, terminated, truncated, _ = other.step(int(action["action"]))
        state, ours = step(state, action, key)
        np.testing.assert_allclose(ours.obs["vector"], theirs, atol=1e-5)
        assert (bool(ours.is_last), bool(ours.is_terminal)) == (truncated, terminated) == (t == 500, False)


def test_the_limits_are_gymnasiums():
    env, other = make_jax_env("jax_cartpole"), CartPoleEnv()
    step = jax.jit(env.step)
    for physics in np.eye(4)[[0, 0, 2, 2]] * [[2.39], [2.41], [0.2094], [0.2096]]:
        for sign in (-1, 1):
            other.reset(seed=0)
            other.state = sign * physics
            terminated = other.step(1)[2]
            state = CartPoleState(jnp.asarray(sign * physics, jnp.float32), jnp.int32(0))
            row = step(state, {"action": jnp.int32(1)}, jax.random.PRNGKey(0))[1]
            assert (
                bool(row.is_terminal) == bool(row.is_last) == terminated == (physics.max() in (2.41, 0.2096))
            )


def test_the_picture_leans_as_the_pole_does():
    observe = jax.jit(make_jax_env("jax_cartpole", obs="image", size=64).observe)
    columns = []
    for angle in (-0.2, 0.0, 0.2):
        picture = observe(CartPoleState(jnp.array([0.0, 0.0, angle, 0.0]), jnp.int32(0)))["image"]
        top = np.asarray(picture)[16:32].astype(float).sum((0, 2))
        columns.append((top * np.arange(64)).sum() / top.sum())
    assert columns[0] < 28
    assert abs(columns[1] - 31.5) < 0.1
    assert columns[2] > 35
