"""Messages of browsers, the controls that they set, and what waits for them."""

import json
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import pytest

from dreamworld.config import EnvConfig
from dreamworld.envs.vector.inprocess import InProcess
from dreamworld.envs.vector.worker import maker
from dreamworld.errors import UserError
from dreamworld.logging.rundir import RunDir
from dreamworld.play import opening, protocol, recording
from dreamworld.play.controls import make_controls
from dreamworld.play.encode import HEADER, JPEG, PNG, as_rgb, encode, frame
from dreamworld.play.outbox import MOST_TEXTS, Full, Outbox
from dreamworld.play.readouts import Picture, Spread, Step
from dreamworld.play.reality import Played, Row
from dreamworld.types import Native, Space


def test_messages_are_understood():
    assert protocol.read('{"do": "action", "value": {"a": 1}, "id": 7}') == ("action", {"a": 1}, "", 7)
    assert protocol.read('{"do": "branch", "id": 2}') == ("branch", 2, "", 0)
    assert protocol.read('{"do": "edit", "name": "x", "value": [0.5, 1]}') == ("edit", [0.5, 1.0], "x", 0)
    assert (
        protocol.read('{"do": "reset"}').value is None
        and protocol.read('{"do": "reset", "segment": 3}').value == 3
    )


@pytest.mark.parametrize(
    ("message", "code", "reason"),
    [
        ("{", 1007, "no JSON"),
        ("[" * 4000, 1007, "no JSON"),
        ("[]", 1008, "without a command"),
        ('{"do": 3}', 1008, "without a command"),
        ('{"do": "__class__"}', 1008, "there is no command '__class__'"),
        ('{"do": "play", "path": "/etc"}', 1008, "play has no field 'path'"),
        ('{"do": "rewind"}', 1008, "rewind needs the field 'to'"),
        ('{"do": "rewind", "to": -1}', 1008, "from 0"),
        ('{"do": "rewind", "to": 1.5}', 1008, "whole number"),
        ('{"do": "speed", "value": NaN}', 1008, "needs a number"),
        ('{"do": "speed", "value": true}', 1008, "needs a number"),
        ('{"do": "speed", "value": 1%s}' % ("0" * 400), 1008, "needs a number"),  # no float holds it
        ('{"do": "edit", "name": "x", "value": [1, -1%s]}' % ("0" * 400), 1008, "needs a number"),
        ('{"do": "speed", "value": 1e9}', 1008, "from 1 to 60"),
        ('{"do": "temperature", "value": 4}', 1008, "from 0 to 3"),
        ('{"do": "record", "on": 1}', 1008, "true or false"),
        ('{"do": "action", "value": 3}', 1008, "object of controls"),
        ('{"do": "edit", "name": "x", "value": [1]}', 1008, "a point"),
        (json.dumps({"do": "player", "value": "x" * 5000}), 1009, "more than 4096 bytes"),
        (json.dumps({"do": "player", "value": "ä" * 3000}, ensure_ascii=False), 1009, "more than 4096 bytes"),
        (b"{}", 1003, "binary"),
    ],
)
def test_other_messages_are_refused_with_a_reason(message, code, reason):
    with pytest.raises(protocol.BadMessage, match=reason) as caught:
        protocol.read(message)
    assert caught.value.code == code


def test_too_many_messages_in_a_second_are_refused():
    now = [0.0]
    rate = protocol.Rate(5, lambda: now[0])
    for _ in range(40):  # five in a second, for long
        rate.count()
        now[0] += 0.21
    with pytest.raises(protocol.BadMessage, match="more than 5 messages"):
        for _ in range(6):
            rate.count()


