"""Worlds of known score: each fault moves the metrics that it should, and no other."""

import known
import numpy as np
import pytest

from dreamworld.assess.drift import MOST_DB

# The metrics that a fault moves, beside those of the frame alone; all others are those of the true environment.
FRAMES = {
    "drift/image/psnr", "drift/image/mse", "drift/image/skill_1", "drift/image/useful_horizon", "drift/image/growth",
    "drift/image/energy_score", "drift/image/foreground_mse",
}  # fmt: skip
VECTORS = {name.replace("image", "vector") for name in FRAMES} - {
    "drift/vector/psnr",
    "drift/vector/foreground_mse",
}
REWARDS = {f"reward/{name}" for name in (
    "mae", "crps", "spearman", "auroc", "ap", "return_error", "mae_where_paid", "mae_elsewhere",
)}  # fmt: skip
ACTIONS = {"actions/image/psnr_gain", "actions/image/shuffle_ratio", "actions/vector/shuffle_ratio"}
POSTERIOR = {"drift/image/psnr_posterior"}
MOVES = {
    "copy_last": FRAMES | VECTORS | REWARDS | ACTIONS,
    "mean_frame": FRAMES | VECTORS | ACTIONS | POSTERIOR,
    "action_blind": FRAMES | VECTORS | REWARDS | ACTIONS,
    "late": FRAMES | VECTORS | ACTIONS,
    "reward_late": REWARDS | {"reward/mae_posterior"},
    "frozen": (FRAMES | VECTORS | REWARDS | ACTIONS) - {"drift/image/skill_1", "drift/vector/skill_1"},
}
# Errors that are small, or come late, need not change these.
MAY_STAY = {f"drift/{key}/{name}" for key in ("image", "vector") for name in ("growth", "useful_horizon")}


def values(sheet):
    return {name: found.value for name, found in sheet.metrics.items()}


def test_the_true_environment_is_perfect(sheets):
    found = values(sheets())
    assert found["drift/image/psnr"] == pytest.approx(MOST_DB)
    assert found["drift/image/skill_1"] == found["drift/vector/skill_1"] == 1
    assert found["drift/image/useful_horizon"] == 12
    assert found["reward/mae"] == found["reward/return_error"] == found["cont/brier"] == 0
    assert found["reward/spearman"] == found["reward/auroc"] == found["reward/ap"] == pytest.approx(1)
    assert found["actions/image/psnr_gain"] > 20 and found["actions/image/shuffle_ratio"] > 1000


@pytest.mark.parametrize("fault", MOVES)
def test_a_fault_moves_its_metrics_and_no_other(sheets, fault):
    perfect, found = values(sheets()), values(sheets(fault))
    assert perfect.keys() == found.keys()
    moved = {name for name in perfect if not np.isclose(
        *(np.nan if found is None else found for found in (perfect[name], found[name])), rtol=1e-4, atol=1e-6,
        equal_nan=True,
    )}  # fmt: skip
    assert moved - MAY_STAY <= MOVES[fault]
    assert MOVES[fault] - MAY_STAY <= moved


def test_copying_the_last_row_has_no_skill_and_no_actions(sheets):
    sheet = sheets("copy_last")
    np.testing.assert_allclose(sheet.curves["drift/image/skill"].value, 0, atol=1e-5)
    np.testing.assert_allclose(
        sheet.curves["drift/image/mse"].value, sheet.curves["drift/image/mse_copy"].value, rtol=1e-5
    )
    assert values(sheet)["actions/image/psnr_gain"] == 0 and values(sheet)["actions/image/shuffle_ratio"] == 1
    assert values(sheet)["drift/image/useful_horizon"] == 0


def test_the_mean_frame_is_its_baseline(sheets):
    curves = sheets("mean_frame").curves
    for key in ("image", "vector"):
        np.testing.assert_allclose(
            curves[f"drift/{key}/mse"].value, curves[f"drift/{key}/mse_mean"].value, rtol=1e-5
        )


def test_a_world_that_is_blind_for_actions_gains_nothing_by_the_right_ones(sheets):
    found = sheets("action_blind").metrics["actions/image/psnr_gain"]
    assert found.low is not None and found.high is not None and found.low < 0 < found.high
    assert sheets().metrics["actions/image/psnr_gain"].low > 10


def test_a_world_that_freezes_is_right_until_then(sheets):
    sheet = sheets("frozen")  # after 3 steps
    np.testing.assert_allclose(sheet.curves["drift/image/skill"].value[:3], 1, atol=1e-5)
    assert (sheet.curves["drift/image/skill"].value[3:] < 1).all()


def test_a_reward_that_comes_late_shows_where_it_changes_only(sheets):
    sheet = sheets("reward_late")
    assert 0 < values(sheet)["reward/mae"] < values(sheet)["reward/mae_constant"]
    assert 0.5 < values(sheet)["reward/auroc"] < 1


def test_a_ball_that_vanishes_behind_the_bar_costs_frames_alone():
    env = known.Shown(size=16, occluder=True)
    segments = known.make_segments(env, count=32, horizon=30)
    perfect, found = (
        values(known.judge(known.make_known(env, fault), segments)[0]) for fault in ("", "vanishing")
    )
    moved = {name for name in perfect if perfect[name] != found[name]}
    pictures = {name for name in FRAMES | ACTIONS if "image" in name}
    assert "drift/image/psnr" in moved and moved <= pictures
