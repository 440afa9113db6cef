"""Normalisation against the formulas' values worked out by hand."""

import numpy as np
import pytest

from dreamworld.stats import normalise
from dreamworld.stats.scores import read_run


def test_human_normalised_atari_by_hand():
    # pong: random -20.7, human 14.6; breakout: random 1.7, human 30.5.
    assert normalise.normalise("atari_pong", np.array([-20.7, 14.6])) == pytest.approx([0, 1])
    assert normalise.normalise("atari100k_breakout", np.array([16.1])) == pytest.approx([0.5])


def test_published_atari_scores_normalise_to_hand_values():
    curve = normalise.published("atari100k_alien", {})
    assert curve is not None and curve.frames[-1] == 400_000
    expected = (1007.714 - 227.8) / (7127.7 - 227.8)
    assert normalise.normalise("atari100k_alien", curve.mean[-1:]) == pytest.approx(expected, abs=1e-4)


def test_dmc_is_divided_by_1000_and_others_stay():
    assert normalise.normalise("dmc_walker_walk", np.array([500.0])) == [0.5]
    assert normalise.normalise("gym_CartPole-v1", np.array([500.0])) == [500]
    assert normalise.split_task("atari_no_such_game")[0] == "raw"


def test_every_human_score_differs_from_random():
    table = normalise.load_table("atari_human_random")["scores"]
    assert len(table) == 57 and all(row["human"] != row["random"] for row in table.values())


def test_crafter_score_is_the_geometric_mean_of_one_plus_percent():
    assert normalise.crafter_score(np.zeros(22)) == 0
    assert normalise.crafter_score(np.full(22, 100.0)) == pytest.approx(100)
    rates = np.zeros(22)
    rates[0] = 50.0
    assert normalise.crafter_score(rates) == pytest.approx(51 ** (1 / 22) - 1)


def test_crafter_rates_count_episodes_not_unlocks(make_run):
    path = make_run(
        "a", "crafter_reward", repeat=1, scores=[(100, 1.0), (200, 2.0), (300, 3.0), (400, 0.0)],
        achievements=[{"wood": 1.0}, {"wood": 0.0, "stone": 1.0}, {"wood": 1.0}, {"wood": 0.0}],
    )  # fmt: skip
    run = read_run(path)
    rates = normalise.crafter_rates(run, 400)
    assert rates is not None and len(rates) == 22
    assert sorted(rates, reverse=True)[:3] == [50.0, 25.0, 0.0]
    half = normalise.crafter_rates(run, 200)
    assert half is not None and sorted(half, reverse=True)[:2] == [50.0, 50.0]
    assert normalise.crafter_rates(run, 50) is None


def test_published_curves_follow_the_observations():
    proprio = normalise.published("dmc_walker_walk", {"env": {"dmc": {"obs": "proprio"}}})
    vision = normalise.published("dmc_walker_walk", {"env": {"dmc": {"obs": "vision"}}})
    assert (
        proprio is not None
        and proprio.suite == "dmc_proprio"
        and proprio.mean[-1] == pytest.approx(935.8, abs=0.1)
    )
    assert vision is not None and vision.suite == "dmc_vision"
    assert normalise.published("dmc_walker_walk", {"env": {"dmc": {"obs": "both"}}}) is None
    assert normalise.published("gym_CartPole-v1", {}) is None


def test_captions_state_settings_and_every_number_of_seeds():
    fewer = normalise.published("atari100k_up_n_down", {})
    assert fewer is not None
    for words in ("action repeat 4", "400k frames", "5 seeds, 2 at the fewest", "train ratio 256"):
        assert words in fewer.caption


def test_every_published_suite_states_its_settings():
    table = normalise.load_table("dreamerv3_scores")
    assert set(table["settings"]) == set(table["scores"])
    for suite, games in table["scores"].items():
        assert {"action_repeat", "model", "train_ratio", "budget_frames"} == set(table["settings"][suite])
        assert all(len(rows) > 3 for rows in games.values())
