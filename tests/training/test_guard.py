"""The guard keeps the first bad batch, never applies it, and names what was not finite."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamworld.errors import UserError
from dreamworld.training.failures import load_bad_batch, save_bad_batch
from dreamworld.training.guard import guarded, init_guard, inspect, release
from dreamworld.types import Batch, Output, TrainState

NAN = float("nan")


def make_batch(value, row=0):
    """B = 2, L = 3, T = 2."""
    rows = np.arange(row, row + 6, dtype=np.int64).reshape(2, 3).view(np.int32).reshape(2, 3, 2)
    obs = jnp.zeros((2, 3)).at[1, 2].set(value)
    flag = jnp.zeros((2, 3), bool)
    latent = jnp.full((2, 3, 4), 0.5, jnp.bfloat16)
    extras = {"row": jnp.asarray(rows), "latent/deter": latent}
    zeros = jnp.zeros((2, 3))
    return Batch({"speed": obs}, {"action": zeros}, zeros, flag, flag, flag, extras)


def make_state():
    return TrainState({"w": jnp.ones(())}, (), (), (), jnp.int32(0), jnp.array([1, 2], jnp.uint32))


def update(state, carry, batch):
    """A model of one weight; as the agents' own, it does not apply what is not finite."""
    loss = jnp.mean(batch.obs["speed"]) * state.params["w"]
    health = {"loss/dyn": jnp.isfinite(loss), "loss/rep": jnp.array(True), "grad/w": jnp.isfinite(loss)}
    new = TrainState({"w": state.params["w"] + loss}, (), (), (), state.step + 1, state.key)
    new = jax.tree.map(lambda a, b: jnp.where(jnp.isfinite(loss), a, b), new, state)
    latent = jnp.full((2, 2, 4), loss, jnp.float32)
    output = Output({"loss": loss}, {"latent/deter": latent}, jnp.full((2, 2), loss), health)
    return new, carry + loss, output


@functools.cache
def jitted(policy, limit):
    return jax.jit(guarded(update, policy, limit), donate_argnums=(0, 1, 2))


def run(values, policy="skip", limit=10, release_after=()):
    """Runs one batch per value; batch i has the rows 100 i ... and the carry counts what was applied."""
    step = jitted(policy, limit)
    state, carry = make_state(), jnp.zeros(2)
    batch = make_batch(0.0)
    health = jax.eval_shape(update, state, carry, batch)[2].health
    guard = init_guard(batch, health, carry)
    outputs = []
    for index, value in enumerate(values):
        guard, state, carry, output = step(guard, state, carry, make_batch(value, 100 * index))
        outputs.append(output)
        if index in release_after:
            guard = release(guard)
    return state, carry, guard, outputs


def test_healthy_updates_pass_unchanged():
    state, _, guard, outputs = run([0.0, 6.0])
    expected = make_state()
    for value in (0.0, 6.0):
        expected, _, output = update(expected, jnp.zeros(2), make_batch(value))
    assert state.params["w"] == expected.params["w"] == 2.0 and state.step == 2
    np.testing.assert_array_equal(outputs[1].writeback["latent/deter"], output.writeback["latent/deter"])
    np.testing.assert_array_equal(outputs[1].priorities, output.priorities)
    assert inspect(guard) is None and not np.any(np.asarray(guard.batch.obs["speed"]))


def test_skip_counts_and_goes_on():
    state, carry, guard, outputs = run([0.0, NAN, NAN, 6.0, NAN])
    assert state.params["w"] == 2.0 and state.step == 2
    assert np.isfinite(np.asarray(carry)).all()
    report = inspect(guard)
    assert report is not None
    assert (report.skipped, report.consecutive, report.held, report.frozen) == (3, 1, 0, False)
    assert [int(output.metrics["guard/skipped"]) for output in outputs] == [0, 1, 2, 2, 3]


def test_the_first_failure_is_kept():
    _, _, guard, _ = run([0.0, NAN, float("inf")])
    report = inspect(guard)
    assert report is not None and report.step == 1
    np.testing.assert_array_equal(report.rows, np.arange(100, 106).reshape(2, 3))
    assert np.isnan(np.asarray(guard.batch.obs["speed"])[1, 2])


def test_stop_freezes_after_the_first_failure():
    state, _, guard, _ = run([6.0, NAN, 6.0, NAN, 6.0], policy="stop")
    assert state.params["w"] == 2.0 and state.step == 1
    report = inspect(guard)
    assert report is not None
    assert (report.skipped, report.held, report.frozen) == (1, 3, True)


