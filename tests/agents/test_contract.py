"""What every registered agent must do. Register an agent, and it is tested here."""

import dataclasses
import io
import subprocess
import sys
from contextlib import redirect_stdout
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dreamworld
from dreamworld import agents, cli, dream, presets, schema
from dreamworld.agents import find, make_agent
from dreamworld.config import Config, EnvConfig, ReplayConfig, RunConfig
from dreamworld.contract import modules
from dreamworld.dream_env import DreamEnv, burn_in
from dreamworld.envs.jax.view import GymView
from dreamworld.errors import UserError
from dreamworld.plan_options import PlanConfig
from dreamworld.rollout import trained_rows
from dreamworld.sessions.planning import with_planner
from dreamworld.testing import random_batch
from dreamworld.training.checkpoint import Checkpointer
from dreamworld.training.learner import Learner
from dreamworld.types import Space

KEY = jax.random.PRNGKey(0)
OBS = {"image": Space((8, 8, 3), "uint8"), "vector": Space((3,), "float32")}
ACT = {"move": Space((2,), "float32", low=-1.0, high=1.0)}
BATCH, LENGTH = 2, 4

pytestmark = pytest.mark.parametrize("name", agents.names())


@pytest.fixture(scope="module")
def built():
    """name -> (agent, compiled update, train state, batch), each built once."""
    found: dict[str, Any] = {}

    def get(name):
        if name not in found:
            agent = make_agent(config_of(name), OBS, ACT)
            batch = make_batch(agent, config_of(name))
            found[name] = agent, jax.jit(agent.phase.update), jax.jit(agent.init)(KEY), batch
        return found[name]

    return get


def config_of(name):
    return Config(agent=find(name).tiny, run=RunConfig(batch_size=BATCH, batch_length=LENGTH))


def make_batch(agent, config, seed=0):
    return random_batch(np.random.default_rng(seed), OBS, ACT, agent.latent_space | agent.extra_space, config)


def kinds(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)


def close(found, expected, atol=1e-5):
    for (path, one), two in zip(jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(expected)):
        np.testing.assert_allclose(one, two, atol=atol, rtol=1e-4, err_msg=jax.tree_util.keystr(path))


def test_parameters_are_those_of_a_world_and_of_a_behaviour(built, name):
    agent, _, state, _ = built(name)
    assert set(state.params) == {"world", "behaviour"} and set(state.slow) <= set(state.params)
    assert sum(len(part) for part in state.params.values()) == len(modules(state.params))
    assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {jnp.dtype("float32")}
    assert set(agent.assignment) <= set(OBS) and all(key.startswith("latent/") for key in agent.latent_space)
    assert all(key.startswith("extra/") for key in agent.extra_space)
    assert set(agent.widths) <= set(modules(state.params))
    options = schema.options(config_of(name))
    assert all(key in options for keys in agent.widths.values() for key in keys)
    assert all(key in options for memory in agent.memory for key in memory.options)


def test_an_action_in_which_there_is_nothing_to_choose_is_refused(name):
    with pytest.raises(UserError, match=r"action 'move' has the shape \(0,\): there is nothing to choose"):
        make_agent(config_of(name), OBS, {"move": Space((0,), "float32", low=-1.0, high=1.0)})


def test_equal_keys_give_equal_agents_and_others_do_not(built, name):
    agent, _, state, _ = built(name)
    again, other = jax.jit(agent.init)(KEY), jax.jit(agent.init)(jax.random.PRNGKey(1))
    jax.tree.map(np.testing.assert_array_equal, state, again)
    assert any((a != b).any() for a, b in zip(jax.tree.leaves(state.params), jax.tree.leaves(other.params)))


def test_an_update_keeps_shapes_moves_parameters_and_refreshes_what_replay_stores(built, name):
    agent, update, state, batch = built(name)
    carry = agent.phase.initial(state.params, BATCH)
    for _ in range(2):  # the first may be at a learning rate of 0
        new, new_carry, output = update(state, carry, batch)
        assert kinds((new, new_carry)) == kinds((state, carry)) and all(output.health.values())
        state, before = new, state
    assert int(state.step) == 2 and np.isfinite(output.metrics["loss/total"])
    moved = [(a != b).any() for a, b in zip(jax.tree.leaves(state.params), jax.tree.leaves(before.params))]
    assert any(moved)
    stored = agent.latent_space | agent.extra_space
    assert {key: (value.shape, value.dtype.name) for key, value in output.writeback.items()} == {
        key: ((BATCH, LENGTH, *stored[key].shape), stored[key].dtype)
        for key in {*agent.latent_space, *output.writeback}
    }


