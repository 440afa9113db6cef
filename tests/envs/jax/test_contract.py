"""What holds for every JAX environment and each of its observation and action variants."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamworld.envs.jax import JAX_ENVS, make_jax_env
from dreamworld.envs.jax.measure import episode_returns, random_policy

VARIANTS = [
    *((name, ()) for name in JAX_ENVS),
    ("jax_catch", (("obs", "image"),)),
    ("jax_cartpole", (("obs", "image"),)),
    ("jax_balls", (("obs", "vector"), ("action", "continuous"))),
    ("jax_balls", (("occluder", True), ("size", 64), ("n", 5))),
    ("jax_tworoom", (("obs", "vector"), ("other_room", True), ("random_door", False))),
    ("jax_darkroom_noisytv", (("size", 48), ("cells", 9))),
]
STEPS = 6
KEYS = jax.random.split(jax.random.PRNGKey(7), STEPS)


@functools.cache
def build(name, options):
    """The environment, and its first row and STEPS random ones as one jitted function each."""
    env = make_jax_env(name, **dict(options))
    policy = random_policy(env)

    def body(state, key):
        action = policy(state, key)
        new, step = env.step(state, action, key)
        shown = env.observe(new), env.ground_truth(new), env.render(new)
        return new, (new, step, action, *shown)

    return env, jax.jit(env.reset), jax.jit(lambda state, keys: jax.lax.scan(body, state, keys)[1])


@functools.cache
def roll(name, options):
    """First observation, then [STEPS, ...]: states, steps, actions, observations, ground truths, pictures."""
    _, reset, run = build(name, options)
    state, obs = reset(jax.random.PRNGKey(5))
    return jax.device_get((obs, *run(state, KEYS)))


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_rows_are_in_their_spaces(name, options):
    env = build(name, options)[0]
    first, _, steps, actions, *_ = roll(name, options)
    assert first.keys() == steps.obs.keys() == env.obs_space.keys()
    for key, space in env.obs_space.items():
        for value in (first[key][None], steps.obs[key]):
            assert value.shape[1:] == space.shape
            assert value.dtype == space.dtype
            assert value.min() >= space.low
            assert value.max() <= space.high
    assert actions.keys() == env.act_space.keys() == {"action"}
    assert steps.reward.dtype == np.float32
    assert steps.reward.shape == steps.is_last.shape == steps.is_terminal.shape == (STEPS,)
    assert steps.is_last.dtype == steps.is_terminal.dtype == bool
    assert not (steps.is_terminal & ~steps.is_last).any()


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_observe_is_the_observation_of_the_step(name, options):
    _, _, steps, _, observed, *_ = roll(name, options)
    jax.tree.map(np.testing.assert_array_equal, observed, steps.obs)


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_a_copied_state_continues_alike(name, options):
    rows, (_, _, run) = roll(name, options)[1:], build(name, options)
    saved = jax.tree.map(lambda leaf: leaf[2].copy(), rows[0])
    again = jax.device_get(run(saved, jnp.roll(KEYS, -3, axis=0)))
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[:-3], b[3:]), again, tuple(rows))


@pytest.mark.parametrize("name", ["jax_catch", "jax_tworoom", "jax_darkroom"])
def test_jit_changes_nothing(name):
    env = build(name, ())[0]
    states, steps, actions = roll(name, ())[1:4]
    state = jax.tree.map(lambda leaf: jnp.asarray(leaf[2]), states)
    new, step = env.step(state, {"action": jnp.asarray(actions["action"][3])}, KEYS[3])
    expected = jax.tree.map(lambda leaf: leaf[3], (states, steps))
    for a, b in zip(jax.tree.leaves((new, step)), jax.tree.leaves(expected)):
        # fused arithmetic may round a colour the other way
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1 if a.dtype == np.uint8 else 1e-6)


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_the_state_keeps_its_shapes_and_types(name, options):
    env = make_jax_env(name, **dict(options))
    key = jax.random.PRNGKey(0)
    state, _ = jax.eval_shape(env.reset, key)
    action = {k: jnp.zeros(space.shape, space.dtype) for k, space in env.act_space.items()}
    after, _ = jax.eval_shape(env.step, state, action, key)
    assert state == after
    assert not any(leaf.weak_type for leaf in jax.tree.leaves((state, after)))


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_ground_truth_and_picture_are_arrays(name, options):
    *_, truth, pictures = roll(name, options)
    assert truth
    assert all(isinstance(value, np.ndarray) and value.shape[0] == STEPS for value in truth.values())
    assert pictures.dtype == np.uint8
    assert pictures.shape[1] >= 64
    assert pictures.shape[3] == 3
    assert len(np.unique(pictures[0].reshape(-1, 3), axis=0)) >= 2


@pytest.mark.parametrize("name", JAX_ENVS)
def test_returns_are_those_stated(name):
    env = make_jax_env(name)
    policies, limit = [random_policy(env), env.heuristic], getattr(env, "time_limit", 9)
    results = episode_returns(env, policies, jax.random.PRNGKey(1), 512, limit)
    for stated, returns, lengths in zip((env.random_return, env.heuristic_return), *results):
        error = returns.std() / np.sqrt(len(returns))
        assert abs(returns.mean() - stated) < 4.5 * error + 0.005 * abs(stated) + 1e-6
        assert lengths.max() <= limit


@pytest.mark.parametrize("name", ["jax_cartpole", "jax_dodge", "jax_balls", "jax_tworoom", "jax_darkroom"])
def test_the_time_limit_truncates_and_does_not_terminate(name):
    env = make_jax_env(name, time_limit=3)
    step = jax.vmap(env.step, (0, 0, None))

    def body(state, _):
        state, row = step(state, jax.vmap(env.heuristic, (0, None))(state, KEYS[0]), KEYS[0])
        return state, (row.is_last, row.is_terminal, row.reward)

    @jax.jit
    def run(keys):
        return jax.lax.scan(body, jax.vmap(env.reset)(keys)[0], length=3)[1]

    is_last, is_terminal, reward = jax.device_get(run(jax.random.split(jax.random.PRNGKey(0), 32)))
    going = ~is_last[:2].any(0)
    assert going.any()
    assert is_last[2, going].all()
    assert not is_terminal[2, going & (reward[2] == 0)].any()
    if name in ("jax_cartpole", "jax_dodge", "jax_balls"):
        assert not is_terminal.any()
