import dataclasses
from typing import Any, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamworld import optim
from dreamworld.agents.dreamerv2 import config as dreamerv2
from dreamworld.agents.planet import config as planet
from dreamworld.agents.planet.agent import make_optimizer as make_adam
from dreamworld.errors import UserError
from dreamworld.limits import Range
from dreamworld.options import OptimConfig


def run(transform, params, gradients):
    """Outputs of a transformation for a sequence of gradients at fixed parameters."""
    state, outs = transform.init(params), []
    for grad in gradients:
        out, state = transform.update(grad, state, params)
        outs.append(out)
    return outs


def test_agc_scales_to_the_share_of_the_parameter_norm():
    params = {"w": jnp.array([[3.0, 0.0], [0.0, 4.0]])}  # norm 5, limit 0.3 * 5 = 1.5
    grads = {"w": jnp.array([[6.0, 0.0], [0.0, 8.0]])}  # norm 10
    (out,) = run(optim.clip_by_agc(0.3, 1e-3), params, [grads])
    np.testing.assert_allclose(out["w"], [[0.9, 0], [0, 1.2]], rtol=1e-6)


def test_agc_leaves_small_gradients_alone():
    params, grads = {"w": jnp.array([3.0, 4.0])}, {"w": jnp.array([0.9, -1.19])}
    (out,) = run(optim.clip_by_agc(0.3, 1e-3), params, [grads])
    np.testing.assert_array_equal(out["w"], grads["w"])


def test_agc_treats_each_tensor_by_itself_and_zero_biases_by_the_floor():
    params = {"kernel": jnp.full((2, 2), 100.0), "bias": jnp.zeros(4)}
    grads = {"kernel": jnp.full((2, 2), 1.0), "bias": jnp.full(4, 1.0)}
    (out,) = run(optim.clip_by_agc(0.3, 1e-3), params, [grads])
    np.testing.assert_array_equal(out["kernel"], grads["kernel"])
    np.testing.assert_allclose(jnp.linalg.norm(out["bias"]), 0.3e-3, rtol=1e-5)


def laprop_by_numpy(gradients, beta1, beta2, eps):
    nu = mu = np.zeros_like(gradients[0])
    for step, g in enumerate(gradients, 1):
        nu = beta2 * nu + (1 - beta2) * g**2
        u = g / (np.sqrt(nu / (1 - beta2**step)) + eps)
        mu = beta1 * mu + (1 - beta1) * u
        yield mu / (1 - beta1**step)


@pytest.mark.parametrize("beta2", [0.999, 0.99])
def test_laprop_equals_a_numpy_implementation(beta2):
    random = np.random.default_rng(0)
    gradients = [random.normal(size=(3, 4)) * 10.0**scale for scale in (-3, 0, 2, 1, -1, 0)]
    outs = run(
        optim.scale_by_laprop(0.9, beta2, 1e-20),
        {"w": jnp.zeros((3, 4))},
        [{"w": jnp.float32(g)} for g in gradients],
    )
    for out, expected in zip(outs, laprop_by_numpy(gradients, 0.9, beta2, 1e-20)):
        np.testing.assert_allclose(out["w"], expected, rtol=2e-4)


def test_first_laprop_step_is_the_sign_however_small_the_gradient():
    (out,) = run(optim.scale_by_laprop(0.9, 0.999, 1e-20), jnp.zeros(3), [jnp.array([1e-12, -5.0, 0.0])])
    np.testing.assert_allclose(out, [1, -1, 0], rtol=1e-3)


@pytest.mark.parametrize("size", [1e-15, 1e-18, 3e-19, 1e-21])
def test_gradients_whose_squares_underflow_take_no_larger_steps(size):
    (out,) = run(optim.scale_by_laprop(0.9, 0.999, 1e-20), jnp.zeros(1), [jnp.array([size])])
    np.testing.assert_allclose(out, [size / (size + 1e-20)], rtol=1e-2)


def test_learning_rate_warms_up_linearly_from_zero():
    config = OptimConfig(lr=4e-5, warmup=1000, agc=1e9)
    optimizer = optim.make_optimizer(config)
    outs = run(optimizer, {"w": jnp.ones(1)}, [{"w": jnp.ones(1)}] * 3)
    np.testing.assert_allclose([float(out["w"][0]) for out in outs], [0, -4e-8, -8e-8], rtol=1e-4)


def test_learning_rate_stays_constant_after_warm_up():
    optimizer = optim.make_optimizer(OptimConfig(lr=1e-2, warmup=2, agc=1e9))
    outs = run(optimizer, {"w": jnp.ones(1)}, [{"w": jnp.ones(1)}] * 5)
    np.testing.assert_allclose(
        [float(out["w"][0]) for out in outs], [0, -5e-3, -1e-2, -1e-2, -1e-2], rtol=1e-4
    )


def test_without_warm_up_the_first_update_is_at_full_rate():
    (out,) = run(
        optim.make_optimizer(OptimConfig(lr=1e-2, warmup=0, agc=1e9)),
        {"w": jnp.ones(1)},
        [{"w": jnp.ones(1)}],
    )
    np.testing.assert_allclose(out["w"], [-1e-2], rtol=1e-5)


