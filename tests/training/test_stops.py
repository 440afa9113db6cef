"""Signals become requests; a late answer ends the process with its documented code."""

import signal
import subprocess
import sys
import threading

import pytest

from dreamworld.exits import Exit
from dreamworld.training.stops import Stop

SCRIPT = """
import ctypes, sys, time
from dreamworld.exits import Exit
from dreamworld.training.stops import Stop
with Stop(grace_s={grace}) as stop:
    print("ready", flush=True)
    {body}
sys.exit(Exit.PREEMPTED)
"""
POLITE = "stop.wait(20); print(stop.reason, flush=True)"
DEAF = "time.sleep(20)"
# A C call during which no Python handler runs, like a long compilation; a signal ends the first poll only.
BUSY = "ctypes.CDLL(None).poll(None, 0, 20000) and ctypes.CDLL(None).poll(None, 0, 20000)"


def start(body, grace):
    code = SCRIPT.format(grace=grace, body=body)
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_is_a_request_that_the_loop_answers(number):
    process = start(POLITE, grace=10)
    process.send_signal(number)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (Exit.PREEMPTED, f"{number.name}\n", "")


@pytest.mark.parametrize("body", [DEAF, BUSY])
def test_an_answer_that_takes_too_long_ends_the_process(body):
    process = start(body, grace=0.3)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=10)
    assert process.returncode == Exit.OVERDUE
    assert "SIGTERM came 0.3 s ago" in err and "run.grace_s" in err


def test_a_second_interrupt_raises_at_once():
    process = start("stop.wait(20); print('once', flush=True); time.sleep(20)", grace=20)
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None and process.stdout.readline() == "once\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert "KeyboardInterrupt" in err


def test_old_handlers_come_back():
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    threads = threading.active_count()
    with Stop(grace_s=1) as stop:
        assert signal.getsignal(signal.SIGTERM) != before[0]
        signal.raise_signal(signal.SIGTERM)
        assert stop.requested and stop.reason == "SIGTERM"
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
    assert signal.set_wakeup_fd(-1) == -1 and threading.active_count() == threads


def test_a_closed_terminal_that_is_ignored_stays_so():
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Stop(grace_s=1) as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop.requested
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_first_reason_stays():
    stop = Stop(grace_s=1)
    stop.request("numerical")
    stop.request("other")
    assert stop.reason == "numerical" and stop.wait(0)


def test_outside_the_main_thread_nothing_is_installed():
    seen = []

    def work():
        with Stop(grace_s=1) as stop:
            seen.append((stop.requested, signal.getsignal(signal.SIGTERM)))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, before)]


def test_exit_codes_are_distinct_and_documented(repo):
    text = (repo / "docs" / "reliability.md").read_text()
    assert len({int(code) for code in Exit}) == len(Exit)
    for code in Exit:
        assert f"| {code:d} |" in text