@pytest.mark.soak
def test_an_update_without_jit_equals_one_with(built, name):
    agent, update, state, batch = built(name)
    carry = agent.phase.initial(state.params, BATCH)
    with jax.disable_jit():
        eager = agent.phase.update(state, carry, batch)
    close(eager, update(state, carry, batch))


def test_importance_weights_of_one_change_nothing_and_others_do(built, name):
    agent, update, state, batch = built(name)
    carry = agent.phase.initial(state.params, BATCH)
    weigh = lambda *weights: batch._replace(extras=batch.extras | {"weight": np.asarray(weights, np.float32)})
    plain, same = update(state, carry, batch), update(state, carry, weigh(*[1] * BATCH))
    for key in ("loss/total", "grad_norm"):  # programs of their own: the compiler adds up in another order
        np.testing.assert_allclose(same[2].metrics[key], plain[2].metrics[key], rtol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, same[2].writeback, plain[2].writeback)
    other = update(state, carry, weigh(*[0.5] * BATCH))[2]
    np.testing.assert_allclose(other.metrics["loss/total"], plain[2].metrics["loss/total"] / 2, rtol=1e-5)
    np.testing.assert_allclose(other.metrics["grad_norm"], plain[2].metrics["grad_norm"] / 2, rtol=1e-3)
    uneven = update(state, carry, weigh(1, *[0] * (BATCH - 1)))[2]
    assert abs(uneven.metrics["loss/total"] - plain[2].metrics["loss/total"] / BATCH) > 1e-3


def test_seeds_in_one_program_equal_each_alone(built, name):
    agent, update, state, batch = built(name)
    states = [state, jax.jit(agent.init)(jax.random.PRNGKey(1))]
    batches = [batch, make_batch(agent, config_of(name), seed=1)]
    carry = agent.phase.initial(state.params, BATCH)
    stack = lambda *trees: jax.tree.map(lambda *leaves: np.stack(leaves), *trees)
    together = jax.jit(jax.vmap(agent.phase.update))(stack(*states), stack(carry, carry), stack(*batches))
    for index, (state, batch) in enumerate(zip(states, batches)):
        close(jax.tree.map(lambda leaf, index=index: leaf[index], together), update(state, carry, batch))


def test_a_nan_changes_nothing_and_is_named(built, name):
    agent, update, state, batch = built(name)
    vector = batch.obs["vector"].copy()
    vector[1, 2, 0] = np.nan
    carry = agent.phase.initial(state.params, BATCH)
    new, new_carry, output = update(state, carry, batch._replace(obs=batch.obs | {"vector": vector}))
    jax.tree.map(np.testing.assert_array_equal, (new, new_carry), (state, carry))
    bad = {key for key, finite in output.health.items() if not finite}
    assert "loss/total" in bad and any(key.startswith("grad/world/") for key in bad)
    for key, value in output.writeback.items():
        np.testing.assert_array_equal(value, batch.extras[key][:, -LENGTH:])


@pytest.mark.parametrize("count", [1, 16])
def test_acting_returns_actions_and_what_replay_stores(built, name, count):
    agent, _, state, _ = built(name)
    params = agent.acting(state)
    assert set(params) == {"world", "behaviour"}
    carry = agent.initial(params, count)
    obs = {key: np.stack([space.zeros()] * count) for key, space in OBS.items()}
    act = jax.jit(agent.act, static_argnames="mode")
    new, action, entries = act(params, carry, {**obs, "is_first": np.ones(count, bool)}, KEY)
    assert kinds(new) == kinds(carry) and all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(action))
    assert {key: value.shape for key, value in action.items()} == {"move": (count, 2)}
    assert {key: (value.shape, value.dtype.name) for key, value in entries.items()} == {
        key: ((count, *space.shape), space.dtype)
        for key, space in (agent.latent_space | agent.extra_space).items()
    }


def test_an_episode_start_hides_the_past(built, name):
    agent, _, state, _ = built(name)
    params, act = agent.acting(state), jax.jit(agent.act)
    random = np.random.default_rng(0)
    obs = lambda first: (
        {key: space.sample(random, 3) for key, space in OBS.items()}
        | {"is_first": np.array([True, first, True])}
    )
    seen, _, _ = act(params, agent.initial(params, 3), obs(True), KEY)
    rows = obs(False)
    fresh, going = act(params, agent.initial(params, 3), rows, KEY), act(params, seen, rows, KEY)
    for one, two in zip(jax.tree.leaves(fresh[1:]), jax.tree.leaves(going[1:])):
        np.testing.assert_array_equal(one[::2], two[::2])


