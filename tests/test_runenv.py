"""The environment of a run as its folder remembers it."""

import dataclasses
import json
import math
import os
import time

import numpy as np
import pytest
from gymnasium import spaces as gym_spaces

from dreamworld.envs.spaces import make_act_codec, make_obs_codec
from dreamworld.errors import UserError
from dreamworld.reading import BadFile
from dreamworld.runenv import RunEnv, read_run_env, same_name, write_run_env
from dreamworld.spaces import difference
from dreamworld.types import Space

OBS = make_obs_codec(
    gym_spaces.Dict(
        {
            "image": gym_spaces.Box(0, 255, (32, 32, 3), np.uint8),
            "pose": gym_spaces.Box(-np.inf, 3.0, (5,), np.float32),
            "phase": gym_spaces.Discrete(4, start=2),
        }
    )
).spaces
ACT = make_act_codec(
    gym_spaces.Dict(
        {
            "torque": gym_spaces.Box(np.array([-2, 0], np.float32), np.array([2, 1e6], np.float32)),
            "gear": gym_spaces.Discrete(3, start=-(2**40)),
            "levels": gym_spaces.MultiDiscrete([2, 3]),
        }
    )
).spaces
ENV = RunEnv("pkg.module:MyEnv", True, "/home/me/project", OBS, ACT)


def natives(spaces):
    return {key: space.native for key, space in spaces.items()}


def test_what_is_written_is_read_back_bounds_of_actions_included(tmp_path):
    write_run_env(tmp_path / "spaces.json", ENV)
    assert read_run_env(tmp_path / "spaces.json") == ENV
    found = read_run_env(tmp_path / "spaces.json")
    assert found and natives(found.act_space) == natives(ACT) and found.obs_space["pose"].low == -math.inf
    assert "Infinity" not in (tmp_path / "spaces.json").read_text()  # strict JSON


def test_a_run_from_before_has_none(tmp_path):
    assert read_run_env(tmp_path / "spaces.json") is None


@pytest.mark.parametrize("what", ["obs", "act"])
def test_more_keys_than_an_agent_is_compiled_for_are_one_line_at_once(tmp_path, what):
    """Loading a run took minutes with them."""
    path, spaces = tmp_path / "spaces.json", {f"key{index}": Space((), "float32") for index in range(3000)}
    write_run_env(path, dataclasses.replace(ENV, **{f"{what}_space": spaces}))
    begin = time.perf_counter()
    with pytest.raises(BadFile) as error:
        read_run_env(path)
    assert time.perf_counter() - begin < 5
    assert str(error.value) == f"{path}: {what} has 3,000 spaces, of at most 1,000"
    fewer = dict(list(spaces.items())[:1000])
    write_run_env(path, dataclasses.replace(ENV, **{f"{what}_space": fewer}))
    assert read_run_env(path) is not None