@pytest.mark.parametrize(
    "warmup, rates",
    [(2, [0, 0.5, 1, 0.775, 0.55, 0.325, 0.1, 0.1]), (0, [1, 0.85, 0.7, 0.55, 0.4, 0.25, 0.1, 0.1])],
)
def test_an_annealed_learning_rate_falls_linearly_to_a_tenth_and_stays_there(warmup, rates):
    optimizer = optim.make_optimizer(OptimConfig(lr=1e-2, warmup=warmup, anneal=6, agc=1e9))
    outs = run(optimizer, {"w": jnp.ones(1)}, [{"w": jnp.ones(1)}] * 8)
    np.testing.assert_allclose([-1e2 * float(out["w"][0]) for out in outs], rates, rtol=1e-4)


def test_annealing_that_ends_within_the_warm_up_is_refused():
    with pytest.raises(UserError, match=r"agent\.optim\.anneal 10: must come after .*warmup 10"):
        optim.make_optimizer(OptimConfig(warmup=10, anneal=10))


def test_clipping_comes_before_the_moments():
    config = OptimConfig(lr=1.0, warmup=0)
    params = {"w": jnp.array([2.0])}
    optimizer = optim.make_optimizer(config)
    _, state = optimizer.update({"w": jnp.array([1e6])}, optimizer.init(params), params)
    moments = [leaf for leaf in jax.tree.leaves(state) if leaf.shape == (1,)]
    np.testing.assert_allclose(
        moments[0], [1e-3 * 0.6**2], rtol=1e-4
    )  # nu of the gradient clipped to 0.3 * 2


def test_there_is_no_weight_decay():
    params = {"w": jnp.full(3, 7.0)}
    (out,) = run(optim.make_optimizer(OptimConfig(warmup=0)), params, [{"w": jnp.zeros(3)}])
    np.testing.assert_array_equal(out["w"], np.zeros(3))


def test_moments_are_float32_whatever_the_parameters():
    state: Any = optim.scale_by_laprop(0.9, 0.999, 1e-20).init({"w": jnp.ones(3, jnp.bfloat16)})
    assert state.nu["w"].dtype == state.mu["w"].dtype == jnp.float32


def ends(options, *names):
    """(name, value) of both ends of the ranges of options."""
    hints = get_type_hints(options, include_extras=True)
    ranges = {name: next(x for x in hints[name].__metadata__ if isinstance(x, Range)) for name in names}
    return [(name, end) for name, found in ranges.items() for end in (found.low, found.high)]


OPTIM = [field.name for field in dataclasses.fields(OptimConfig) if isinstance(field.default, float)]
MAKE = {OptimConfig: optim.make_optimizer, planet.PlaNetConfig: make_adam}


@pytest.mark.parametrize(
    ("options", "name", "value"),
    [(OptimConfig(warmup=0), *end) for end in ends(OptimConfig, *OPTIM)]
    + [(planet.PlaNetConfig(), *end) for end in ends(planet.PlaNetConfig, "lr", "eps", "clip")],
)
def test_no_option_makes_parameters_that_are_not_finite_of_finite_gradients(options, name, value):
    """The guard looks at gradients: such parameters would be saved. It was so at agc, agc_floor and eps 0."""
    optimizer = MAKE[type(options)](dataclasses.replace(options, **{name: value}))
    params = {"zero": jnp.zeros(4), "one": jnp.ones(4)}
    grads = jnp.array([0.0, 1e-30, 1.0, 1e18])
    for zero, one in ((1.0, 1.0), (0.0, 0.0), (0.0, 1.0)):
        outs = run(optimizer, params, [{"zero": zero * grads, "one": one * grads}] * 2)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(outs))


def three(value):
    """A tree with a tensor for each of the three optimisers."""
    return {"world": {"w": value}, "behaviour": {"actor": {"w": value}, "value": {"w": value}}}


def test_world_actor_and_value_have_an_adam_each_and_decay_by_the_same_share():
    """g <- g min(1, clip / |g|); w <- (1 - decay) w - rate m / (sqrt(v) + eps) with moments without bias."""
    config = dataclasses.replace(dreamerv2.DecayingAdamConfig(), clip=2.0, eps=0.1)
    rates, decay, start = (config.world_lr, config.actor_lr, config.value_lr), 0.01, np.arange(1.0, 4)
    grads = [np.array([3.0, -4.0, 0.0]), np.array([0.1, 0.2, 0.3]), np.array([0.0, 0.0, 7.0])]
    outs = run(
        optim.make_adams(config, decay), three(jnp.asarray(start)), [three(jnp.asarray(g)) for g in grads]
    )
    for index, rate in enumerate(rates):
        m, v = np.zeros(3), np.zeros(3)
        for step, (grad, out) in enumerate(zip(grads, outs), 1):
            g = grad * min(1, 2 / np.linalg.norm(grad))  # of this network alone
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
            move = m / (1 - 0.9**step) / (np.sqrt(v / (1 - 0.999**step)) + 0.1)
            found = jax.tree.leaves({"a": out["world"], "b": out["behaviour"]})[index]
            np.testing.assert_allclose(found, -decay * start - rate * move, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize(
    ("name", "value"), ends(dreamerv2.DecayingAdamConfig, "world_lr", "eps", "clip", "decay")
)
def test_no_option_of_the_three_makes_parameters_that_are_not_finite(name, value):
    config = dataclasses.replace(dreamerv2.DecayingAdamConfig(), **{name: value})
    grads = three(jnp.array([0.0, 1e-30, 1.0, 1e18]))
    outs = run(optim.make_adams(config, config.decay), three(jnp.ones(4)), [grads] * 2)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(outs))
