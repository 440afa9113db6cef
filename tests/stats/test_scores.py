"""Reading run directories as crashes leave them."""

import numpy as np
import pytest

from dreamworld.errors import UserError
from dreamworld.stats import scores


def test_reads_scores_seed_and_reach(make_run):
    run = scores.read_run(make_run("a", seed=3, scores=[(2000, 1.0), (4000, 3.0)], steps=2500))
    assert (run.task, run.seed, run.state) == ("dmc_walker_walk", 3, "finished")
    assert run.frames.tolist() == [2000, 4000] and run.returns.tolist() == [1, 3]
    assert run.reach == 5000  # the heartbeat is further than the last episode


def test_a_cut_line_is_skipped_and_counted(make_run):
    path = make_run("a", scores=[(2000, 1.0), (4000, 3.0)])
    with (path / "episodes.jsonl").open("a") as file:
        file.write('{"step": 3000, "frames": 60')
    run = scores.read_run(path)
    assert run.returns.tolist() == [1, 3] and run.unreadable == 1


def test_steps_repeated_after_a_resume_count_once(make_run):
    # Killed after 8000 frames, continued from a checkpoint at 4000.
    run = scores.read_run(
        make_run("a", scores=[(2000, 1), (4000, 2), (6000, 3), (8000, 4), (6000, 30), (8000, 40)])
    )
    assert run.frames.tolist() == [2000, 4000, 6000, 8000]
    assert run.returns.tolist() == [1, 2, 30, 40]


def test_a_step_repeated_by_the_same_environment_counts_once(make_run):
    # The lost session ended with the very step that the next one logs first.
    run = scores.read_run(make_run("a", scores=[(2000, 1), (4000, 2), (4000, 20), (6000, 3)]))
    assert run.returns.tolist() == [1, 20, 3]


def test_episodes_of_one_step_all_count(make_run):
    run = scores.read_run(make_run("a", scores=[(2000, 1, 0), (2000, 2, 1), (2000, 3, 2)]))
    assert run.returns.tolist() == [1, 2, 3]


def test_pauses_are_no_work():
    hours = scores.working_hours(np.array([0.0, 100, 200, 300, 90_000, 90_100]))
    assert hours[-1] == pytest.approx(400 / 3600)
    assert scores.working_hours(np.array([0.0, 500, 1000]))[-1] == pytest.approx(1000 / 3600)


def test_hours_are_those_of_the_metrics(make_run):
    run = scores.read_run(make_run("a", scores=[(2000, 1), (4000, 2), (6000, 3)], second=90))
    assert run.hours == pytest.approx([0, 90 / 3600, 180 / 3600])
    assert run.total_hours == pytest.approx(180 / 3600)


def test_a_folder_that_is_no_run_is_named(tmp_path):
    (tmp_path / "config.yaml").write_text("run: {steps: 3}")
    with pytest.raises(UserError, match=r"config\.yaml: names no task and seed"):
        scores.read_run(tmp_path)
    (tmp_path / "config.yaml").write_text("a: [")
    with pytest.raises(UserError, match="unreadable"):
        scores.read_run(tmp_path)


def test_evaluations_can_be_the_scores(make_run):
    path = make_run("a")
    (path / "eval.jsonl").write_text(
        '{"step": 500, "frames": 1000, "time": 1, "mean": 7.5, "returns": [7, 8]}\n'
    )
    assert scores.read_run(path, "eval").returns.tolist() == [7.5]
