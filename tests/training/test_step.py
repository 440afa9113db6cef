"""One update as a pure function, with a loss that is simple enough to recompute."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dreamworld.training.step import LossOut, batch_mean, make_update, tensor_name
from dreamworld.types import Batch, TrainState

OPTIMIZER = optax.sgd(0.1)


def loss(params, slow, stats, carry, batch, key):
    """|w - mean reward|^2 + b, with a metric that shows the key."""
    error = jnp.square(params["net"]["w"] - batch.reward.mean())
    losses = {"error": jnp.broadcast_to(error, (2, 3)), "bias": params["b"] + 0 * error}
    entries = {"latent/x": batch.reward[:, 1:, None] * 10}
    metrics = {"noise": jax.random.uniform(key), "slow": slow["w"]}
    return error + params["b"], LossOut(losses, stats + 1, carry + 5, entries, batch.reward[:, 1:], metrics)


def update_slow(slow, params):
    return {"w": 0.5 * slow["w"] + 0.5 * params["net"]["w"]}


UPDATE = jax.jit(make_update(loss, OPTIMIZER, update_slow))


def make_state() -> Any:
    params = {"net": {"w": jnp.float32(3)}, "b": jnp.float32(0)}
    opt_state = OPTIMIZER.init(params)
    return TrainState(
        params, opt_state, {"w": jnp.float32(3)}, jnp.float32(0), jnp.int32(0), jax.random.PRNGKey(0)
    )


def make_batch(reward) -> Any:
    reward = jnp.full((2, 4), reward, jnp.float32)
    flags = [jnp.zeros((2, 4), bool)] * 3
    return Batch({}, {}, reward, *flags, extras={"latent/x": jnp.full((2, 4, 1), 7.0)})


def test_a_mean_over_a_batch_counts_windows_by_their_weights():
    losses = jnp.array([[1.0, 3.0], [10.0, 20.0]])
    batch = Batch({}, {}, *[None] * 4, extras={"weight": jnp.array([1.0, 0.5])})
    assert float(batch_mean(losses, batch)) == (1 + 3 + 5 + 10) / 4
    assert float(batch_mean(losses[:, 0], batch)) == (1 + 5) / 2
    assert float(batch_mean(losses, batch._replace(extras={}))) == 34 / 4


def test_weights_of_one_change_no_bit_of_a_mean_and_of_its_gradient():
    losses = jnp.asarray(np.random.default_rng(0).normal(size=(16, 64)), jnp.float32)
    batch = Batch({}, {}, *[None] * 4, extras={})
    ones = batch._replace(extras={"weight": jnp.ones(16)})
    for function in (batch_mean, jax.grad(batch_mean)):
        np.testing.assert_array_equal(function(losses, batch), function(losses, ones))


def test_an_update_descends_and_then_moves_the_slow_target():
    state, carry, output = UPDATE(make_state(), jnp.float32(0), make_batch(1.0))
    # d/dw (w - 1)^2 = 4 at w = 3; d/db = 1
    np.testing.assert_allclose(state.params["net"]["w"], 3 - 0.1 * 4, rtol=1e-6)
    np.testing.assert_allclose(state.params["b"], -0.1, rtol=1e-6)
    np.testing.assert_allclose(state.slow["w"], 0.5 * 3 + 0.5 * 2.6, rtol=1e-6)
    assert (float(state.stats), int(state.step), float(carry)) == (1, 1, 5)
    np.testing.assert_allclose(output.metrics["loss/error"], 4)
    np.testing.assert_allclose(output.metrics["loss/total"], 4)
    np.testing.assert_allclose(output.metrics["grad_norm"], np.sqrt(17), rtol=1e-6)
    np.testing.assert_allclose(output.metrics["slow"], 3)  # the loss sees the slow target of before
    np.testing.assert_array_equal(output.writeback["latent/x"], np.full((2, 3, 1), 10.0))
    np.testing.assert_array_equal(output.priorities, np.ones((2, 3)))
    assert all(output.health.values())


def test_health_names_losses_and_tensors():
    _, _, output = UPDATE(make_state(), jnp.float32(0), make_batch(1.0))
    assert set(output.health) == {"loss/total", "loss/error", "loss/bias", "grad/net/w", "grad/b"}


@pytest.mark.parametrize("reward", [np.nan, np.inf])
def test_an_update_that_is_not_finite_is_not_applied(reward):
    state, carry, output = UPDATE(make_state(), jnp.float32(0), make_batch(reward))
    for kept, before in zip(jax.tree.leaves(state), jax.tree.leaves(make_state())):
        np.testing.assert_array_equal(kept, before)
    assert float(carry) == 0
    bad = {name for name, finite in output.health.items() if not finite}
    assert bad == {"loss/total", "loss/error", "loss/bias", "grad/net/w"}
    np.testing.assert_array_equal(output.writeback["latent/x"], np.full((2, 3, 1), 7.0))  # what replay holds


def test_noise_depends_on_the_key_and_on_the_number_of_updates_only():
    state = make_state()
    noise = lambda state: float(UPDATE(state, jnp.float32(0), make_batch(1.0))[2].metrics["noise"])
    assert noise(state) == noise(state._replace(params=jax.tree.map(jnp.zeros_like, state.params)))
    assert noise(state) != noise(state._replace(step=jnp.int32(1)))
    assert noise(state) != noise(state._replace(key=jax.random.PRNGKey(1)))


def test_the_key_stays_so_that_an_update_can_be_replayed():
    state, _, _ = UPDATE(make_state(), jnp.float32(0), make_batch(1.0))
    np.testing.assert_array_equal(state.key, make_state().key)


def test_tensors_are_named_by_their_path():
    tree = {"a": {"b": [jnp.zeros(1), jnp.zeros(1)]}, "c": make_state()}
    names = {tensor_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)}
    assert {"a/b/0", "a/b/1", "c/params/net/w", "c/step"} <= names


def test_it_is_traced_once_for_its_shapes_and_for_its_program():
    """Tracing an agent's update takes over a second."""
    calls = []

    def counted(*args):
        calls.append(args)
        return loss(*args)

    update, args = (
        make_update(counted, OPTIMIZER, update_slow),
        (make_state(), jnp.float32(0), make_batch(1.0)),
    )
    jax.eval_shape(update, *args)
    jax.jit(lambda *args: update(*args)).lower(*args)
    assert len(calls) == 1
