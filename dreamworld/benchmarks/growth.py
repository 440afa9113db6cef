"""`dreamworld benchmark growth`: how the cost of an update grows with size, batch, length and horizon."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any

from dreamworld import cli, presets
from dreamworld.benchmarks import update
from dreamworld.benchmarks.machine import load_average
from dreamworld.benchmarks.printing import print_json, print_machine
from dreamworld.config import Config
from dreamworld.limits import COUNT, Range

AXES = {
    "batch": "run.batch_size",
    "length": "run.batch_length",
    "horizon": "agent.behaviour.imag_length",
}


@dataclasses.dataclass(frozen=True)
class Flags:
    obs: str = "vector:24"
    """Observations, as of `dreamworld benchmark update`."""
    act: str = "continuous:6"
    """Actions, as of `dreamworld benchmark update`."""
    size: tuple[str, ...] = ()
    """Presets laid over the other options, such as size1m size12m."""
    batch: Annotated[tuple[int, ...], COUNT] = (4, 8, 16, 32)
    """Values of run.batch_size."""
    length: Annotated[tuple[int, ...], COUNT] = (16, 32, 64, 128)
    """Values of run.batch_length."""
    horizon: Annotated[tuple[int, ...], Range(1, 1000)] = (5, 15, 30)
    """Values of agent.behaviour.imag_length."""
    updates: Annotated[int, Range(1, 1e6)] = 5
    """Timed updates for each."""
    compile_only: bool = False
    """Compile and print memory, without running."""
    json: bool = False
    """One JSON line for each instead of a table."""


def main(argv: Sequence[str]) -> int:
    """Parses, measures, prints."""
    load = load_average()
    config, flags = cli.parse_with(
        argv, Flags(), prog="dreamworld benchmark growth", description="Time updates of growing cost."
    )
    options = update.Flags(
        obs=flags.obs, act=flags.act, updates=flags.updates, compile_only=flags.compile_only
    )
    cases = [("size", name, presets.apply(config, [name])) for name in flags.size]
    for axis, key in AXES.items():
        for value in getattr(flags, axis):
            cases.append((axis, value, presets.replace(config, {key: value})))
    known: dict[Config, dict[str, Any]] = {}  # the options as given are a point of every axis
    for axis, value, case in cases:
        if case not in known:
            known[case] = measure(case, options)
        row = {"axis": axis, "value": value, **known[case]}
        if flags.json:
            print_json(row, load)
        else:
            print(describe(row), flush=True)
    if not flags.json:
        print_machine(load)
    return 0


def measure(config: Config, flags: update.Flags) -> dict[str, Any]:
    """What `dreamworld benchmark update` measures, but for the peak memory of the process, which only grows."""
    import jax

    jax.clear_caches()
    row = update.measure(config, update.make_synthetic_agent(config, flags), flags)
    row.pop("peak_rss_bytes", None)
    return row


def describe(row: dict[str, Any]) -> str:
    """One line of the table."""
    names = ("update_s", "cpu_s", "gflop", "gflops", "state_bytes", "temporary_bytes", "compile_s")
    cells = "  ".join(f"{name} {row[name]}" for name in names if name in row)
    return f"{row['axis']:8} {row['value']:<8} {cells}"
