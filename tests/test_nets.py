import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamworld import convnets, nets, ops
from dreamworld.types import Space

KEY = jax.random.PRNGKey(0)
F32 = jnp.float32


def random_params(module, *inputs, seed=0):
    """Parameters of a leaf, biases and scales random too, and their shapes from a trace only."""
    shapes = jax.eval_shape(module.init, KEY, *inputs)["params"]
    random = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: random.normal(0, 0.5, leaf.shape).astype(np.float32), shapes)


def apply(module, params, *inputs):
    return np.asarray(jax.jit(module.apply)({"params": params}, *inputs))


def normals(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def silu(x):
    return x / (1 + np.exp(-x))


def rms(x, scale):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-4) * scale


def dense_norm(params, x):
    return silu(rms(x @ params["linear"]["kernel"] + params["linear"]["bias"], params["norm"]["scale"]))


def convolve(params, x):
    """5x5 cross-correlation with two rows of zeros around the image, one shift at a time."""
    kernel, bias = params["kernel"], params["bias"]
    padded = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
    height, width = x.shape[1:3]
    shifts = [(i, j) for i in range(5) for j in range(5)]
    return bias + sum(padded[:, i : i + height, j : j + width] @ kernel[i, j] for i, j in shifts)


# The standard deviation of a standard normal that is truncated at +-2.
TRUNCATED = 0.87962566


@pytest.mark.parametrize(
    ("module", "x", "fan_in"),
    [
        (nets.Linear(256, F32), np.zeros((1, 512), np.float32), 512),
        (
            nets.BlockLinear(512, 8, F32),
            np.zeros((1, 8, 64), np.float32),
            512,
        ),  # the whole input, not a block
        (convnets.Conv(64, 5, F32), np.zeros((1, 8, 8, 32), np.float32), 25 * 32),
    ],
    ids=["linear", "block", "conv"],
)
def test_weights_start_truncated_at_two_sigma_with_unit_variance_by_fan_in(module, x, fan_in):
    params = jax.jit(module.init)(KEY, x)["params"]
    kernel = np.asarray(params["kernel"]) * np.sqrt(fan_in)
    assert abs(kernel.mean()) < 0.02
    np.testing.assert_allclose(kernel.std(), 1, rtol=0.02)
    np.testing.assert_allclose(np.abs(kernel).max(), 2 / TRUNCATED, rtol=2e-3)
    assert not np.asarray(params["bias"]).any()


@pytest.mark.parametrize("scale", [0.0, 0.01])
def test_output_scales_multiply_the_initial_weights(scale):
    kernel = jax.jit(nets.Linear(64, F32, scale).init)(KEY, np.zeros((1, 256)))["params"]["kernel"]
    np.testing.assert_allclose(np.std(kernel) * np.sqrt(256), scale, rtol=0.03)


def test_linear_multiplies_and_adds():
    module, x = nets.Linear(3, F32), normals(0, 2, 4, 5)
    params = random_params(module, x)
    np.testing.assert_allclose(
        apply(module, params, x), x @ params["kernel"] + params["bias"], rtol=1e-4, atol=1e-5
    )


def test_block_linear_keeps_blocks_apart():
    module, x = nets.BlockLinear(6, 2, F32), normals(1, 4, 2, 5)
    params = random_params(module, x)
    blocks = [x[:, g] @ params["kernel"][g] + params["bias"][3 * g : 3 * g + 3] for g in range(2)]
    np.testing.assert_allclose(apply(module, params, x), np.stack(blocks, 1), rtol=1e-4, atol=1e-5)


def test_block_linear_gives_shared_inputs_to_every_block():
    module, x, shared = nets.BlockLinear(6, 2, F32), normals(1, 4, 2, 5), normals(2, 4, 3)
    together = np.concatenate([x, np.repeat(shared[:, None], 2, 1)], -1)
    params = random_params(module, together)
    assert jax.eval_shape(module.init, KEY, x, shared)["params"]["kernel"].shape == (2, 8, 3)
    np.testing.assert_allclose(
        apply(module, params, x, shared), apply(module, params, together), rtol=1e-4, atol=1e-5
    )


def test_products_of_known_inputs_can_be_taken_beforehand():
    module, x, tokens = nets.MLP(2, 4, F32), normals(1, 3, 5), normals(2, 3, 7)
    together = np.concatenate([x, tokens], -1)
    params = random_params(module, together)
    known = nets.known_product(params["layer0"]["linear"], jnp.asarray(tokens))
    np.testing.assert_allclose(
        apply(module, params, x, known), apply(module, params, together), rtol=1e-4, atol=1e-5
    )


