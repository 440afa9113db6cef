"""Dreams and evaluations of runs in the page of a report: the newest, as data, and nothing that is something else."""

import base64
import os
import re

import numpy as np
import pytest

from dreamworld.logging import video
from dreamworld.stats import dreams
from dreamworld.stats.report import report

FRAMES = np.zeros((4, 16, 16, 3), np.uint8)


def paint(run, step, value=0):
    """What a training leaves at a step: a report of a picture and of a vector, and an evaluation."""
    folder = run / "report" / str(step)
    for name in ("openloop_eye", "openloop_joint"):
        video.save_png(folder / f"{name}.png", FRAMES[0] + np.uint8(value))
    video.save_gif(folder / "openloop_eye.gif", FRAMES + np.uint8(value), 10)
    video.save_mp4(folder / "openloop_eye.mp4", FRAMES + np.uint8(value), 10)
    video.save_gif(run / "eval" / f"{step}.gif", FRAMES, 10)


def shown(page):
    """[(what it shows, kind, content)] of a page."""
    found = re.findall(r'aria-label="([^"]*)" src="data:(video/mp4);base64,([^"]*)"', page)
    found += re.findall(r'<img alt="([^"]*)" src="data:(image/\w+);base64,([^"]*)"', page)
    return {(name, kind): base64.b64decode(data) for name, kind, data in found}


def test_a_page_holds_the_newest_pictures_and_videos(make_run):
    run = make_run("a/0")
    for step, value in ((90, 10), (1000, 200)):
        paint(run, step, value)
    _, page = report([str(run.parent)])
    found = shown(page.read_text())
    assert set(found) == {
        ("openloop_eye, step 1000", "video/mp4"), ("openloop_eye, step 1000", "image/png"),
        ("openloop_joint, step 1000", "image/png"), ("evaluation, step 1000", "image/gif"),
    }  # fmt: skip
    last = run / "report" / "1000"
    assert found["openloop_eye, step 1000", "video/mp4"] == (last / "openloop_eye.mp4").read_bytes()
    assert found["openloop_joint, step 1000", "image/png"] == (last / "openloop_joint.png").read_bytes()
    assert "dream of eye" in page.read_text() and "an evaluation episode" in page.read_text()


def test_a_run_without_pictures_has_no_section(make_run):
    run = make_run("a/0")
    _, page = report([str(run)])
    assert "<h2>Dreams</h2>" not in page.read_text() and not shown(page.read_text())


def test_each_method_shows_its_first_run_by_name(make_run):
    for name, seed in (("ours/0", 0), ("ours/1", 1), ("theirs/0", 0)):
        paint(make_run(name, seed=seed), 50)
    root = make_run("other/0").parent.parent
    _, page = report([str(root / "ours"), str(root / "theirs")])
    captions = re.findall(r"<figcaption[^>]*>([^<]*dream of joint)</figcaption>", page.read_text())
    assert captions == [
        f"{label}, dmc_walker_walk seed 0, step 50: dream of joint" for label in ("ours", "theirs")
    ]


@pytest.mark.parametrize("what", ["text", "link", "folder", "large", "no number", "pipe"])
def test_what_is_no_picture_of_the_run_is_left_out(make_run, tmp_path, monkeypatch, what):
    run = make_run("a/0")
    paint(run, 50)
    file = run / "report" / "50" / "openloop_joint.png"
    content = file.read_bytes()
    file.unlink()
    if what == "text":
        file.write_text("<svg onload=alert(1)>")
    elif what == "link":
        (tmp_path / "secret.png").write_bytes(content)
        file.symlink_to(tmp_path / "secret.png")
    elif what == "folder":
        file.mkdir()
    elif what == "large":
        monkeypatch.setattr(dreams, "MAX_FILE", 5000)
        file.write_bytes(content + bytes(5000))
    elif what == "pipe":
        os.mkfifo(file)
    else:
        (run / "report" / "newest").mkdir()
        (run / "report" / "newest" / "openloop_joint.png").write_bytes(content)
    _, page = report([str(run)])
    names = {name for name, _ in shown(page.read_text())}
    assert names == {"openloop_eye, step 50", "evaluation, step 50"}


def test_what_does_not_fit_into_a_page_is_counted(make_run, monkeypatch):
    run = make_run("a/0")
    paint(run, 50)
    smallest = min(path.stat().st_size for path in run.rglob("openloop_*.png"))
    monkeypatch.setattr(dreams, "MAX_PAGE", smallest)
    _, page = report([str(run)])
    assert len(shown(page.read_text())) == 1 and "3 more did not fit into the page." in page.read_text()
