"""`dreamworld doctor`: checks the installation and says what to do about what is wrong.

Exit status 1 when something that every run needs is broken, otherwise 0.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import json
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dreamworld import cli, words
from dreamworld.benchmarks import machine
from dreamworld.benchmarks.machine import usable_cores
from dreamworld.config import RunConfig
from dreamworld.envs.render import backends
from dreamworld.probes import (
    NOT_NEEDED,
    Check,
    check_devices,
    check_rendering,
    check_roms,
    check_video,
    installed,
    one_backend_is_enough,
)
from dreamworld.replay.memory import available_memory

GB = 10**9
PAGE = "docs/troubleshooting.md"
# Sections of that page by the begin of the checks' topics; the longest that fits.
SECTIONS = {
    "": "installation",
    "devices": "cuda-and-the-driver",
    "precision": "cuda-and-the-driver",
    "rendering": "rendering",
    "memory": "memory-of-the-host",
    "shared memory": "memory-of-the-host",
    "disk": "disk",
    "compilation cache": "disk",
}


@dataclasses.dataclass(frozen=True)
class Flags:
    json: bool = False
    """Print the checks as JSON."""
    logdir: str = "~/dreamworld"
    """Folder whose disk is checked."""


def main(argv: Sequence[str]) -> int:
    """Prints the report; 1 when something is broken."""
    flags = cli.parse_flags(argv, Flags(), prog="dreamworld doctor", description="Check the installation.")
    checks = examine(flags.logdir)
    if flags.json:
        print(json.dumps([dataclasses.asdict(check) for check in checks], indent=2))
    else:
        print_table(checks)
    return int(any(check.state == "broken" for check in checks))


def examine(logdir: str) -> list[Check]:
    """Runs every check; the slow ones beside each other."""
    probes: list[Callable[[], list[Check]]] = [
        check_versions,
        check_devices,
        *(functools.partial(check_rendering, *pair) for pair in backends().items()),
        check_roms,
        check_video,
        check_optional,
        check_machine,
        lambda: check_disk("disk", logdir, "--logdir", 5 * GB),
        lambda: check_disk("compilation cache", RunConfig().compile_cache, "--run.compile_cache", GB),
    ]
    with ThreadPoolExecutor(4) as pool:
        checks = [check for found in pool.map(lambda probe: probe(), probes) for check in found]
    return [with_section(check) for check in one_backend_is_enough(checks)]


def with_section(check: Check) -> Check:
    """The check with the section of the page that helps, where something is wrong or missing that may be needed."""
    if check.state == "ok" or check.advice == NOT_NEEDED:
        return check
    topic = max((topic for topic in SECTIONS if check.topic.startswith(topic)), key=len)
    return dataclasses.replace(check, section=f"{PAGE}#{SECTIONS[topic]}")


def print_table(checks: list[Check]) -> None:
    """The report for people."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    colours = {"ok": "green", "absent": "dim", "warning": "yellow", "broken": "red"}
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("check", "state", "found", "what to do"):
        table.add_column(heading, overflow="fold")
    for check in checks:
        state = Text(check.state, style=colours[check.state])
        table.add_row(check.topic, state, Text(check.found), Text(check.advice))
    console = Console()
    console.print(table)
    wrong = [check.topic for check in checks if check.state in ("warning", "broken")]
    console.print(f"\n{len(wrong)} to look at: {', '.join(wrong)}" if wrong else "\nall is well")
    for section in dict.fromkeys(check.section for check in checks if check.section):
        topics = ", ".join(check.topic for check in checks if check.section == section)
        console.print(Text(f"help with {topics}: {section}"))


def requirements() -> list[tuple[str, str, str]]:
    """(package, version bounds, extra) of our own metadata; extra is empty for what every run needs."""
    found: list[tuple[str, str, str]] = []
    for line in importlib.metadata.requires("dreamworld") or []:
        match = re.match(r"([\w.-]+)(?:\[[^]]*\])?\s*([^;]*)(?:;.*extra == ['\"]([\w-]+)['\"])?", line)
        assert match, line
        found.append((match[1], match[2].strip(" ()"), match[3] or ""))
    return found


def fits(version: str, bounds: str) -> bool:
    """Whether a version is within bounds such as `>=3.17,<4`."""
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(bounds).contains(version, prereleases=True)


