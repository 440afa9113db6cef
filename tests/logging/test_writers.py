"""What lands in JSONL, TensorBoard and pictures, and what a continued run drops."""

import json
import os
import pathlib
import resource
import struct
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from tensorboardX.proto import event_pb2

from dreamworld import cli
from dreamworld.config import Config
from dreamworld.logging import appender, sinks
from dreamworld.logging.appender import append_jsonl
from dreamworld.logging.rundir import RunDir
from dreamworld.logging.writers import Logger, read_jsonl, repair_jsonl
from dreamworld.reading import BadFile

Event: Any = vars(event_pb2)["Event"]  # made at run time, unknown to type checkers


@pytest.fixture
def rundir(tmp_path):
    rundir = RunDir(tmp_path)
    rundir.create()
    return rundir


def logger_of(rundir, *argv, step=None):
    return Logger(rundir, cli.parse(["--logdir", str(rundir), *argv]), step=step)


def events(rundir):
    """Every TensorBoard event, read from the record format: length, checksum, data, checksum."""
    found = []
    for file in sorted(rundir.tensorboard.iterdir()):
        data = file.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            found.append(Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
    return found


def tags(rundir):
    return {(value.tag, event.step): value for event in events(rundir) for value in event.summary.value}


def test_scalars_go_to_both_files(rundir):
    with logger_of(rundir) as logger:
        logger.scalars(20, 5, 40, {"train/loss": 1.5, "train/broken": float("nan")})
    (row,) = read_jsonl(rundir.metrics)
    assert row.pop("time") > 1e9
    assert row == {"step": 20, "frames": 40, "updates": 5, "train/loss": 1.5, "train/broken": None}
    found = tags(rundir)
    assert found["train/loss", 20].simple_value == 1.5
    assert np.isnan(found["train/broken", 20].simple_value)


def test_episodes_and_evaluations_go_to_their_own_files(rundir):
    with logger_of(rundir) as logger:
        logger.episodes([(7, 14, {"env": 1, "return": 3.0, "length": 5, "log/coins": 2.0})])
        row = logger.evaluation(8, 16, "greedy", [1.0, 3.0], [4, 6], {"log/coins": 9.0})
    (episode,) = read_jsonl(rundir.episodes)
    assert {**episode, "time": 0} == {
        "step": 7,
        "frames": 14,
        "time": 0,
        "env": 1,
        "return": 3.0,
        "length": 5,
        "log/coins": 2.0,
    }
    (evaluation,) = read_jsonl(rundir.evals)
    assert evaluation == row
    assert (evaluation["mode"], evaluation["returns"], evaluation["lengths"]) == (
        "greedy",
        [1.0, 3.0],
        [4, 6],
    )
    assert (evaluation["mean"], evaluation["std"], evaluation["log/coins"]) == (2.0, 1.0, 9.0)
    found = tags(rundir)
    assert found["episode/return", 7].simple_value == 3.0 and found["eval/return", 8].simple_value == 2.0


def test_episodes_given_together_are_those_given_one_by_one_in_one_write_a_file(tmp_path, monkeypatch):
    rows = [(7, 14, {"env": env, "return": env / 3, "length": env}) for env in range(5)]
    single, many = RunDir(tmp_path / "single"), RunDir(tmp_path / "many")
    writes: list[pathlib.Path] = []
    append = appender.append_bytes
    for rundir in (single, many):
        rundir.create()
        with logger_of(rundir) as logger:
            writes.clear()
            monkeypatch.setattr(
                appender, "append_bytes", lambda path, data: (writes.append(path), append(path, data))
            )
            if rundir is many:
                logger.episodes(rows)
                logger.episodes([])
                assert len(writes) == len(set(writes)) == 2
            else:
                [logger.episodes([row]) for row in rows]
    without_time = lambda rundir: [{**row, "time": 0} for row in read_jsonl(rundir.episodes)]
    assert without_time(many) == without_time(single) and len(without_time(many)) == 5
    values = lambda rundir: [(e.step, str(e.summary)) for e in events(rundir) if e.summary.value]
    assert values(many) == values(single) and len(values(many)) == 5


def test_a_continued_run_drops_later_rows_everywhere(rundir):
    with logger_of(rundir, step=0) as logger:
        for step in (10, 20, 30):
            logger.scalars(step, step, step, {"a/b": step})
            logger.episodes([(step, step, {"env": 0, "return": 1.0, "length": 1})])
            logger.evaluation(step, step, "sample", [1.0], [1])
    with open(rundir.metrics, "ab") as file:
        file.write(b'{"step": 20, "fra')  # cut by kill -9
    with logger_of(rundir, step=20) as logger:
        logger.scalars(25, 25, 25, {"a/b": 25})
    assert [row["step"] for row in read_jsonl(rundir.metrics)] == [10, 20, 25]
    assert [row["step"] for row in read_jsonl(rundir.episodes)] == [10, 20]
    assert [row["step"] for row in read_jsonl(rundir.evals)] == [10, 20]
    starts = [event.step for event in events(rundir) if event.session_log.status == 1]
    assert 21 in starts, "TensorBoard forgets from the step after the restored one"


def test_nothing_is_cut_before_the_step_is_known(rundir):
    with logger_of(rundir, step=0) as logger:
        for step in (10, 20, 30):
            logger.scalars(step, step, step, {"a/b": step})
    before = {path: path.read_bytes() for path in rundir.path.rglob("*") if path.is_file()}
    with Logger(rundir, cli.parse(["--logdir", str(rundir)]), begin=False) as logger:
        assert {path: path.read_bytes() for path in before} == before
        logger.begin(10)
        assert [row["step"] for row in read_jsonl(rundir.metrics)] == [10]
    assert [event.step for event in events(rundir) if event.session_log.status == 1] == [1, 11]


def test_without_a_step_every_complete_row_stays(rundir):
    rundir.metrics.write_bytes(b'{"step": 5}\n{"step": 6}\n{"st')
    logger_of(rundir).close()
    assert rundir.metrics.read_bytes() == b'{"step": 5}\n{"step": 6}\n'


@pytest.mark.parametrize(
    ("content", "step", "left", "dropped"),
    [
        (b"", None, b"", 0),
        (b'{"step": 1}\n{"step": 3}\n', 2, b'{"step": 1}\n', 1),
        (b'{"step": 1}\n\x00\x00\n{"step": 2}\n', None, b'{"step": 1}\n{"step": 2}\n', 1),
        (b'{"step": 1}\n{"step": 1', 1, b'{"step": 1}\n', 1),
        (
            b'{"step": 1}\n{"st\xe5p": 2}\n{"stdp": 2}\n[3]\n{"step": 4}\n',
            9,
            b'{"step": 1}\n{"step": 4}\n',
            3,
        ),
    ],
)
def test_repair(content, step, left, dropped, tmp_path):
    (tmp_path / "x.jsonl").write_bytes(content)
    assert repair_jsonl(tmp_path / "x.jsonl", step) == dropped
    assert (tmp_path / "x.jsonl").read_bytes() == left
    assert [file.name for file in tmp_path.iterdir()] == ["x.jsonl"]


def test_a_sound_file_is_not_rewritten(tmp_path):
    path = tmp_path / "x.jsonl"
    append_jsonl(path, {"step": 1})
    inode = path.stat().st_ino
    assert repair_jsonl(path, 5) == 0 and path.stat().st_ino == inode


def test_damage_is_told_and_a_line_cut_by_a_kill_is_not(tmp_path, caplog):
    (tmp_path / "x.jsonl").write_bytes(b'{"step": 1}\n{"st')
    repair_jsonl(tmp_path / "x.jsonl", None)
    assert not caplog.text
    (tmp_path / "x.jsonl").write_bytes(b'{"step": 1}\n{"s\n{"step": 2}\n')
    assert read_jsonl(tmp_path / "x.jsonl") == [{"step": 1}, {"step": 2}]
    repair_jsonl(tmp_path / "x.jsonl", None)
    assert "x.jsonl: dropped 1 damaged line\n" in caplog.text


def test_what_a_full_disk_does_not_take_comes_later_and_nothing_raises(rundir):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with logger_of(rundir) as logger:
        logger.scalars(1, 1, 1, {"a/b": 1})
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (rundir.metrics.stat().st_size + 7, hard))
            for step in range(2, 60):  # more than a writer's queue would hold
                logger.scalars(step, step, step, {"a/b": step})
                logger.episodes([(step, step, {"env": 0, "return": 1.0, "length": 1})])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert [row["step"] for row in read_jsonl(rundir.metrics)] == [1]
        told = logger.take_problems()
        assert len(told) == len(set(told)) and not logger.take_problems()
        assert any("metrics.jsonl (its rows wait in memory): File too large" in text for text in told)
        logger.scalars(60, 60, 60, {"a/b": 60})
    assert [row["step"] for row in read_jsonl(rundir.metrics)] == list(range(1, 61))
    assert [row["step"] for row in read_jsonl(rundir.episodes)] == list(range(2, 60))
    assert {step for tag, step in tags(rundir) if tag == "a/b"} == set(range(1, 61))


