import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamworld import nets
from dreamworld.errors import UserError
from dreamworld.models.rssm import Heads, Latent, Recurrent, make_rssm
from dreamworld.testing import TINY, random_batch, random_params, tiny_config
from dreamworld.types import Space

KEY = jax.random.PRNGKey(0)
OBS = {"vec": Space((3,), "float32")}
ACT = {"move": Space((2,), "float32"), "pick": Space((), "int32", classes=3)}


HEADS = Heads(units=8, reward_layers=1, cont_layers=1, bins=255, discount=1 - 1 / 333)


def make_world(dtype=jnp.float32, context=1, obs=OBS, encoder=TINY.encoder, **rssm):
    config = dataclasses.replace(TINY.rssm, **rssm)
    return make_rssm(config, encoder, HEADS, obs, ACT, context=context, dtype=dtype)


WORLD = make_world()
PARAMS = random_params(WORLD.init)
BATCH = random_batch(np.random.default_rng(0), OBS, ACT, WORLD.latent_space, tiny_config(batch=3, length=5))
LOSS = jax.jit(WORLD.loss)
OBSERVE = jax.jit(WORLD.observe_sequence)


def random_state(seed=0, batch=3, world=WORLD) -> Any:
    random = np.random.default_rng(seed)
    config = world.config
    classes = random.integers(0, config.classes, (batch, config.stoch))
    stoch: Any = np.eye(config.classes, dtype=np.float32)[classes]
    deter: Any = random.normal(size=(batch, config.deter)).astype(np.float32)
    return Latent(deter, stoch)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def norm_silu(x, scale):
    x = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-4) * scale
    return x * sigmoid(x)


def gru_by_numpy(params, deter, stoch, action, blocks):
    """One row: a vector of deter, of flat stoch, of action."""
    shared = []
    for name, x in (
        ("in_deter", deter),
        ("in_stoch", stoch),
        ("in_action", action / np.maximum(1, np.abs(action))),
    ):
        layer = params[name]["linear"]
        shared.append(norm_silu(x @ layer["kernel"] + layer["bias"], params[name]["norm"]["scale"]))
    size = len(deter) // blocks
    part = lambda x, g, size: x[g * size : (g + 1) * size]
    hidden, layer = [], params["hidden0"]
    for g in range(blocks):
        x = np.concatenate([part(deter, g, size), *shared])
        hidden.append(x @ layer["kernel"][g] + part(layer["bias"], g, size))
    hidden = norm_silu(np.concatenate(hidden), params["hidden0_norm"]["scale"])
    new, layer = [], params["gates"]
    for g in range(blocks):
        gates = part(hidden, g, size) @ layer["kernel"][g] + part(layer["bias"], g, 3 * size)
        reset, candidate, update = gates[:size], gates[size : 2 * size], gates[2 * size :]
        update = sigmoid(update - 1)
        new.append(update * np.tanh(sigmoid(reset) * candidate) + (1 - update) * part(deter, g, size))
    return np.concatenate(new)


def test_block_gru_equals_numpy():
    module = Recurrent(WORLD.config, jnp.float32)
    state = random_state()
    action = np.random.default_rng(1).normal(0, 2, (3, 5)).astype(np.float32)
    stoch = state.stoch.reshape(3, -1)
    params = PARAMS["dynamics"]["recurrent"]
    found = jax.jit(lambda *inputs: nets.apply(module, params, *inputs))(state.deter, stoch, action)
    expected = [gru_by_numpy(params, *row, blocks=4) for row in zip(state.deter, stoch, action)]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_imagination_and_observation_share_the_recurrence():
    state, action = random_state(), {"move": np.full((3, 2), 0.3, np.float32), "pick": np.array([0, 1, 2])}
    imagined = jax.jit(WORLD.imagine)(PARAMS, state, action, KEY)
    obs, is_first = {"vec": np.ones((3, 3), np.float32)}, np.zeros(3, bool)
    observed, _ = jax.jit(WORLD.observe)(PARAMS, state, action, obs, is_first, KEY)
    np.testing.assert_allclose(imagined.deter, observed.deter, rtol=1e-6)
    np.testing.assert_array_equal(imagined.stoch.sum(-1), np.ones((3, 4)))
    corrected = jax.jit(WORLD.correct)(PARAMS, imagined, obs, KEY)
    np.testing.assert_array_equal(corrected.deter, imagined.deter)
    np.testing.assert_array_equal(corrected.stoch, observed.stoch)
    assert (corrected.stoch != imagined.stoch).any()


