"""What each instruction of an optimised program costs: floating-point operations, and bytes read and written.

XLA's own cost analysis knows them for a whole program only, and counts the body of a loop once.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from dreamworld.benchmarks.hlo import CONTROL, FREE, Instruction, Program, shape_of, size_of

Body = dict[str, Instruction]
# They read as much of their first operand as they return.
SLICES = {"slice", "dynamic-slice", "gather"}
# They only give another name or shape to their operand.
VIEWS = {"bitcast", "get-tuple-element"}


class Cost(NamedTuple):
    """Of one run of an instruction."""

    flop: int  # of matrix products and convolutions; a multiply-add is two
    moved: int  # bytes of operands and results, wherever in the memory hierarchy they are


def cost(program: Program, computation: str, one: Instruction) -> Cost:
    """The cost of an instruction, with what is fused into it; loops and calls have none of their own."""
    if one.opcode in FREE | CONTROL:
        return Cost(0, 0)
    body = program.fused(one)
    around = program.computations[computation]
    if not body:
        return Cost(_flop(around, one), _read_alone(around, one) + _written(around, one))
    flop = sum(_flop(body, inner) for inner in body.values())
    read = sum(_read(body, inner) for inner in body.values() if inner.opcode == "parameter")
    root = next(inner for inner in body.values() if inner.is_root)
    return Cost(flop, read + _written(body, root))


def _flop(body: Body, one: Instruction) -> int:
    if one.opcode == "dot":
        contracted = _axes(one, "lhs_contracting_dims")
        left = shape_of(body[one.operands[0]].result)
        return 2 * math.prod(shape_of(one.result)) * math.prod(left[axis] for axis in contracted)
    if one.opcode == "convolution":
        kernel = shape_of(body[one.operands[1]].result)
        labels = re.search(r"dim_labels=\w+_(\w+)->", one.text)
        assert labels, one.text
        per_output = math.prod(kernel) // kernel[labels.group(1).index("o")]
        dilation = re.search(r"lhs_dilate=([\dx]+)", one.text)
        zeros = math.prod(map(int, dilation.group(1).split("x"))) if dilation else 1
        return 2 * math.prod(shape_of(one.result)) * per_output // zeros
    return 0


def _axes(one: Instruction, attribute: str) -> list[int]:
    found = re.search(rf"{attribute}=\{{([\d,]*)\}}", one.text)
    return [int(axis) for axis in found.group(1).split(",") if axis] if found else []


def _read_alone(body: Body, one: Instruction) -> int:
    """Bytes that an instruction by itself reads."""
    operands = [size_of(body[name].result) for name in one.operands]
    if one.opcode in SLICES:
        return size_of(one.result) + sum(operands[1:])
    if one.opcode == "dynamic-update-slice":  # in place
        return sum(operands[1:])
    return sum(operands)


def _read(body: Body, value: Instruction) -> int:
    """Bytes of a value that the rest of a fusion reads: slices of it, or all."""
    total, whole = 0, size_of(value.result)
    for user in body.values():
        if value.name not in user.operands:
            continue
        first = user.operands[0] == value.name
        if user.opcode in VIEWS:
            total += _read(body, user)
        elif user.opcode in SLICES and first:
            total += size_of(user.result)
        elif not (user.opcode == "dynamic-update-slice" and first):  # which leaves the rest where it is
            total += whole
    return min(total, whole)


def _written(body: Body, one: Instruction) -> int:
    """Bytes that an instruction writes: all of its result, or what it changes in place."""
    if one.opcode == "tuple":
        return sum(_written(body, body[name]) for name in one.operands)
    if one.opcode == "bitcast":
        return _written(body, body[one.operands[0]])
    if one.opcode == "dynamic-update-slice":
        return size_of(body[one.operands[1]].result)
    return size_of(one.result)