def test_controls_are_made_of_an_action_space():
    spaces = {
        "a": Space((), "int32", classes=3),
        "b": Space((2,), "int32", classes=2),
        "c": Space((2,), "float32", low=-1.0, high=1.0),
        "d": Space((), "int32", classes=2, native=Native((-1.0,), (0.0,), "int64")),
    }
    controls = make_controls(spaces)
    found = {control.name: (control.kind, control.choices) for control in controls.items}
    assert found == {
        "a": ("choice", ("0", "1", "2")),
        "b/0": ("toggle", ("0", "1")),
        "b/1": ("toggle", ("0", "1")),
        "c/0": ("slider", ()),
        "c/1": ("slider", ()),
        "d": ("toggle", ("-1", "0")),
    }
    keys = [key for control in controls.items for key in control.keys if key]
    assert len(set(keys)) == len(keys) - 2  # the arrows of the first choice and of the first slider
    values = controls.read({"a": 2, "b/1": 1, "c/0": 7, "c/1": -0.5})
    action = controls.action(values)
    assert action["a"] == 2 and action["b"].tolist() == [0, 1] and action["c"].tolist() == [1, -0.5]
    assert {key: value.dtype.name for key, value in action.items()} == {
        key: s.dtype for key, s in spaces.items()
    }
    assert controls.values(action) == {"a": 2, "b/0": 0, "b/1": 1, "c/0": 1.0, "c/1": -0.5, "d": 0}


@pytest.mark.parametrize(
    "value",
    [[], {"x": 1}, {"a": "1"}, {"a": 3}, {"a": 0.5}, {"a": True}, {"a": float("nan")}, {"a": 10**400}],
)
def test_other_values_of_controls_are_refused(value):
    with pytest.raises(ValueError):
        make_controls({"a": Space((), "int32", classes=3)}).read(value)


def test_keys_follow_the_names_of_actions():
    names = ("NOOP", "FIRE", "UP", "RIGHT", "UPRIGHT", "UPFIRE", "dance")
    controls = make_controls({"action": Space((), "int32", classes=7)}, {"action": names})
    (control,) = controls.items
    assert control.keys == ("", "x", "ArrowUp", "ArrowRight", "ArrowUp+ArrowRight", "ArrowUp+x", "1")
    assert control.default == 0 and control.choices == names
    moves = make_controls(
        {"m": Space((), "int32", classes=3)}, {"m": ("move_left", "nothing", "jump")}
    ).items[0]
    assert moves.keys == ("ArrowLeft", "", "1") and moves.default == 1


def test_an_action_of_too_many_elements_can_not_be_played_by_hand():
    assert "more than 64" in make_controls({"a": Space((65,), "float32")}).problem


def test_pictures_are_exact_where_they_are_small():
    from io import BytesIO

    from PIL import Image

    random = np.random.default_rng(0)
    small, large = (random.integers(0, 256, (side, side, 3), np.uint8) for side in (64, 200))
    kind, body = encode(small)
    assert kind == PNG and np.array_equal(np.asarray(Image.open(BytesIO(body))), small)
    assert encode(large)[0] == JPEG
    assert HEADER.unpack(frame(70000, 1, 2, small)[:7]) == (70000, 1, 2, PNG)
    stacked = random.integers(0, 256, (8, 8, 4), np.uint8)
    assert np.array_equal(as_rgb(stacked)[..., 1], stacked[..., 3])
    stacked = random.integers(0, 256, (8, 8, 9), np.uint8)
    assert np.array_equal(as_rgb(stacked), stacked[..., 6:])


def step(number):
    return Step({"n": number}, [Picture(0, 0, np.zeros((4, 4, 3), np.uint8))])


def test_only_the_newest_step_waits_and_two_may_be_unseen():
    outbox = Outbox(lambda: None)
    sent = []
    for number in range(1, 100):
        outbox.put(step(number))
        _, found = outbox.take()
        sent += [found.numbers["n"]] if found else []
    assert sent == [1, 2] and outbox.dropped == 96
    outbox.acknowledge(1)
    newest = outbox.take()[1]
    assert newest and newest.numbers == {"n": 99, "dropped": 96}
    outbox.put(step(100))
    assert outbox.take()[1] is None
    outbox.acknowledge(99)
    last = outbox.take()[1]
    assert last and last.numbers["n"] == 100


