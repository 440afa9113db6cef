import dataclasses
from typing import Any

import golden
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamworld import cli, dream
from dreamworld.agents import make_agent
from dreamworld.agents.dreamerv3.agent import make_loss, make_parts, make_simulator, sum_losses
from dreamworld.contract import modules
from dreamworld.errors import UserError
from dreamworld.options import LossConfig
from dreamworld.rollout import trained_rows
from dreamworld.testing import TINY, tiny_config
from dreamworld.types import Batch, Space

KEY = jax.random.PRNGKey(0)
IMAGE = {"image": Space((64, 64, 3), "uint8")}
STATE = {"state": Space((24,), "float32")}
CONTINUOUS = {"action": Space((6,), "float32")}

# Of the reference: image observations, vector observations.
COUNTS = {
    "size1m": (686_846, 640_867),
    "size12m": (10_494_158, 9_738_019),
    "size25m": (23_489_326, 21_782_947),
    "size50m": (41_650_062, 38_612_003),
    "size100m": (93_468_238, 86_622_499),
    "size200m": (165_948_686, 153_769_507),
    "size400m": (372_896_398, 345_473_059),
}


def pick(tree, index):
    """One entry of the leading axis of every leaf."""
    return jax.tree.map(lambda leaf: leaf[index], tree)


def count(tree):
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("obs_space", [IMAGE, STATE], ids=["image", "vector"])
@pytest.mark.parametrize("size", COUNTS)
def test_parameter_counts_equal_the_reference(size, obs_space):
    agent = make_agent(cli.parse(["--configs", size]), obs_space, CONTINUOUS)
    params = jax.eval_shape(agent.init, KEY).params
    assert count(params) == COUNTS[size][obs_space is STATE]


def test_parameter_counts_of_each_module_equal_the_reference():
    agent = make_agent(cli.parse(["--configs", "size1m"]), IMAGE, CONTINUOUS)
    found = modules(jax.eval_shape(agent.init, KEY).params)
    expected = {"encoder": 14_304, "dynamics": 376_704, "decoder": 80_595, "reward": 57_663}
    expected |= {"cont": 41_153, "actor": 50_316, "critic": 66_111}
    assert {name: count(params) for name, params in found.items()} == expected


def test_the_defaults_are_size200m():
    agent = make_agent(cli.parse([]), IMAGE, CONTINUOUS)
    assert count(jax.eval_shape(agent.init, KEY).params) == COUNTS["size200m"][0]


# Which modules each loss teaches. Reward, continue and replay-value gradients flow into the world model; actor and
# critic losses on imagined features do not.
TAUGHT = {
    "obs/vector": {"encoder", "dynamics", "decoder"},
    "reward": {"encoder", "dynamics", "reward"},
    "cont": {"encoder", "dynamics", "cont"},
    "dyn": {"encoder", "dynamics"},
    "rep": {"encoder", "dynamics"},
    "actor": {"actor"},
    "critic": {"critic"},
    "replay_value": {"encoder", "dynamics", "critic"},
}


@pytest.fixture(scope="module")
def gradients(vector):
    """{loss: (gradient by parameters, gradient by slow critic)}, from one compilation."""
    loss = make_loss(vector.world, vector.behaviour, LossConfig())
    state, carry = vector.state, vector.initial()

    @jax.jit
    def each(params, slow):
        def losses(params, slow):
            _, out = loss(params, slow, state.stats, carry, vector.batch, KEY)
            return jnp.stack([out.losses[name].mean() for name in TAUGHT])

        _, pull = jax.vjp(losses, params, slow)
        return jax.vmap(pull)(jnp.eye(len(TAUGHT)))

    found = jax.device_get(each(state.params, state.slow))
    return {name: pick(found, index) for index, name in enumerate(TAUGHT)}


@pytest.mark.parametrize("name", TAUGHT)
def test_each_loss_teaches_exactly_its_modules(gradients, name):
    params, slow = gradients[name]
    taught = {
        module
        for module, tree in modules(params).items()
        if any(leaf.any() for leaf in jax.tree.leaves(tree))
    }
    assert taught == TAUGHT[name]
    assert not any(leaf.any() for leaf in jax.tree.leaves(slow))


