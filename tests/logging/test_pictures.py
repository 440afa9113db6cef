"""Pictures of a run where something they need is missing or broken: one line, and none of their kind after it."""

import os
import resource
import sys

import numpy as np
import pytest
from PIL import Image

from dreamworld import cli
from dreamworld.logging.appender import append_jsonl
from dreamworld.logging.pictures import EVALUATIONS, MP4, PLOTS, VIDEOS, Pictures
from dreamworld.logging.problems import Problems
from dreamworld.logging.rundir import RunDir
from dreamworld.logging.writers import Logger

IMAGE, VECTOR = np.zeros((2, 6, 16, 16, 3)), np.zeros((2, 6, 4))
REPORT = {"truth/eye": IMAGE, "dream/eye": IMAGE, "truth/joint": VECTOR, "dream/joint": VECTOR}
FRAMES = np.zeros((700, 20, 30, 3), np.uint8)
FRAMES[:, :10] = np.linspace(0, 255, 700).astype(np.uint8)[:, None, None, None]


@pytest.fixture
def rundir(tmp_path):
    rundir = RunDir(tmp_path / "run")
    rundir.begin(cli.parse(["--configs", "debug"]))
    return rundir


@pytest.fixture
def pictures(rundir):
    return Pictures(rundir, Problems())


def program(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("how", ["no package", "no program", "no encoder", "not executable", "killed"])
def test_without_an_encoder_videos_are_gifs_and_that_is_said_once(pictures, tmp_path, monkeypatch, how):
    if how == "no package":
        monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    texts = {"no encoder": "echo \"Unknown encoder 'libx264'\" >&2; exit 1", "killed": "kill -9 $$"}
    exe = program(tmp_path / "ffmpeg", texts[how]) if how in texts else str(tmp_path / "nothing")
    if how == "not executable":
        exe = str(tmp_path)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", exe)
    paths = [pictures.evaluation(step, FRAMES) for step in (1, 2)]
    assert [path.name for path in paths] == ["1.gif", "2.gif"]
    assert sorted(os.listdir(pictures.rundir.eval)) == ["1.gif", "2.gif"]
    with Image.open(paths[0]) as image:
        assert 200 < getattr(image, "n_frames", 1) <= 250 and image.size == (30, 20)
    (told,) = pictures.problems.take()
    assert told.startswith(f"NO MORE {MP4} in this run: ") and "GIFs are written instead" in told
    assert (how == "no encoder") == ("Unknown encoder 'libx264'" in told)
    names = {path.name for path in pictures.report(3, REPORT, 2, 10)}
    assert names == {"openloop_eye.gif", "openloop_eye.png", "openloop_joint.png"}
    assert not pictures.problems.take()


@pytest.mark.parametrize(
    ("module", "kind", "left"),
    [
        ("matplotlib.figure", PLOTS, {"openloop_eye.gif", "openloop_eye.mp4", "openloop_eye.png"}),
        ("PIL.ImageDraw", VIDEOS, {"openloop_joint.png"}),
    ],
)
def test_a_report_keeps_what_can_be_drawn(pictures, monkeypatch, module, kind, left):
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delattr("PIL.ImageDraw", raising=False)
    for step in (1, 2):
        assert {path.name for path in pictures.report(step, REPORT, 2, 10)} == left
    (told,) = pictures.problems.take()
    assert told.startswith(f"NO MORE {kind} in this run: ModuleNotFoundError: ")


def test_a_report_that_makes_no_sense_is_told(pictures):
    wrong = REPORT | {"dream/joint": VECTOR[:, :3]}
    assert len(pictures.report(1, wrong, 2, 10)) == 3
    (told,) = pictures.problems.take()
    assert "truth has shape (2, 6, 4), dream (2, 3, 4)" in told


def test_a_full_disk_gives_up_nothing(pictures):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
        assert pictures.evaluation(1, FRAMES) is None and pictures.report(1, REPORT, 2, 10) == []
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [text.partition(":")[0] for text in pictures.problems.take()] == ["NOT WRITTEN"] * 3
    assert pictures.evaluation(2, FRAMES).name == "2.mp4" and len(pictures.report(2, REPORT, 2, 10)) == 4
    assert pictures.problems.goes(EVALUATIONS)


def test_a_curve_that_cannot_be_drawn_is_one_line(pictures, monkeypatch):
    append_jsonl(pictures.rundir.episodes, {"step": 1, "frames": 1, "return": 1.0})
    pictures.rundir.config.write_text("task: [")
    pictures.learning_curve()
    pictures.learning_curve()
    (told,) = pictures.problems.take()
    assert told.startswith("NO MORE learning curves in this run: ")


class Broken:
    """A sink that fails as a service in the network does."""

    name = "the service"

    def __init__(self, calls):
        self.calls = calls

    def scalars(self, rows):
        self.calls.append("scalars")
        raise ConnectionAbortedError("the service is gone")  # an OSError without an errno

    def close(self):
        self.calls.append("close")


def test_a_sink_that_fails_is_told_and_left_alone(rundir):
    calls = []
    with Logger(rundir, cli.parse(["--configs", "debug"])) as logger:
        logger._sinks.add(lambda: Broken(calls), "the service")
        for step in range(3):
            logger.scalars(step, step, step, {"a/b": 1.0})
        (told,) = logger.take_problems()
    assert calls == ["scalars"]
    assert (
        told
        == "NO MORE output for the service in this run: RuntimeError: the service is gone. Training goes on."
    )


@pytest.mark.parametrize("make", [os.symlink, os.link])
def test_no_picture_is_written_through_a_link(rundir, pictures, tmp_path, make):
    append_jsonl(rundir.episodes, {"step": 1, "frames": 1, "return": 1.0, "env": 0})
    places = ["eval/5.mp4", "eval/5.gif", "learning_curve.png"]
    places += [f"report/5/openloop_{name}" for name in ("eye.gif", "eye.mp4", "eye.png", "vector.png")]
    for index, place in enumerate(places):
        outside = tmp_path / f"precious{index}"
        outside.write_text("precious")
        (rundir.path / place).parent.mkdir(parents=True, exist_ok=True)
        make(outside, rundir.path / place)
    pictures.evaluation(5, FRAMES[:4])
    pictures.report(5, REPORT, 2, 10)
    pictures.learning_curve()
    assert not pictures.problems.take()
    assert all((tmp_path / f"precious{index}").read_text() == "precious" for index in range(len(places)))
    assert (rundir.path / "learning_curve.png").stat().st_size > 1000


def test_no_picture_is_written_into_a_folder_that_lies_elsewhere(rundir, pictures, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    rundir.report.mkdir()
    (rundir.report / "5").symlink_to(outside)
    assert not pictures.report(5, REPORT, 2, 10) and not list(outside.iterdir())
    assert all("a link that leaves" in text for text in pictures.problems.take())
