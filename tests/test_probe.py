"""A decoder for models that can't decode: it learns beside them, and changes nothing in them."""

import dataclasses
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dreamworld
from dreamworld import cli, dream
from dreamworld.agents import make_agent
from dreamworld.contract import Phase, Stage, Window, modules
from dreamworld.dream_env import DreamEnv, burn_in
from dreamworld.envs.jax.view import GymView
from dreamworld.errors import UserError
from dreamworld.logging.rundir import RunDir
from dreamworld.probe import Probe, with_probe
from dreamworld.rollout import trained_rows
from dreamworld.sessions import load, pieces
from dreamworld.testing import random_batch, tiny_config
from dreamworld.types import Space

KEY = jax.random.PRNGKey(0)
OBS = {"image": Space((8, 8, 3), "uint8"), "vector": Space((3,), "float32")}
ACT = {"move": Space((2,), "float32", low=-1.0, high=1.0)}
CONFIG = tiny_config(batch=2, length=4)


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(pathlib.Path(__file__).parent / "training")
    yield
    sys.modules.pop("blind", None)


def blind():
    agent = make_agent(CONFIG, OBS, ACT)
    assert agent.simulator is not None
    return agent._replace(simulator=agent.simulator._replace(decode=None))


def make_batch(agent, seed=0):
    return random_batch(np.random.default_rng(seed), OBS, ACT, agent.latent_space, CONFIG)


@pytest.fixture(scope="module")
def pair():
    """The agent without and with a probe, their first train states, and the compiled updates by phase."""
    found = []
    for agent in (blind(), with_probe(blind())):
        updates = {phase.name: jax.jit(phase.update) for phase in agent.phases}
        found.append((agent, jax.jit(agent.init)(KEY), updates))
    return found


def same(one, two):
    jax.tree.map(np.testing.assert_array_equal, one, two)


def test_it_is_the_agent_with_a_module_and_a_phase_more(pair):
    (plain, state, _), (probed, more, _) = pair
    assert set(modules(more.params)) == {*modules(state.params), "probe"}
    assert [phase.name for phase in probed.phases] == ["probe", "update"]
    assert (
        probed.phase.name == plain.phase.name
    )  # what is asked of an agent with one phase is asked of its own
    assert probed.phases[0].window == dataclasses.replace(plain.phase.window, order="aside")
    assert probed.phases[0].ratio == plain.phase.ratio
    assert set(probed.acting(more)["world"]) == {*plain.acting(state)["world"], "probe"}
    same(probed.acting(more._replace(opt_state=None)), probed.acting(more))  # as of a run that is only played


def test_the_agent_learns_the_same_to_the_bit_and_acts_the_same(pair):
    (plain, state, updates), (probed, more, probing) = pair
    for index in range(3):
        batch = make_batch(plain, index)
        state, _, output = updates["update"](state, (), batch)
        more, _, _ = probing["probe"](more, (), make_batch(plain, 10 + index))
        more, _, found = probing["update"](more, (), batch)
        same(found, output)
    rest = {
        part: {name: own for name, own in more.params[part].items() if name != "probe"}
        for part in more.params
    }
    same(rest, state.params)
    same((more.opt_state.agent, *more[2:]), (state.opt_state, *state[2:]))
    assert int(more.opt_state.updates) == 3
    obs = {key: space.zeros(2) for key, space in OBS.items()} | {"is_first": np.ones(2, bool)}
    acts = []
    for agent, own in ((plain, state), (probed, more)):
        params = agent.acting(own)
        acts.append(
            jax.jit(agent.act, static_argnames="mode")(
                params, agent.initial(params, 2), obs, KEY, mode="greedy"
            )
        )
    same(*acts)