def test_a_browser_that_reads_no_text_is_given_up():
    outbox = Outbox(lambda: None)
    with pytest.raises(Full):
        for _ in range(MOST_TEXTS + 1):
            outbox.put({"on": "notice"})


def test_the_spread_of_vectors_is_their_variance():
    random, spread = np.random.default_rng(0), Spread()
    rows = random.normal(3, 2, (50, 4)).astype(np.float32)
    for value in rows:
        spread.add(Row({"v": value}, 0.0, False, False, False))
    variance = spread.variance("v")
    assert variance is not None
    np.testing.assert_allclose(variance, rows.astype(np.float64).var(0, ddof=1))


class Shy(gymnasium.Env):
    """Shows one picture, of another form than asked for, and raises at the next."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)
    render_mode = "rgb_array"

    def __init__(self):
        self.shown = 0

    def reset(self, *, seed=None, options=None):
        return np.zeros(2, np.float32), {}

    def step(self, action):
        return np.zeros(2, np.float32), 0.0, False, False, {}

    def render(self):
        self.shown += 1
        if self.shown > 1:
            raise RuntimeError("the display\x1b[31m is gone")
        return np.ones((20, 16))


def test_a_picture_that_an_environment_can_not_give_ends_no_game():
    real = Played(InProcess(maker(Shy, EnvConfig()), 1), render=True)
    first = real.reset(0)
    assert (
        first.picture is not None and first.picture.shape == (20, 16, 3) and first.picture.dtype == np.uint8
    )
    rows = [real.step({"action": np.zeros((), np.int32)}) for _ in range(2)]
    assert [row.picture for row in rows] == [None, None]
    assert [row.events for row in rows] == [
        (r"no more pictures: RuntimeError: the display\x1b[31m is gone",),
        (),
    ]


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["[1]"],
        ["{"],
        ['{"version": 1}'],
        ['{"version": 1, "seed": 0, "episode": 0, "segment": -1, "first": 9}'],
        ['{"version": 1, "seed": NaN, "episode": 0, "segment": -1, "first": 0}'],
        ['{"version": 1, "seed": 0, "episode": 0, "segment": -1, "first": 0}', "3"],
        ['{"version": 1, "seed": 0, "episode": 0, "segment": -1, "first": 0}', '{"action": []}'],
        ['{"version": 1, "seed": 0, "episode": 0, "segment": -1, "first": 0}', '{"action": {"a": [1, 2]}}'],
        ['{"version": 1, "seed": 0, "episode": 0, "segment": -1, "first": 0}', '{"action": {"a": "x"}}'],
    ],
)
def test_a_file_that_is_no_recording_is_one_line(tmp_path, lines):
    path = tmp_path / "recording.jsonl"
    path.write_text("\n".join(lines))
    with pytest.raises(UserError) as caught:
        recording.read(path, {"a": Space((), "int32", classes=3)})
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        "[" * 100_000,
        '{"metrics": {"drift/x/useful_horizon": {"value": Infinity}}}',
        '{"metrics": {"drift/x/useful_horizon": {"value": [1]}}}',
        '{"metrics": {"drift/x/useful_horizon": 3}}',
        '{"metrics": {"drift/x/useful_horizon": {"value": -5}}}',
        '{"metrics": {"drift/x/useful_horizon": {"value": 1e300}}}',
        '{"metrics": [3]}',
        "[3]",
        "\xff",
    ],
)
def test_a_result_of_assess_that_is_none_is_left_out(tmp_path, content):
    rundir = RunDir(tmp_path)
    rundir.assess.mkdir()
    path = rundir.assess / "step-3.json"
    path.write_text('{"metrics": {"drift/x/useful_horizon": {"value": 7.0}}}')
    run: Any = SimpleNamespace(rundir=rundir)
    assert opening.useful_horizon(run, 3) == 7
    path.write_bytes(content.encode("latin-1"))
    assert opening.useful_horizon(run, 3) is None