@pytest.mark.parametrize("layers", [0, 2])
def test_sequences_equal_single_steps(layers):
    """What `observe_sequence` does before its scan, `observe` does at every step."""
    world = make_world(posterior_layers=layers, dyn_layers=layers)
    params = random_params(world.init)
    random = np.random.default_rng(3)
    obs = {"vec": random.normal(size=(2, 4, 3)).astype(np.float32)}
    action = {key: space.sample(random, 2, 4) for key, space in ACT.items()}
    is_first = np.array([[1, 0, 0, 1], [0, 0, 1, 0]], bool)
    start = random_state(batch=2)
    states, posts = jax.jit(world.observe_sequence)(params, start, action, obs, is_first, KEY)
    state, keys = start, jax.random.split(KEY, 4)
    for t in range(4):
        row = jax.tree.map(lambda x, t=t: x[:, t], (action, obs, is_first))
        state, post = jax.jit(world.observe)(params, state, *row, keys[t])
        np.testing.assert_allclose(posts[:, t], post, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(states.deter[:, t], state.deter, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(states.stoch[:, t], state.stoch, atol=1e-6)


def test_gradients_of_the_loss_do_not_depend_on_when_those_of_the_weights_are_taken():
    def gradients(at_once):
        world = dataclasses.replace(WORLD, at_once=at_once)
        loss = lambda params: sum(x.mean() for x in world.loss(params, BATCH, KEY)[0].values())
        return jax.jit(jax.value_and_grad(loss))(PARAMS)

    found = gradients(False), gradients(True)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-6), *found)


def test_imagined_latents_follow_the_prior_mixed_with_uniform():
    count = 4000
    state = jax.tree.map(lambda x: np.repeat(x[:1], count, 0), random_state())
    action = {"move": np.zeros((count, 2), np.float32), "pick": np.zeros(count, np.int32)}
    imagined = jax.jit(WORLD.imagine)(PARAMS, state, action, KEY)
    logits = nets.apply(WORLD.prior, PARAMS["dynamics"]["prior"], imagined.deter[:1])
    expected = 0.99 * softmax(np.asarray(logits[0])) + 0.01 / 4
    np.testing.assert_allclose(imagined.stoch.mean(0), expected, atol=0.03)


def sequence(seed=0) -> Any:
    """(state, prev_action, obs, is_first) of 3 x 5 rows with a first row at t = 2 everywhere."""
    random = np.random.default_rng(seed)
    is_first = np.zeros((3, 5), bool)
    is_first[:, 2] = True
    prev_action = {key: space.sample(random, 3, 5) for key, space in ACT.items()}
    return (
        random_state(seed),
        prev_action,
        {"vec": random.normal(size=(3, 5, 3)).astype(np.float32)},
        is_first,
    )


def test_is_first_hides_the_past_and_the_action_that_led_to_it():
    state, prev_action, obs, is_first = sequence(0)
    other_state, other_action, other_obs, _ = sequence(1)
    splice = lambda past, rest, at: np.concatenate([past[:, :at], rest[:, at:]], 1)
    mixed_action = {key: splice(other_action[key], prev_action[key], 3) for key in ACT}
    mixed_obs = {"vec": splice(other_obs["vec"], obs["vec"], 2)}
    states, post = OBSERVE(PARAMS, state, prev_action, obs, is_first, KEY)
    changed, changed_post = OBSERVE(PARAMS, other_state, mixed_action, mixed_obs, is_first, KEY)
    for kept, new in zip(jax.tree.leaves((states, post)), jax.tree.leaves((changed, changed_post))):
        np.testing.assert_array_equal(kept[:, 2:], new[:, 2:])
        assert not np.array_equal(kept[:, :2], new[:, :2])


