"""Decisions, returns, objects and realism by hand."""

import jax
import numpy as np
import pytest

from dreamworld.assess import branches, clips, coherence, decisions, objects, returns, reward, sheet
from dreamworld.types import Space

KEY = jax.random.PRNGKey(0)


def page(count=4):
    return sheet.make_sheet(np.arange(count), resamples=50)


def test_a_decision_is_judged_by_what_the_liked_plan_earns():
    real = np.array([[0.0, 1.0, 2.0], [5.0, 5.0, 5.0], [0.0, 4.0, 8.0]])
    liked = np.array([[0.0, 1.0, 2.0], [9.0, 0.0, 0.0], [0.0, 2.0, 1.0]])
    found = page()
    decisions.score(found, real, liked, np.array([0, 1, 3]))
    assert found.value("decisions/top1") == pytest.approx(0.5)  # the second start has nothing to choose
    assert found.value("decisions/regret") == pytest.approx((0 + 0.5) / 2)
    assert found.value("decisions/spearman") == pytest.approx((1 + 0.5) / 2)
    assert found.value("decisions/top1_chance") == pytest.approx(1 / 3)
    assert found.metrics["decisions/top1"].n == 2


def test_plans_that_are_liked_equally_share_the_choice():
    found = page()
    decisions.score(found, np.array([[0.0, 1.0]]), np.array([[3.0, 3.0]]), np.array([0]))
    assert found.value("decisions/top1") == found.value("decisions/regret") == 0.5
    assert found.value("decisions/spearman") == 0


def test_returns_tell_bias_and_correlation():
    real = np.array([0.0, 2.0, 4.0, 6.0])
    found = page()
    returns.score(found, real, 3 + 0.5 * real, np.arange(4))
    assert found.value("returns/bias") == pytest.approx(3 + 1.5 - 3)
    assert found.value("returns/bias_by_sd") == pytest.approx(1.5 / np.sqrt(5))
    assert found.value("returns/correlation") == pytest.approx(1)
    assert found.value("returns/rmse") == pytest.approx(np.sqrt(np.mean((3 - 0.5 * real) ** 2)))


def test_held_actions_change_one_element_at_a_time():
    spaces = {"move": Space((), "int32", classes=3), "push": Space((2,), "float32", low=-1.0, high=1.0)}
    found = branches.held_actions(spaces)
    assert found["move"].tolist() == [0, 1, 2, 0, 0, 0, 0]
    assert found["push"].tolist() == [[0, 0]] * 3 + [[-1, 0], [1, 0], [0, -1], [0, 1]]


def test_an_object_reappears_where_it_was_hidden_before():
    share = np.array([[1.0, 0.5, 0.1, 0.0, 0.5, 0.9, 1.0, 0.0, 0.0]])[..., None]
    found = objects.reappearing(share, np.ones((1, 9), bool))
    assert np.flatnonzero(found).tolist() == [5]
    never = np.array([[0.0, 0.0, 0.9]])[..., None]  # not seen before: nobody can know
    assert not objects.reappearing(never, np.ones((1, 3), bool)).any()


def test_impossible_clips_change_one_object_alone():
    position = np.random.default_rng(0).uniform(0.1, 0.9, (2, 5, 3, 2))
    for edit in clips.KINDS.values():
        changed = edit(position)
        np.testing.assert_array_equal(changed[:, :, 1:], position[:, :, 1:])
        assert (np.abs(changed[:, 1:, 0] - position[:, 1:, 0]).max(-1) > 0).all()
    assert (np.linalg.norm(clips.jump(position) - position, axis=-1)[:, 0, 0] > 0.1).all()


@pytest.mark.parametrize(("shift", "low", "high"), [(0.0, 0.4, 0.6), (0.5, 0.95, 1.0)])
def test_the_classifier_tells_what_differs_and_nothing_else(shift, low, high):
    random = np.random.default_rng(0)
    real, dreamt = random.uniform(0, 0.5, (2, 40, 10, 4, 4, 1)).astype(np.float32)
    trained = np.arange(40) < 20
    right = coherence.classify(real, dreamt + np.float32(shift), np.ones((40, 9), bool), trained, KEY)
    assert low <= right[~trained].mean() <= high


def test_an_end_counts_as_expected_within_a_step():
    flags = np.array([[False, False, True, False, False, False]])
    assert reward._near(flags).tolist() == [[False, True, True, True, False, False]]