def test_it_learns_to_show_what_the_model_saw(pair):
    _, (probed, state, updates) = pair
    batch, errors = make_batch(probed), []
    for _ in range(60):
        new, carry, output = updates["probe"](state, (), batch)
        assert carry == () and output.writeback == {} and all(output.health.values())
        same(new.params["world"]["dynamics"], state.params["world"]["dynamics"])
        state, metrics = new, output.metrics
        errors.append(float(metrics["loss/total"]))
    assert errors[-1] < 0.5 * errors[0]
    assert set(metrics) == {"loss/image", "loss/vector", "loss/total", "grad_norm"}


def test_a_nan_changes_nothing_and_is_named(pair):
    _, (probed, state, updates) = pair
    batch = make_batch(probed)
    vector = batch.obs["vector"].copy()
    vector[1, 2, 0] = np.nan
    new, _, output = updates["probe"](state, (), batch._replace(obs=batch.obs | {"vector": vector}))
    same(new, state)
    bad = {key for key, finite in output.health.items() if not finite}
    assert "loss/total" in bad and any(key.startswith("grad/world/probe/vector") for key in bad)


def test_reports_and_dreams_show_what_it_decodes(pair):
    (plain, bare, _), (probed, state, _) = pair
    batch, params = make_batch(probed), probed.acting(state)["world"]
    assert dream.report(plain.simulator, OBS, plain.acting(bare)["world"], batch, 1, KEY) == {}
    found = dream.report(probed.simulator, OBS, params, batch, 1, KEY)
    assert found.pop("is_first").shape == (2, 4)
    assert {key: value.shape for key, value in found.items()} == {
        f"{side}/{key}": (2, 4, *space.shape) for key, space in OBS.items() for side in ("truth", "probe")
    }
    starts = burn_in(probed.simulator, params, trained_rows(batch, 1), KEY)
    same(starts, burn_in(plain.simulator, plain.acting(bare)["world"], trained_rows(batch, 1), KEY))
    view = GymView(DreamEnv(probed.simulator, params, OBS, ACT, starts, horizon=2, shown="decoded"))
    view.reset(seed=0)
    obs, _, _, _, _ = view.step({"move": np.zeros(2)})
    assert obs["image"].shape == (8, 8, 3) and obs["image"].dtype == np.uint8


def test_observations_of_every_kind_and_size_are_decoded():
    spaces = {
        "a/wide": Space((5, 22, 1), "uint8"),
        "dot": Space((1, 1, 3), "uint8"),
        "grid": Space((2, 2, 2), "float32"),
        "class": Space((2,), "int32", classes=3),
        "flag": Space((), "bool"),
        "nothing": Space((0,), "float32"),
    }
    probe, feature = Probe(spaces), jnp.ones((2, 3, 4))
    params = probe.init(KEY, jnp.ones((1, 4)))
    decoded = probe.decode(params, feature)
    assert {key: value.shape[2:] for key, value in decoded.items()} == {
        key: space.shape for key, space in spaces.items() if key != "nothing"
    }
    assert {value.dtype for value in decoded.values()} == {jnp.dtype("float32")}
    obs = {key: np.zeros((2, 3, *space.shape), space.dtype) for key, space in spaces.items()}
    losses = probe.losses(params, feature, obs)
    assert all(loss.shape == (2, 3) for loss in losses.values())
    error = np.square(np.log1p(np.abs(decoded["grid"]))).mean((-1, -2, -3))  # the target is 0
    np.testing.assert_allclose(losses["grid"], error, rtol=1e-4)


def test_every_stage_with_batches_gets_a_probe_that_lasts_as_long_as_they_do():
    phase = lambda name, window, **limits: Phase(name, window, lambda *_: None, 1.0, **limits)  # pyright: ignore
    window, sweep = Window(2, 4), Window(2, 4, order="sweep")
    stages = (
        Stage("random", (), collect="random", steps=10),
        Stage("see", (phase("encode", sweep), phase("fit", None, at_most=3)), collect="none"),
        Stage("train", (phase("world", window, begins=5), phase("act", None)), steps=9),
        Stage("tail", (phase("end", None, at_most=1),), collect="none"),
        Stage("ever", (phase("on", window),), collect="none"),
    )
    found = with_probe(blind()._replace(stages=stages))
    assert {stage.name: [each.name for each in stage.phases] for stage in found.stages} == {
        "random": [],
        "see": ["encode", "fit", "probe_see"],
        "train": ["probe_train", "world", "act"],
        "tail": ["end"],
        "ever": ["probe_ever", "on"],
    }
    probes = {each.name: each for each in found.phases if each.name.startswith("probe")}
    assert probes["probe_see"].window == sweep and probes["probe_train"].begins == 5
    assert probes["probe_ever"].window == dataclasses.replace(window, order="aside")


