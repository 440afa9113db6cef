"""The text of an optimised program of XLA (HLO) as data: its computations, their instructions, how often each runs."""

from __future__ import annotations

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

# Instructions that do nothing when their turn comes.
FREE = {"parameter", "constant", "get-tuple-element", "tuple", "bitcast", "after-all", "partition-id"}
# Instructions that only run other computations.
CONTROL = {"while", "call", "conditional"}
# What tells whether a program has grown: products, loops, and what only moves numbers.
COUNTED = ("dot", "convolution", "while", "copy", "transpose", "concatenate")
BRANCHES = "branch_computations|true_computation|false_computation"
BITS = {"pred": 8, "s4": 4, "u4": 4, "bf16": 16, "c64": 64, "c128": 128}


class Instruction(NamedTuple):
    """`NAME = RESULT OPCODE(OPERANDS), ATTRIBUTES` of a computation."""

    name: str
    opcode: str
    result: str  # its type, such as f32[4,16]{1,0}; of a tuple (f32[4], s32[])
    operands: tuple[str, ...]  # names, within the same computation
    text: str  # the whole line
    is_root: bool

    def called(self, attribute: str) -> list[str]:
        """The computations that an attribute names; the attribute may be several, joined by |."""
        found = re.search(rf"(?:{attribute})=\{{?([^,}}\s]+(?:, *%[^,}}\s]+)*)", self.text)
        return [name.strip(" %") for name in found.group(1).split(",")] if found else []

    @property
    def steps(self) -> int:
        """How often the body of a while-loop runs; 1 where XLA does not know."""
        found = re.search(r'known_trip_count":\{"n":"(\d+)"', self.text)
        return int(found.group(1)) if found else 1

    @property
    def op_name(self) -> str:
        """The JAX operation that it came from, with the named scopes around it; empty where XLA added it."""
        found = re.search(r'op_name="([^"]*)"', self.text)
        return found.group(1) if found else ""


class Run(NamedTuple):
    """An instruction that runs when the program does."""

    instruction: Instruction
    computation: str
    times: int  # in one call of the program
    callers: tuple[Instruction, ...]  # the loops and calls around it, the outermost first


@dataclasses.dataclass(frozen=True)
class Program:
    """A module of HLO."""

    name: str
    computations: dict[str, dict[str, Instruction]]  # by their names
    entry: str  # the computation that runs first

    def runs(self) -> Iterator[Run]:
        """What runs in one call. Of a conditional every branch counts; a fusion is one instruction."""
        yield from self._runs(self.entry, 1, ())

    def _runs(self, name: str, times: int, callers: tuple[Instruction, ...]) -> Iterator[Run]:
        for one in self.computations[name].values():
            yield Run(one, name, times, callers)
            if one.opcode in CONTROL:
                for inner in one.called(f"body|to_apply|{BRANCHES}"):
                    yield from self._runs(inner, times * one.steps, (*callers, one))

    def fused(self, instruction: Instruction) -> dict[str, Instruction]:
        """The computation of a fusion; empty of anything else."""
        found = instruction.called("calls") if instruction.opcode == "fusion" else []
        return self.computations[found[0]] if found else {}


def parse(text: str) -> Program:
    """The program that `compiled.as_text()` describes."""
    computations: dict[str, dict[str, Instruction]] = {}
    module = re.match(r"HloModule ([\w.\-]+)", text)
    name = entry = ""
    for line in text.splitlines():
        if header := re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\{$", line):
            name = header.group(2)
            entry = name if header.group(1) else entry
            computations[name] = {}
        elif name and " = " in line:
            one = _instruction(line)
            computations[name][one.name] = one
    return Program(module.group(1) if module else "", computations, entry)


def _instruction(line: str) -> Instruction:
    left, right = line.split(" = ", 1)
    # The type of a tuple is in parentheses, and has blanks.
    found = re.search(r" ([a-z][\w\-]*)\(", right)
    opcode, result, operands = "", right, ()
    if found:
        opcode, result = found.group(1), right[: found.start()]
        inside = re.sub(r"/\*.*?\*/", "", _until_closed(right[found.end() :]))
        operands = tuple(re.findall(r"%([\w.\-]+)", inside))
    words = left.split()
    return Instruction(words[-1].lstrip("%"), opcode, result, operands, line, words[0] == "ROOT")


def _until_closed(text: str) -> str:
    depth = 1
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if not depth:
            return text[:place]
    return text


def shape_of(result: str) -> tuple[int, ...]:
    """The axes of a type that is no tuple."""
    found = re.search(r"\[([\d,]*)\]", result)
    return tuple(int(size) for size in found.group(1).split(",") if size) if found else ()


def size_of(result: str) -> int:
    """Bytes of a type; of a tuple, of all its parts."""
    total = 0
    for kind, axes in re.findall(r"(\w+)\[([\d,]*)\]", result):
        digits = re.search(r"\d+", kind)
        bits = BITS.get(kind, int(digits.group()) if digits else 0)
        total += math.prod(int(size) for size in axes.split(",") if size) * bits // 8
    return total


def count_different(program: Program) -> int:
    """Fused computations that differ in more than names: XLA compiles each once, most of what compiling takes."""
    fused = [program.fused(run.instruction) for run in program.runs()]
    codes = {_code(computation) for computation in fused if computation}
    return len(codes)


def _code(computation: dict[str, Instruction]) -> str:
    """The text of a computation without what compilers do not read."""
    lines = [re.sub(r", (?:metadata|backend_config)=\{.*", "", one.text) for one in computation.values()]
    numbers: dict[str, str] = {}
    number = lambda found: numbers.setdefault(found.group(), f"%{len(numbers)}")
    return "\n".join(re.sub(r"%[\w.\-]+", number, line) for line in lines)


def count(program: Program) -> dict[str, int]:
    """{operation: how often it runs in one call} of COUNTED, fused or not, and `kernels`: all that XLA starts."""
    found: Counter[str] = Counter()
    for run in program.runs():
        one = run.instruction
        found["kernels"] += run.times * (one.opcode not in FREE | CONTROL)
        found[one.opcode] += run.times
        for inner in program.fused(one).values():
            found[inner.opcode] += run.times
    return {name: found[name] for name in ("kernels", *COUNTED)}