def test_the_simulator_has_the_shapes_of_the_contract(built, name):
    agent, _, state, batch = built(name)
    simulator, params = agent.simulator, agent.acting(state)["world"]
    if simulator is None:
        return
    start = simulator.initial(params, 3)
    obs = {key: space.sample(np.random.default_rng(0), 3) for key, space in OBS.items()}
    none = {"move": np.zeros((3, 2), np.float32)}
    seen = jax.jit(simulator.observe)(params, start, none, obs, np.ones(3, bool), KEY)
    dreamt = jax.jit(simulator.imagine)(params, seen, none, KEY)
    assert kinds(seen) == kinds(start) == kinds(dreamt)
    cold = [jax.jit(simulator.imagine)(params, seen, none, jax.random.PRNGKey(seed), 0.0) for seed in (1, 2)]
    jax.tree.map(np.testing.assert_array_equal, *cold)  # without noise, the key does not matter
    feature = simulator.feature(params, dreamt)
    assert feature.ndim == 2 and len(feature) == 3
    if simulator.predict:
        reward, cont = simulator.predict(params, feature)
        assert reward.shape == cont.shape == (3,) and ((cont >= 0) & (cont <= 1)).all()
    if simulator.surprise:
        surprise = simulator.surprise(params, start, none, obs, np.ones(3, bool), KEY)
        assert surprise.shape == (3,) and np.isfinite(surprise).all()
    for ability in ("decode", "edit"):
        assert (getattr(simulator, ability) is not None) == (ability in find(name).can)
    if simulator.edit:
        edit = jax.jit(simulator.edit)
        black = {key: space.zeros(3) for key, space in OBS.items()}
        edited, other = edit(params, dreamt, obs, KEY), edit(params, dreamt, black, KEY)
        assert kinds(edited) == kinds(start)
        assert (simulator.feature(params, edited) != simulator.feature(params, other)).any()
    if simulator.decode:
        decoded = simulator.decode(params, feature)
        assert {key: value.shape for key, value in decoded.items()} == {
            key: (3, *OBS[key].shape) for key in decoded
        }
        found = dream.report(simulator, OBS, params, batch, 1, KEY)
        assert found.pop("is_first").shape == (BATCH, LENGTH)
        assert {key: value.shape for key, value in found.items()} == {
            f"{side}/{key}": (BATCH, LENGTH, *OBS[key].shape)
            for key in decoded
            for side in ("truth", "dream")
        }


def test_its_value_is_a_number_of_each_state(built, name):
    agent, _, state, batch = built(name)
    if agent.value is None:
        return
    assert agent.simulator is not None
    params = agent.acting(state)
    starts = burn_in(agent.simulator, params["world"], trained_rows(batch, 0), KEY)
    feature = agent.simulator.feature(params["world"], starts)
    value = jax.jit(agent.value)(params, feature)
    assert value.shape == (BATCH,) and np.isfinite(value).all() and 0 < agent.discount <= 1
    # Not by one number: a symmetric distribution over returns would keep its mean of 0.
    moved = lambda x: x + jax.random.normal(KEY, x.shape)
    other = {**params, "behaviour": jax.tree.map(moved, params["behaviour"])}
    assert not np.array_equal(value, agent.value(other, feature))  # a critic's, with parameters of its own


def test_it_can_plan_in_its_own_world(built, name):
    agent, _, state, batch = built(name)
    if agent.simulator is None or agent.simulator.predict is None:
        return
    proposals = 3 * (agent.choose is not None)
    options = PlanConfig(horizon=2, candidates=8, iterations=2, elites=4, actor=proposals)
    own = with_planner(agent, name, "mppi", options)
    params, act = agent.acting(state), jax.jit(own.act)
    carry = own.initial(params, BATCH)
    row = lambda t: (
        {key: value[:, t] for key, value in batch.obs.items()} | {"is_first": batch.is_first[:, t]}
    )
    for t in range(2):
        new, action, stored = act(params, carry, row(t), jax.random.fold_in(KEY, t))
        assert kinds(new) == kinds(carry) and stored == {}
        assert action["move"].shape == (BATCH, 2) and (jnp.abs(action["move"]) <= 1).all()
        carry = new
    assert (carry[2].mean != 0).any()
    # The state that it plans from is what the model makes of the rows, its own actions between them.
    seen = agent.simulator.initial(params["world"], BATCH)
    before = jax.tree.map(jnp.zeros_like, action)
    key = jax.random.split(jax.random.fold_in(KEY, 0))[0]
    seen = agent.simulator.observe(params["world"], seen, before, row(0), batch.is_first[:, 0], key)
    first = act(params, own.initial(params, BATCH), row(0), jax.random.fold_in(KEY, 0))[0][0]
    close(agent.simulator.feature(params["world"], first), agent.simulator.feature(params["world"], seen))


