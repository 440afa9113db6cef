"""`dreamworld benchmark plain`: an update as it is beside one of the plain forms, in pairs that take turns.

Every measurement is a process of its own, with the same settings; the order changes from pair to pair, so that what
else the machine does hits both alike. Ratios are of the two in one pair.
"""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from dreamworld import cli
from dreamworld.benchmarks import update
from dreamworld.benchmarks.machine import load_average
from dreamworld.benchmarks.printing import print_row
from dreamworld.config import Config
from dreamworld.errors import UserError
from dreamworld.limits import Range

FORMS = ("ours", "plain")


@dataclasses.dataclass(frozen=True)
class Flags:
    obs: str = "vector:24"
    """Observations, as of `dreamworld benchmark update`."""
    act: str = "continuous:6"
    """Actions, as of `dreamworld benchmark update`."""
    pairs: Annotated[int, Range(1, 1000)] = 3
    """Pairs of measurements."""
    updates: Annotated[int, Range(1, 1e6)] = 10
    """Timed updates of each measurement, after one that is not."""
    worker: Literal["", "ours", "plain"] = ""
    """Set by the benchmark for the processes that it starts."""
    json: bool = False
    """One JSON line instead of a table."""


def main(argv: Sequence[str]) -> int:
    """Parses, measures, prints."""
    load = load_average()
    config, flags = cli.parse_with(
        argv,
        Flags(),
        prog="dreamworld benchmark plain",
        description="Compare an update with its plain forms.",
    )
    if flags.worker:
        print(json.dumps(measure_worker(config, flags)), flush=True)
        return 0
    update.parse_spaces(flags.obs, "vector image")
    update.parse_spaces(flags.act, "continuous discrete")
    pairs = [measure_pair(argv, swapped=bool(index % 2)) for index in range(flags.pairs)]
    print_row({"obs": flags.obs, "act": flags.act, **summarise(pairs)}, load, as_json=flags.json)
    return 0


def measure_pair(argv: Sequence[str], *, swapped: bool) -> dict[str, dict[str, Any]]:
    """What both forms of `dreamworld benchmark update` say, each in a process of its own."""
    order = FORMS[::-1] if swapped else FORMS
    return {form: start_worker([*argv, "--worker", form]) for form in order}


def start_worker(argv: Sequence[str]) -> dict[str, Any]:
    """The row of one process."""
    command = [sys.executable, "-m", "dreamworld", "benchmark", "plain", *argv]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise UserError(f"a measurement ended with status {done.returncode}; its message is above")
    return json.loads(done.stdout.splitlines()[-1])


def measure_worker(config: Config, flags: Flags) -> dict[str, Any]:
    """One form, in this process."""
    options = update.Flags(obs=flags.obs, act=flags.act, updates=flags.updates)
    agent = update.make_synthetic_agent(config, options)  # chooses devices and flags before anything uses JAX
    if flags.worker == "plain":
        from dreamworld.benchmarks import plain_forms

        plain_forms.install()
    return update.measure(config, agent, options) | {"xla_flags": os.environ.get("XLA_FLAGS", "")}


def summarise(pairs: Sequence[dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """Medians of both forms and of the ratios, which say how many times the plain forms take; and every pair."""
    rows = {
        str(index): {
            "ours_s": pair["ours"]["update_s"],
            "plain_s": pair["plain"]["update_s"],
            "ratio": round(pair["plain"]["update_s"] / pair["ours"]["update_s"], 3),
            "cpu_ratio": round(pair["plain"]["cpu_s"] / max(pair["ours"]["cpu_s"], 1e-9), 3),
            "matmul_peak_gflops": pair["ours"]["matmul_peak_gflops"],
        }
        for index, pair in enumerate(pairs)
    }
    middle = lambda numbers: round(statistics.median(numbers), 5)
    figures = ("update_s", "cpu_s", "compile_s", "peak_rss_bytes")
    same = ("gflop", "kernels", "xla_flags")
    first = pairs[0]["ours"]
    return {
        "ratio": middle(row["ratio"] for row in rows.values()),
        "cpu_ratio": middle(row["cpu_ratio"] for row in rows.values()),
        **{
            form: {key: middle(pair[form][key] for pair in pairs) for key in figures}
            | {key: pairs[0][form][key] for key in same}
            for form in FORMS
        },
        "pairs": rows,
        **{key: first[key] for key in ("params", "batch", "agent", "dtype", "device")},
    }
