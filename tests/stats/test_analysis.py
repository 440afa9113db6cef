"""Budgets, what is left out, and that it is said."""

import numpy as np
import pytest

from dreamworld.errors import UserError
from dreamworld.stats.analysis import Options, analyse
from dreamworld.stats.groups import collect
from dreamworld.stats.normalise import load_table
from dreamworld.stats.notes import describe, spread, took


def line(last, top, count=50):
    """Episodes up to `last` frames whose return rises to `top`."""
    return [(round(last * share), top * share) for share in np.arange(1, count + 1) / count]


def report_of(tmp_path, *names, **options):
    return analyse(collect([str(tmp_path / name) for name in names]), Options(**options))


def test_final_scores_equal_a_plain_recomputation(make_run, tmp_path):
    for seed, top in enumerate([800.0, 600.0, 900.0]):
        make_run(f"a/{seed}", seed=seed, scores=line(400_000, top))
    (task,) = report_of(tmp_path, "a").tasks
    result = task.results["a"]
    # The last 5% of 400k frames hold the episodes at 384k, 392k and 400k.
    plain = [top * (0.96 + 0.98 + 1.0) / 3 for top in (800.0, 600.0, 900.0)]
    assert task.budget == 400_000
    assert sorted(result.returns) == pytest.approx(sorted(plain))
    assert result.at_score.value == pytest.approx(np.mean(plain) / 1000)
    assert result.at_return.low < result.at_return.value < result.at_return.high


def test_a_short_run_is_left_out_and_named(make_run, tmp_path):
    make_run("a/0", scores=line(100_000, 500))
    make_run("a/1", seed=1, scores=line(100_000, 500))
    make_run(
        "a/2", seed=2, scores=line(40_000, 100), state="failed", error="Traceback\nRuntimeError: NaN in loss"
    )
    analysis = report_of(tmp_path, "a")
    (task,) = analysis.tasks
    assert task.budget == 100_000 and len(task.results["a"].runs) == 2
    (note,) = [note for note in describe(analysis) if "left out" in note]
    assert "seed 2 came to 40,000 of 100,000 frames (failed: RuntimeError: NaN in loss)" in note


def test_unequal_lengths_are_compared_at_the_shortest_finished_run_and_said(make_run, tmp_path):
    make_run("a/0", scores=line(100_000, 500))
    make_run("b/0", scores=line(300_000, 1500))
    analysis = report_of(tmp_path, "a", "b")
    (task,) = analysis.tasks
    assert task.budget == 100_000
    assert task.results["b"].returns == pytest.approx(task.results["a"].returns, rel=0.1)
    assert any(
        "unequal length, 100,000 to 300,000 frames; scores are taken at 100,000" in x
        for x in describe(analysis)
    )


def test_missing_seeds_are_said(make_run, tmp_path):
    for seed in (0, 1):
        make_run(f"a/w{seed}", seed=seed)
    make_run("a/c0", "dmc_cheetah_run")
    (note,) = [note for note in describe(report_of(tmp_path, "a")) if "missing" in note]
    assert note == "a: seed 1 missing on dmc_cheetah_run (other tasks have them)."


def test_equal_and_complete_runs_need_no_warning_but_few_seeds_do(make_run, tmp_path):
    for seed in range(5):
        make_run(f"a/{seed}", seed=seed, scores=line(100_000, 500))
        if seed < 3:
            make_run(f"b/{seed}", seed=seed, scores=line(100_000, 500))
    assert describe(report_of(tmp_path, "a")) == []
    assert any("rest on 3 runs" in note for note in describe(report_of(tmp_path, "b")))


def test_aggregates_equal_a_plain_recomputation_on_atari(make_run, tmp_path):
    games, table = ("pong", "boxing", "alien"), load_table("atari_human_random")["scores"]
    for index, game in enumerate(games):
        for seed in range(2):
            scores = [(400_000, 10.0 * (index + 1) + seed)]
            make_run(f"a/{game}{seed}", f"atari100k_{game}", seed, scores, repeat=4)
    (suite,) = report_of(tmp_path, "a").suites
    plain = np.array(
        [
            [10.0 * (index + 1) + seed - table[game]["random"] for seed in range(2)]
            / np.array(table[game]["human"] - table[game]["random"])
            for index, game in enumerate(games)
        ]
    )  # fmt: skip
    found = {name: estimate.value for name, estimate in suite.estimates["a"].items()}
    assert found["mean"] == pytest.approx(plain.mean())
    assert found["median"] == pytest.approx(np.median(plain.mean(1)))
    assert found["IQM"] == pytest.approx(np.sort(plain.ravel())[1:5].mean())
    assert found["optimality gap"] == pytest.approx(1 - np.minimum(plain, 1).mean())


