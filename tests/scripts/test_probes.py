"""Probes in processes of their own, and what they say when something is wrong."""

import pytest

from dreamworld import probes
from dreamworld.probes import Check


def test_a_backend_that_fails_says_what_to_install():
    (check,) = probes.check_rendering("osmesa", "apt-get install libosmesa6")
    if check.state != "ok":
        assert check.state == "warning" and "libosmesa6" in check.advice and check.found


def test_one_working_backend_is_enough():
    failed = Check("rendering osmesa", "warning", "no library", "install it")
    worked = Check("rendering egl", "ok", "8 ms")
    assert probes.one_backend_is_enough([failed]) == [failed]
    assert [check.state for check in probes.one_backend_is_enough([worked, failed])] == ["ok", "absent"]


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("import os; os.abort()", "exit status -6"),
        ("raise ValueError('what went wrong')", "ValueError: what went wrong"),
        ("import time; time.sleep(60)", "no answer within 1 s"),
    ],
)
def test_a_probe_survives_crashes_and_hangs(code, problem):
    assert probes.run_probe(code, timeout_s=1) == (None, problem)
