"""What may be averaged and what may not."""

import json

import pytest

from dreamworld.errors import UserError
from dreamworld.stats.groups import collect


def test_one_directory_is_one_group(make_run, tmp_path):
    make_run("ours/walker/0")
    make_run("ours/walker/1", seed=1)
    (group,) = collect([str(tmp_path / "ours")])
    assert group.label == "ours" and [run.seed for run in group.runs] == [0, 1]
    assert all(run.label == "ours" for run in group.runs)


def test_directories_are_named_by_the_user(make_run, tmp_path):
    make_run("a/0")
    make_run("b/0")
    groups = collect([f"new={tmp_path / 'a'}", f"old={tmp_path / 'b'}"])
    assert [group.label for group in groups] == ["new", "old"]


def test_mixed_settings_are_refused_and_the_key_is_named(make_run, tmp_path):
    (
        make_run("a/0", options={"agent.optim.lr": 1e-4}),
        make_run("a/1", seed=1, options={"agent.optim.lr": 1e-3}),
    )
    with pytest.raises(
        UserError, match=r"agent\.optim\.lr is 0\.0001 in .*a/0 and 0\.001 in .*a/1 .*--group-by"
    ):
        collect([str(tmp_path / "a")])


def test_settings_that_change_no_result_may_differ(make_run, tmp_path):
    make_run("a/0", options={"run.steps": 10, "logger.tensorboard": True, "env.workers": 4})
    make_run("a/1", seed=1, options={"run.steps": 20, "logger.tensorboard": False, "env.workers": 1})
    assert len(collect([str(tmp_path / "a")])) == 1


def test_an_option_that_an_older_run_lacks_is_its_default(make_run, tmp_path):
    make_run("a/0", options={"run.train_ratio": 256.0, "env.size": [64, 64]})
    make_run("a/1", seed=1)
    assert len(collect([str(tmp_path / "a")])) == 1
    make_run("a/2", seed=2, options={"run.train_ratio": 64.0})
    with pytest.raises(UserError, match=r"run\.train_ratio is 256\.0 in .*a/1 and 64\.0 in .*a/2"):
        collect([str(tmp_path / "a")])


def test_tasks_may_have_settings_of_their_own(make_run, tmp_path):
    (
        make_run("a/0", options={"run.train_ratio": 32}),
        make_run("a/1", "atari_pong", options={"run.train_ratio": 64}),
    )
    assert len(collect([str(tmp_path / "a")])) == 1


def test_one_seed_twice_is_refused(make_run, tmp_path):
    make_run("a/0")
    make_run("a/again")
    with pytest.raises(UserError, match="are both dmc_walker_walk seed 0"):
        collect([str(tmp_path / "a")])


def test_group_by_splits_by_a_setting(make_run, tmp_path):
    for index, lr in enumerate([1e-4, 1e-3]):
        make_run(f"a/{index}", options={"agent.optim.lr": lr})
    groups = collect([str(tmp_path / "a")], group_by=("agent.optim.lr",))
    assert [group.label for group in groups] == ["agent.optim.lr=0.0001", "agent.optim.lr=0.001"]
    with pytest.raises(UserError, match="has no such key"):
        collect([str(tmp_path / "a")], group_by=("agent.lr",))


def test_a_sweeps_variants_are_groups_and_its_plan_is_known(make_run, tmp_path):
    (
        make_run("s/lr=1/w/0", options={"agent.optim.lr": 1.0}),
        make_run("s/lr=2/w/0", options={"agent.optim.lr": 2.0}),
    )
    rows = [
        {"name": f"lr={lr}/w/{seed}", "task": "dmc_walker_walk", "seed": seed, "variant": f"lr={lr}"}
        for lr in (1, 2)
        for seed in (0, 1)
    ]
    (tmp_path / "s" / "sweep.json").write_text(json.dumps({"runs": rows}))
    groups = collect([str(tmp_path / "s")])
    assert [group.label for group in groups] == ["lr=1", "lr=2"]
    assert groups[0].planned == (("dmc_walker_walk", 0), ("dmc_walker_walk", 1))


def test_nothing_to_report_is_said(make_run, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no runs"):
        collect([str(tmp_path / "empty")])
    make_run("young/0", scores=[])
    with pytest.raises(UserError, match="its only run has no finished episode yet"):
        collect([str(tmp_path / "young")])
    make_run("a/0")
    make_run("b/a/0")
    with pytest.raises(UserError, match="two directories are called 'a'"):
        collect([str(tmp_path / "a"), str(tmp_path / "b" / "a")])


def test_the_config_of_another_program_leaves_the_runs_in_the_report(make_run, tmp_path):
    make_run("a/0")
    (tmp_path / "a" / "other").mkdir()
    (tmp_path / "a" / "other" / "config.yaml").write_text("model: resnet\n")
    (group,) = collect([str(tmp_path / "a")])
    assert len(group.runs) == 1 and "other/config.yaml: names no task and seed" in group.bad[0]
