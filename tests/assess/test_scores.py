"""Decisions, returns, objects and realism by hand."""

import jax
import numpy as np
import pytest

from dreamworld.assess import (
    branches,
    clips,
    coherence,
    decisions,
    inverse,
    objects,
    returns,
    reward,
    sheet,
    small_net,
)
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


def test_momentum_and_energy_are_those_of_all_objects_together():
    real, dreamt = (
        np.array([[[1.0, 0], [-1, 2]], [[3, 4], [0, 0]]]),
        np.array([[[1.0, 0], [0, 1]], [[0, 0], [0, 0]]]),
    )
    momentum, energy = objects.conserved(dreamt, real)
    np.testing.assert_allclose(momentum, [[np.sqrt(2), 5], [2, 5]])  # (1, 1) in place of (0, 2)
    np.testing.assert_allclose(energy, [[4, 25], [6, 25]])
    exchanged, _ = objects.conserved(real[:, ::-1], real)
    np.testing.assert_allclose(exchanged[0], 0)


def test_the_likelihood_of_a_reward_is_the_mean_of_those_of_the_dreams():
    nats = -np.log(np.array([[[0.5, 0.1]], [[1e-30, 1e-30]]]))
    np.testing.assert_allclose(reward.nll(nats), [[-np.log(0.3)], [30 * np.log(10)]])


def test_the_likelihood_of_an_end_is_bounded():
    found = reward.bernoulli_nll(np.array([0.8, 0.8, 1.0, 1.0]), np.array([True, False, True, False]))
    np.testing.assert_allclose(found, [-np.log(0.8), -np.log(0.2), 0, 6 * np.log(10)])


def test_an_end_counts_as_expected_within_a_step():
    flags = np.array([[False, False, True, False, False, False]])
    assert reward._near(flags).tolist() == [[False, True, True, True, False, False]]


@pytest.mark.parametrize(("share", "ratio"), [(1.0, 1.0), (0.0, 0.0), (0.5, 0.5)])
def test_the_inverse_ratio_is_what_dreams_show_of_the_actions(share, ratio):
    random = np.random.default_rng(0)
    action = random.integers(0, 4, (40, 10))
    dreamt = np.broadcast_to(np.arange(40)[:, None] < 40 * share, action.shape)
    found = page(40)
    inverse.score(found, np.ones(action.shape, bool), dreamt, action, np.ones(action.shape, bool))
    assert found.value("inverse/ratio") == pytest.approx(ratio)


def test_there_is_no_ratio_where_reality_does_not_show_the_actions():
    action = np.random.default_rng(0).integers(0, 4, (40, 10))
    found = page(40)
    inverse.score(found, action == 0, action == 1, action, np.ones(action.shape, bool))
    assert found.value("inverse/ratio") is None and "can be read" in found.left_out["inverse/ratio"]


def test_a_small_network_reads_an_action_from_three_rows():
    random = np.random.default_rng(0)
    action = random.integers(0, 3, (60, 8))
    speed = np.cumsum(action - 1, 1)
    place = np.cumsum(
        np.concatenate([np.zeros((60, 2)), speed], 1), 1
    )  # row k + 2 moves on by the speed after k
    rows = inverse.triples((place[:, :, None] * np.array([0.1, -0.1])).astype(np.float32))
    tell = small_net.fit(rows[:40].reshape(-1, rows.shape[-1]), action[:40].reshape(-1), 3, KEY)
    assert (tell(rows[40:]) == action[40:]).mean() > 0.95
