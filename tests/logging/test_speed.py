"""The speed of a training and the time that is left."""

import math

import pytest

from dreamworld.logging.speed import Speed


def test_speed_and_time_left_are_those_of_the_last_minute():
    speed = Speed(total=2000, window_s=60)
    assert math.isnan(speed.fps) and speed.eta_s == math.inf
    for second in range(200):
        speed.update(second if second < 100 else 100 + 10 * (second - 100), now=float(second))
    assert speed.fps == pytest.approx(10)
    assert speed.eta_s == pytest.approx((2000 - 1090) / 10)


def test_many_updates_keep_few_marks():
    speed = Speed(total=1e6)
    for i in range(100_000):
        speed.update(i, now=i / 1000)
    assert len(speed._marks) < 300
    assert speed.fps == pytest.approx(1000, rel=0.01)


def test_a_finished_run_has_no_time_left():
    speed = Speed(total=10)
    speed.update(0, now=0.0)
    speed.update(10, now=1.0)
    assert speed.eta_s == 0


def test_a_pause_stops_the_clock_and_is_expected_again():
    speed = Speed(total=1000)
    speed.expect({"evaluation": 100, "report": 0, "save": 400})
    now = 0.0
    for step in range(0, 310, 10):
        speed.update(step, now)
        if step and step % 100 == 0:
            took = 500.0 if step == 100 else 60.0  # the first one compiles
            speed.pause("evaluation", took / 2)
            speed.pause("evaluation", took / 2)  # of two seeds
            now += took
        now += 1.0
    assert speed.fps == pytest.approx(10)
    assert speed.unknown == ["save"]
    assert speed.pauses_s == pytest.approx(7 * 60)
    assert speed.eta_s == pytest.approx(700 / 10 + 7 * 60)


def test_after_a_restart_the_speed_is_that_of_the_new_work():
    speed = Speed(total=1000)
    for step in range(100):
        speed.update(step, step / 1000)
    speed.restart()
    speed.update(100, 1.0)
    speed.update(101, 2.0)
    assert speed.fps == pytest.approx(1)
