"""The progress line, its speed, and the messages above it."""

import io
import math
import os
import pty
import subprocess
import sys
import time

import pytest

from dreamworld.logging.progress import Progress, format_duration, format_number


def test_without_a_terminal_lines_are_plain_and_rare():
    file = io.StringIO()
    with Progress(1e6, file=file) as progress:
        for step in range(100):
            progress.update(step, step // 2, math.nan, math.nan)
        progress.message("a [bold]message[/bold]")
    lines = file.getvalue().splitlines()
    assert len(lines) == 3 and "\x1b" not in file.getvalue()
    assert lines[0].startswith("0/1,000,000 steps  0 updates") and "return - (mean -)" in lines[0]
    assert lines[1] == "a [bold]message[/bold]"
    assert lines[2].startswith("99/1,000,000 steps  49 updates")


def test_colours_that_are_asked_for_make_no_terminal(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # as the kernels of notebooks and some CI systems set it
    file = io.StringIO()
    with Progress(100, file=file) as progress:
        progress.update(0, 0, math.nan, math.nan)
        progress.message("evaluation")
    assert len(file.getvalue().splitlines()) == 2 and "\x1b" not in file.getvalue()


def test_pauses_are_said_and_are_no_part_of_the_speed():
    file = io.StringIO()
    progress = Progress(1000, file=file, plain_every_s=0)
    progress.speed.expect({"evaluation": 500, "save": 100})
    progress.update(0, 0, 1.0, 1.0)
    time.sleep(0.3)
    progress.update(100, 5, 1.0, 1.0)
    fps, eta_s = progress.speed.fps, progress.speed.eta_s
    with progress.pause("evaluation", "evaluating (4 episodes)"):
        time.sleep(0.5)
    with progress.pause("save"):
        pass
    time.sleep(0.3)
    progress.update(200, 10, 1.0, 1.0)
    assert progress.speed.fps == pytest.approx(fps, rel=0.3)
    assert progress.speed.eta_s == pytest.approx(eta_s * 8 / 9 + 2 * 0.5, rel=0.3)
    before, after = [line for line in file.getvalue().splitlines() if "ETA" in line][1:]
    assert before.endswith(" without evaluations") and not after.endswith(" without evaluations")
    assert "evaluating (4 episodes)\n" in file.getvalue()


def test_frames_per_second_count_action_repeat():
    progress = Progress(100, frames_per_step=4, file=io.StringIO())
    progress.speed.update(0, now=0.0)
    progress.speed.update(10, now=1.0)
    assert "  40 fps" in progress.line(10, 5, 1.0, 2.0)


@pytest.mark.parametrize("width", [40, 60, 71, 80, 120])
def test_a_line_that_is_too_long_leaves_out_words_and_keeps_the_time_left(width):
    progress = Progress(1e6, file=io.StringIO())
    progress.speed.expect({"evaluation": 500})
    progress.speed.update(0, now=0.0)
    progress.speed.update(250_048, now=600.0)
    whole, line = (progress.line(250_048, 250_048, 812.55, 790.25, at) for at in (0, width))
    assert whole.startswith("250,048/1,000,000 steps  250,048 updates  ") and whole.endswith(
        "without evaluations"
    )
    assert len(whole) > 100 and len(line) <= max(width, 50)
    assert line.startswith("250,048/1,000,000") and "return 812.5" in line and "ETA 30m 0s" in line
    assert ("fps" in line) == (width > 60)


def test_a_speed_that_was_not_measured_is_not_shown_as_zero():
    file = io.StringIO()
    progress = Progress(1e6, file=file, plain_every_s=0)
    progress.update(0, 0, math.nan, math.nan)
    assert "  - fps  " in file.getvalue() and file.getvalue().endswith("ETA ?\n")
    progress.speed.restart()
    progress.speed.update(0, now=0.0)
    progress.speed.update(4, now=10.0)
    assert "  0.4 fps  " in progress.line(4, 0, 1.0, 2.0)
    progress.speed.restart()
    assert "  - fps  " in progress.line(4, 0, 1.0, 2.0)


def test_a_hidden_line_still_lets_messages_through():
    file = io.StringIO()
    with Progress(10, show=False, file=file) as progress:
        progress.update(5, 1, 1.0, 2.0)
        progress.message("hello")
    assert file.getvalue() == "hello\n"


def test_on_a_terminal_the_line_is_drawn_over_and_fits():
    code = """
from dreamworld.logging.progress import Progress
import time
with Progress(1.1e6) as progress:
    for step in range(5):
        progress.update(step * 200000, step, 812.5, 790.25)
        time.sleep(0.11)
    progress.message("saved")
"""
    leader, follower = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
    process = subprocess.Popen(
        [sys.executable, "-c", code], stderr=follower, stdout=follower, env=environment
    )
    os.close(follower)
    shown = b""
    while True:
        try:
            part = os.read(leader, 4096)
        except OSError:  # the other side is closed
            break
        if not part:
            break
        shown += part
    os.close(leader)
    assert process.wait() == 0
    text = shown.decode()
    assert "800,000/1,100,000" in text and "return 812.5 (mean 790.2)  ETA 0s" in text
    assert "saved\r\n" in text and "\x1b[2K" in text
    assert "\x1b[1A" not in text.partition("saved")[0], "the line fits into 80 columns"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (45.2, "45s"), (725, "12m 5s"), (12000, "3h 20m"), (187200, "2d 4h"), (math.inf, "?")],
)
def test_durations(seconds, text):
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"), [(math.nan, "-"), (0.5, "0.5"), (812.25, "812.2"), (-1e4, "-10,000")]
)
def test_numbers(value, text):
    assert format_number(value) == text
