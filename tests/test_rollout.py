import jax
import jax.numpy as jnp
import numpy as np

from dreamworld import rollout

KEY = jax.random.PRNGKey(0)


def test_scan_rows_runs_over_time_of_batch_first_rows():
    rows = {"a": jnp.arange(6.0).reshape(2, 3), "b": jnp.ones((2, 3, 4))}

    def step(state, row, noise):
        state = state + row["a"]
        return state, (state, row["b"][:, 0])

    last, (sums, ones) = rollout.scan_rows(step, jnp.array([10.0, 20.0]), rows, jnp.zeros(3))
    np.testing.assert_array_equal(sums, [[10, 11, 13], [23, 27, 32]])
    np.testing.assert_array_equal(last, [13, 32])
    assert ones.shape == (2, 3)


def test_every_row_gets_noise_of_its_own():
    step = lambda state, row, noise: (state, row + noise)
    _, sums = rollout.scan_rows(step, 0.0, jnp.zeros((2, 50)), jnp.arange(50.0))
    np.testing.assert_array_equal(sums, np.tile(np.arange(50.0), (2, 1)))


def test_every_open_loop_step_gets_a_key_of_its_own():
    advance = lambda state, action, key: jax.random.uniform(key, (1,))
    draws = rollout.open_loop(advance, jnp.zeros(1), {"a": jnp.zeros((1, 50))}, KEY)
    assert len(np.unique(draws)) == 50


def test_imagined_rows_pair_each_state_with_the_action_taken_in_it():
    policy = lambda state, key: {"a": 10 * state}
    advance = lambda state, action, key: state + action["a"]
    states, actions = rollout.imagine(advance, policy, jnp.array([1.0, 2.0]), 3, KEY)
    np.testing.assert_array_equal(states, [[1, 2], [11, 22], [121, 242], [1331, 2662]])
    np.testing.assert_array_equal(actions["a"], 10 * states)


def test_imagination_draws_actions_and_states_from_different_keys():
    policy = lambda state, key: jax.random.uniform(key, (1,))
    advance = lambda state, action, key: jax.random.uniform(key, (1,))
    states, actions = rollout.imagine(advance, policy, jnp.zeros(1), 20, KEY)
    assert len(np.unique(np.concatenate([states[1:], actions]))) == 41


def test_open_loop_states_follow_each_action():
    advance = lambda state, action, key: 2 * state + action["a"]
    states = rollout.open_loop(advance, jnp.array([1.0]), {"a": jnp.array([[1.0, 0.0, 5.0]])}, KEY)
    np.testing.assert_array_equal(states, [[3, 6, 17]])
