"""Huge pages: the program starts itself again once, as the same process, and its children start as it did."""

import os
import subprocess
import sys

import pytest

from dreamworld import launch

REPORT = """
import os, subprocess, sys
from dreamworld import launch
started = os.environ.get("GLIBC_TUNABLES", "")
print("before", os.getpid(), started, flush=True)
launch.use_huge_pages()
child = [sys.executable, "-c", "import os; print(os.environ.get('GLIBC_TUNABLES', ''))"]
seen = subprocess.run(child, capture_output=True, text=True).stdout.strip()
print("after", os.getpid(), started, "child", seen, "args", sys.argv[1:], launch.RESTARTED in os.environ)
"""

MADVISE = launch.SETTING.exists() and "[madvise]" in launch.SETTING.read_text()


def run(tmp_path, **environ):
    clean = {key: value for key, value in os.environ.items() if key != launch.TUNABLES}
    (tmp_path / "report.py").write_text(REPORT)
    command = [sys.executable, str(tmp_path / "report.py"), "--flag", "a b"]
    result = subprocess.run(command, capture_output=True, text=True, env={**clean, **environ}, check=True)
    return [line.split(" ", 2) for line in result.stdout.splitlines()]


@pytest.fixture
def ready(monkeypatch, tmp_path):
    """A machine where huge pages can be asked for."""
    setting = tmp_path / "enabled"
    setting.write_text("always [madvise] never\n")
    monkeypatch.setattr(launch, "SETTING", setting)
    monkeypatch.setattr(launch, "glibc_version", lambda: (2, 36))
    monkeypatch.setattr(sys, "platform", "linux")
    for name in (launch.TUNABLES, launch.SWITCH):
        monkeypatch.delenv(name, raising=False)
    return setting


def test_the_program_restarts_once_as_the_same_process(tmp_path):
    first, *rest = run(tmp_path)
    last = rest[-1]
    assert first[0] == "before" and last[0] == "after" and first[1] == last[1]
    assert last[2].endswith("child  args ['--flag', 'a b'] False")
    assert len(rest) == (2 if MADVISE else 1)
    assert last[2].startswith(launch.HUGE_PAGES) == MADVISE


def test_other_tunables_of_the_user_are_kept_and_given_to_children(tmp_path):
    *_, (_, _, text) = run(tmp_path, GLIBC_TUNABLES="glibc.malloc.perturb=0")
    assert text.startswith("glibc.malloc.perturb=0") and "child glibc.malloc.perturb=0 args" in text
    assert (launch.HUGE_PAGES in text) == MADVISE


def test_the_switch_turns_it_off(tmp_path):
    assert len(run(tmp_path, DREAMWORLD_HUGEPAGES="0")) == 2


def test_it_is_wanted_where_the_kernel_leaves_it_to_programs(ready, monkeypatch):
    assert launch.wanted()
    monkeypatch.setenv(launch.TUNABLES, "glibc.malloc.hugetlb=0")
    assert not launch.wanted()


@pytest.mark.parametrize("text", ["[always] madvise never", "always madvise [never]"])
def test_it_is_not_wanted_where_the_kernel_has_decided(ready, text):
    ready.write_text(text)
    assert not launch.wanted()


@pytest.mark.parametrize("version", [(2, 34), ()])
def test_it_is_not_wanted_with_a_c_library_that_cannot_ask(ready, monkeypatch, version):
    monkeypatch.setattr(launch, "glibc_version", lambda: version)
    assert not launch.wanted()


def test_it_is_not_wanted_without_the_kernel_setting(ready):
    ready.unlink()
    assert not launch.wanted()
