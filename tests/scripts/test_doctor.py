"""The doctor on this machine, and what it says when something is wrong."""

import json
import os
import pathlib
import re

from dreamworld.probes import NOT_NEEDED, Check
from dreamworld.scripts import doctor


def test_this_machine_is_examined_as_json(capsys, tmp_path):
    assert doctor.main(["--json", "--logdir", str(tmp_path)]) == 0
    checks = {check["topic"]: check for check in json.loads(capsys.readouterr().out)}
    for topic in (
        "python",
        "dreamworld",
        "packages",
        "devices",
        "precision",
        "video",
        "processor",
        "cores",
        "memory",
        "disk",
    ):
        assert checks[topic]["state"] in ("ok", "warning"), checks[topic]
    assert "float32" in checks["precision"]["found"] and "jax " in checks["packages"]["found"]
    assert "pong starts" in checks["atari roms"]["found"]
    assert any("takes" in checks[f"rendering {name}"]["found"] for name in ("egl", "osmesa"))
    for check in checks.values():
        assert check["advice"] or check["state"] == "ok", f"{check['topic']} says nothing to do"
        assert check["section"] or check["state"] == "ok" or check["advice"] == NOT_NEEDED


def test_something_broken_is_status_1_and_named(monkeypatch, capsys):
    broken = [Check("devices", "broken", "no answer within 120 s", "reinstall JAX")]
    monkeypatch.setattr(doctor, "examine", lambda logdir: broken)
    assert doctor.main([]) == 1
    text = capsys.readouterr().out
    assert "reinstall JAX" in text and "1 to look at: devices" in text


def test_requirements_are_read_with_their_extras():
    found = doctor.requirements()
    assert ("jax", "", "") not in found and any(row[0] == "jax" and row[2] == "" and row[1] for row in found)
    bounds = next(row[1] for row in found if row[0] == "mujoco" and row[2] == "dmc")
    assert doctor.fits("3.17.0", bounds) and not doctor.fits("4.0.0", bounds)


def test_an_extra_is_absent_or_in_a_wrong_version():
    assert doctor.check_extra("x", [("no-such-package", ">=1", "x")]) == Check(
        "extra x", "absent", "not installed", "pip install 'dreamworld[x]'"
    )
    partly = doctor.check_extra("x", [("no-such-package", ">=1", "x"), ("numpy", "", "x")])
    assert partly.state == "warning" and "no-such-package missing" in partly.found
    old = doctor.check_extra("x", [("numpy", ">=99", "x")])
    assert (old.state, old.advice) == ("warning", "pip install 'numpy>=99'")


def test_a_disk_without_room_or_rights_is_named(tmp_path):
    (full,) = doctor.check_disk("disk", str(tmp_path / "new" / "folder"), "--logdir", 10**18)
    assert full.state == "warning" and "make room" in full.advice and str(tmp_path) in full.found
    (fine,) = doctor.check_disk("disk", str(tmp_path), "--logdir", 1)
    assert fine.state == "ok"


def test_a_quota_limits_cores(tmp_path):
    quota = tmp_path / "cpu.max"
    assert doctor.usable_cores(quota) == len(os.sched_getaffinity(0))
    quota.write_text("max 100000\n")
    assert doctor.usable_cores(quota) == len(os.sched_getaffinity(0))
    quota.write_text("50000 100000\n")
    assert doctor.usable_cores(quota) == 0.5


def test_what_is_wrong_or_missing_names_a_section_that_helps(monkeypatch, capsys):
    page = (pathlib.Path(__file__).parents[2] / doctor.PAGE).read_text("utf-8")
    headings = {title.lower().replace(" ", "-") for title in re.findall(r"^## (.+)$", page, re.MULTILINE)}
    assert set(doctor.SECTIONS.values()) <= headings
    found = [
        Check("rendering egl", "warning", "no library", "install it"),
        Check("shared memory", "warning", "64 MB", "more"),
        Check("extra ray", "absent", "not installed", "pip install 'dreamworld[ray]'"),
        Check("extra dmc", "warning", "mujoco missing", "pip install 'dreamworld[dmc]'"),
        Check("rendering osmesa", "absent", "no library", NOT_NEEDED),
        Check("python", "ok", "3.11"),
    ]
    monkeypatch.setattr(doctor, "examine", lambda logdir: [doctor.with_section(check) for check in found])
    assert doctor.main([]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("help with")]
    assert lines == [
        "help with rendering egl: docs/troubleshooting.md#rendering",
        "help with shared memory: docs/troubleshooting.md#memory-of-the-host",
        "help with extra ray, extra dmc: docs/troubleshooting.md#installation",
    ]
    doctor.main(["--json"])
    shown = {check["topic"]: check["section"] for check in json.loads(capsys.readouterr().out)}
    assert shown["rendering osmesa"] == shown["python"] == "" != shown["extra ray"]