@pytest.mark.parametrize("cut", [True, False])
def test_is_first_cuts_gradients_to_the_past(cut):
    state, prev_action, obs, is_first = sequence()

    @jax.jit
    def gradient(state, move, vec, is_first):
        def future(state, move, vec):
            actions = prev_action | {"move": move}
            states, post = WORLD.observe_sequence(PARAMS, state, actions, {"vec": vec}, is_first, KEY)
            return jnp.sum(states.deter[:, 2:] ** 2) + jnp.sum(post[:, 2:] ** 2)

        return jax.grad(future, (0, 1, 2))(state, move, vec)

    state_grad, move_grad, vec_grad = gradient(state, prev_action["move"], obs["vec"], is_first & cut)
    past = [*jax.tree.leaves(state_grad), move_grad[:, :3], vec_grad[:, :2]]
    assert all(bool(np.any(grad)) is not cut for grad in past)
    assert np.any(move_grad[:, 3:]) and np.any(vec_grad[:, 2:])


def test_a_first_row_is_the_zero_state_without_an_action():
    state, prev_action, obs, is_first = sequence()
    states, _ = OBSERVE(PARAMS, state, prev_action, obs, np.ones_like(is_first), KEY)
    zeros = np.zeros(16), np.zeros(16), np.zeros(5)  # no class of a discrete action is chosen, either
    expected = gru_by_numpy(PARAMS["dynamics"]["recurrent"], *zeros, blocks=4)
    np.testing.assert_allclose(states.deter, np.broadcast_to(expected, (3, 5, 16)), rtol=1e-4, atol=1e-5)


def test_posterior_sees_deter_and_observation_mixed_with_uniform():
    state, prev_action, obs, is_first = sequence()
    states, post = OBSERVE(PARAMS, state, prev_action, obs, is_first, KEY)
    tokens = WORLD.encoder(PARAMS["encoder"], obs)
    inputs = np.concatenate([states.deter, tokens], -1)
    logits = np.asarray(nets.apply(WORLD.posterior, PARAMS["dynamics"]["posterior"], inputs))
    np.testing.assert_allclose(np.exp(post), 0.99 * softmax(logits) + 0.01 / 4, rtol=1e-4)
    assert set(np.unique(states.stoch)) == {0.0, 1.0}


def forward(batch=BATCH, world=WORLD, observe=OBSERVE):
    """States and posterior of the rows of a batch, as its loss sees them."""
    state, prev_action = world.start(batch)
    obs = {"vec": batch.obs["vec"][:, 1:]}
    return observe(PARAMS, state, prev_action, obs, batch.is_first[:, 1:], KEY)