def test_published_curve_is_compared_at_equal_frames(make_run, tmp_path):
    make_run("a/0", scores=line(490_000, 900))
    analysis = report_of(tmp_path, "a", baseline=True)
    (task,) = analysis.tasks
    assert task.published is not None
    budgets = [frames for frames, _ in task.results["a"].efficiency]
    assert budgets == task.published.frames.tolist()
    at_100k = dict(task.results["a"].efficiency)[100_000].value
    inside = [top for frames, top in line(490_000, 900) if 90_000 < frames <= 100_000]
    assert at_100k == pytest.approx(np.mean(inside))
    assert analysis.suites[0].published["mean"] == pytest.approx(0.9358, abs=1e-3)
    assert any("action repeat 2" in note and "5 seeds" in note for note in describe(analysis))


def test_short_runs_are_averaged_over_the_published_window_beside_published_curves(make_run, tmp_path):
    make_run("a/0", scores=line(50_000, 900))
    (task,) = report_of(tmp_path, "a", baseline=True).tasks
    at_25k = dict(task.results["a"].efficiency)[25_000].value
    assert at_25k == pytest.approx(np.mean([v for f, v in line(50_000, 900) if 15_000 < f <= 25_000]))


def test_unnormalised_tasks_enter_no_aggregate(make_run, tmp_path):
    make_run("a/0", "gym_CartPole-v1")
    make_run("a/1")
    analysis = report_of(tmp_path, "a")
    assert [suite.tasks for suite in analysis.suites] == [["dmc_walker_walk"]]
    assert any("No normalisation is known for gym_CartPole-v1" in note for note in describe(analysis))


def test_aggregates_use_the_tasks_that_all_methods_have(make_run, tmp_path):
    make_run("a/0")
    make_run("a/1", "dmc_cheetah_run")
    make_run("b/0")
    analysis = report_of(tmp_path, "a", "b")
    assert analysis.suites[0].tasks == ["dmc_walker_walk"]
    assert any("Aggregates leave out dmc_cheetah_run" in note for note in describe(analysis))
    assert any(note == "b has no run of dmc_cheetah_run." for note in describe(analysis))


def test_crafter_is_scored_by_achievements(make_run, tmp_path):
    make_run(
        "a/0", "crafter_reward", repeat=1, scores=[(100, 1.0), (200, 2.0)],
        achievements=[{"wood": 1.0}, {"wood": 0.0}],
    )  # fmt: skip
    (task,) = report_of(tmp_path, "a").tasks
    assert task.results["a"].scores == pytest.approx([(51 ** (1 / 22) - 1) / 100])


def test_scores_at_asked_frames(make_run, tmp_path):
    make_run("a/0", scores=line(100_000, 1000))
    (task,) = report_of(tmp_path, "a", at_frames=50_000).tasks
    assert task.results["a"].returns == pytest.approx(
        [np.mean([v for f, v in line(100_000, 1000) if 45_000 < f <= 50_000])]
    )
    with pytest.raises(UserError, match="no run reached 900,000 frames"):
        report_of(tmp_path, "a", at_frames=900_000)


def test_unfinished_sweep_is_reported_at_what_all_reached(make_run, tmp_path):
    (
        make_run("a/0", scores=line(60_000, 500), state="running"),
        make_run("a/1", seed=1, scores=line(40_000, 500), state="preempted"),
    )
    analysis = report_of(tmp_path, "a")
    assert analysis.tasks[0].budget == 40_000
    assert any(
        "2 of 2 runs have not finished (1 preempted and 1 running)" in note for note in describe(analysis)
    )


@pytest.mark.parametrize(
    ("hours", "text"),
    [
        (0.00264, "9.5 s"),
        (0.0167, "1 min"),
        (0.2, "12 min"),
        (0.9999, "1 h"),
        (3.21, "3.2 h"),
        (1234.5, "1,234 h"),
    ],
)
def test_work_is_told_in_the_unit_that_suits_it(hours, text):
    assert took(hours) == spread(np.array([hours])) == text
    assert spread(np.array([hours, hours])) == f"{text} ({text} – {text})"
