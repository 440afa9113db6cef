"""What counts as waiting: only time in which the device had nothing to do."""

import inspect
import re
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamworld.training import record, run
from dreamworld.training.timing import PAUSES, Moment, Phases, UpdateWatch, describe_compiling, rates


@jax.jit
def multiply(x, count):
    """`count` matrix products; its dispatch returns at once."""
    return jax.lax.fori_loop(0, count, lambda _, x: x @ x / x.shape[0], x).sum()


@pytest.fixture(scope="module")
def slow_update():
    """A program that takes at least half a second."""
    x, count = jnp.ones((256, 256)), 64
    while True:
        began = time.perf_counter()
        jax.block_until_ready(multiply(x, count))
        if time.perf_counter() - began > 0.5:
            return lambda: multiply(x, count)
        count *= 2


@pytest.fixture
def watch():
    watch = UpdateWatch()
    yield watch
    watch.close()


def dispatch(watch, update, wait_s):
    """Waits for a batch, then dispatches an update."""
    asked = time.perf_counter()
    time.sleep(wait_s)
    got = time.perf_counter()
    result = update()
    watch.dispatched(result, asked, got)
    return result


def test_waiting_behind_a_running_update_is_not_starvation(watch, slow_update):
    dispatch(watch, slow_update, 0)
    dispatch(watch, slow_update, 0.1)
    assert watch.starved_s == watch.look()[1] == 0
    assert watch.updates == 2


def test_waiting_with_an_idle_device_is_starvation(watch, slow_update):
    jax.block_until_ready(dispatch(watch, slow_update, 0))
    time.sleep(0.2)  # something else than a batch
    dispatch(watch, slow_update, 0.25)
    assert 0.2 < watch.starved_s < 0.35
    assert watch.look()[1] - watch.starved_s == pytest.approx(0.2, abs=0.1)


def test_only_the_part_after_the_update_counts(watch, slow_update):
    began = time.perf_counter()
    jax.block_until_ready(dispatch(watch, slow_update, 0))
    took = time.perf_counter() - began
    dispatch(watch, slow_update, 0)
    dispatch(watch, slow_update, 3 * took)
    assert 0 < watch.starved_s < 3 * took


def test_idle_time_counts_while_it_passes(watch, slow_update):
    """It was counted at the next update alone: a row that waited for one long had more idle time than time."""
    dispatch(watch, slow_update, 0)
    while not watch.look()[1]:
        time.sleep(0.01)
    looks = []
    for _ in range(3):
        time.sleep(0.1)
        looks.append(watch.look())
    dispatch(watch, slow_update, 0)
    looks.append(watch.look())
    (passed, idle), (long, as_long), (last, less) = np.diff(looks, axis=0)
    assert idle == pytest.approx(passed) and as_long == pytest.approx(long)
    assert 0 < less <= last


def test_the_watch_goes_on_after_close(watch, slow_update):
    dispatch(watch, slow_update, 0)
    watch.close()
    dispatch(watch, slow_update, 0.1)
    assert watch.starved_s > 0.09


def test_phases_add_up_also_through_exceptions():
    phases = Phases()
    for _ in range(2):
        with phases("env"):
            time.sleep(0.02)
    with pytest.raises(ValueError), phases("env"):
        time.sleep(0.02)
        raise ValueError
    assert 0.06 <= phases.seconds["env"] < 0.5
    assert set(phases.seconds) == {"env"}


def test_rates_are_those_of_training_and_shares_those_of_all_time():
    before = Moment(0.0, 0, 0, 0, 0.0, 0.0, {})
    phases = {"compile": 40.0, "eval": 20.0, "assess": 10.0, "report": 5.0, "save": 5.0, "update": 10.0}
    values = rates(before, Moment(100.0, 200, 100, 100, 0.0, 0.0, phases), 4, 1e12, 1e13)
    assert values["fps/env"] == pytest.approx(200 * 4 / 20) and values["fps/updates"] == pytest.approx(5)
    assert values["fps/tflops"] == pytest.approx(5) and values["fps/mfu"] == pytest.approx(0.5)
    assert values["time/eval_fraction"] == pytest.approx(0.2)


def test_every_pause_is_left_out_of_speeds():
    """What a loop tells as a pause, so that the time left does without it, is none of the time of training either."""
    paused = re.findall(r'self\.pause\("(\w+)"', inspect.getsource(record) + inspect.getsource(run))
    assert len(paused) >= 5 and set(paused) == set(PAUSES)


@pytest.mark.parametrize(
    ("units", "cached", "text"),
    [
        (32, True, "compiling (about 8 s, cached next time)"),
        (512, False, "compiling (about 15 s)"),
        (2048, True, "compiling (about 25 s, cached next time)"),
        (8192, True, "compiling (a minute or more, cached next time)"),
    ],
)
def test_how_long_compiling_takes_is_said(units, cached, text):
    assert describe_compiling(units, cached) == text
