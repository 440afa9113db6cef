"""Worlds of known score: each fault moves the metrics that it should, and no other."""

import known
import numpy as np
import pytest

from dreamworld.assess import levels, loops, reality, scene
from dreamworld.assess.drift import MOST_DB
from dreamworld.assess.ground import NEEDS

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
    "mae", "crps", "nll", "spearman", "auroc", "ap", "return_error", "mae_where_paid", "mae_elsewhere",
)} | {f"decisions/{name}" for name in ("top1", "regret", "spearman")}  # fmt: skip
ACTIONS = {f"actions/image/{name}" for name in ("psnr_gain", "shuffle_ratio", "cfc", "sign")}
ACTIONS |= {"actions/vector/shuffle_ratio", "actions/vector/cfc"}
PLACES = {"objects/centroid_error", "objects/centroid_error_free", "objects/centroid_error_wall"}
LIVELY = {"coherence/image/motion_ratio", "coherence/image/frozen", "coherence/image/variance_ratio"}
POSTERIOR = {"drift/image/psnr_posterior"}
SURPRISE = {f"surprise/auroc{name}" for name in ("", "_vanish", "_jump", "_stop")}
MOMENTUM = {"objects/momentum_error", "objects/energy_error"}
MOTION = {"objects/bounce_sign", "objects/speed_ratio", "objects/energy_ratio"} | MOMENTUM
# What a fault must move.
MOVES = {
    "copy_last": FRAMES | VECTORS | REWARDS | ACTIONS | LIVELY | PLACES | {"objects/presence", *MOTION},
    "mean_frame": FRAMES
    | VECTORS
    | ACTIONS
    | POSTERIOR
    | LIVELY
    | {"objects/presence", "objects/count_error"},
    "action_blind": FRAMES | VECTORS | REWARDS | ACTIONS | PLACES,
    "late": FRAMES | VECTORS | ACTIONS | PLACES,
    "reward_late": REWARDS | {"reward/mae_posterior"},
    "frozen": (FRAMES | VECTORS | REWARDS | ACTIONS | LIVELY | PLACES)
    - {"drift/image/skill_1", "drift/vector/skill_1"},
}
# What it may move, too: errors that are small or come late need not change these, and sampling may.
MAY = {f"drift/{key}/{name}" for key in ("image", "vector") for name in ("growth", "useful_horizon")}
MAY_ALL = MAY | LIVELY | PLACES | MOTION | SURPRISE | {
    "coherence/image/area_ratio", "objects/presence", "actions/image/leak", "objects/count_error",
}  # fmt: skip
MAYS = dict.fromkeys(MOVES, MAY_ALL) | {"reward_late": set()}


def values(sheet):
    return {name: found.value for name, found in sheet.metrics.items()}


def different(perfect, found):
    """The metrics that differ by more than rounding."""
    plain = lambda value: np.nan if value is None else value
    same = lambda name: np.isclose(
        plain(perfect[name]), plain(found[name]), rtol=1e-4, atol=1e-6, equal_nan=True
    )
    return {name for name in perfect if not same(name)}


def test_the_true_environment_is_perfect(sheets):
    found = values(sheets())
    assert found["drift/image/psnr"] == pytest.approx(MOST_DB)
    assert found["drift/image/skill_1"] == found["drift/vector/skill_1"] == 1
    assert found["drift/image/useful_horizon"] == 12
    assert found["reward/mae"] == found["reward/return_error"] == found["cont/brier"] == 0
    assert found["reward/spearman"] == found["reward/auroc"] == found["reward/ap"] == pytest.approx(1)
    assert found["actions/image/psnr_gain"] > 20 and found["actions/image/shuffle_ratio"] > 1000
    ones = (
        "actions/image/cfc",
        "decisions/top1",
        "decisions/spearman",
        "actions/image/sign",
        "objects/presence",
        "objects/bounce_sign",
    )
    assert {name: found[name] for name in ones} == pytest.approx(dict.fromkeys(ones, 1))
    assert found["decisions/regret"] == found["objects/count_error"] == found["coherence/image/frozen"] == 0
    assert found["objects/centroid_error"] < 0.2 and found["surprise/auroc"] == 1
    for name in (
        "coherence/image/area_ratio",
        "coherence/image/motion_ratio",
        "coherence/image/variance_ratio",
    ):
        assert found[name] == pytest.approx(1)
    for name in ("objects/speed_ratio", "objects/energy_ratio"):
        assert found[name] == pytest.approx(1)