def test_two_processes_append_whole_lines(tmp_path):
    code = f"""
import pathlib
from dreamworld.logging.appender import append_jsonl
for i in range(300):
    append_jsonl(pathlib.Path({str(tmp_path / "x.jsonl")!r}), {{"step": i, "text": "x" * 2000}})
"""
    writers = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    assert [writer.wait() for writer in writers] == [0, 0]
    lines = (tmp_path / "x.jsonl").read_text().splitlines()
    assert len(lines) == 600 and all(len(json.loads(line)["text"]) == 2000 for line in lines)


def test_a_reader_leaves_out_a_line_that_is_being_written(tmp_path):
    (tmp_path / "x.jsonl").write_bytes(b'{"step": 1}\n{"st')
    assert read_jsonl(tmp_path / "x.jsonl") == [{"step": 1}]
    assert read_jsonl(tmp_path / "none.jsonl") == []


def test_a_report_leaves_pictures_in_its_folder_and_in_tensorboard(rundir):
    random = np.random.default_rng(0)
    image, vector = random.uniform(size=(2, 6, 16, 16, 3)), random.normal(size=(2, 6, 4))
    report = {
        "truth/eye": image,
        "dream/eye": 1 - image,
        "truth/joint/speed": vector,
        "dream/joint/speed": vector,
    }
    with logger_of(rundir) as logger:
        paths = logger.report(40, report, context=2)
    names = {"openloop_eye.gif", "openloop_eye.mp4", "openloop_eye.png", "openloop_joint_speed.png"}
    assert {path.name for path in paths} == names == {path.name for path in (rundir.report / "40").iterdir()}
    shown = {
        tag: value.image.encoded_image_string for (tag, step), value in tags(rundir).items() if step == 40
    }
    assert shown["report/openloop_joint_speed"][:4] == b"\x89PNG"
    assert set(shown) == {"report/openloop_eye", "report/openloop_joint_speed"}