def test_the_total_is_the_sum_of_scaled_means(mixed):
    _, _, output = mixed.first()
    scales = {"obs/image": 1, "obs/vector": 1, "reward": 1, "cont": 1, "dyn": 1, "rep": 0.1}
    scales |= {"actor": 1, "critic": 1, "replay_value": 0.3}
    means = {
        key.removeprefix("loss/"): float(value) for key, value in output.metrics.items() if "loss/" in key
    }
    total = means.pop("total")
    assert means.keys() == scales.keys()
    np.testing.assert_allclose(total, sum(scales[name] * mean for name, mean in means.items()), rtol=1e-5)


def test_losses_are_averaged_over_their_own_shapes():
    losses = {"obs/a": jnp.array([[1.0, 3.0]]), "obs/b": jnp.ones((1, 2)), "replay_value": jnp.array([[4.0]])}
    scales = LossConfig(obs=0.5, replay_value=0.25)
    batch = Batch({}, {}, *[None] * 4, extras={})
    assert float(sum_losses(losses, scales, batch)) == 0.5 * 2 + 0.5 * 1 + 0.25 * 4


def close(found, expected, atol):
    """Asserts that all leaves agree, and says which do not."""
    for (path, one), (_, two) in zip(
        jax.tree_util.tree_leaves_with_path(found), jax.tree_util.tree_leaves_with_path(expected)
    ):
        np.testing.assert_allclose(one, two, atol=atol, rtol=1e-4, err_msg=jax.tree_util.keystr(path))


def test_updates_of_vmapped_seeds_equal_each_seed_alone(vector):
    other = golden.make_recorded(vector.recorded.world.encoder.spaces, vector.world.act_space, seed=1)
    alone = [vector.first(), vector.update(other.state, vector.initial(), other.batch)]
    stack = lambda *trees: jax.tree.map(lambda *leaves: np.stack(leaves), *trees)
    carries = stack(vector.initial(), vector.initial())
    together = jax.jit(jax.vmap(vector.recorded.update))(
        stack(vector.state, other.state), carries, stack(vector.batch, other.batch)
    )
    for index, expected in enumerate(alone):
        found = pick(together, index)
        np.testing.assert_array_equal(
            found[2].writeback["latent/stoch"], expected[2].writeback["latent/stoch"]
        )
        close(found, expected, atol=1e-5)


KINDS = {
    "image, discrete": ({"image": Space((8, 8, 1), "uint8")}, {"action": Space((), "int32", classes=4)}),
    "discrete and flags, several discrete": (
        {"cell": Space((2,), "int32", classes=5), "door": Space((), "bool")},
        {"left": Space((), "bool"), "right": Space((2,), "int32", classes=3)},
    ),
}


def check_finite(state, carry, output):
    assert all(output.health.values())
    assert int(state.step) == 1
    for leaf in jax.tree.leaves((state, carry, output.metrics)):
        assert np.isfinite(leaf).all()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_space_updates(kind):
    tiny = golden.make_recorded(*KINDS[kind])
    check_finite(*jax.jit(tiny.update)(tiny.state, tiny.initial(), tiny.batch))


@pytest.mark.parametrize("name", ["mixed", "vector"])
def test_mixed_and_vector_spaces_update(name, request):
    check_finite(*request.getfixturevalue(name).first())


def test_a_nan_in_an_observation_changes_nothing_and_is_named(mixed):
    vectors = mixed.batch.obs["vector"].copy()
    vectors[1, 2, 0] = np.nan
    batch = mixed.batch._replace(obs=mixed.batch.obs | {"vector": vectors})
    carry = mixed.initial()
    state, new_carry, output = mixed.first(batch)
    for kept, before in zip(jax.tree.leaves((state, new_carry)), jax.tree.leaves((mixed.state, carry))):
        np.testing.assert_array_equal(kept, before)
    bad = {name for name, finite in output.health.items() if not finite}
    assert {"loss/obs/vector", "loss/total", "grad/world/encoder/vector/mlp/layer0/linear/kernel"} <= bad
    assert not any(
        name.startswith("grad/") and name.split("/", 2)[2] not in golden.norms(state.params) for name in bad
    )
    for name, value in output.writeback.items():
        np.testing.assert_array_equal(value, mixed.batch.extras[name][:, 1:])


