"""Three updates and four policy steps equal those of the reference implementation, number by number.

`reference_update.json` holds what danijar/dreamerv3 (commit e3f0224, JAX 0.10.2, CPU, float32) computes on parameters
and batches given by formula, with every sample replaced by its mode. Nothing in it comes from this project.
"""

import json
import pathlib
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamworld import cli, random
from dreamworld.agents import make_agent
from dreamworld.training.step import tensor_name
from dreamworld.types import Batch, Space

RECORD = json.loads(pathlib.Path(__file__).with_name("reference_update.json").read_text("utf-8"))
UPDATES, STEPS = range(len(RECORD["updates"])), range(len(RECORD["act"]))
RTOL = 1e-5
EXACTLY_ZERO = {
    "actor/steer_mean/bias",
    "actor/steer_mean/kernel",
}  # in exact arithmetic: the action is the mean
OBS = {"image": Space((16, 16, 3), "uint8"), "vector": Space((5,), "float32")}
ACT = {"steer": Space((3,), "float32"), "gear": Space((), "int32", classes=5)}
SHAPE = (4, 17)  # chunks, rows: 1 of context and 16 trained
OPTIONS = [
    "--run.batch_size=4", "--run.batch_length=16", "--run.replay_context=1", "--agent.precision=float32",
    "--agent.rssm.deter=64", "--agent.rssm.hidden=16", "--agent.rssm.stoch=8", "--agent.rssm.classes=4",
    "--agent.encoder.depth=4", "--agent.encoder.mults", "2", "4", "--agent.encoder.units=16",
    "--agent.behaviour.units=16", "--agent.behaviour.imag_length=5",
]  # fmt: skip


def wave(name, *shape):
    """The record's pseudo-random numbers in [-1, 1), float64: a hash of the index and of the name."""
    x = np.arange(np.prod(shape, dtype=np.uint64), dtype=np.uint64) * np.uint64(2654435761)
    x = (x + np.uint64(zlib.crc32(name.encode()))) & np.uint64(0xFFFFFFFF)
    for _ in range(3):
        x = ((x ^ (x >> np.uint64(16))) * np.uint64(73244475)) & np.uint64(0xFFFFFFFF)
    x ^= x >> np.uint64(16)
    return (x / 2.0**31 - 1).reshape(shape)


def parameter(path, like):
    """One tensor of the record's parameters."""
    name = tensor_name(path[1:])  # the record does not tell world and behaviour apart
    value = wave(name, *like.shape)
    leaf = name.rpartition("/")[2]
    if leaf == "kernel":
        value = value * np.sqrt(3 / np.prod(like.shape[:-1]))
    else:
        value = 0.2 * value + (leaf == "scale")
    if name in ("reward/out/bias", "critic/out/bias"):
        value = value - 0.35 * np.abs(np.arange(255) - 127)
    return value.astype(np.float32)


def classes(values, count):
    """Class indices of numbers in [-1, 1)."""
    return np.floor((values + 1) / 2 * (count - 0.001)).astype(np.int32)


def make_batch(index):
    """The batch of update `index`."""
    draw = lambda name, *shape: wave(f"batch{index}/{name}", *SHAPE, *shape)
    is_first = draw("is_first") > 0.8
    is_first[:, 0] = True
    is_last = np.roll(is_first, -1, 1)
    is_last[:, -1] = False
    action = {
        "steer": np.where(is_last[..., None], 0, 2.5 * draw("steer", 3)).astype(np.float32),
        "gear": np.where(is_last, 0, classes(draw("gear"), 5)),
    }
    obs = {
        "image": np.floor((draw("image", 16, 16, 3) + 1) / 2 * 255.999).astype(np.uint8),
        "vector": (3 * draw("vector", 5)).astype(np.float32),
    }
    reward = np.where(is_first, 0, 2 * draw("reward")).astype(np.float32)
    extras = {
        "latent/deter": draw("deter", 64).astype(np.float32),
        "latent/stoch": classes(draw("stoch", 8), 4),
        "row": np.zeros((*SHAPE, 2), np.int32),
    }
    return Batch(obs, action, reward, is_first, is_last, is_last & (draw("is_terminal") > 0), extras)


@pytest.fixture(scope="module")
def found():
    """What this project computes: one row per update, one per policy step."""
    with pytest.MonkeyPatch.context() as patch:
        # Without noise, every sample is the mode: of a class by argmax, of a continuous action the mean.
        patch.setattr(random, "draw", lambda sampler, key, shape: jnp.zeros(shape))
        return compute()


