"""Forgetting and scaling from measurements whose answer is known: what is lost, and exponents with their intervals."""

import json
from typing import Any

import numpy as np
import pytest

from dreamworld.assess import intervals
from dreamworld.assess.segments import Segments
from dreamworld.assess.sheet import make_sheet
from dreamworld.assess.studies import forgetting, scaling, study
from dreamworld.assess.studies.forgetting import Baselines, Measured
from dreamworld.types import Space

STEPS = (10, 20)
BASE = Baselines((0.1, 0.2), (0.5, 0.6))


def measured(*returns):
    """Of seeds: the returns on the first task at both checkpoints; losses fall as they rise, and the second is 7."""
    first = np.array(returns, float)
    both = np.stack([first, np.full_like(first, 7.0)], -1)
    return Measured(STEPS, both, 10 - both)


def forget(without, with_, first):
    ways = {"without": measured(*without), "with": measured(*with_)}
    about = {"segments": [{"count": 3, "hash": "ab"}, {"count": 4, "hash": "cd"}]}
    made: Any = forgetting.tabulate("a, then b", ("a", "b"), measured(*first), ways, BASE, about)
    return made


def test_what_is_lost_is_the_best_less_what_is_left():
    made = forget([(4, 2), (6, 1)], [(5, 5), (9, 8)], [(3, 5), (2, 6)])
    without, without_loss, with_, _ = made.rows
    assert without["forgetting"].value == pytest.approx(((5 - 2) + (6 - 1)) / 2)
    assert (
        without["best"].value == 5.5 and without["after_first"].value == 5.5 and without["end"].value == 1.5
    )
    assert without_loss["forgetting"].value == pytest.approx(4) and without_loss["best"].value == 4.5
    assert with_["forgetting"].value == pytest.approx((0 + 1) / 2)  # of the second seed, the best came late
    difference = made.more[0].rows[0]["forgetting"]
    assert difference.value == pytest.approx(3.5) and difference.n == 2
    assert difference.low < 3.5 < difference.high  # 3 and 4 of the two seeds


def test_one_seed_has_no_interval():
    (row, *_) = forget([(4, 2)], [(5, 5)], [(3, 5)]).rows
    assert row["forgetting"] == intervals.Estimate(3.0, None, None, 1)


def test_curves_of_the_second_task_begin_where_the_first_training_ends():
    made = forget([(4, 2)], [(5, 5)], [(3, 5)])
    lines = {line.name: line for line in made.pictures[0].lines}
    assert list(lines["the first task"].x) == [10, 20]
    assert list(lines["the second, without replay"].x) == [20, 30, 40]
    assert lines["the second, without replay"].curve.value.tolist() == [5, 4, 2]
    assert lines["the policy of the data"].curve.value.tolist() == [0.1, 0.1]


def test_intervals_of_few_seeds_are_those_of_student():
    found = intervals.over_runs(np.array([1.0, 2.0, 6.0]))
    half = 4.30265273 * np.std([1, 2, 6], ddof=1) / np.sqrt(3)
    assert found == pytest.approx((3.0, 3 - half, 3 + half, 3))
    assert intervals.student(11) == pytest.approx(2.201, abs=1e-3)
    assert intervals.student(30) == pytest.approx(2.042, abs=1e-3)


# --- scaling ---------------------------------------------------------------------------------------------------------


