import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

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


def imagined(advance, policy, start, length):
    """States and actions [H+1, N, ...]."""

    def look(state, key):
        action = policy(state, key)
        return action, (state, action)

    return rollout.append(*rollout.imagine(advance, look, start, length, KEY))


def test_imagined_rows_pair_each_state_with_the_action_taken_in_it():
    policy = lambda state, key: {"a": 10 * state}
    advance = lambda state, action, key: state + action["a"]
    states, actions = imagined(advance, policy, jnp.array([1.0, 2.0]), 3)
    np.testing.assert_array_equal(states, [[1, 2], [11, 22], [121, 242], [1331, 2662]])
    np.testing.assert_array_equal(actions["a"], 10 * states)


def test_imagination_draws_actions_and_states_from_different_keys():
    policy = lambda state, key: jax.random.uniform(key, (1,))
    advance = lambda state, action, key: jax.random.uniform(key, (1,))
    states, actions = imagined(advance, policy, jnp.zeros(1), 20)
    assert len(np.unique(np.concatenate([states[1:], actions]))) == 41


def test_rows_by_step_have_the_values_and_gradients_of_all_at_once():
    random = np.random.default_rng(0)
    rows = {
        "x": jnp.asarray(random.normal(size=(5, 3, 4))),
        "target": jnp.asarray(random.normal(size=(5, 3))),
    }
    weight = jnp.asarray(random.normal(size=(4, 4)))

    def loss(weight, rows, at_once):
        error = lambda rows: (jnp.tanh(rows["x"] @ weight).sum(-1) - rows["target"]) ** 2
        return (rollout.by_step(error, rows, at_once=at_once) * jnp.arange(15.0).reshape(5, 3)).sum()

    found = [jax.value_and_grad(loss, (0, 1))(weight, rows, at_once) for at_once in (False, True)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), *found)


def test_rows_by_step_keep_products_only():
    """What the gradient needs beside them is computed again: its arrays are those of one step."""
    x = jnp.ones((50, 40, 30))

    def loss(weight, at_once):
        many = lambda x: sum(jnp.sin(scale * (x @ weight)).sum(-1) for scale in (1.0, 2.0, 3.0, 4.0))
        return rollout.by_step(many, x, at_once=at_once).sum()

    sizes = []
    for at_once in (False, True):
        kept = jax.vjp(functools.partial(loss, at_once=at_once), jnp.ones((30, 20)))[1]
        shapes = [leaf.shape for leaf in jax.tree.leaves(kept)]
        sizes.append(sum(int(np.prod(shape)) for shape in shapes if shape[:2] == (50, 40)))
    assert sizes[0] <= 50 * 40 * (30 + 4 * 20) < sizes[1] + 50 * 40 * 30


def test_open_loop_states_follow_each_action():
    advance = lambda state, action, key: 2 * state + action["a"]
    states = rollout.open_loop(advance, jnp.array([1.0]), {"a": jnp.array([[1.0, 0.0, 5.0]])}, KEY)
    np.testing.assert_array_equal(states, [[3, 6, 17]])


def settle(params, state, row):
    """A recurrent step with all that a model's has: products, a reset by a bool, an output beside the state."""
    kept, drive = jnp.where(row["first"][:, None], 0, state["x"]), row["drive"]
    x = jnp.tanh(kept @ params["recurrent"] + params["scale"][None] * (drive @ params["input"]))
    return {"x": x, "sum": state["sum"] + x.sum(-1)}, x @ params["output"]


@pytest.fixture(scope="module")
def settling():
    random = np.random.default_rng(0)
    normal = lambda *shape: random.normal(size=shape) / 2
    params = {"recurrent": normal(4, 4), "input": normal(3, 4), "scale": normal(4), "output": normal(4, 2)}
    state = {"x": normal(5, 4), "sum": normal(5)}
    rows = {"drive": normal(7, 5, 3), "first": random.uniform(size=(7, 5)) < 0.2}
    weights = {"x": normal(7, 5, 4), "sum": normal(7, 5)}, normal(7, 5, 2)
    return params, state, rows, weights


def total(scan, params, state, drive, first, weights):
    found = scan(settle, params, state, {"drive": drive, "first": first})
    return sum(jax.tree.leaves(jax.tree.map(lambda x, weight: (x**2 * weight).sum(), found, weights)))


def test_gradients_at_once_equal_those_step_by_step(settling):
    params, state, rows, weights = settling

    def gradients(scan):
        function = lambda params, state, drive: total(scan, params, state, drive, rows["first"], weights)
        return jax.jit(jax.value_and_grad(function, (0, 1, 2)))(params, state, rows["drive"])

    with jax.enable_x64(True):
        found = gradients(rollout.scan_states), gradients(rollout.scan_states_at_once)
    assert jax.tree.leaves(found[0])[0].dtype == np.float64
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12), *found)


@pytest.mark.parametrize(
    "scan, carried", [(rollout.scan_states, True), (rollout.scan_states_at_once, False)], ids=["step", "once"]
)
def test_only_gradients_step_by_step_carry_weights_through_the_backward_scan(settling, scan, carried):
    params, state, rows, weights = settling
    gradient = jax.grad(lambda params: total(scan, params, state, rows["drive"], rows["first"], weights))
    scans = [e for e in jax.make_jaxpr(gradient)(params).jaxpr.eqns if e.primitive.name == "scan"]
    assert len(scans) == 2
    # What a loop hands from step to step comes out as it is; what it stacks has 7 rows.
    sizes = [{x.aval.shape for x in scan.outvars} for scan in scans]
    assert (params["recurrent"].shape in sizes[1]) == carried
    assert params["recurrent"].shape not in sizes[0]
