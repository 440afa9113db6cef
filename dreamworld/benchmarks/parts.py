"""`dreamworld benchmark update --parts`: time, operations and bytes of each part of an update, and what bounds it."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

from dreamworld.benchmarks import costs, hlo, trace
from dreamworld.benchmarks.hlo import Program, Run
from dreamworld.benchmarks.roofline import Roofline
from dreamworld.benchmarks.trace import Shares

CALLS = 3  # that are traced
OTHER = "other"  # what no scope names: arguments that are copied, random keys, the check of gradients
BACKWARD = " backward"
# Names that JAX adds to the scopes of a program.
STEPS = {"body", "closed_call", "cond", "checkpoint", "rematted_computation", "remat"}


def measure(call: Callable[[], Any], text: str, roofline: Roofline, *, depth: int) -> dict[str, Any]:
    """{traced_s, idle_s, parts: {name: figures}} of the program whose HLO is `text`, from the median of three calls."""
    program = hlo.parse(text)
    runs = [run for run in program.runs() if run.instruction.opcode not in hlo.FREE | hlo.CONTROL]
    names = {run.instruction.name: name_part(program, run, depth) for run in runs}
    found = [
        trace.share([one for one in intervals if one.name in names], names.__getitem__)
        for intervals in trace.record(call, program.name, CALLS)
    ]
    shares = sorted(found, key=lambda one: one.whole_s)[len(found) // 2]
    work: dict[str, Counter[str]] = defaultdict(Counter)
    for run in runs:
        cost = costs.cost(program, run.computation, run.instruction)
        amounts = {"flop": cost.flop, "moved": cost.moved, "kernels": 1}
        work[names[run.instruction.name]].update({key: run.times * n for key, n in amounts.items()})
    longest = sorted(work, key=lambda name: -shares.seconds.get(name, 0.0))
    return {
        "traced_s": round(shares.whole_s, 5),
        "idle_s": round(shares.idle_s, 5),
        "parts": {name: figures(name, work[name], shares, roofline) for name in longest},
    }


def figures(name: str, work: Counter[str], shares: Shares, roofline: Roofline) -> dict[str, Any]:
    """What is reported of a part with this `work`: flop, bytes moved, kernels."""
    seconds, gflop, gbytes = shares.seconds.get(name, 0.0), work["flop"] / 1e9, work["moved"] / 1e9
    bound, least_s = roofline.bound(gflop, gbytes)
    rate = lambda amount: _short(amount / seconds if seconds else 0)
    return {
        "seconds": _short(seconds),
        "share": round(seconds / shares.whole_s, 4),
        "active_s": _short(shares.active_s.get(name, 0.0)),
        "gflop": _short(gflop),
        "gbytes": _short(gbytes),
        "kernels": work["kernels"],
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