def test_written_back_latents_are_those_of_the_parameters_before_the_update(vector):
    state, _, output = vector.first()
    world_key, _ = jax.random.split(jax.random.fold_in(jnp.asarray(vector.state.key), 0))
    forward = jax.jit(vector.world.loss)
    _, out = forward(vector.state.params["world"], vector.batch, world_key)
    np.testing.assert_array_equal(output.writeback["latent/stoch"], out.entries["latent/stoch"])
    np.testing.assert_allclose(output.writeback["latent/deter"], out.entries["latent/deter"], atol=1e-6)
    _, after = forward(state.params["world"], vector.batch, world_key)
    assert np.abs(after.entries["latent/deter"] - output.writeback["latent/deter"]).max() > 1e-4


def test_the_slow_critic_follows_the_critic_after_the_step(vector):
    state, _, _ = vector.first()
    kernel = lambda tree: np.asarray(tree["behaviour"]["critic"]["out"]["kernel"], np.float64)
    moved = kernel(state.slow) - kernel(vector.state.slow)
    step = kernel(state.params) - kernel(vector.state.params)
    assert np.abs(step).max() > 1e-3
    np.testing.assert_allclose(moved, 0.02 * step, atol=1e-6)


def test_each_update_draws_new_noise(vector):
    _, _, first = vector.first()
    again = vector.state._replace(step=np.int32(1))
    _, _, second = vector.update(again, vector.initial(), vector.batch)
    assert not np.array_equal(first.writeback["latent/stoch"], second.writeback["latent/stoch"])


def test_bfloat16_keeps_parameters_moments_and_losses_in_float32():
    config = tiny_config(precision="bfloat16")
    agent = make_agent(config, golden.OBS, golden.ACT)
    tiny = golden.make_recorded(golden.OBS, golden.ACT, config)
    state = jax.eval_shape(agent.init, KEY)
    carry = ()
    new, new_carry, output = jax.eval_shape(agent.phase.update, state, carry, tiny.batch)
    kinds = lambda tree: jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)
    assert kinds((new, new_carry)) == kinds((state, carry))
    floats = {
        leaf.dtype
        for leaf in jax.tree.leaves((new.params, new.opt_state, new.slow, new.stats, output.metrics))
    }
    assert floats == {jnp.dtype("float32"), jnp.dtype("int32")}
    assert output.writeback["latent/deter"].dtype == jnp.bfloat16


@pytest.fixture(scope="module")
def acting(mixed):
    """(agent, compiled act, parameters)."""
    agent = make_agent(mixed.config, golden.OBS, golden.ACT)
    return agent, jax.jit(agent.act, static_argnames="mode"), mixed.state.params


def observe(seed, is_first):
    random = np.random.default_rng(seed)
    return {key: space.sample(random, 3) for key, space in golden.OBS.items()} | {
        "is_first": np.array(is_first)
    }


def test_acting_keeps_the_shapes_of_its_carry_and_returns_what_replay_stores(acting):
    agent, act, params = acting
    carry = agent.initial(params, 3)
    new, action, entries = act(params, carry, observe(0, [True] * 3), KEY)
    kinds = lambda tree: jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)
    assert kinds(new) == kinds(carry)
    assert {key: (value.shape, value.dtype.name) for key, value in entries.items()} == {
        key: ((3, *space.shape), space.dtype) for key, space in agent.latent_space.items()
    }
    assert {key: value.shape for key, value in action.items()} == {"move": (3, 2), "pick": (3,)}
    np.testing.assert_array_equal(new[1]["move"], action["move"])
    assert set(agent.latent_space) == {"latent/deter", "latent/stoch"}
    assert agent.assignment == {"image": "image", "vector": "vector"}