def compute():
    agent = make_agent(cli.parse(OPTIONS), OBS, ACT)
    like = jax.eval_shape(agent.init, jax.random.PRNGKey(0))
    params = jax.tree_util.tree_map_with_path(parameter, like.params)
    zeros = lambda tree: jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), tree)
    slow = {
        "behaviour": {"critic": jax.tree.map(lambda x: np.float32(0.9) * x, params["behaviour"]["critic"])}
    }
    state = zeros(like)._replace(params=params, slow=slow)
    carry, update, rows = agent.phase.initial(params, SHAPE[0]), jax.jit(agent.phase.update), []
    for index in UPDATES:
        state, carry, output = update(state, carry, make_batch(index))
        rows.append((state, output))
    batch, carry, act, steps = make_batch(0), agent.initial(state.params, SHAPE[0]), jax.jit(agent.act), []
    for step in STEPS:
        obs = {key: value[:, step + 1] for key, value in batch.obs.items()}
        obs["is_first"] = batch.is_first[:, step + 1]
        carry, action, entries = act(state.params, carry, obs, jax.random.PRNGKey(0))
        steps.append((action, entries))
    return rows, steps


def norms(tree):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {tensor_name(path): np.linalg.norm(np.asarray(leaf, np.float64)) for path, leaf in leaves}


def whole_norm(tree):
    return np.sqrt(sum(norm**2 for norm in norms(tree).values()))


@pytest.mark.parametrize("index", UPDATES)
def test_losses_and_gradient_norm_equal_the_reference(found, index):
    metrics, expected = found[0][index][1].metrics, RECORD["updates"][index]
    names = {key.removeprefix("loss/") for key in metrics if key.startswith("loss/")}
    assert names == {*expected["losses"], "total"}
    for name, value in expected["losses"].items():
        np.testing.assert_allclose(metrics[f"loss/{name}"], value, rtol=RTOL, err_msg=name)
    np.testing.assert_allclose(metrics["loss/total"], expected["total"], rtol=RTOL)
    np.testing.assert_allclose(metrics["grad_norm"], expected["grad_norm"], rtol=RTOL)


@pytest.mark.parametrize("index", UPDATES)
def test_second_moments_of_every_tensor_equal_the_reference(found, index):
    """That is the gradient after clipping, tensor by tensor."""
    state, expected = found[0][index][0], RECORD["updates"][index]["second_moment_norms"]
    (moments,) = (part for part in jax.tree.leaves(state.opt_state, is_leaf=has_moments) if has_moments(part))
    nu = {tensor_name(path[1:]): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(moments.nu)}
    assert nu.keys() == expected.keys() == {name.partition("/")[2] for name in norms(state.params)}
    for name, value in expected.items():
        norm = np.sqrt(np.sum(np.asarray(nu[name], np.float64)))
        exact = name in EXACTLY_ZERO
        np.testing.assert_allclose(
            norm, value, rtol=0 if exact else RTOL, atol=1e-9 if exact else 0, err_msg=name
        )


def has_moments(part):
    return hasattr(part, "nu")


@pytest.mark.parametrize("index", UPDATES)
def test_return_percentiles_and_slow_critic_equal_the_reference(found, index):
    state, expected = found[0][index][0], RECORD["updates"][index]
    np.testing.assert_allclose(state.stats.low, expected["return_low"], rtol=RTOL)
    np.testing.assert_allclose(state.stats.high, expected["return_high"], rtol=RTOL)
    np.testing.assert_allclose(whole_norm(state.slow), expected["slow_critic_norm"], rtol=RTOL)


@pytest.mark.parametrize("index", UPDATES)
def test_latents_written_back_equal_the_reference(found, index):
    written, expected = found[0][index][1].writeback, RECORD["updates"][index]
    deter = np.asarray(written["latent/deter"], np.float64)
    np.testing.assert_allclose(deter.mean(), expected["writeback_deter_mean"], rtol=RTOL)
    np.testing.assert_allclose(np.linalg.norm(deter), expected["writeback_deter_norm"], rtol=RTOL)
    np.testing.assert_array_equal(written["latent/stoch"][0], expected["writeback_stoch_first_row"])


@pytest.mark.parametrize("step", STEPS)
def test_actions_and_latents_of_acting_equal_the_reference(found, step):
    (action, entries), expected = found[1][step], RECORD["act"][step]
    np.testing.assert_allclose(action["steer"], expected["steer"], rtol=0, atol=RTOL)  # of a range of [-1, 1]
    np.testing.assert_array_equal(action["gear"], expected["gear"])
    deter = np.asarray(entries["latent/deter"], np.float64)
    np.testing.assert_allclose(np.linalg.norm(deter), expected["deter_norm"], rtol=RTOL)