def test_skip_freezes_beyond_its_limit():
    state, _, guard, _ = run([NAN, NAN, 6.0, NAN, 6.0], limit=2)
    assert state.step == 1 and bool(guard.frozen) and int(guard.skipped) == 3
    state, _, guard, _ = run([NAN, NAN, 6.0], limit=2)
    assert state.step == 1 and not bool(guard.frozen)


def test_a_dropped_update_feeds_nothing_back():
    *_, outputs = run([NAN, 6.0], policy="stop")
    for output in outputs:  # the first failed, the second met the freeze
        np.testing.assert_array_equal(output.writeback["latent/deter"], np.full((2, 2, 4), 0.5))
        np.testing.assert_array_equal(output.priorities, np.zeros((2, 2)))


def test_release_lets_the_next_failure_in():
    state, _, guard, _ = run([NAN, 6.0, NAN], policy="stop", release_after=[0])
    assert state.step == 1
    report = inspect(guard)
    assert report is not None and report.step == 1 and report.skipped == 2
    np.testing.assert_array_equal(report.rows, np.arange(200, 206).reshape(2, 3))


def test_the_report_names_losses_tensors_inputs_and_rows():
    _, _, guard, _ = run([0.0, NAN], policy="stop")
    report = inspect(guard)
    assert report is not None
    assert report.losses == ("dyn",) and report.tensors == ("w",)
    assert report.inputs == ("obs/speed (1 value, first in row 2 of chunk 1)",)
    for part in (
        "update 1",
        "losses: dyn",
        "gradients: w",
        "obs/speed",
        "100..102, 103..105",
        "no update is applied",
    ):
        assert part in report.text


def test_a_carry_that_came_in_bad_is_named():
    step = jax.jit(guarded(update, "stop"))
    batch, carry = make_batch(NAN), jnp.array([0.0, NAN])
    health = jax.eval_shape(update, make_state(), carry, batch)[2].health
    guard, *_ = step(init_guard(batch, health, carry), make_state(), carry, batch)
    report = inspect(guard)
    assert report is not None and "carry (1 value)" in report.inputs


def test_a_bad_batch_is_read_back_as_it_was(tmp_path):
    _, _, guard, _ = run([6.0, NAN], policy="stop")
    report = inspect(guard)
    assert report is not None
    folder = save_bad_batch(tmp_path / "failures", guard, report, checkpoint=500)
    assert folder.name == "1" and [path.name for path in folder.parent.iterdir()] == ["1"]
    bad = load_bad_batch(folder)
    assert bad.step == 1 and bad.summary["checkpoint"] == 500 and bad.summary["text"] == report.text
    np.testing.assert_array_equal(bad.key, [1, 2])
    np.testing.assert_array_equal(bad.carry[0], np.ones(2))
    for found, expected in zip(jax.tree.leaves(bad.batch), jax.tree.leaves(guard.batch), strict=True):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, np.asarray(expected))


def test_a_damaged_bad_batch_is_the_users_to_know(tmp_path):
    (tmp_path / "tree.json").write_text("{")
    with pytest.raises(UserError, match="does not hold a batch"):
        load_bad_batch(tmp_path)


def test_no_carry_is_kept_when_none_was_given():
    step = jax.jit(guarded(update, "stop"))
    health = jax.eval_shape(update, make_state(), jnp.zeros(2), make_batch(0.0))[2].health
    guard, *_ = step(init_guard(make_batch(0.0), health), make_state(), jnp.zeros(2), make_batch(NAN))
    assert inspect(guard) is not None and guard.carry == ()


def test_a_policy_that_does_not_exist_is_refused():
    with pytest.raises(UserError, match=r"run\.nan_policy is 'ignore'"):
        guarded(update, "ignore")


def test_it_works_over_a_seed_axis():
    step = jax.jit(jax.vmap(guarded(update, "stop")))
    stack = lambda *trees: jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
    batches = stack(make_batch(6.0), make_batch(NAN))
    health = jax.eval_shape(update, make_state(), jnp.zeros(2), make_batch(0.0))[2].health
    guard = init_guard(make_batch(0.0), health, jnp.zeros(2))
    states, carries = stack(make_state(), make_state()), jnp.zeros((2, 2))
    guard, state, *_ = step(stack(guard, guard), states, carries, batches)
    np.testing.assert_array_equal(state.params["w"], [2.0, 1.0])
    assert inspect(jax.tree.map(lambda x: x[0], guard)) is None
    assert inspect(jax.tree.map(lambda x: x[1], guard)) is not None