def test_its_value_is_the_discounted_one_of_the_critic_where_the_episode_goes_on(acting, mixed):
    agent, _, params = acting
    world, behaviour = make_parts(mixed.config, golden.OBS, golden.ACT)
    feature = jax.random.normal(KEY, agent.simulator.feature(params["world"], world.initial(None, 3)).shape)
    cont = agent.simulator.predict(params["world"], feature).cont
    critic = behaviour.value(params["behaviour"], feature).mean()
    assert agent.discount == 1 - 1 / 333 and (cont < 1).all()
    np.testing.assert_allclose(
        agent.value(params, feature), agent.discount * cont * critic, rtol=1e-5, atol=1e-7
    )


def test_an_episode_start_hides_the_past_from_the_policy(acting):
    agent, act, params = acting
    old, _, _ = act(params, agent.initial(params, 3), observe(0, [True] * 3), KEY)
    fresh = act(params, agent.initial(params, 3), observe(1, [True, True, True]), KEY)
    going = act(params, old, observe(1, [True, False, True]), KEY)
    for one, two in zip(jax.tree.leaves(fresh), jax.tree.leaves(going)):
        np.testing.assert_array_equal(one[::2], two[::2])
    assert not np.array_equal(fresh[2]["latent/deter"][1], going[2]["latent/deter"][1])


def test_greedy_actions_do_not_depend_on_the_action_noise(acting):
    agent, act, params = acting
    carry, obs = agent.initial(params, 3), observe(0, [True] * 3)
    state, greedy, _ = act(params, carry, obs, KEY, mode="greedy")
    feature = jnp.concatenate([state[0].deter, state[0].stoch.reshape(3, -1)], -1)
    _, behaviour = golden.dreamerv3.make_parts(golden.CONFIG, golden.OBS, golden.ACT)
    policy = behaviour.policy(params["behaviour"], feature)
    np.testing.assert_allclose(greedy["move"], policy["move"].mu, rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(greedy["pick"], policy["pick"].mode())
    _, sampled, _ = act(params, carry, obs, KEY)
    assert np.abs(sampled["move"] - greedy["move"]).max() > 0.05


@pytest.fixture(scope="module")
def report(vector):
    simulator, spaces = make_simulator(vector.world), vector.world.encoder.spaces
    params = vector.state.params["world"]
    compiled = jax.jit(lambda batch: dream.report(simulator, spaces, params, batch, 1, KEY))
    return lambda batch: jax.device_get(compiled(batch))


def test_reports_show_truth_and_dream_of_the_trained_rows(vector, report):
    found = report(vector.batch)
    assert set(found) == {"truth/vector", "dream/vector", "is_first"}
    np.testing.assert_array_equal(found["is_first"], trained_rows(vector.batch, 1).is_first)
    assert found["dream/vector"].shape == (2, 4, 3)
    np.testing.assert_array_equal(found["truth/vector"], trained_rows(vector.batch, 1).obs["vector"])


def test_dreams_see_actions_but_no_observations_after_their_context(vector, report):
    half = 1 + dream.report_context(4)
    obs, action = (
        tree[key].copy() for tree, key in ((vector.batch.obs, "vector"), (vector.batch.action, "action"))
    )
    base = report(vector.batch)["dream/vector"]
    obs[:, half:] += 1
    blind = report(vector.batch._replace(obs={"vector": obs}))["dream/vector"]
    np.testing.assert_array_equal(blind, base)
    action[:, half - 1] -= 1  # leads to the first dreamt row
    steered = report(vector.batch._replace(action={"action": action}))["dream/vector"]
    np.testing.assert_array_equal(steered[:, :2], base[:, :2])
    assert all(np.abs(steered[:, row] - base[:, row]).max() > 0 for row in (2, 3))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"run": {"batch_length": 1}}, "batch_length 1: needs at least 2 rows"),
        ({"run": {"replay_context": 2}}, "replay_context 2: takes 0 or 1"),
        ({"bins": 254}, "bins 254: takes odd numbers"),
    ],
)
def test_options_that_can_not_work_are_refused(changes, words):
    config: Any = tiny_config()
    if "run" in changes:
        config = dataclasses.replace(config, run=dataclasses.replace(config.run, **changes["run"]))
    else:
        config = tiny_config(behaviour=dataclasses.replace(TINY.behaviour, **changes))
    with pytest.raises(UserError, match=words):
        make_agent(config, STATE, CONTINUOUS)
