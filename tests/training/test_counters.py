"""The account of owed updates: whole numbers from the first update on, and a new page where the ratio changes."""

import pytest

from dreamworld.training.counters import Account, Counters


class Run:
    """An account beside the step that its run is at."""

    def __init__(self, step, **fields):
        self.step, self.account = step, Account(**fields)

    def owed(self):
        return self.account.owed(self.step)

    def settle(self, ratio, batch_rows, iteration):
        return self.account.settle(self.step, ratio, batch_rows, iteration)


ITERATION = 32  # agent steps


def counters_at(step, ratio, batch_rows, **fields):
    """Counters of a run that did every update it owed since step 0."""
    counters = Run(step, **fields)
    counters.account.open(0, ratio, batch_rows)
    counters.account.updates = counters.owed()
    return counters


def test_one_update_is_owed_at_the_start_and_the_ratio_after_it():
    counters = Run(100)
    counters.account.open(100, 512, 1024)
    owed = []
    for _ in range(5):
        owed.append(counters.owed())
        counters.account.updates += owed[-1]
        counters.step += 1
    assert owed == [1, 0, 1, 0, 1]


@pytest.mark.parametrize(("before", "after"), [((64, 1024), (256, 1024)), ((256, 1024), (64, 1024))])
@pytest.mark.parametrize("rows", [1024, 4096])
def test_a_change_counts_from_where_it_happens(before, after, rows):
    counters = counters_at(1_000_000, *before)
    assert counters.settle(after[0], rows, ITERATION) == []
    assert counters.owed() == 0
    done = counters.account.updates
    counters.step += 80_000
    due = 80_000 * after[0] // rows
    assert counters.owed() in (due, due + 1)
    counters.account.updates += counters.owed()
    assert counters.account.updates - done in (due, due + 1)


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
    before = Account(**vars(counters.account))
    assert counters.settle(96, 1024, ITERATION) == [] and counters.account == before


@pytest.mark.parametrize(("ratio", "owed"), [(256, 32), (16, 0)])
def test_a_checkpoint_that_does_not_know_its_ratio_owes_a_few_iterations_at_most(ratio, owed):
    """As an older version saved it, with 64 in the past."""
    counters = Run(1_000_000, updates=62_501, first_update=0)
    (message,) = counters.settle(ratio, 1024, ITERATION)
    assert counters.owed() == owed
    assert "step 1,000,000" in message and ("187,500" if ratio == 256 else "46,875") in message
    assert counters.settle(ratio, 1024, ITERATION) == []


@pytest.mark.parametrize("ratio", [256, 1, 0])
def test_an_older_checkpoint_of_an_unchanged_run_goes_on_as_it_was(ratio):
    counters = Run(1032, updates=1000 * ratio // 1024 + 1, first_update=0)
    before = counters.account.owed_with(counters.step, ratio, 1024)
    assert counters.settle(ratio, 1024, ITERATION) == []
    assert counters.account.first_update == 0 and counters.owed() == (before if ratio else 0)


def test_a_ratio_of_zero_owes_nothing_before_and_after_any_change():
    counters = Run(500)
    counters.account.open(100, 0, 1024)
    assert counters.owed() == 0
    counters = counters_at(5000, 256, 1024)
    counters.settle(0, 1024, ITERATION)
    counters.step += 100_000
    assert counters.owed() == 0
    counters.settle(256, 1024, ITERATION)
    assert counters.owed() == 0
    counters.step += 4
    assert counters.owed() == 1


def test_counters_come_back_from_what_they_were_saved_as():
    counters = Counters(step=640, iteration=20, stage=1, stage_step=320)
    counters.account("world").open(100, 512.0, 1024)
    counters.did("world", 3)
    counters.did("policy")
    assert Counters.of(counters.state(), "world") == counters and counters.updates == 4


def test_counters_of_version_0_1_have_the_account_of_the_only_phase():
    old = {
        "step": 64,
        "iteration": 32,
        "updates": 93,
        "first_update": 18,
        "seconds": 1.5,
        "updates_before": 0,
    }
    old |= {"rows_before": 0.0, "train_ratio": 16.0, "batch_rows": 8, "evaluation_due": 0}
    counters = Counters.of(old, "update")
    assert (counters.step, counters.updates, counters.seconds) == (64, 93, 1.5)
    assert counters.accounts == {"update": Account(93, 18, 0, 0.0, 16.0, 8)}
