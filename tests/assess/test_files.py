"""Files of segments may come from anybody: a right hash says nothing of what is in them."""

import dataclasses

import known
import numpy as np
import pytest

from dreamworld.assess import coherence, dreams, files, inverse, room, segments, sheet
from dreamworld.errors import UserError
from dreamworld.types import Space


@pytest.fixture(scope="module")
def made():
    return known.make_segments(known.Shown(size=16), count=8, steps=200)[0]


def test_what_was_made_is_read_again(made, tmp_path):
    assert files.load(files.save(made, tmp_path / "assess", {}))[0].hash == made.hash


def column(name, change):
    """The segments with another column."""
    return lambda made: dataclasses.replace(made, columns=made.columns | {name: change(made.columns[name])})


def branch(name, change):
    """The segments with another array among their branches."""
    return lambda made: dataclasses.replace(
        made, branches=made.branches | {name: change(made.branches[name])}
    )


def array(name, change):
    """The segments with another array of their own."""
    return lambda made: dataclasses.replace(made, **{name: change(getattr(made, name))})


CRAFTED = {
    "context": (lambda made: dataclasses.replace(made, context=99), "without a row after the context of 99 rows"),
    "flat": (array("valid", lambda x: x[:, 0]), "holds 'valid'"),
    "none": (array("valid", lambda x: x[:0]), "holds 'valid'"),
    "numbers": (array("valid", lambda x: x.astype(np.int8)), "holds 'valid'"),
    "nothing to imagine": (array("valid", np.zeros_like), "without a row after the context of 3 rows"),
    "fewer episodes": (array("episode", lambda x: x[:-1]), "holds 'episode' as int32 (7,), not int32 (8,)"),
    "who acted": (array("label", lambda x: x + 5), "holds 'label', in which a number is not one of 0 to 0"),
    "fewer rows": (column("obs/image", lambda x: x[:, :-1]), "holds 'column/obs/image' as uint8 (8, 14,"),
    "other pixels": (column("obs/image", lambda x: x[:, :, :-1]), "holds 'column/obs/image' as uint8"),
    "floats": (column("obs/image", lambda x: x.astype(np.float32)), "holds 'column/obs/image' as float32"),
    "NaN": (column("reward", lambda x: x * np.nan), "holds 'column/reward', in which a number is not finite"),
    "no such action": (column("action/action", lambda x: x + 5), "'column/action/action', in which a number is not"),
    "states": (column("extra/state/position", lambda x: x[:-1]), "holds 'column/extra/state/position' of other rows"),
    "far segment": (branch("fan/segment", lambda x: x + 99), "holds 'branch/fan/segment', in which a number is not"),
    "flat fan": (branch("fan/alive", lambda x: x[0]), "holds 'branch/fan/"),
    "other fan": (branch("fan/obs/image", lambda x: x[:, :, :-1]), "holds 'branch/fan/obs/image' of other rows"),
    "fewer plans": (branch("plan/reward", lambda x: x[:, :-1]), "holds 'branch/plan/reward' as float32"),
}  # fmt: skip


@pytest.mark.parametrize("kind", CRAFTED)
def test_arrays_that_do_not_fit_are_one_line(made, tmp_path, kind):
    change, told = CRAFTED[kind]
    path = files.save(change(made), tmp_path / "assess", {"asked": 1})
    with pytest.raises(UserError) as error:
        files.load(path)
    assert told in str(error.value) and str(path) in str(error.value) and "\n" not in str(error.value)
    assert files.find(path.parent, {"asked": 1}) is None


@pytest.mark.parametrize("kind", ("column", "fan", "plan"))
def test_arrays_that_are_missing_are_one_line(made, tmp_path, kind):
    drop = lambda arrays, name: {key: value for key, value in arrays.items() if key != name}
    changed = {
        "column": dataclasses.replace(made, columns=drop(made.columns, "is_first")),
        "fan": dataclasses.replace(made, branches=drop(made.branches, "fan/obs/vector")),
        "plan": dataclasses.replace(made, branches=drop(made.branches, "plan/alive")),
    }[kind]
    with pytest.raises(UserError, match=kind):
        files.load(files.save(changed, tmp_path / "assess", {}))


@pytest.mark.parametrize("rows", (1, 3))
def test_dreams_too_short_for_a_classifier_leave_it_out_with_the_reason(rows):
    made, thumb = known.make_segments(known.Shown(size=16), count=8, horizon=3, steps=200)[0], dreams.THUMB
    valid = made.valid & (np.arange(6) < 3 + rows)
    short = dataclasses.replace(made.cut(3, 3), valid=valid)
    if rows == 1:
        short = short.cut(3, 1)
    found = {"thumb/image": np.zeros((8, short.horizon, thumb, thumb, 3), np.float32)}
    page = sheet.make_sheet(short.episode, resamples=10)
    coherence.add_realism(page, short, found, known.KEY)
    assert page.left_out.get("realism") == {1: "needs segments with two imagined rows or more"}.get(rows)
    discrete = {"push": Space((), "int32", classes=5)}
    one = np.zeros(short.valid.shape, np.int32)
    short = dataclasses.replace(short, act_space=discrete, columns=short.columns | {"action/push": one})
    if rows == 3:  # segments that end after two imagined rows
        short = dataclasses.replace(short, valid=short.valid & (np.arange(6) < 5))
        inverse.add_inverse(page, short, found, known.KEY)
        assert page.left_out["inverse"] == "needs segments with three imagined rows or more"


def test_segments_that_do_not_fit_into_memory_are_one_line():
    spaces = ({"image": Space((64, 64, 3), "uint8")}, {"move": Space((), "int32", classes=3)})
    with pytest.raises(UserError, match=r"256 segments of 5 \+ 100,000 rows take .*; ask for fewer segments"):
        room.require_room(256, 5, 100_000, spaces)
    rows = np.zeros((9, 64, 64, 3), np.uint8)
    flags = {name: np.arange(9) == at for name, at in (("is_first", 0), ("is_last", 8), ("is_terminal", 9))}
    episode = {
        "obs/image": rows,
        "action/move": np.zeros(9, np.int32),
        "reward": np.zeros(9, np.float32),
        **flags,
    }
    with pytest.raises(UserError, match=r"1 segment of 5 .* take .* are available"):
        segments.draw([episode], ["a"], spaces, count=256, context=5, horizon=10**8)