def test_a_video_of_an_evaluation_has_its_place(rundir):
    frames = np.zeros((4, 33, 35, 3), np.uint8)
    with logger_of(rundir) as logger:
        assert logger.pictures.evaluation(40, frames, 10) == rundir.eval / "40.mp4"
    assert (rundir.eval / "40.mp4").stat().st_size > 500


def test_tensorboard_can_be_switched_off(rundir):
    with logger_of(rundir, "--logger.tensorboard", "False") as logger:
        logger.scalars(1, 1, 1, {"a/b": 1})
    assert not rundir.tensorboard.exists() and len(read_jsonl(rundir.metrics)) == 1


def test_wandb_without_its_package_is_one_line_and_writes_nothing(tmp_path):
    code = f"""
import sys
from typing import Any
sys.modules["wandb"] = None  # as when it is not installed
from dreamworld import cli
from dreamworld.logging.rundir import RunDir
from dreamworld.logging.writers import Logger
Logger(RunDir({str(tmp_path)!r}), cli.parse(["--logger.wandb", "project"]))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "UserError: --logger.wandb" in result.stderr and "dreamworld[wandb]" in result.stderr
    assert not list(tmp_path.iterdir())


class FakeWandb:
    """What of the package a sink calls; it is not installed with the tests."""

    def init(self, **fields):
        self.id = fields["id"]
        return self

    def define_metric(self, *_, **__): ...


def make_sink(tmp_path):
    return sinks.WandbSink(FakeWandb(), RunDir(tmp_path), Config())


def test_a_run_keeps_its_id_at_wandb(tmp_path):
    first, again = (make_sink(tmp_path)._run.id for _ in range(2))
    assert first == again == (tmp_path / "wandb_id").read_text() and len(first) == 16


@pytest.mark.parametrize(
    "thing", ["FIFO", "folder", "link to nothing", "sparse", b"\xff", b"../../x", b"a\nb", b""]
)
def test_something_else_in_place_of_the_id_at_wandb_is_one_line(tmp_path, thing):
    path, outside = tmp_path / "run" / "wandb_id", tmp_path / "outside"
    path.parent.mkdir()
    if thing == "FIFO":
        os.mkfifo(path)
    elif thing == "folder":
        path.mkdir()
    elif thing == "link to nothing":
        path.symlink_to(outside)
    elif thing == "sparse":
        with path.open("wb") as file:
            file.truncate(1 << 40)
    else:
        path.write_bytes(thing)
    with pytest.raises(BadFile, match="wandb_id: ") as caught:
        make_sink(path.parent)
    assert str(caught.value).isprintable() and not outside.exists()


@pytest.mark.parametrize("rows", [1, 3])
def test_a_copy_by_hard_links_stays_as_it_is(tmp_path, rows):
    run = RunDir(tmp_path / "run")
    run.path.mkdir()
    text = "".join(f'{{"step": {step}}}\n' for step in range(3))
    run.metrics.write_text(text)
    (run.path / ".lock").write_text("precious")
    for path in (run.metrics, run.path / ".lock"):
        os.link(path, tmp_path / path.name)
    with run.lock(), logger_of(run, step=rows) as logger:
        logger.scalars(9, 1, 1, {"a/b": 1})
    assert (tmp_path / "metrics.jsonl").read_text() == text
    assert (tmp_path / ".lock").read_text() == "precious"
    assert read_jsonl(run.metrics)[-1]["step"] == 9
