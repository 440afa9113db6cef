"""Stages and phases as numbers of updates: what a training of several parts does at every iteration."""

import pytest

from dreamworld.contract import Phase, Stage, Window
from dreamworld.errors import UserError
from dreamworld.training.counters import Counters
from dreamworld.training.schedule import Schedule, find_stage

WINDOW = Window(batch=4, length=8)
SWEEP = Window(batch=4, length=8, order="sweep")
NUM = 4  # agent steps of an iteration


def phase(name, ratio=32.0, window: Window | None = WINDOW, **fields):
    return Phase(name, window, lambda *_: None, ratio, **fields)  # pyright: ignore[reportArgumentType]


def play(stages, iterations, ready_at=0, sweep=3):
    """What each iteration does: (name of the stage, {phase: updates}), and the counters after them."""
    counters, found = Counters(), []
    schedule = Schedule(tuple(stages), counters, lambda phase: sweep)
    for _ in range(iterations):
        if schedule.finished:
            break
        due = {}
        collects, name = schedule.collects, schedule.stage.name
        for each, count in schedule.owed(lambda: counters.step >= ready_at):
            due[each.name] = count
            counters.did(each.name, count)
        counters.step += NUM if collects else 1
        found.append((name, due))
        schedule.advance()
    return found, counters


def test_each_phase_has_a_ratio_of_its_own_and_waits_for_replay():
    stage = Stage("train", (phase("world", 32), phase("policy", 8), phase("nothing", 0)))
    found, counters = play([stage], 6, ready_at=8)
    assert [due for _, due in found] == [
        {}, {}, {"world": 1, "policy": 1}, *[{"world": 4, "policy": 1}] * 3,
    ]  # fmt: skip
    assert counters.updates == 17 and counters.accounts["world"].updates == 13


def test_a_phase_begins_later_without_a_debt_and_stops_at_its_limit():
    stage = Stage("train", (phase("world"), phase("late", begins=12, at_most=6)))
    found, _ = play([stage], 7)
    assert [due.get("late", 0) for _, due in found] == [0, 0, 0, 1, 4, 1, 0]


def test_stages_follow_each_other():
    stages = [
        Stage("random", (), collect="random", steps=8),
        Stage("vision", (phase("encode", window=SWEEP), phase("fit", at_most=2)), collect="none"),
        Stage("act", (phase("world"),), steps=4),
        Stage("tail", (phase("world2", at_most=1, window=None),), collect="none"),
    ]
    found, counters = play(stages, 100)
    assert found == [
        ("random", {}), ("random", {}),
        *[("vision", {"encode": 1})] * 3,
        ("vision", {"fit": 1}), ("vision", {"fit": 1}),
        ("act", {"world": 1}),
        ("tail", {"world2": 1}),
    ]  # fmt: skip
    assert counters.stage == 4


def test_a_later_stage_counts_from_its_own_beginning():
    stages = [Stage("random", (), collect="random", steps=400), Stage("train", (phase("world"),))]
    found, _ = play(stages, 103)
    assert [due for _, due in found[100:]] == [{"world": 1}, {"world": 4}, {"world": 4}]


def test_phases_that_are_never_done_take_turns_where_nothing_is_collected():
    phases = (phase("first", at_most=2), phase("often", 32), phase("rare", 16), phase("never", 0))
    found, counters = play([Stage("offline", phases, collect="none")], 12)
    assert [due for _, due in found[:2]] == [{"first": 1}] * 2
    assert all(due.get("often") == 1 and "never" not in due for _, due in found[2:])
    assert counters.accounts["rare"].updates == 5
    alone, _ = play([Stage("offline", (phase("only", 0, begins=9),), collect="none")], 3)
    assert alone == [("offline", {"only": 1})] * 3


@pytest.mark.parametrize("limit", [2, None])
def test_a_sweep_ends_by_itself_or_at_its_limit(limit):
    stages = [Stage("encode", (phase("encode", window=SWEEP, at_most=limit),), collect="none")]
    found, _ = play(stages, 50, sweep=5)
    assert sum(due.get("encode", 0) for _, due in found) == (limit or 5)


@pytest.mark.parametrize(
    ("index", "names", "found"),
    [(1, ["random", "train"], 1), (1, ["train"], 0), (2, ["train"], 1), (0, ["look", "random"], 1)],
)
def test_a_stage_is_found_by_its_name(index, names, found):
    assert find_stage(index, ["random", "train"], names) == found


def test_a_stage_that_is_gone_is_named():
    with pytest.raises(
        UserError, match="in the stage 'random', and with these options the agent has 'train'; use"
    ):
        find_stage(0, ["random", "train"], ["train"])
