"""`dreamworld assess`: worlds of several runs on the same segments, what it writes, and what it refuses."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from dreamworld.__main__ import main
from dreamworld.assess import files
from dreamworld.errors import UserError
from dreamworld.scripts.assess import tell
from dreamworld.sessions import held
from dreamworld.sessions.assess import Flags, assess

FEW = ["--segments", "12", "--horizon", "6", "--samples", "2"]


def make_run(folder, agent, *options):
    """A run whose world has learnt nothing: it is saved before its first update."""
    planner = [f"--agent.planner.{name}" for name in ("candidates", "elites", "iterations", "horizon")]
    planner = [word for name, value in zip(planner, ("8", "2", "1", "2")) for word in (name, value)]
    presets = ["--configs", "debug"] if agent == "dreamerv3" else planner
    common = ["--task", "jax_catch", "--env.options", "obs=image", "--env.num", "2", "--run.train_ratio", "0"]
    quick = ["--run.steps", "8", "--run.report_every", "0", "--run.save_every", "0", "--eval.every", "0"]
    quiet = ["--logger.tensorboard", "False", "--run.progress", "False", "--logdir", str(folder)]
    assert main(["train", "--agent", agent, *presets, *common, *quick, *quiet, *options]) == 0
    return str(folder)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of each agent."""
    folder = tmp_path_factory.mktemp("runs")
    return [make_run(folder / agent, agent) for agent in ("dreamerv3", "planet")]


@pytest.fixture(scope="module")
def done(runs):
    flags = Flags(segments=12, horizon=6, samples=2)
    return assess(runs, flags)


def test_several_agents_are_judged_on_the_same_segments(done, runs):
    sheets = [json.loads(path.read_text()) for path in done.files]
    assert [sheet["agent"] for sheet in sheets] == ["dreamerv3", "planet"]
    assert {sheet["segments"]["hash"] for sheet in sheets} == {done.held.segments.hash}
    assert [path.parent.parent.as_posix() for path in done.files] == runs
    assert done.held.path.name == f"segments-{done.held.segments.hash}.npz"
    assert sheets[0]["segments"]["policies"] == {
        "random": 6, "agent of dreamerv3": 3, "agent of planet": 3,
    }  # fmt: skip


def test_every_number_has_its_interval_and_its_n(done):
    for path in done.files:
        sheet = json.loads(path.read_text())
        assert sheet["metrics"].keys() >= {
            "drift/image/psnr",
            "drift/image/psnr_reality",
            "reward/mae",
            "reward/nll",
            "cont/nll",
            "cont/ece",
            "actions/image/psnr_gain",
        }
        for found in sheet["metrics"].values():
            assert found.keys() == {"value", "low", "high", "n"} and found["n"] > 0
            if found["low"] is not None:
                assert found["low"] <= found["high"]
        for curve in sheet["curves"].values():
            assert {len(values) for values in curve.values()} == {6}
        assert sheet["step_s"]["imagine"].keys() == {"1", "16", "1024"}


def test_segments_are_made_once_and_rows_are_json_lines(done, runs, capsys):
    assert main(["assess", *runs, *FEW, "--json", "True"]) == 0
    said = capsys.readouterr()
    assert said.err, "a note that the segments are those of the last time"
    again = [json.loads(line) for line in said.out.splitlines()]
    assert [row["name"] for row in again] == ["dreamerv3", "planet"] and again[0]["version"] == 1
    assert {row["segments"]["hash"] for row in again} == {done.held.segments.hash}
    assert [row["metrics"] for row in again] == [one.plain()["metrics"] for one in done.judged]


def test_segments_come_back_from_their_file(done, tmp_path):
    found, request = files.load(done.held.path)
    assert found.hash == done.held.segments.hash and request["count"] == 12
    np.testing.assert_array_equal(found.columns["obs/image"], done.held.segments.columns["obs/image"])
    other = dataclasses.replace(found, row=found.row + 1)
    assert other.hash != found.hash
    broken = tmp_path / "segments.npz"
    with np.load(done.held.path, allow_pickle=False) as arrays:
        changed = dict(arrays)
    changed["column/reward"] = changed["column/reward"] + 1
    np.savez(broken, **changed)
    with pytest.raises(UserError, match="is damaged: its content has the hash"):
        files.load(broken)


def test_ends_are_judged(done):
    segments = done.held.segments
    ends = segments.columns["is_terminal"][:, segments.context :]
    assert ends.any() and (segments.valid.sum(1) >= segments.context + 1).all()
    assert done.judged[0].sheet.metrics["cont/recall"].n == ends.sum()


def test_it_prints_a_table(done, capsys):
    tell(done)
    out = capsys.readouterr().out
    assert "12 segments of" in out and done.held.segments.hash in out
    assert "PSNR, dB at 1, 5" in out and "planet, step" in out and "step-8.json" in out


