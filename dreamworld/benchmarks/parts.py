"""`dreamworld benchmark update --parts`: time, operations and bytes of each part of an update, and what bounds it."""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from dreamworld.benchmarks import costs, hlo, trace
from dreamworld.benchmarks.hlo import Program, Run
from dreamworld.benchmarks.roofline import Roofline

OTHER = "other"  # what no scope names: arguments that are copied, random keys, the check of gradients
BACKWARD = " backward"
# Names that JAX adds to the scopes of a program.
STEPS = {"body", "closed_call", "cond", "checkpoint", "rematted_computation", "remat"}


def measure(
    call: Callable[[], Any], text: str, roofline: Roofline, *, depth: int, calls: int = 3
) -> dict[str, Any]:
    """{traced_s, idle_s, parts: {name: figures}}: means over traced calls of the program whose HLO is `text`."""
    program = hlo.parse(text)
    runs = [run for run in program.runs() if run.instruction.opcode not in hlo.FREE | hlo.CONTROL]
    names = {run.instruction.name: name_part(program, run, depth) for run in runs}
    recorded = trace.record(call, program.name, calls)
    found = [
        trace.share([one for one in intervals if one.name in names], names.__getitem__)
        for intervals in recorded
    ]
    table: dict[str, dict[str, float]] = defaultdict(lambda: dict.fromkeys(("flop", "moved", "kernels"), 0))
    for run in runs:
        cost, row = costs.cost(program, run.computation, run.instruction), table[names[run.instruction.name]]
        row["flop"] += run.times * cost.flop
        row["moved"] += run.times * cost.moved
        row["kernels"] += run.times
    whole_s = statistics.mean(one.whole_s for one in found)
    for name, row in table.items():
        row["seconds"] = statistics.mean(one.seconds.get(name, 0.0) for one in found)
        row["active_s"] = statistics.mean(one.active_s.get(name, 0.0) for one in found)
    longest = sorted(table, key=lambda name: -table[name]["seconds"])
    return {
        "traced_s": round(whole_s, 5),
        "idle_s": round(statistics.mean(one.idle_s for one in found), 5),
        "parts": {name: figures(table[name], whole_s, roofline) for name in longest},
    }


def figures(row: dict[str, float], whole_s: float, roofline: Roofline) -> dict[str, Any]:
    """What is reported of a part with these `seconds`, `active_s`, `flop`, `moved` bytes and `kernels`."""
    seconds, gflop, gbytes = row["seconds"], row["flop"] / 1e9, row["moved"] / 1e9
    bound, least_s = roofline.bound(gflop, gbytes)
    rate = lambda amount: _short(amount / seconds if seconds else 0)
    return {
        "seconds": _short(seconds),
        "share": round(seconds / whole_s, 4),
        "active_s": _short(row["active_s"]),
        "gflop": _short(gflop),
        "gbytes": _short(gbytes),
        "kernels": int(row["kernels"]),
        "gflops": rate(gflop),
        "gb_per_s": rate(gbytes),
        "bound": bound,
        "of_bound": rate(least_s),
    }


def _short(number: float) -> float:
    return float(f"{number:.4g}")


def name_part(program: Program, run: Run, depth: int) -> str:
    """The part of an instruction: that of a product fused into it, its own, or that of a loop around it."""
    products = [
        one for one in program.fused(run.instruction).values() if one.opcode in ("dot", "convolution")
    ]
    for one in (*products, run.instruction, *reversed(run.callers)):
        if name := scope(one.op_name, depth):
            return name
    return OTHER


def scope(op_name: str, depth: int) -> str:
    """The first `depth` named scopes and Flax modules of an operation, ` backward` in a gradient; empty without any.

    `jit(update)/transpose(jvp(world))/while/body/Recurrent/gates/dot_general` is `world/scan backward` of depth 2.
    """
    outer, *inner = op_name.split(";")[0].split("/")[:-1] or [""]
    path: list[str] = []
    for name in inner if outer.startswith("jit(") else ():
        if "jit(" in name:  # a function of a library
            break
        while wrapped := re.fullmatch(r"\w+\((.*)\)", name):
            name = wrapped.group(1)
        if name == "while":
            name = "scan" if len(path) == 1 else ""
        if re.fullmatch(r"\w+", name) and name not in STEPS and not name.startswith("branch_"):
            path.append(name)
    if not path:
        return ""
    return "/".join(path[:depth]) + (BACKWARD if "transpose(jvp" in op_name else "")