def test_kl_losses_sum_over_latents_and_average_nowhere():
    world = make_world(free_nats=0.0)
    losses, _ = jax.jit(world.loss)(PARAMS, BATCH, KEY)
    states, post = forward()
    prior_logits = nets.apply(WORLD.prior, PARAMS["dynamics"]["prior"], states.deter)
    prior = np.log(0.99 * softmax(np.asarray(prior_logits)) + 0.01 / 4)
    kl = (np.exp(post) * (post - prior)).sum((-2, -1))
    assert kl.shape == (3, 5) and kl.min() > 0
    np.testing.assert_allclose(losses["dyn"], kl, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(losses["rep"], kl, rtol=1e-3, atol=1e-5)
    limit = float(np.median(kl))
    clipped, _ = jax.jit(make_world(free_nats=limit).loss)(PARAMS, BATCH, KEY)
    for name in ("dyn", "rep"):
        np.testing.assert_allclose(clipped[name], np.maximum(kl, limit), rtol=1e-3)
        assert (np.asarray(clipped[name]) > limit).sum() == 7  # the rows above it, one by one


def test_each_kl_teaches_its_own_side():
    """Over one row, where no later prior depends on an earlier posterior."""
    world = make_world(free_nats=0.0)
    batch = random_batch(
        np.random.default_rng(3), OBS, ACT, WORLD.latent_space, tiny_config(batch=3, length=1)
    )

    @jax.jit
    def gradients(params):
        total = lambda params, name: world.loss(params, batch, KEY)[0][name].sum()
        return {name: jax.grad(total)(params, name) for name in ("dyn", "rep")}

    grads = gradients(PARAMS)
    moves = lambda tree: any(np.any(leaf) for leaf in jax.tree.leaves(tree))
    assert moves(grads["dyn"]["dynamics"]["prior"])
    assert not moves(grads["dyn"]["dynamics"]["posterior"]) and not moves(grads["dyn"]["encoder"])
    assert moves(grads["rep"]["dynamics"]["posterior"]) and moves(grads["rep"]["encoder"])
    assert not moves(grads["rep"]["dynamics"]["prior"])


def test_clipped_rows_carry_no_kl_gradient():
    world = make_world(free_nats=1e3)
    total = lambda params: sum(world.loss(params, BATCH, KEY)[0][name].sum() for name in ("dyn", "rep"))
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(jax.jit(jax.grad(total))(PARAMS)))


def test_heads_learn_their_targets_of_the_trained_rows():
    losses, out = LOSS(PARAMS, BATCH, KEY)
    states, _ = forward()
    np.testing.assert_array_equal(
        out.features, np.concatenate([states.deter, states.stoch.reshape(3, 5, 16)], -1)
    )
    reward, cont = WORLD.predict(PARAMS, out.features)
    bins = np.sign(grid := np.linspace(-20, 20, 255)) * np.expm1(np.abs(grid))
    weights = np.stack([np.interp(BATCH.reward[:, 1:], bins, row) for row in np.eye(255)], -1)
    entropy = -(weights * np.log(softmax(np.asarray(reward.logits)))).sum(-1)
    np.testing.assert_allclose(losses["reward"], entropy, rtol=1e-4)
    target = (1 - BATCH.is_terminal[:, 1:]) * (1 - 1 / 333)
    p = sigmoid(np.asarray(cont.logit))
    np.testing.assert_allclose(
        losses["cont"], -(target * np.log(p) + (1 - target) * np.log(1 - p)), rtol=1e-4
    )
    recon = WORLD.decode(PARAMS, out.features)["vec"].output
    x = BATCH.obs["vec"][:, 1:]
    squares = (recon - np.sign(x) * np.log1p(np.abs(x))) ** 2
    np.testing.assert_allclose(losses["obs/vec"], squares.sum(-1), rtol=1e-4)


def test_vector_decoder_takes_stoch_before_deter():
    state = random_state()
    out = WORLD.decode(PARAMS, WORLD.feature(PARAMS, state))["vec"].output
    params = PARAMS["decoder"]["vector"]
    layer = params["mlp"]["layer0"]
    x = np.concatenate([state.stoch.reshape(3, -1), state.deter], -1) @ layer["linear"]["kernel"]
    x = norm_silu(x + layer["linear"]["bias"], layer["norm"]["scale"])
    np.testing.assert_allclose(out, x @ params["vec"]["kernel"] + params["vec"]["bias"], rtol=1e-3, atol=1e-5)


def test_chunks_start_from_the_latents_stored_with_the_context_row():
    state, prev_action = WORLD.start(BATCH)
    np.testing.assert_array_equal(state.deter, BATCH.extras["latent/deter"][:, 0])
    np.testing.assert_array_equal(np.argmax(state.stoch, -1), BATCH.extras["latent/stoch"][:, 0])
    for key in ACT:
        np.testing.assert_array_equal(prev_action[key], BATCH.action[key][:, :-1])