def test_convolution_pads_to_the_same_size():
    module, x = convnets.Conv(3, 5, F32), normals(2, 2, 6, 4, 2)
    params = random_params(module, x)
    np.testing.assert_allclose(apply(module, params, x), convolve(params, x), rtol=1e-4, atol=1e-4)


def test_rms_norm_epsilon_is_one_in_ten_thousand():
    x = jnp.array([[0.01, -0.01], [0.0, 0.0]])  # mean square 1e-4: divided by sqrt(2e-4)
    np.testing.assert_allclose(
        nets.rms_norm(x, jnp.array([1.0, 3.0])), [[0.5**0.5, -3 * 0.5**0.5], [0, 0]], rtol=1e-5
    )


def test_rms_norm_computes_in_float32():
    x = (100 + normals(3, 4, 1000)).astype(jnp.bfloat16)
    found = nets.rms_norm(jnp.asarray(x), jnp.ones(1000))
    assert found.dtype == jnp.bfloat16
    exact = rms(np.asarray(x, np.float64), 1.0)
    np.testing.assert_array_equal(found, exact.astype(np.float32).astype(jnp.bfloat16))


def test_mlp_is_linear_norm_silu_in_this_order():
    module, x = nets.MLP(2, 4, F32), normals(4, 3, 5)
    params = random_params(module, x)
    expected = dense_norm(params["layer1"], dense_norm(params["layer0"], x))
    np.testing.assert_allclose(apply(module, params, x), expected, rtol=1e-4, atol=1e-5)