@pytest.mark.parametrize("fault", MOVES)
def test_a_fault_moves_its_metrics_and_no_other(sheets, fault):
    perfect, found = values(sheets()), values(sheets(fault))
    assert perfect.keys() == found.keys()
    moved = different(perfect, found)
    assert moved - MAYS[fault] <= MOVES[fault]
    assert MOVES[fault] - MAY <= moved


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
    found = values(sheets("action_blind"))
    assert found["actions/image/psnr_gain"] == found["actions/image/cfc"] == found["decisions/spearman"] == 0
    assert found["decisions/top1"] == pytest.approx(found["decisions/top1_chance"])
    assert sheets().metrics["actions/image/psnr_gain"].low > 10


def test_a_world_that_freezes_is_right_until_then(sheets):
    sheet = sheets("frozen")  # after 3 steps
    np.testing.assert_allclose(sheet.curves["drift/image/skill"].value[:3], 1, atol=1e-5)
    assert (sheet.curves["drift/image/skill"].value[3:] < 1).all()


def test_a_reward_that_comes_late_shows_where_it_changes_only(sheets):
    sheet = sheets("reward_late")
    assert 0 < values(sheet)["reward/mae"] < values(sheet)["reward/mae_constant"]
    assert 0.5 < values(sheet)["reward/auroc"] < 1


def test_a_frozen_world_is_caught_by_the_rows_that_stand_still(sheets):
    found = values(sheets("frozen"))
    assert 0.6 < found["coherence/image/frozen"] < 0.8  # 9 of 12 rows, less those that hardly move in truth
    assert values(sheets("copy_last"))["coherence/image/frozen"] > 0.99


def test_what_stands_still_has_lost_all_momentum_and_the_true_world_none(sheets):
    for name in ("objects/momentum_error", "objects/energy_error"):
        assert sheets().value(name) == pytest.approx(0, abs=1e-5)
        assert sheets("copy_last").value(name) == pytest.approx(1)
        assert sheets("mean_frame").value(name) is None  # no ball is there
        assert sheets("action_blind").metrics[name].low > 0.02
        assert sheets("reward_late").value(name) == sheets().value(name)


def test_a_deterministic_reality_played_again_is_the_same(balls):
    env, (made, truth) = balls
    found = {f"mse/{key}": np.ones((*made.imagined.shape, 1)) for key in made.obs_space}
    page = known.start(known.make_known(env), (made, truth))[2]
    reality.add_reality(page, made, found, truth, scene.scenes(made), known.KEY)
    assert page.value("drift/image/mse_reality") == 0
    assert page.value("drift/vector/mse_reality") == pytest.approx(0, abs=1e-9)
    assert not any(name.endswith("by_reality") for name in page.metrics)


def test_without_an_environment_in_jax_reality_is_not_played_again(balls):
    env, (made, truth) = balls
    page = known.start(known.make_known(env), (made, truth))[2]
    reality.add_reality(page, made, {"mse/image": np.zeros(1)}, None, {}, known.KEY)
    assert page.left_out == {"drift/reality": NEEDS} and page.metrics == {}


def test_actions_without_inverses_make_no_loop(balls):
    env, (made, truth) = balls  # pushes in five directions, which inertia keeps from being undone
    assert "fan/alive" in made.branches and "loop/alive" not in made.branches
    dreaming, params, page = known.start(known.make_known(env), (made, truth))
    loops.add_loops(page, dreaming, params, made, known.KEY)
    assert page.left_out == {"coherence/loop": loops.NEEDS} and page.metrics == {}


def test_the_level_card_names_what_stops_a_world(sheets):
    assert "reaches L0" in levels.summary(levels.levels(sheets()))  # the classifier was not asked
    card = {level.name: level for level in levels.levels(sheets())}
    assert card["L2"].reached and card["L3"].reached is False and "useful horizon: 12" in card["L3"].shown
    assert card["L4"].reached is None and "not measured" in card["L4"].shown
    line = levels.summary(levels.levels(sheets("copy_last")))
    assert line.startswith("reaches no level; stopped at L0 (skill after one step: ")


def test_a_ball_that_vanishes_behind_the_bar_costs_frames_and_permanence_alone():
    env = known.Shown(size=16, occluder=True)
    made = known.make_segments(env, count=32, horizon=30)
    perfect, found = (values(known.judge(known.make_known(env, fault), made)) for fault in ("", "vanishing"))
    moved = different(perfect, found)
    pictures = {name for name in FRAMES | ACTIONS if "image" in name}
    allowed = pictures | LIVELY | PLACES | MOTION | SURPRISE | {"objects/presence", "objects/count_error"}
    allowed |= {
        "coherence/image/area_ratio",
        "objects/reemergence",
        "objects/reemergence_error",
        "actions/image/leak",
    }
    assert {"drift/image/psnr", "objects/presence", "objects/reemergence"} <= moved <= allowed
    assert perfect["objects/reemergence"] == 1 and found["objects/reemergence"] == 0