def check_versions() -> list[Check]:
    """Python, dreamworld, and the packages that every run needs."""
    python = platform.python_version()
    checks = [Check("python", "ok", f"{python}, {platform.system()} {platform.machine()}")]
    try:
        core = [(package, bounds) for package, bounds, extra in requirements() if not extra]
    except importlib.metadata.PackageNotFoundError:
        advice = "pip install -e . in the checkout, so that versions can be checked"
        return [*checks, Check("dreamworld", "warning", "not installed as a package", advice)]
    checks.append(Check("dreamworld", "ok", importlib.metadata.version("dreamworld")))
    good: list[str] = []
    for package, bounds in core:
        version = installed(package)
        if version and fits(version, bounds):
            good.append(f"{package} {version}")
        else:
            found = version or "not installed"
            checks.append(Check(package, "broken", found, f"pip install '{package}{bounds}'"))
    return [*checks, Check("packages", "ok", ", ".join(good))]


def check_optional() -> list[Check]:
    """The packages of each extra, with the command that installs them."""
    try:
        wanted = requirements()
    except importlib.metadata.PackageNotFoundError:
        return []
    core = {package for package, _, extra in wanted if not extra}
    extras = sorted({extra for _, _, extra in wanted} - {"", "all", "dev", "cuda", "cuda12"})
    return [
        check_extra(extra, [row for row in wanted if row[2] == extra and row[0] not in core])
        for extra in extras
    ]


def check_extra(extra: str, wanted: list[tuple[str, str, str]]) -> Check:
    """One extra: ok, absent, or installed in versions that do not work."""
    versions = {package: installed(package) for package, _, _ in wanted}
    advice = f"pip install 'dreamworld[{extra}]'"
    found = ", ".join(f"{package} {version or 'missing'}" for package, version in versions.items())
    if not all(versions.values()):
        state = "warning" if any(versions.values()) else "absent"
        return Check(f"extra {extra}", state, found if state == "warning" else "not installed", advice)
    wrong = [
        f"'{package}{bounds}'" for package, bounds, _ in wanted if not fits(versions[package] or "", bounds)
    ]
    if wrong:
        return Check(f"extra {extra}", "warning", found, f"pip install {' '.join(wrong)}")
    return Check(f"extra {extra}", "ok", found)


def check_machine() -> list[Check]:
    """Processor, cores, memory, and the shared memory of worker processes."""
    (memory, source), cores = available_memory(), usable_cores()
    found = machine.describe(machine.load_average())
    checks = [
        Check("processor", "ok", machine.processor_line(found)),
        Check("cores", "ok", f"{cores:g} usable of {os.cpu_count()}"),
    ]
    text = f"{words.size(memory)}, the {source}"
    advice = "a run needs about 2 GB beside replay; see replay.capacity_bytes and replay.storage"
    checks.append(
        Check("memory", "ok", text) if memory > 4 * GB else Check("memory", "warning", text, advice)
    )
    if os.path.isdir("/dev/shm"):
        shared = shutil.disk_usage("/dev/shm").free
        text = f"{words.size(shared)} free in /dev/shm"
        advice = (
            "worker processes pass observations through it: docker run --shm-size=1g, or env.engine inprocess"
        )
        state = "ok" if shared > 256 * 10**6 else "warning"
        checks.append(Check("shared memory", state, text, "" if state == "ok" else advice))
    return checks


def check_disk(topic: str, folder: str, option: str, enough: int) -> list[Check]:
    """Free space, and the right to write, where `folder` is or would be made."""
    path = Path(os.path.expanduser(folder)).absolute()
    existing = next(place for place in (path, *path.parents) if place.exists())
    if not os.access(existing, os.W_OK):
        return [
            Check(topic, "warning", f"{existing} can't be written to", f"choose another folder with {option}")
        ]
    free = shutil.disk_usage(existing).free
    text = f"{words.size(free)} free for {path}"
    if free < enough:
        return [Check(topic, "warning", text, f"make room, or choose another folder with {option}")]
    return [Check(topic, "ok", text)]


if __name__ == "__main__":
    from dreamworld import early

    sys.exit(early.run_script("doctor", main))
