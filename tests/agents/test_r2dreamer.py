"""R2-Dreamer: DreamerV3 but for the decoder."""

import dataclasses

import jax
import numpy as np
import pytest

from dreamworld import cli
from dreamworld.agents import find, make_agent
from dreamworld.agents.dreamerv3.config import DreamerV3Config
from dreamworld.config import Config, RunConfig
from dreamworld.errors import UserError
from dreamworld.testing import random_batch
from dreamworld.types import Space

KEY = jax.random.PRNGKey(0)
OBS = {"image": Space((16, 16, 3), "uint8")}
ACT = {"move": Space((2,), "float32", low=-1.0, high=1.0)}


def config_of(name, **changes):
    tiny = dataclasses.replace(find(name).tiny, **changes)
    return Config(agent=tiny, run=RunConfig(batch_size=2, batch_length=4))


def sizes(params):
    return {
        name: sum(leaf.size for leaf in jax.tree.leaves(tree))
        for name, tree in (params["world"] | params["behaviour"]).items()
    }


def test_the_defaults_are_those_of_dreamerv3_and_the_published_weights():
    own, other = find("r2dreamer").config, DreamerV3Config()
    assert (own.representation, own.off_diagonal, own.loss.representation) == ("r2", 5e-4, 0.05)
    for field in dataclasses.fields(DreamerV3Config):
        if field.name not in ("name", "loss"):
            assert getattr(own, field.name) == getattr(other, field.name)
    assert dataclasses.asdict(own.loss).items() >= dataclasses.asdict(other.loss).items()


def test_a_projection_takes_the_place_of_the_decoder():
    with_decoder, own = (
        sizes(jax.eval_shape(make_agent(config_of(name), OBS, ACT).init, KEY).params)
        for name in ("dreamerv3", "r2dreamer")
    )
    tiny = find("r2dreamer").tiny
    feature = tiny.rssm.deter + tiny.rssm.stoch * tiny.rssm.classes
    tokens = 4 * 4 * tiny.encoder.depth * tiny.encoder.mults[-1]
    assert own.pop("projection") == feature * tokens and with_decoder.pop("decoder") > 0
    assert own == with_decoder


@pytest.fixture(scope="module")
def updated():
    """kind -> output of one update."""
    found = {}
    for kind in ("r2", "infonce"):
        agent = make_agent(config_of("r2dreamer", representation=kind), OBS, ACT)
        batch = random_batch(
            np.random.default_rng(0),
            OBS,
            ACT,
            agent.latent_space,
            config_of("r2dreamer", representation=kind),
        )
        state = jax.jit(agent.init)(KEY)
        found[kind] = agent, state, jax.jit(agent.phase.update)(state, (), batch)
    return found


def test_the_total_holds_the_representation_and_no_observation(updated):
    scales = dataclasses.asdict(find("r2dreamer").tiny.loss)
    totals = {}
    for kind, (_, _, (_, _, output)) in updated.items():
        losses = {key[5:]: float(value) for key, value in output.metrics.items() if key.startswith("loss/")}
        totals[kind] = losses.pop("total")
        assert set(losses) == {
            "representation", "reward", "cont", "dyn", "rep", "actor", "critic", "replay_value"
        }  # fmt: skip
        wanted = sum(scales[name] * value for name, value in losses.items())
        np.testing.assert_allclose(totals[kind], wanted, rtol=1e-5)
    assert totals["r2"] != totals["infonce"]


def test_the_encoder_learns_and_the_simulator_shows_nothing(updated):
    agent, before, (after, _, _) = updated["r2"]
    moved = lambda name: any(
        (a != b).any()
        for a, b in zip(
            jax.tree.leaves(after.params["world"][name]), jax.tree.leaves(before.params["world"][name])
        )
    )
    assert moved("encoder") and moved("projection")
    assert agent.simulator.decode is None and agent.simulator.predict is not None
    assert "decoder" not in agent.widths


def test_other_kinds_are_refused():
    with pytest.raises(UserError, match="representation"):
        cli.parse(["--agent", "r2dreamer", "--agent.representation", "jepa"])


def test_a_probe_shows_what_its_features_tell():
    agent = make_agent(config_of("r2dreamer", probe=True), OBS, ACT)
    params = agent.acting(jax.jit(agent.init)(KEY))["world"]
    simulator = agent.simulator
    assert simulator and simulator.probed and simulator.decode
    feature = simulator.feature(params, simulator.initial(params, 1))
    assert simulator.decode(params, feature)["image"].shape == (1, 16, 16, 3)
