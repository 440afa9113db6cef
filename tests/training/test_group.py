"""Where seeds meet after a kill or a damage: the newest step that all have intact, and nothing intact is deleted."""

import json

import numpy as np
import pytest

from dreamworld import cli
from dreamworld.errors import UserError
from dreamworld.logging.rundir import RunDir
from dreamworld.training import snapshot, trees
from dreamworld.training.checkpoint import Checkpointer
from dreamworld.training.group import find_meeting, set_aside, shared_steps

SEEDS = (3, 5)
AGENT = {"w": np.ones(2)}


@pytest.fixture
def runs(tmp_path):
    rundirs = [RunDir(tmp_path / f"seed{seed}") for seed in SEEDS]
    for seed, rundir in zip(SEEDS, rundirs):
        rundir.begin(cli.parse(["--logdir", str(rundir), "--seed", str(seed)]))
    return rundirs


def put(rundir, *steps, group=SEEDS):
    for step in steps:
        folder = snapshot.epath.Path(rundir.checkpoints / str(step))
        trees.write_tree(folder / "host_0", {"step": step})
        meta = {"0": {"group": list(group)} if group else {}}
        header = {"step": step, "score": None, "processes": 1, "tensors": {}, "meta": meta}
        snapshot.commit(folder, header)


def damage(rundir, step):
    (rundir.checkpoints / str(step) / "host_0" / "tree.json").write_text("{")


def meet(rundirs, save_every=100):
    meeting = find_meeting(rundirs, save_every, SEEDS)
    set_aside(rundirs, meeting)
    return meeting.step


def left(rundir):
    """Names of the snapshots of a run, and of those set aside."""
    aside = rundir.path / "set_aside"
    return snapshot.snapshot_steps(rundir.checkpoints), sorted(path.name for path in aside.glob("*"))


def test_new_runs_begin_at_the_beginning(runs):
    assert meet(runs) is None


def test_a_kill_between_two_commits_costs_one_save(runs, caplog):
    put(runs[0], 100, 200)
    put(runs[1], 100)
    assert meet(runs) == 100
    assert left(runs[0]) == ([100], ["200"]) and left(runs[1]) == ([100], [])
    assert f"{runs[0].checkpoints}/200 is not there for every seed; moved to" in caplog.text
    assert "all seeds go on from step 100" in caplog.text


@pytest.mark.parametrize("save_every", [100, 0])
def test_a_kill_at_the_first_save_begins_anew(runs, caplog, save_every):
    put(runs[0], 100)
    assert meet(runs, save_every) is None
    assert left(runs[0]) == ([], ["100"]) and "all seeds go on from the beginning" in caplog.text


@pytest.mark.parametrize(("steps", "save_every"), [((100, 200), 100), ((900,), 100), ((100, 900), 0)])
@pytest.mark.parametrize("lost", [0, 1])
def test_a_seed_without_checkpoints_does_not_throw_the_others_back(runs, caplog, steps, save_every, lost):
    put(runs[1 - lost], *steps)
    with pytest.raises(UserError, match=rf"{runs[lost]} has no checkpoint.*up to step {steps[-1]}") as caught:
        meet(runs, save_every)
    line = str(caught.value)
    assert f"dreamworld train {runs[1 - lost]}" in line and "move" in line and "\n" not in line
    assert left(runs[1 - lost]) == (list(steps), []) and not caplog.text


def test_a_failing_disk_of_one_seed_is_no_reason_to_part(runs):
    put(runs[0], 100, 900, 1000)
    put(runs[1], 100)
    assert meet(runs) == 100 and left(runs[0]) == ([100], ["1000", "900"])


def test_damage_falls_back_and_leaves_what_is_intact(runs, caplog):
    for rundir in runs:
        put(rundir, 100, 400, 800)
    damage(runs[1], 800)
    assert meet(runs) == 400
    assert left(runs[0]) == ([100, 400], ["800"]) and left(runs[1]) == ([100, 400], [])
    (kept,) = runs[1].checkpoints.glob("800.damaged-*")
    assert kept.is_dir() and "800 is damaged: host_0/tree.json" in caplog.text


def test_no_common_snapshot_that_is_intact_names_every_cause_and_moves_nothing(runs):
    for rundir in runs:
        put(rundir, 100, 200)
    damage(runs[0], 100)
    damage(runs[1], 200)
    with pytest.raises(UserError, match=r"seed3, 100: host_0.*continue each alone"):
        meet(runs)
    assert [left(rundir) for rundir in runs] == [([100, 200], [])] * 2


@pytest.mark.parametrize("group", [None, (3, 4)])
def test_a_seed_that_went_on_alone_or_with_others_is_not_thrown_back(runs, group):
    for rundir in runs:
        put(rundir, 100)
    put(runs[0], 1000, group=group)
    with pytest.raises(UserError, match="can't go on together"):
        meet(runs)
    assert left(runs[0]) == ([100, 1000], [])


def test_a_new_seed_does_not_throw_the_others_back(runs, tmp_path):
    put(runs[0], 100)
    new = RunDir(tmp_path / "seed7")
    with pytest.raises(UserError, match="can't go on together"):
        find_meeting([runs[0], new], 100, (3, 7))


def test_what_was_set_aside_is_removed_once_the_group_has_passed_it(runs):
    put(runs[0], 100, 200)
    put(runs[1], 100)
    meet(runs)
    for rundir in runs:
        put(rundir, 200)
    assert meet(runs) == 200 and left(runs[0]) == ([100, 200], [])


def test_what_the_group_did_not_set_aside_stays(runs):
    for name in ("²", "٣", "007", "notes"):
        (runs[0].path / "set_aside" / name).mkdir(parents=True)
    for rundir in runs:
        put(rundir, 100)
    assert meet(runs) == 100 and len(left(runs[0])[1]) == 4


def test_no_seed_deletes_the_newest_common_snapshot(tmp_path):
    folders = [tmp_path / name for name in "ab"]
    keep = lambda: shared_steps(folders, 1)
    first, second = (Checkpointer(folder, keep_last=1, also_keep=keep) for folder in folders)
    for step in (1, 2):
        first.save(step, AGENT, {}, {}, block=True)
        assert shared_steps(folders, 1) == ([step - 1] if step > 1 else [])  # as a kill here would find it
        second.save(step, AGENT, {}, {}, block=True)
        assert shared_steps(folders, 1) == [step]
    first.save(3, AGENT, {}, {}, block=True)
    first.save(4, AGENT, {}, {}, block=True)  # the second one's disk is full, say
    assert first.steps() == [2, 4] and shared_steps(folders, 1) == [2]
    second.save(4, AGENT, {}, {}, block=True)
    first.tidy()
    assert first.steps() == second.steps() == [4]


def test_a_set_aside_snapshot_is_whole(runs):
    put(runs[0], 100)
    meet(runs)
    body = snapshot.verify(snapshot.epath.Path(runs[0].path / "set_aside" / "100"))
    assert body["step"] == 100 and json.dumps(body)
