"""`dreamworld debug` repeats a failure that the guard kept."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from dreamworld.contract import Agent, Phase, Stage, Window
from dreamworld.errors import UserError
from dreamworld.scripts import debug
from dreamworld.training import trees
from dreamworld.training.checkpoint import Checkpointer
from dreamworld.training.failures import load_bad_batch, save_bad_batch
from dreamworld.training.guard import guarded, init_guard, inspect
from dreamworld.training.step import LossOut, make_update
from dreamworld.types import Batch, TrainState


class Descent:
    """Plain gradient descent with optax's interface."""

    def update(self, grads, state, params):
        return jax.tree.map(lambda grad: -0.1 * grad, grads), state


def loss(params, slow, stats, carry, batch, key):
    noise = jax.random.normal(key, ()) * 1e-3
    error = (params["w"] * batch.obs["speed"] + noise - batch.reward) ** 2
    penalty = jnp.log(params["w"])
    losses = {"error": error, "penalty": penalty}
    return error.mean() + penalty, LossOut(losses, stats, carry + 1, {}, None, {})


def make_agent():
    def init(key):
        return TrainState({"w": jnp.float32(0.5)}, (), (), (), jnp.int32(0), jnp.asarray(key))

    update = make_update(loss, Descent(), lambda slow, params: slow)  # pyright: ignore[reportArgumentType]
    phase = Phase("update", Window(2, 3), update, 1.0, initial=lambda params, batch: jnp.zeros(batch))
    fields = dict.fromkeys(Agent._fields)
    return Agent(**{**fields, "init": init, "stages": (Stage("train", (phase,)),)})


def make_batch(value):
    obs = jnp.full((2, 3), value)
    flag = jnp.zeros((2, 3), bool)
    return Batch({"speed": obs}, {}, jnp.ones((2, 3)), flag, flag, flag, {})


@pytest.fixture
def run(tmp_path):
    """Two updates, the second of which makes w negative; then a third that fails, is kept and saved."""
    agent = make_agent()
    step = jax.jit(guarded(agent.phase.update, "stop"))
    state, carry = agent.init(jax.random.PRNGKey(3)), agent.phase.initial(None, 2)
    batch = make_batch(1.0)
    guard = init_guard(batch, jax.eval_shape(agent.phase.update, state, carry, batch)[2].health, carry)
    for value in (1.0, 40.0, 2.0, 1.0):
        guard, state, carry, _ = step(guard, state, carry, make_batch(value))
    report = inspect(guard)
    assert report is not None and report.step == 2
    with Checkpointer(tmp_path / "checkpoints") as checkpointer:
        checkpointer.save(700, {"train": state, "carry": carry}, {}, {})
    save_bad_batch(tmp_path / "failures", guard, report, checkpoint=700)
    return tmp_path, agent


def test_the_failure_is_repeated_from_disk(run):
    directory, agent = run
    bad = load_bad_batch(debug.choose_failure(directory / "failures", None))
    state, source = debug.load_state(directory / "checkpoints", agent, bad)
    assert source == "parameters of checkpoint 700, exactly those of the failure"
    assert float(state.params["w"]) < 0 and int(state.step) == 2
    carry = debug.load_carry(agent, state, bad)
    np.testing.assert_array_equal(carry, [2.0, 2.0])
    text = "\n".join(debug.debug_batch(agent, state, carry, bad.batch))
    assert "losses that are not finite: loss/penalty, loss/total" in text
    assert "gradients that are not finite: 0 of 1" in text
    assert 'penalty = jnp.log(params["w"])' in text and "log makes float32[] with 1 of 1 value nan" in text


def test_another_checkpoint_is_said_to_be_one(run):
    directory, agent = run
    bad = load_bad_batch(debug.choose_failure(directory / "failures", 2))
    bad.summary["checkpoint"] = 650  # deleted since
    state, source = debug.load_state(directory / "checkpoints", agent, bad._replace(step=5))
    assert source == "parameters of checkpoint 700, of update 2, the failure was at 5"
    assert int(state.step) == 5


def test_a_finite_update_is_said_to_be_finite():
    agent = make_agent()
    lines = debug.debug_batch(agent, agent.init(jax.random.PRNGKey(0)), jnp.zeros(2), make_batch(1.0))
    assert lines == [
        "repeated here, this update is finite: the failure needs other parameters or another device"
    ]


def test_a_bad_observation_is_named():
    agent = make_agent()
    lines = debug.debug_batch(
        agent, agent.init(jax.random.PRNGKey(0)), jnp.zeros(2), make_batch(float("nan"))
    )
    assert "  1. batch/obs/speed is not finite to begin with" in lines


def test_a_run_without_failures_is_the_users_to_know(tmp_path, run):
    with pytest.raises(UserError, match="has caught nothing"):
        debug.explain(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="--update 7: no failure was saved there; there are 2"):
        debug.explain(run[0], 7)


def change(*path):
    """A change of what was saved: the value at a path of keys."""
    *way, key, value = path

    def make(tree):
        for part in way:
            tree = tree[part]
        tree[key] = value

    return make


@pytest.mark.parametrize(
    "make",
    [
        change("batch", "obs", np.zeros((2, 3), np.float32)),
        change("batch", "obs", "speed", np.zeros((1, 3), np.float32)),
        change("batch", "obs", "speed", np.array("text")),
        change("batch", "reward", {"a": np.zeros((2, 3), np.float32)}),
        change("batch", "reward", np.array(1, np.float32)),
        change("batch", "reward", np.zeros(3, np.float32)),
        change("batch", "is_last", np.zeros((3, 2), bool)),
        change("batch", "extras", {"weight": np.zeros(3, np.float32)}),
        change("batch", "more", np.zeros((2, 3), np.float32)),
        change("carry", [1.0]),
        change("carry", [np.zeros(7, np.float32)]),
        change("key", np.zeros(3, np.uint32)),
        change("key", {}),
        change("step", 2**40),
        change("report", "checkpoint", "700"),
        change("report", "text", None),
    ],
)
def test_a_crafted_failure_is_one_line(run, make):
    directory, agent = run
    folder = epath.Path(directory / "failures" / "2")
    tree = trees.read_tree(folder) | {"report": json.loads((folder / "report.json").read_text())}
    make(tree)
    (folder / "report.json").write_text(json.dumps(tree.pop("report")))
    trees.write_tree(folder, tree)
    with pytest.raises(UserError) as caught:
        bad = load_bad_batch(folder)
        debug.load_carry(agent, agent.init(jax.random.PRNGKey(0)), bad)
    assert "\n" not in str(caught.value)
