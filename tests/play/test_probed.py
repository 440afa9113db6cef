"""A dream that is shown by a probe: the agent decodes nothing itself."""

import pathlib
import sys

import jax
import numpy as np
import pytest

from dreamworld.__main__ import main
from dreamworld.play import opening
from dreamworld.play.protocol import Command
from dreamworld.play.readouts import DREAM, REAL, Step
from dreamworld.play.session import Session
from dreamworld.sessions import stored

OPTIONS = """--agent blind:SPEC --agent.probe True --task jax_balls --env.options n=2,size=16 --env.num 2 --seed 1
--run.steps 40 --run.train_ratio 8 --run.batch_size 2 --run.batch_length 8 --replay.min_starts 8 --replay.chunk 16
--run.report_every 0 --run.progress False --logger.tensorboard False"""


@pytest.fixture(scope="module")
def blind():
    """The agent `blind:SPEC`, which a run names."""
    place = str(pathlib.Path(__file__).parents[1] / "training")
    sys.path.insert(0, place)
    yield
    sys.path.remove(place)
    sys.modules.pop("blind", None)


@pytest.fixture(scope="module")
def run(blind, tmp_path_factory):
    folder = tmp_path_factory.mktemp("probed") / "run"
    assert main(["train", *OPTIONS.split(), "--logdir", str(folder)]) == 0
    return stored.open_run(folder, trusted=True)


@pytest.fixture(scope="module")
def world(run):
    played = stored.choose_env(run)
    return opening.open_run(run, played.config, played.source)


@pytest.fixture
def session(world):
    found = Session(world, 5, world.make_reality())
    list(found.handle(Command("hello")))
    yield found
    found.close()


def step(session) -> Step:
    """The step of a command."""
    (found,) = [event for event in session.handle(Command("step")) if isinstance(event, Step)]
    return found


def test_the_dream_is_shown_by_what_the_probe_reads_from_its_state(world, session):
    ready = world.ready()
    assert ready["probed"] and ready["decoded"] == ["image"] and ready["lanes"] == ["real", "dream"]
    found = step(session)
    assert [(picture.lane, picture.image.shape) for picture in found.pictures] == [
        (REAL, (16, 16, 3)),
        (DREAM, (16, 16, 3)),
    ]
    assert found.numbers["drift"]["image"]["psnr"] > 0
    simulator, params = world.dreamer.simulator, world.player.params["world"]
    feature = simulator.feature(params, session.game.now.dream)
    wanted = np.asarray(jax.device_get(simulator.decode(params, feature)["image"][0]))
    np.testing.assert_allclose(found.pictures[1].image, 255 * wanted, atol=1)


def test_it_is_anchored_and_edited_as_every_other_dream(world, session):
    assert [edit.name for edit in world.edits] == ["ball 0", "ball 1", "swap"]
    step(session)
    list(session.handle(Command("anchor")))
    seen = session.game.now
    list(session.handle(Command("edit", [0.2, 0.8], "ball 0")))
    assert session.game.now.k == 0
    assert not np.array_equal(session.game.now.shown.obs["image"], seen.shown.obs["image"])
    assert np.array_equal(session.game.now.row.obs["image"], seen.row.obs["image"])


def test_its_agent_plays(session):
    list(session.handle(Command("player", "agent")))
    assert [step(session).numbers["player"] for _ in range(2)] == ["agent", "agent"]