def test_image_encoder_equals_numpy():
    module = convnets.ImageEncoder(2, (1, 2), 5, F32)
    image = np.random.default_rng(5).integers(0, 256, (2, 3, 8, 4, 3), dtype=np.uint8)
    params = random_params(module, image)
    x = image.reshape(6, 8, 4, 3) / 255 - 0.5
    for index in range(2):
        x = convolve(params[f"conv{index}"], x)
        batch, height, width, channels = x.shape
        x = x.reshape(batch, height // 2, 2, width // 2, 2, channels).max((2, 4))
        x = silu(rms(x, params[f"norm{index}"]["scale"]))
    assert x.shape == (6, 2, 1, 4)
    np.testing.assert_allclose(apply(module, params, image), x.reshape(2, 3, 8), rtol=1e-3, atol=1e-4)


def test_image_decoder_equals_numpy():
    depth, mults, blocks, size = 2, (2, 3, 2), 2, (16, 24)
    module = convnets.ImageDecoder(size, 3, depth, mults, 5, 4, 8, blocks, F32)
    deter, stoch = normals(6, 2, 8), normals(7, 2, 6)
    feature = np.concatenate([deter, stoch], -1)
    params = random_params(module, feature)
    height, width, channels = 2, 3, depth * mults[-1]
    halves = deter.reshape(2, blocks, -1)
    kernel, bias = params["space_deter"]["kernel"], params["space_deter"]["bias"].reshape(blocks, -1)
    # Each block of deter makes a group of channels over the whole grid: (g h w c) -> h w (g c).
    groups = [(halves[:, g] @ kernel[g] + bias[g]).reshape(2, height, width, -1) for g in range(blocks)]
    flat = dense_norm(params["space_stoch"], stoch)
    flat = flat @ params["space_stoch_out"]["kernel"] + params["space_stoch_out"]["bias"]
    x = np.concatenate(groups, -1) + flat.reshape(2, height, width, channels)
    x = silu(rms(x, params["space_norm"]["scale"]))
    for index in (1, 0):
        x = convolve(params[f"conv{index}"], x.repeat(2, 1).repeat(2, 2))
        assert x.shape[-1] == depth * mults[index]
        x = silu(rms(x, params[f"norm{index}"]["scale"]))
    x = 1 / (1 + np.exp(-convolve(params["image"], x.repeat(2, 1).repeat(2, 2))))
    assert x.shape == (2, *size, 3)
    found = ops.from_phases(jnp.asarray(apply(module, params, feature)))
    np.testing.assert_allclose(found, x, rtol=1e-3, atol=1e-4)


def test_a_new_two_hot_head_predicts_exactly_zero_with_a_flat_distribution():
    module, x = nets.TwoHotHead(1, 8, 255, F32), normals(9, 5, 6)
    predict = lambda params, x: (lambda head: (head.mean(), head.logits))(
        nets.apply(module, params["params"], x)
    )
    mean, logits = jax.jit(predict)(jax.jit(module.init)(KEY, x), x)
    np.testing.assert_array_equal(mean, np.zeros(5))
    np.testing.assert_array_equal(logits, np.zeros((5, 255)))


def test_continue_head_has_one_logit():
    module, x = nets.BernoulliHead(1, 8, F32), normals(10, 5, 6)
    params = random_params(module, x)
    expected = (dense_norm(params["mlp"]["layer0"], x) @ params["out"]["kernel"])[:, 0] + params["out"][
        "bias"
    ]
    logit = jax.jit(lambda x: nets.apply(module, params, x).logit)(x)
    np.testing.assert_allclose(logit, expected, rtol=1e-3, atol=1e-5)


ACTIONS = (
    ("jump", Space((), "bool")),
    ("move", Space((2,), "float32")),
    ("pick", Space((3,), "int32", classes=5)),
)


def test_continuous_policy_is_a_normal_with_tanh_mean_and_bounded_deviation():
    module, x = nets.PolicyHead(ACTIONS, 1, 8, 0.1, 1.0, F32), 5 * normals(11, 6, 4)
    params = random_params(module, x)
    policy = jax.jit(lambda x: module.apply({"params": params}, x))(x)
    hidden = dense_norm(params["mlp"]["layer0"], x)
    mean = hidden @ params["move_mean"]["kernel"] + params["move_mean"]["bias"]
    raw = hidden @ params["move_std"]["kernel"] + params["move_std"]["bias"]
    np.testing.assert_allclose(policy["move"].mu, np.tanh(mean), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(policy["move"].std, 0.9 / (1 + np.exp(-raw - 2)) + 0.1, rtol=1e-4)
    assert policy["pick"].logits.shape == (6, 3, 5)
    assert policy["jump"].logits.shape == (6, 2)
    assert policy["pick"].log_prob(np.zeros((6, 3), np.int32)).shape == (6,)


def test_policy_outputs_start_a_hundredth_as_large():
    module, x = nets.PolicyHead(ACTIONS, 1, 256, 0.1, 1.0, F32), normals(12, 1, 4)
    params = jax.jit(module.init)(KEY, x)["params"]
    for name in ("jump", "move_mean", "move_std", "pick"):
        np.testing.assert_allclose(np.std(params[name]["kernel"]) * 16, 0.01, rtol=0.15)
    np.testing.assert_allclose(np.std(params["mlp"]["layer0"]["linear"]["kernel"]) * 2, 1, rtol=0.05)


def test_flat_input_makes_classes_one_hot_and_flattens_the_rest():
    pick = Space((2,), "int32", classes=3)
    np.testing.assert_array_equal(nets.flat_input(pick, jnp.array([[2, 0]]), F32), [[0, 0, 1, 1, 0, 0]])
    np.testing.assert_array_equal(
        nets.flat_input(Space((), "bool"), jnp.array([True, False]), F32), [[0, 1], [1, 0]]
    )
    grid = np.arange(12.0).reshape(2, 3, 2)
    np.testing.assert_array_equal(
        nets.flat_input(Space((3, 2), "float32"), jnp.asarray(grid), F32), grid.reshape(2, 6)
    )


def test_actions_are_concatenated_by_name():
    spaces = {"b": Space((2,), "float32"), "a": Space((), "int32", classes=3)}
    action = {"b": np.array([[0.5, -2.0]], np.float32), "a": np.array([1])}
    np.testing.assert_array_equal(nets.concat_actions(spaces, action, F32), [[0, 1, 0, 0.5, -2]])


@pytest.mark.parametrize(
    ("module", "inputs"),
    [
        (nets.MLP(1, 8, jnp.bfloat16), [np.zeros((2, 4), np.float32)]),
        (convnets.ImageEncoder(2, (1,), 5, jnp.bfloat16), [np.zeros((2, 4, 4, 3), np.uint8)]),
        (nets.BlockLinear(8, 2, jnp.bfloat16), [np.zeros((2, 2, 4), np.float32)]),
    ],
    ids=["mlp", "image", "block"],
)
def test_bfloat16_networks_keep_float32_parameters(module, inputs):
    out, params = jax.eval_shape(module.init_with_output, KEY, *inputs)
    assert out.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}


@pytest.mark.parametrize(
    "head", [nets.TwoHotHead(1, 8, 15, jnp.bfloat16), nets.BernoulliHead(1, 8, jnp.bfloat16)]
)
def test_heads_of_bfloat16_networks_return_float32(head):
    (out,) = jax.tree.leaves(jax.eval_shape(lambda x: head.init_with_output(KEY, x)[0], np.zeros((2, 4))))
    assert out.dtype == jnp.float32