def make_segments(count=40, context=5, horizon=4, per_episode=2):
    length = context + horizon
    columns = {"obs/vector": np.zeros((count, length, 1), np.float32), "reward": np.zeros((count, length))}
    columns |= {key: np.zeros((count, length), bool) for key in ("is_first", "is_last", "is_terminal")}
    number = np.arange(count, dtype=np.int32)
    valid = np.ones((count, length), bool)
    spaces = ({"vector": Space((1,), "float32")}, {"action": Space((), "int32", classes=2)})
    zero = np.zeros(count, np.int32)
    return Segments(context, columns, valid, number // per_episode, zero, zero, ("x",), "task", *spaces)


def law(parameters, rows, context):
    return 3 * parameters**-0.5 * rows**-0.25 * context**-0.1


SIZES = {"0.5": 1000, "1": 3000, "2": 10_000, "4": 40_000}
SHARES = {0.1: 300, 0.3: 900, 1.0: 3000}


def grid(sizes=tuple(SIZES), shares=tuple(SHARES), contexts=(1, 2, 5), seeds=3, spread=0.05):
    made, random = make_segments(), np.random.default_rng(0)
    shape = made.imagined.shape
    trained = []
    for size in sizes:
        for share in shares:
            own = np.exp(spread * random.normal(size=(seeds, 1, 1)))  # of each training
            noise = np.exp(spread * random.normal(size=(seeds, *shape)))
            errors = {c: law(SIZES[size], SHARES[share], c) * own * noise for c in contexts}
            trained.append(scaling.Trained(size, SIZES[size], share, SHARES[share], errors))
    about = {"segments": {"count": len(made), "hash": made.hash}}
    study_: Any = scaling.tabulate("data <b>", trained, made, np.full(shape, 0.2), about)
    return study_


@pytest.fixture(scope="module")
def whole():
    return grid()


def test_the_exponents_of_a_known_law_are_found(whole):
    found = {(row["over"], row["at"]): row for row in whole.more[0].rows}
    assert len(found) == 3 + 3 + 1
    for (over, _), row in found.items():
        true = {scaling.PARAMETERS: 0.5, scaling.ROWS: 0.25, scaling.CONTEXT: 0.1}[over]
        assert row["b"].value == pytest.approx(true, abs=0.05)
        assert row["b"].low <= row["b"].value <= row["b"].high
    over_size = found[scaling.PARAMETERS, "share 1, context 5"]
    assert over_size["points"] == 4 and over_size["b_offset"].low <= 0.5 <= over_size["b_offset"].high


def test_an_exponent_is_asked_of_three_points_at_least():
    rows = grid(sizes=("0.5", "2"), shares=(0.1, 1.0), contexts=(5,), seeds=1).more[0].rows
    assert [row["points"] for row in rows] == [2, 2, 1]
    assert {row["b"] for row in rows} == {"needs 3 points"}
    rows = grid(sizes=("0.5", "1", "2"), shares=(0.1, 1.0), contexts=(5,), seeds=1).more[0].rows
    assert rows[0]["b"].value == pytest.approx(0.5, abs=0.05) and rows[0]["b_offset"] == "needs 4 points"


def test_seeds_that_differ_widen_the_intervals(whole):
    width = lambda row: row["loss"].high - row["loss"].low
    apart = grid(spread=0.3)
    assert width(apart.rows[0]) > 3 * width(whole.rows[0])


def test_intervals_of_one_seed_are_those_over_episodes():
    made, random = make_segments(), np.random.default_rng(0)
    errors = random.uniform(size=(1, *made.imagined.shape))
    sheet = make_sheet(made.episode)
    found = scaling.resampled(sheet, errors, made.imagined, 5)
    np.testing.assert_allclose(found, intervals.total_mean(sheet.weights, errors[0], made.imagined))


def test_all_contexts_lead_to_the_same_imagined_rows():
    made = make_segments()
    made.columns["obs/vector"][:] = np.arange(9)[None, :, None]
    short = made.see(2)
    assert short.context == 2 and short.horizon == made.horizon
    assert short.columns["obs/vector"][0, :, 0].tolist() == [3, 4, 5, 6, 7, 8]
    assert short.row[0] == 3 and short.valid.shape == (40, 6)
    np.testing.assert_array_equal(short.imagined, made.imagined)


def test_files_and_pages_hold_all_tables(whole):
    made = json.loads(json.dumps(whole.plain(), allow_nan=False))
    assert made["study"] == "scaling" and len(made["rows"]) == 4 * 3 * 3
    assert made["rows"][0]["loss"].keys() == set(intervals.Estimate._fields)
    assert len(made["tables"]["Power laws"]) == 7
    html = study.page([whole], "Scaling <i>")
    assert "data &lt;b&gt;" in html and "Power laws" in html and html.count("<svg") == 3
    assert "mathdefault" not in html and ">40,000<" in html  # ticks are numbers, not formulas
    html = study.page([forget([(4, 2)], [(5, 5)], [(3, 5)])], "Forgetting")
    assert "3 segments, hash ab, 4 segments, hash cd" in html and html.count("<svg") == 4