def test_without_context_chunks_start_from_zeros_without_an_action():
    state, prev_action = make_world(context=0).start(BATCH)
    assert not state.deter.any() and not state.stoch.any() and state.deter.shape == (3, 16)
    assert not prev_action["move"][:, 0].any()
    np.testing.assert_array_equal(prev_action["move"][:, 1:], BATCH.action["move"][:, :-1])


def test_stored_latents_change_the_losses_only_until_the_first_episode_start():
    is_first = np.zeros((3, 6), bool)
    is_first[:, 3] = True
    batch = BATCH._replace(is_first=is_first)
    other = batch._replace(extras=batch.extras | {"latent/deter": batch.extras["latent/deter"] + 1})
    one, two = (LOSS(PARAMS, x, KEY)[0]["reward"] for x in (batch, other))
    assert not np.array_equal(one[:, :2], two[:, :2])
    np.testing.assert_array_equal(one[:, 2:], two[:, 2:])


def test_entries_are_the_states_of_the_forward_pass():
    _, out = LOSS(PARAMS, BATCH, KEY)
    states, _ = forward()
    np.testing.assert_array_equal(out.entries["latent/deter"], states.deter)
    np.testing.assert_array_equal(out.entries["latent/stoch"], np.argmax(states.stoch, -1))
    assert out.entries["latent/stoch"].dtype == jnp.uint8


def test_a_dream_in_blocks_is_the_same_dream():
    action = {"move": jnp.ones((3, 2)), "pick": jnp.array([0, 1, 2])}
    state = random_state()
    flat = WORLD.imagine(PARAMS, state, action, KEY)
    found = WORLD.imagine(PARAMS, WORLD.in_blocks(state), action, KEY)
    assert found.deter.shape == (3, WORLD.config.blocks, 16 // WORLD.config.blocks)
    np.testing.assert_array_equal(WORLD.feature(PARAMS, found), WORLD.feature(PARAMS, flat))


def test_kernels_cast_before_a_dream_change_nothing_in_it():
    world = make_world(jnp.bfloat16)
    params = random_params(world.init)
    cast = nets.cast_kernels(params, jnp.bfloat16)
    assert cast["dynamics"]["recurrent"]["gates"]["kernel"].dtype == jnp.bfloat16
    scale = cast["dynamics"]["recurrent"]["hidden0_norm"]["scale"]
    assert scale.dtype == jnp.float32  # norms compute in it
    state = random_state(world=world)
    state = state._replace(deter=state.deter.astype(jnp.bfloat16))
    action = {"move": jnp.ones((3, 2)), "pick": jnp.array([0, 1, 2])}
    dream = jax.jit(lambda params: (world.imagine(params, state, action, KEY), world.feature(params, state)))
    jax.tree.map(np.testing.assert_array_equal, dream(params), dream(cast))


def test_bfloat16_keeps_losses_and_parameters_in_float32():
    world = make_world(dtype=jnp.bfloat16)
    params = jax.eval_shape(world.init, KEY)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    losses, out = jax.eval_shape(world.loss, params, BATCH, KEY)
    assert {loss.dtype for loss in losses.values()} == {jnp.dtype("float32")}
    assert out.features.dtype == out.entries["latent/deter"].dtype == jnp.bfloat16
    assert world.latent_space["latent/deter"].dtype == "bfloat16"


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"deter": 18}, "deter 18 is not a multiple"), ({"classes": 300}, "classes 300: at most 256")],
)
def test_sizes_that_do_not_fit_are_refused(changes, words):
    with pytest.raises(UserError, match=words):
        make_world(**changes)


def test_image_channels_that_blocks_do_not_divide_are_refused():
    encoder = dataclasses.replace(TINY.encoder, depth=3)
    with pytest.raises(UserError, match="6 channels"):
        make_world(obs={"image": Space((8, 8, 3), "uint8")}, encoder=encoder)
