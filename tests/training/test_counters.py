"""The account of owed updates: whole numbers from the first update on, and a new page where the ratio changes."""

import pytest

from dreamworld.training.counters import Counters

ITERATION = 32  # agent steps


def counters_at(step, ratio, batch_rows, **fields):
    """Counters of a run that did every update it owed since step 0."""
    counters = Counters(step=step, **fields)
    counters.open_account(0, ratio, batch_rows)
    counters.updates = counters.owed()
    return counters


def test_one_update_is_owed_at_the_start_and_the_ratio_after_it():
    counters = Counters(step=100)
    counters.open_account(100, 512, 1024)
    owed = []
    for _ in range(5):
        owed.append(counters.owed())
        counters.updates += owed[-1]
        counters.step += 1
    assert owed == [1, 0, 1, 0, 1]


@pytest.mark.parametrize(("before", "after"), [((64, 1024), (256, 1024)), ((256, 1024), (64, 1024))])
@pytest.mark.parametrize("rows", [1024, 4096])
def test_a_change_counts_from_where_it_happens(before, after, rows):
    counters = counters_at(1_000_000, *before)
    assert counters.settle(after[0], rows, ITERATION) == []
    assert counters.owed() == 0
    done = counters.updates
    counters.step += 80_000
    due = 80_000 * after[0] // rows
    assert counters.owed() in (due, due + 1)
    counters.updates += counters.owed()
    assert counters.updates - done in (due, due + 1)


def test_what_was_owed_before_the_change_stays_owed():
    counters = counters_at(1000, 256, 1024)
    counters.step += ITERATION  # a checkpoint comes between acting and learning
    assert counters.owed() == 8
    assert counters.settle(64, 1024, ITERATION) == []
    assert counters.owed() == 8


def test_a_change_and_back_at_one_place_changes_nothing():
    counters = counters_at(1001, 256, 1024)
    counters.settle(64, 1024, ITERATION)
    counters.settle(256, 512, ITERATION)
    counters.settle(256, 1024, ITERATION)
    plain = counters_at(1001, 256, 1024)
    for step in range(1001, 1100):
        counters.step = plain.step = step
        assert counters.owed() == plain.owed()


def test_without_a_change_nothing_is_touched():
    counters = counters_at(12_345, 96, 1024)
    before = Counters(**vars(counters))
    assert counters.settle(96, 1024, ITERATION) == [] and counters == before


@pytest.mark.parametrize(("ratio", "owed"), [(256, 32), (16, 0)])
def test_a_checkpoint_that_does_not_know_its_ratio_owes_a_few_iterations_at_most(ratio, owed):
    """As an older version saved it, with 64 in the past."""
    counters = Counters(step=1_000_000, iteration=1, updates=62_501, first_update=0)
    (message,) = counters.settle(ratio, 1024, ITERATION)
    assert counters.owed() == owed
    assert "step 1,000,000" in message and ("187,500" if ratio == 256 else "46,875") in message
    assert counters.settle(ratio, 1024, ITERATION) == []


@pytest.mark.parametrize("ratio", [256, 1, 0])
def test_an_older_checkpoint_of_an_unchanged_run_goes_on_as_it_was(ratio):
    counters = Counters(step=1032, updates=1000 * ratio // 1024 + 1, first_update=0)
    before = counters.owed_with(ratio, 1024)
    assert counters.settle(ratio, 1024, ITERATION) == []
    assert counters.first_update == 0 and counters.owed() == (before if ratio else 0)


def test_a_ratio_of_zero_owes_nothing_before_and_after_any_change():
    counters = Counters(step=500)
    counters.open_account(100, 0, 1024)
    assert counters.owed() == 0
    counters = counters_at(5000, 256, 1024)
    counters.settle(0, 1024, ITERATION)
    counters.step += 100_000
    assert counters.owed() == 0
    counters.settle(256, 1024, ITERATION)
    assert counters.owed() == 0
    counters.step += 4
    assert counters.owed() == 1
