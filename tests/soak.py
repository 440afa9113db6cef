"""`make soak`: what is longer than CI allows. Writes its report to docs/appendix/soak.md."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Annotated

from dreamworld import words
from dreamworld.limits import SEED

ROOT = Path(__file__).resolve().parent.parent
# Each seed of the demo rounds in another way: what it reaches must not hang on the last bit.
ROUNDINGS = ("", "--xla_cpu_use_fusion_emitters=false", "--xla_cpu_multi_thread_eigen=false")


@dataclasses.dataclass(frozen=True)
class Flags:
    demo: bool = True
    """Run the demo."""
    seeds: Annotated[tuple[int, ...], SEED] = tuple(range(10))
    """Seeds of the demo, by turns with other flags of the compiler."""
    tests: bool = True
    """Run the tests marked `soak`, too."""
    logs: tuple[str, ...] = ()
    """Outputs of `pytest --soak -v -rP` to report instead of running the tests, when these were run in slices."""
    out: str = "docs/appendix/soak.md"
    """The report."""


def main(argv: Sequence[str]) -> int:
    """Runs everything, writes the report, and exits with 1 if anything failed."""
    from dreamworld import cli

    flags = cli.parse_flags(
        argv, Flags(), prog="tests/soak.py", description="Run what is longer than CI allows."
    )
    demos = [run_demo(seed) for seed in flags.seeds] if flags.demo else []
    tests = read_logs(flags.logs) if flags.logs else run_tests() if flags.tests else None
    (ROOT / flags.out).write_text(describe(demos, tests, sliced=bool(flags.logs)), "utf-8")
    print(f"wrote {flags.out}")
    return int(any(code for code, *_ in demos) or bool(tests and tests[0]))


def run_demo(seed: int) -> tuple[int, int, str, float]:
    """(exit code, seed, what the demo printed, seconds) in a process of its own."""
    environment = {**os.environ, "XLA_FLAGS": rounding(seed)}
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "scripts/demo.py", "--logdir", f"{folder}/demo", "--seed", str(seed)]
        began = time.monotonic()
        found = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, env=environment)
    print(found.stdout, found.stderr[-2000:] if found.returncode else "", flush=True)
    return found.returncode, seed, found.stdout, time.monotonic() - began


def rounding(seed: int) -> str:
    """Compiler flags of a seed; later versions of XLA end the process at one that they do not know."""
    known = importlib.metadata.version("jaxlib").startswith("0.10.")
    return ROUNDINGS[seed % len(ROUNDINGS)] if known else ""


def run_tests() -> tuple[int, str, float]:
    """(exit code, pytest's list of tests with their durations, seconds)."""
    words = [
        sys.executable,
        "-m",
        "pytest",
        "--soak",
        "-m",
        "soak",
        "-v",
        "-rP",
        "--durations=0",
        "--durations-min=1",
    ]
    began = time.monotonic()
    found = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    print(found.stdout, flush=True)
    return found.returncode, found.stdout, time.monotonic() - began


def read_logs(paths: Sequence[str]) -> tuple[int, str, float]:
    """What `run_tests` returns, from outputs of earlier runs."""
    text = "\n".join(Path(path).read_text("utf-8") for path in paths)
    seconds = sum(float(found) for found in re.findall(r"^=+ \d.* in ([\d.]+)s", text, re.M))
    return int(bool(re.search(r"^=+ .*\d (failed|error)", text, re.M))), text, seconds


def describe(
    demos: list[tuple[int, int, str, float]], tests: tuple[int, str, float] | None, sliced: bool = False
) -> str:
    """The report as Markdown."""
    import jax

    how = ", its long tests one by one beside other work" if sliced else ""
    machine = f"{words.count(os.cpu_count() or 1, 'core')} ({processor()}), JAX {jax.__version__},"
    lines = ["# Soak", "", f"`make soak`{how}, {date.today()}, {machine}"]
    lines.append(f"Python {platform.python_version()}.")
    if demos:
        lines += ["", "## The demo", ""]
        lines += [
            "| seed | compiler flag | random policy | trained agent | seconds | threshold reached |",
            "|---|---|---|---|---|---|",
        ]
    for code, seed, text, seconds in demos:
        returns = re.findall(r"mean return\s+([-\d.]+)", text)
        random, trained = returns if len(returns) == 2 else ("?", "?")
        flag = f"`{rounding(seed)}`" if rounding(seed) else ""
        lines.append(
            f"| {seed} | {flag} | {random} | {trained} | {seconds:.0f} | {'no' if code else 'yes'} |"
        )
    if tests:
        code, text, seconds = tests
        lines += ["", "## Long tests", "", f"{'Failed' if code else 'All passed'}, {seconds:.0f} s.", ""]
        lines += ["| test | outcome | measured |", "|---|---|---|"]
        measured = dict(re.findall(r"^_+ (\S+) _+\n-+ Captured stdout call -+\nmeasured: (.*)", text, re.M))
        lines += [
            f"| `{name}` | {outcome.lower()} | {measured.get(name.rpartition('::')[2], '')} |"
            for name, outcome in re.findall(r"^(\S+::\S+) (PASSED|FAILED|ERROR)", text, re.M)
        ]
    return "\n".join(lines) + "\n"


def processor() -> str:
    """The processor's name where the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else None
    return found.group(1) if found else platform.machine()


if __name__ == "__main__":
    from dreamworld import early

    sys.exit(early.run_script("soak", main))