def broken(path, value):
    """A row with the value at a dotted path replaced, or removed where it is `...`."""
    row = json.loads(json.dumps(ENV.to_plain()))
    *groups, leaf = path.split("|")
    node = row
    for group in groups:
        node = node[group]
    if value is ...:
        del node[leaf]
    else:
        node[leaf] = value
    return row


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        ("environment", ..., "environment is missing"),
        ("environment", 3, "environment must be text"),
        ("environment", "", "environment must be"),
        ("environment", "a\nb", "control character"),
        ("environment", "\x1b[31m", "control character"),
        ("given", "yes", "given must be true or false"),
        ("folder", None, "folder must be text"),
        ("folder", "a\x00b", "control character"),
        ("obs", ..., "obs is missing"),
        ("obs", [], "obs must be a mapping"),
        ("obs", {}, "obs must be a mapping of spaces"),
        ("act", 1, "act must be a mapping"),
        ("act|gear", 1, "act.gear must be a mapping"),
        ("act|gear|shape", 3, "act.gear.shape must be a list of whole numbers"),
        ("act|gear|shape", [1.5], "act.gear.shape must be a list of whole numbers"),
        ("act|gear|shape", [True], "act.gear.shape must be"),
        ("act|gear|shape", [-1], "act.gear.shape must be"),
        ("act|gear|shape", [10**12], "act.gear.shape must be"),
        ("act|gear|shape", [1000] * 5, "act.gear.shape must be"),
        ("act|gear|shape", [1] * 100, "act.gear.shape must be"),
        ("act|gear|dtype", "object", "act.gear.dtype must be one of"),
        ("act|gear|dtype", ..., "act.gear.dtype is missing"),
        ("act|gear|classes", 0, "act.gear.classes must be a whole number from 1"),
        ("act|gear|classes", 2.5, "act.gear.classes must be a whole number"),
        ("act|gear|classes", 10**12, "act.gear.classes must be"),
        ("act|gear|low", "x", "act.gear.low must be a finite number"),
        ("act|torque|low", 7.0, "act.torque"),
        ("act|torque|native", 7, "act.torque.native must be a mapping"),
        ("act|torque|native|dtype", "text", "act.torque.native.dtype must be one of"),
        ("act|torque|native|low", [1.0], "act.torque.native.low must be a list of 2 finite numbers"),
        ("act|torque|native|low", "ab", "act.torque.native.low must be"),
        ("act|torque|native|high", [1.0, None], "act.torque.native.high must be"),
        ("act|gear|native|low", [0.5], "act.gear.native.low must be a list of 1 whole number"),
    ],
    ids=str,
)
def test_a_damaged_file_is_one_line_that_names_it_and_the_field(tmp_path, path, value, text):
    file = tmp_path / "spaces.json"
    file.write_text(json.dumps(broken(path, value)))
    with pytest.raises(UserError) as found:
        read_run_env(file)
    message = str(found.value)
    assert message.startswith(f"{file}: ") and text in message and message.isprintable()


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"\xff\xfe", b"[" * 10_000, b'{"a": 1}', b"null"])
def test_other_content_is_one_line_too(tmp_path, content):
    file = tmp_path / "spaces.json"
    file.write_bytes(content)
    with pytest.raises(UserError, match=str(file)):
        read_run_env(file)


def test_a_pipe_or_a_folder_in_its_place_is_named(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "."):
        with pytest.raises(UserError, match="not a file"):
            read_run_env(tmp_path / name)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, ""),
        ({"pose": Space((5,), "float32", low=-1, high=1)}, ""),  # an agent does not depend on these bounds
        ({"pose": Space((6,), "float32")}, "observation 'pose' is float32 (6,), not float32 (5,)"),
        ({"phase": Space((), "int32", classes=5)}, "observation 'phase' is 5 classes, not 4 classes"),
        ({"pose": None}, "observation 'pose' is missing, not float32 (5,)"),
        ({"new": Space((2,), "float32")}, "observation 'new' is float32 (2,), which was not there"),
    ],
    ids=str,
)
def test_the_first_difference_of_spaces_is_named(changes, text):
    found = {key: space for key, space in {**OBS, **changes}.items() if space is not None}
    assert difference("observation", found, OBS) == text


def test_other_bounds_of_an_action_are_a_difference():
    other = make_act_codec(gym_spaces.Box(-1.0, 1.0, (2,), np.float32)).spaces
    own = make_act_codec(gym_spaces.Box(-2.0, 2.0, (2,), np.float32)).spaces
    assert (
        difference("action", other, own)
        == "action 'action' is float32 from -1 to 1, not float32 from -2 to 2"
    )


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("a.b:MyEnv", "a.b:MyEnv", True),
        ("custom:MyEnv", "a.b:MyEnv", True),
        ("a.b:MyEnv", "custom:MyEnv", True),
        ("a.b:MyEnv", "a.c:MyEnv", False),
        ("custom:MyEnv", "custom:Other", False),
        ("custom:MyEnv", "a.b:Other", False),
        ("gym_CartPole-v1", "custom:CartPole-v1", False),
    ],
)
def test_a_class_of_the_main_script_is_the_one_of_that_name_in_a_module(one, other, same):
    assert same_name(one, other) is same
