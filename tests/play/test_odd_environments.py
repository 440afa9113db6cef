"""Environments as people have them are played, or refused in one line."""

import json
import pathlib
import sys

import numpy as np
import pytest

from dreamworld import presets
from dreamworld.config import Config
from dreamworld.errors import UserError
from dreamworld.play import opening, recording
from dreamworld.play.protocol import Command
from dreamworld.play.readouts import REAL, Picture, Step
from dreamworld.play.session import Session


@pytest.fixture
def start(monkeypatch, tmp_path):
    """Opens `odd:NAME` alone and begins a session in it."""
    monkeypatch.syspath_prepend(pathlib.Path(__file__).parent)
    sessions = []

    def begin(name):
        world = opening.open_task(presets.replace(Config(), {"task": f"odd:{name}"}), str(tmp_path / "data"))
        assert world.make_reality is not None
        sessions.append(Session(world, 5, world.make_reality()))
        return sessions[-1], say(sessions[-1], "hello")

    yield begin
    for session in sessions:
        session.close()
    sys.modules.pop("odd", None)


def say(session, do, value=None):
    """The events of a command, as they are sent."""
    events = list(session.handle(Command(do, value)))
    for event in events:
        json.dumps(event.numbers if isinstance(event, Step) else event, allow_nan=False)
    return events


def texts(events):
    return [event["text"] for event in events if isinstance(event, dict) and event["on"] == "notice"]


@pytest.mark.parametrize(
    "name", ["Plain", "Single", "Several", "Arm", "Hybrid", "Crowd", "Short", "Views", "Torn", "Stuck", "Dim"]
)
def test_every_control_of_an_odd_environment_works(start, name):
    session, (ready, *_) = start(name)
    for control in ready["controls"]:
        for value in (control["low"], control["high"]):
            say(session, "action", {control["name"]: value})
            (step,) = [event for event in say(session, "step") if isinstance(event, Step)]
            if step.numbers["t"]:  # after the end of an episode a step begins the next one
                assert step.numbers["action"][control["name"]] == value
    say(session, "reset")
    say(session, "record", True)
    say(session, "player", "random")
    say(session, "step")
    say(session, "play")
    for _ in range(12):
        list(session.tick())
    say(session, "pause")
    if session.game.timeline.t:
        before = session.game.timeline.t
        say(session, "rewind", before - 1)
        assert session.game.timeline.t == before - 1
    say(session, "record", False)
    assert all(path.stat().st_size for item in session._shelf.items for path in item.files.values())
    say(session, "reset")
    say(session, "step")
    assert "was added to" in texts(say(session, "save", "dataset"))[0]


def test_an_environment_without_a_picture_is_shown_as_numbers(start):
    _, (ready, _, step) = start("Plain")
    assert (
        ready["images"] == [] and step.pictures == [] and len(step.numbers["real"]["vector"]["vector"]) == 3
    )


def test_several_pictures_are_views(start):
    _, (ready, _, step) = start("Views")
    assert ready["images"] == ["front", "map"] and list(ready["vectors"]) == ["pose"]
    assert [(p.index, p.image.shape) for p in step.pictures] == [(0, (24, 24, 3)), (1, (40, 16, 3))]


def test_a_picture_that_fails_is_said_once_and_the_game_goes_on(start):
    session, (ready, _, step) = start("Dim")
    assert ready["images"] == ["render"] and len(step.pictures) == 1
    told = [texts(say(session, "step")) for _ in range(4)]
    assert told == [[], ["no more pictures: RuntimeError: no display"], [], []]
    assert session.game.timeline.t == 4


def test_a_failure_in_a_step_ends_the_episode_with_its_reason(start):
    session, _ = start("Stuck")
    told = [text for _ in range(4) for text in texts(say(session, "step"))]
    assert "the motor is stuck" in told[0] and "was cut" in told[1]
    say(session, "step")
    assert session.game.timeline.t == 0


def test_an_environment_that_always_fails_is_refused_in_one_line(start):
    with pytest.raises(UserError) as found:
        start("Broken")
    (line,) = str(found.value).splitlines()
    assert line.startswith("odd:Broken can't be played: ") and "RuntimeError: the motor is stuck" in line
    assert line.endswith("dreamworld envs check odd:Broken")


def test_too_many_controls_are_left_to_other_players(start):
    session, (ready, *_) = start("Crowd")
    assert ready["manual"] == "an action has more than 64 elements" and ready["players"] == ["random"]
    assert say(session, "step")[0].numbers["t"] == 1


def test_a_film_of_large_pictures_is_small_and_bounded(monkeypatch):
    film, image = recording.Film(0), np.random.default_rng(0).integers(0, 255, (600, 900, 3), np.uint8)
    step = Step({}, [Picture(REAL, 0, image)])
    film.add(step)
    (frame,) = film.frames()
    assert frame.shape == (256, 384 + 4 + 384, 3)  # reality, the gap, and no dream
    monkeypatch.setattr(recording, "MOST_BYTES", 3 * film._bytes)
    for _ in range(10):
        film.add(step)
    assert len(film) == 3