def test_agents_that_need_none_are_refused_in_one_line(tmp_path):
    with pytest.raises(
        UserError, match=r"--agent.probe True: dreamerv3 decodes its observations itself; leave"
    ):
        make_agent(tiny_config(probe=True), OBS, ACT)
    with pytest.raises(UserError, match="this agent has no simulator"):
        with_probe(blind()._replace(simulator=None))
    words = [
        "--configs",
        "debug",
        "--agent.probe",
        "true",
        "--task",
        "jax_catch",
        "--logdir",
        str(tmp_path / "run"),
    ]
    with pytest.raises(UserError, match="leave the probe out"):
        dreamworld.train(cli.parse(words))
    assert not (tmp_path / "run").exists()


def config_for(folder, steps, *more):
    words = ["--agent", "blind:SPEC", "--task", "jax_catch", "--logdir", str(folder), "--env.num", "2"]
    words += ["--run.steps", str(steps), "--run.train_ratio", "16", "--run.batch_size", "2"]
    words += ["--run.batch_length", "4", "--run.log_every", "16", "--run.report_every", "0"]
    words += ["--replay.min_starts", "8", "--replay.chunk", "16", "--run.progress", "False"]
    return cli.parse([*words, "--logger.tensorboard", "False", *more])


def trained(folder):
    rundir = RunDir(folder)
    agent = pieces.build_agent(rundir.load_config(trusted=True))
    return load.restore_params(rundir, agent)["world"]


def test_a_run_trains_it_goes_on_and_is_the_run_without_it(tmp_path):
    probe = ("--agent.probe", "True")
    assert dreamworld.train(config_for(tmp_path / "parts", 32, *probe, "--run.report_every", "32")) == 0
    assert dreamworld.train(config_for(tmp_path / "parts", 48, *probe)) == 0
    assert dreamworld.train(config_for(tmp_path / "whole", 48, *probe)) == 0
    assert dreamworld.train(config_for(tmp_path / "bare", 48)) == 0
    parts, whole, bare = (trained(tmp_path / name) for name in ("parts", "whole", "bare"))
    same(parts, whole)
    same({name: own for name, own in whole.items() if name != "probe"}, bare)
    assert (tmp_path / "parts" / "report" / "32" / "probe_vector.png").exists()
    assert '"probe/loss/total"' in (tmp_path / "parts" / "metrics.jsonl").read_text()
    player = dreamworld.load(tmp_path / "parts", trust=True)
    assert set(player.act(player.initial(), np.zeros(50, np.float32))[1]) == {"action"}
    with pytest.raises(UserError, match=r"agent.probe True -> False"):
        dreamworld.train(config_for(tmp_path / "parts", 64))


def test_the_fused_mode_trains_it_too_on_other_draws_than_those_of_the_agent(tmp_path):
    words = ("--run.mode", "fused", "--run.report_every", "32")
    assert dreamworld.train(config_for(tmp_path / "probed", 32, *words, "--agent.probe", "True")) == 0
    assert dreamworld.train(config_for(tmp_path / "bare", 32, *words)) == 0
    probed, bare = trained(tmp_path / "probed"), trained(tmp_path / "bare")
    close = lambda one, two: np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)
    jax.tree.map(close, {name: own for name, own in probed.items() if name != "probe"}, bare)
    assert (tmp_path / "probed" / "report" / "32" / "probe_vector.png").exists()
