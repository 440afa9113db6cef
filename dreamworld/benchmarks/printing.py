"""How a benchmark prints its results: one JSON line, or a table with the machine below it."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from dreamworld.benchmarks import machine


def print_row(row: dict[str, Any], load: list[float], *, as_json: bool) -> None:
    """One JSON line, the machine under `machine`; or a line per key and, below it, per entry of a table.

    `load` is that of the machine before the measurement began.
    """
    if as_json:
        print_json(row, load)
        return
    for key, value in row.items():
        print(f"{key:32} {'' if isinstance(value, dict) else value}".rstrip())
        if isinstance(value, dict):
            print_table(value)
    print_machine(load)


def print_json(row: dict[str, Any], load: list[float]) -> None:
    """The row and the machine in one line."""
    print(json.dumps({**row, "machine": dataclasses.asdict(machine.describe(load))}), flush=True)


def print_machine(load: list[float]) -> None:
    """The facts of the machine in two lines."""
    found = machine.describe(load)
    print(
        f"{'processor':32} {machine.processor_line(found)}\n{'run':32} {machine.run_line(found)}", flush=True
    )


def print_table(table: dict[str, Any]) -> None:
    """A line for each entry; entries that have the same fields get columns."""
    entries = list(table.values())
    if len(entries) > 1 and all(
        isinstance(entry, dict) and entry.keys() == entries[0].keys() for entry in entries
    ):
        fields = list(entries[0])
        rows = [fields, *([str(entry[field]) for field in fields] for entry in entries)]
        widths = [max(map(len, column)) for column in zip(*rows)]
        for name, row in zip(["", *table], rows):
            print(f"  {name:38} " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths)))
        return
    for name, entry in table.items():
        text = "  ".join(f"{k} {v}" for k, v in entry.items()) if isinstance(entry, dict) else entry
        print(f"  {name:30} {text}")