def refused(capsys, *words):
    capsys.readouterr()
    assert main(["assess", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_bad_input_is_one_line(runs, done, tmp_path, capsys):
    assert "which runs? Give their folders" in refused(capsys)
    assert "there is no such folder" in refused(capsys, str(tmp_path / "nothing"))
    assert "given twice" in refused(capsys, runs[0], runs[0])
    saved = ["--data", str(done.held.path)]
    assert "use --horizon 6 or less" in refused(capsys, runs[0], *saved)
    assert "use --context 5" in refused(capsys, runs[0], *saved, "--context", "4")
    assert "no episode has a row after so many; the longest has 10 rows" in refused(
        capsys, runs[0], "--context", "10"
    )
    (tmp_path / "none.npz").write_bytes(b"nothing")
    assert "none.npz" in refused(capsys, runs[0], "--data", str(tmp_path / "none.npz"))
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    assert "holds no segments" in refused(capsys, runs[0], "--data", str(tmp_path / "other.npz"))


@pytest.fixture()
def unplayed(monkeypatch):
    """No environment may be played."""

    def find(*args):
        raise AssertionError("segments were looked for before everything was checked")

    monkeypatch.setattr(held, "find", find)


def test_what_can_not_be_had_is_refused_before_anything_is_played(runs, tmp_path, capsys, unplayed):
    assert refused(capsys, runs[0], "--step", "7").endswith("has no such checkpoint; there is 8")
    line = refused(capsys, runs[0], "--checkpoints", "all")
    assert "at least two checkpoints are needed to rank them" in line and "--run.keep_every" in line
    assert "no checkpoint 5; there is 8" in refused(capsys, runs[0], "--checkpoints", "5,8")
    assert "'x' is no step; give all, or steps such as 8,8" in refused(capsys, runs[0], "--checkpoints", "x")
    copy = shutil.copytree(runs[0], tmp_path / "none", ignore=shutil.ignore_patterns("assess", "checkpoints"))
    assert "there is no complete checkpoint" in refused(capsys, str(copy))


@pytest.mark.parametrize(("task", "options", "rows"), [
    ("jax_balls", ["--env.options", "obs=vector,time_limit=20"], 21),
    ("gym_CartPole-v1", ["--env.options", "", "--env.time_limit", "30"], 31),
    ("gym_CartPole-v1", ["--env.options", ""], 501),
])  # fmt: skip
def test_segments_longer_than_any_episode_are_refused(task, options, rows, tmp_path, capsys, unplayed):
    run = make_run(tmp_path / "run", "dreamerv3", "--task", task, *options)
    line = refused(capsys, run, "--context", "5", "--horizon", str(rows - 4))
    assert f"episodes of {task} have at most {rows} rows; use --horizon {rows - 5} or less" in line
    assert f"have at most {rows} rows; use --context 5" in refused(capsys, run, "--context", str(rows))


def test_checkpoints_of_a_run_are_ranked(tmp_path, capsys):
    keep = ["--run.keep_last", "3", "--run.save_every", "8", "--run.steps", "24", "--run.log_every", "8"]
    run = make_run(tmp_path / "run", "dreamerv3", *keep)
    steps = sorted(
        int(path.name) for path in (tmp_path / "run" / "checkpoints").iterdir() if path.name.isdigit()
    )
    assert len(steps) == 3
    (one,) = assess([run], Flags(segments=12, horizon=4, samples=1, checkpoints="all")).judged
    ranked = {name for name in one.sheet.metrics if name.startswith("ranking/")}
    assert ranked >= {f"ranking/{kind}@{step}" for kind in ("real", "dreamt") for step in steps}
    # nothing was learnt in between: all policies are one, in the dream as in reality
    assert len({one.sheet.value(f"ranking/real@{step}") for step in steps}) == 1
    assert one.sheet.value("ranking/wrong_pairs") == 0 and one.sheet.value("ranking/violation") is None
    newest = tmp_path / "run" / "checkpoints" / str(steps[2])
    max((file for file in newest.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size).unlink()
    assert main(["assess", run, "--step", str(steps[2]), *FEW]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert f"checkpoint {steps[2]} can't be read; the newest before it that can is {steps[1]}" in line


@pytest.mark.parametrize(("kind", "words"), [("temperature", "--temperatures 0.5,1"), ("drift", "--every 3")])
def test_studies_are_one_command(kind, words, runs, done, capsys):
    capsys.readouterr()
    assert (
        main(["assess", runs[0], "--data", str(done.held.path), *FEW, "--study", kind, *words.split()]) == 0
    )
    said = capsys.readouterr().out
    assert (
        f"assess/{kind}-8.json" in said and f"assess/{kind}.html" in said and done.held.segments.hash in said
    )
    folder = done.files[0].parent
    rows = json.loads((folder / f"{kind}-8.json").read_text())["rows"]
    assert len(rows) == {"temperature": 2, "drift": 6}[kind]
    assert "<svg" in (folder / f"{kind}.html").read_text()


def test_studies_without_their_needs_are_refused_at_once(runs, tmp_path, capsys, unplayed):
    line = refused(capsys, runs[0], "--study", "temperature", "--temperatures", "0.5,warm")
    assert "'warm' is no number from 0 to 100" in line
    assert "temperature" in refused(capsys, runs[0], "--study", "dreams")
    line = refused(capsys, runs[0], "--study", "temperature", "--data", str(tmp_path))
    assert "a data set can't be gone on from" in line


def test_other_spaces_are_refused(done, runs, tmp_path, capsys, monkeypatch):
    other = make_run(tmp_path / "vector", "dreamerv3", "--env.options", "obs=vector")
    line = refused(capsys, other, "--data", str(done.held.path), *FEW)
    assert "these segments have other spaces: observation 'image'" in line
    monkeypatch.setattr(held, "_played", lambda *args: pytest.fail("it was played first"))
    line = refused(capsys, runs[0], other, "--fresh", "True", *FEW)
    assert "can't be judged on the same segments: observation 'image'" in line


def test_a_world_with_other_options_and_a_shorter_measurement_are_told(runs, tmp_path, capsys):
    copy = shutil.copytree(runs[0], tmp_path / "copy", ignore=shutil.ignore_patterns("assess"))
    other = make_run(tmp_path / "wide", "dreamerv3", "--env.options", "obs=image,rows=8")
    few = ["--segments", "4", "--horizon", "1", "--samples", "1"]
    assert main(["assess", str(copy), *few[:4], "--samples", "2"]) == 0
    assert "is replaced" not in capsys.readouterr().err
    assert main(["assess", str(copy), other, *few]) == 0
    said = capsys.readouterr().err
    assert (
        "a measurement on 4 segments of 1 imagined row, 2 dreams each, is replaced by one on 4 segments"
        in said
    )
    assert (
        f"{other} was trained on jax_catch obs=image,rows=8; these segments are of jax_catch obs=image"
        in said
    )


def test_a_run_that_can_not_be_written_is_judged_all_the_same(runs, tmp_path, capsys):
    copy = shutil.copytree(runs[1], tmp_path / "copy", ignore=shutil.ignore_patterns("assess"))
    (copy / "assess").write_text("no folder")  # as root, a folder that can't be written is hard to have
    capsys.readouterr()
    assert main(["assess", str(copy), *FEW[:2], "--horizon", "1", "--samples", "1"]) == 0
    said = capsys.readouterr()
    assert "12 segments of" in said.out and "copy: reaches" in said.out and "step-8.json" not in said.out
    told = [line for line in said.err.splitlines() if line.startswith("NOT WRITTEN: ")]
    assert [line.split(": ")[1].removeprefix(f"{copy}/") for line in told] == [
        "assess", "assess/step-8.json", "assess/assess.html",
    ]  # fmt: skip


def test_on_the_host_real_states_are_gone_on_from(tmp_path, capsys):
    run = make_run(tmp_path / "pole", "dreamerv3", "--task", "gym_CartPole-v1", "--env.options", "")
    done = assess([run], Flags(segments=12, horizon=6, samples=1))
    metrics = done.judged[0].sheet.metrics
    assert metrics["actions/vector/cfc"].n > 0 and metrics["returns/real"].n == 12
    assert 1 < (metrics["returns/real"].value or 0) <= 6  # CartPole pays 1 for each step
    told = done.judged[0].sheet.left_out
    assert not {"actions/counterfactual", "returns"} & told.keys() and "JAX" in told["objects"]
    again = assess([run], Flags(data=str(done.held.path), segments=12, horizon=6, samples=1))
    assert again.judged[0].sheet.metrics["returns/real"] == metrics["returns/real"]


def test_a_data_set_is_judged_by_what_was_held_out(runs, tmp_path, capsys):
    data = str(tmp_path / "data")
    options = [
        "--task",
        "jax_catch",
        "--env.options",
        "obs=image",
        "--env.num",
        "2",
        "--run.progress",
        "False",
    ]
    assert main(["collect", *options, "--steps", "100", "--data", data]) == 0
    found = assess([runs[0]], Flags(data=data, segments=12, horizon=6, samples=1))
    assert found.held.segments.episodes > 5 and found.held.segments.labels == ("random",)
    assert "drift/image/psnr" in found.judged[0].sheet.metrics