def test_its_world_can_be_played(built, name):
    agent, _, state, batch = built(name)
    simulator, params = agent.simulator, agent.acting(state)["world"]
    if simulator is None or simulator.predict is None:
        return
    starts = burn_in(simulator, params, trained_rows(batch, 0), KEY)
    for shown in ("feature", "decoded") if simulator.decode else ("feature",):
        env = DreamEnv(simulator, params, OBS, ACT, starts, horizon=3, shown=shown)
        view = GymView(env)
        obs, _ = view.reset(seed=0)
        assert {key: (value.shape, value.dtype.name) for key, value in obs.items()} == {
            key: (space.shape, space.dtype) for key, space in env.obs_space.items()
        }
        ends = []
        while not any(ends):
            obs, reward, *ends, _ = view.step({"move": np.zeros(2)})
            assert np.isfinite(reward) and all(np.isfinite(value).all() for value in obs.values())


def test_a_learner_that_is_saved_and_restored_goes_on_to_the_same_bits(built, name, tmp_path):
    agent, _, _, _ = built(name)
    batches = [make_batch(agent, config_of(name), seed) for seed in range(3)]
    one = Learner(agent, 0, num_envs=2, batch_size=BATCH)
    one.update(one.layout.put(batches[0]))
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(1, one.snapshot(), {}, {}, block=True)
        two = Learner(agent, 5, num_envs=2, batch_size=BATCH)
        two.load(checkpointer.restore(1, two.snapshot()).agent)
    for learner in (one, two):
        for batch in batches[1:]:
            learner.update(learner.layout.put(batch))
    jax.tree.map(np.testing.assert_array_equal, one.snapshot(), two.snapshot())


DEVICES = """
import sys
import jax
jax.config.update("jax_num_cpu_devices", 2)
import numpy as np
sys.path.insert(0, "tests/agents")
import test_contract as contract
from dreamworld import parallel
from dreamworld.config import ParallelConfig
from dreamworld.training.learner import Learner
name = sys.argv[1]
config = contract.config_of(name)
agent = contract.make_agent(config, contract.OBS, contract.ACT)
found = []
for devices in (1, 2):
    layout = parallel.make_layout(ParallelConfig(1, devices, 1), batch_size=contract.BATCH)
    learner = Learner(agent, 0, num_envs=2, batch_size=contract.BATCH, layout=layout)
    shift = lambda leaf: leaf + 0.3 * np.random.default_rng(leaf.size).normal(size=leaf.shape).astype(leaf.dtype)
    params = jax.device_put(jax.tree.map(shift, jax.device_get(learner.state.params)), learner.shardings.params)
    learner.state = learner.state._replace(params=params)
    output = learner.update(layout.put(contract.make_batch(agent, config)))
    found.append(jax.device_get((learner.state.stats, output.metrics, output.writeback)))
contract.close(found[1], found[0], atol=1e-4)
"""


def test_two_devices_equal_one(repo, name):
    """Losses, the gradient's norm, statistics and latents are those of the whole batch, however it is split.

    On shifted parameters: the values of a head that knows nothing yet are rounding.
    """
    done = subprocess.run(
        [sys.executable, "-c", DEVICES, name], cwd=repo, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_every_option_is_in_the_help(name):
    text = io.StringIO()
    with redirect_stdout(text), pytest.raises(SystemExit):
        cli.parse(["--agent", name, "--help"])
    words = set(text.getvalue().split())
    assert {f"--{key}" for key in schema.options(Config(agent=find(name).config))} <= words | {"--agent.name"}


def test_it_trains_stops_and_goes_on(name, tmp_path):
    run = RunConfig(
        steps=64, train_ratio=16, batch_size=BATCH, batch_length=LENGTH, log_every=32, report_every=32,
        save_every=64, progress=False,
    )  # fmt: skip
    task, options = "jax_catch", ""
    if "discrete" not in find(name).actions:
        task, options = "jax_balls", "action=continuous,n=1,size=16"
    config = Config(
        task=task, logdir=str(tmp_path / "run"), agent=find(name).tiny, env=EnvConfig(num=2, options=options), run=run,
        replay=ReplayConfig(min_starts=8, chunk=16, capacity_steps=1000),
    )  # fmt: skip
    assert dreamworld.train(config) == 0
    longer = dataclasses.replace(config, run=dataclasses.replace(run, steps=128))
    assert dreamworld.train(longer) == 0
    player = dreamworld.load(tmp_path / "run")
    state = player.initial()
    obs = {key: space.zeros() for key, space in player.obs_space.items()}
    _, action = player.act(state, obs)
    assert set(action) == set(player.act_space)
    if find(name).config.name in agents.built_in():
        assert presets.load_yaml(tmp_path / "run" / "config.yaml").agent == find(name).tiny
