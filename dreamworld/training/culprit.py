"""Where a computation stops being finite: runs its jaxpr operation by operation and follows NaN and inf back.

A value counts only if it reaches a result that is not finite, or a finiteness test that fails: what a `where`
cuts off is not reported. Loops are run whole, and opened only when their results are bad.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import linecache
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from jax.extend.core import JaxprEqn

from dreamworld import words
from dreamworld.types import Array

CALLS = {"jit", "pjit", "closed_call", "core_call", "remat", "remat2", "checkpoint"} | {
    "custom_jvp_call",
    "custom_vjp_call",
    "custom_vjp_call_jaxpr",
}


@dataclasses.dataclass(eq=False)
class Trace:
    """The history of a value as far as it matters: whether it is finite, and if not, what made it."""

    bad: bool = False
    order: int = 0
    eqn: JaxprEqn | None = None
    parents: tuple[Trace, ...] = ()  # the inputs that were bad already
    values: tuple[Any, ...] = ()  # inputs and outputs; kept where no input was bad
    text: str = ""


GOOD = Trace()
CONSTANT = Trace(bad=True, text="a constant of the program")  # such as the -inf that a maximum starts from
Traced = tuple[Any, Trace]


@dataclasses.dataclass
class Finding:
    """One operation whose inputs are finite and whose output is not, or an input that is not."""

    primitive: str  # name of the operation; empty for an input
    where: str  # file, line, function and source; empty for an input
    text: str


def find(function: Callable[..., Any], args: dict[str, Any], limit: int = 5) -> tuple[Any, list[Finding]]:
    """Evaluates `function(*args.values())`; returns its result and what made it not finite, earliest first.

    Inputs that are not finite are findings, too, when they reach the result. Needs no accelerator; takes some
    ten times as long as the compiled function.
    """
    leaves, structure = jax.tree.flatten(jax.tree.map(jnp.asarray, tuple(args.values())))
    if isinstance(function, jax.stages.Wrapped):  # jitted: what it inlines no longer knows its own lines
        function = inspect.unwrap(function)

    def flat(*leaves: Any) -> Any:
        return function(*jax.tree.unflatten(structure, leaves))

    closed, shape = jax.make_jaxpr(flat, return_shape=True)(*leaves)
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(tuple(args.values()))]
    names = [f"{list(args)[path[0].idx]}/{_name(path[1:])}".rstrip("/") for path in paths]
    trace = _Trace()
    values = trace.run(closed, leaves, names)
    findings: list[Finding] = []
    for mark in trace.origins():
        findings += [finding for finding in _explain(mark) if finding.text not in {f.text for f in findings}]
        if len(findings) >= limit:
            break
    return jax.tree.unflatten(jax.tree.structure(shape), values), findings[:limit]


class _Trace:
    """An evaluation that remembers where bad values came from."""

    def __init__(self) -> None:
        self.order = 0
        self.sinks: list[Trace] = []

    def run(self, closed: Any, values: Sequence[Any], names: Sequence[str]) -> list[Any]:
        marks = [Trace(True, text=name) if _bad(value) else GOOD for value, name in zip(values, names)]
        outputs = self.evaluate(closed.jaxpr, closed.consts, list(zip(values, marks)))
        self.sinks += [mark for _, mark in outputs if mark.bad]
        return [value for value, _ in outputs]

    def origins(self) -> list[Trace]:
        """Bad values made of good ones, on a way to a sink, in order; constants if there is nothing else."""
        seen: dict[int, Trace] = {}
        stack = list(self.sinks)
        while stack:
            mark = stack.pop()
            if id(mark) not in seen:
                seen[id(mark)] = mark
                stack += mark.parents
        found = sorted((mark for mark in seen.values() if not mark.parents), key=lambda mark: mark.order)
        return [mark for mark in found if mark is not CONSTANT] or found

    def evaluate(self, jaxpr: Any, consts: Sequence[Any], args: list[Traced]) -> list[Traced]:
        env: dict[Any, Traced] = {
            var: (const, CONSTANT if _bad(const) else GOOD) for var, const in zip(jaxpr.constvars, consts)
        }
        env.update(zip(jaxpr.invars, args))
        last_use = {var: index for index, eqn in enumerate(jaxpr.eqns) for var in _variables(eqn.invars)}
        kept = set(_variables(jaxpr.outvars))

        def read(var: Any) -> Traced:
            # A literal is a Python number; beside a bfloat16 array it has to be one, too.
            if not isinstance(var, core.Literal):
                return env[var]
            value = np.asarray(var.val, getattr(var.aval, "dtype", None))
            return value, CONSTANT if _bad(value) else GOOD

        for index, eqn in enumerate(jaxpr.eqns):
            env.update(zip(eqn.outvars, self.apply(eqn, [read(var) for var in eqn.invars])))
            for var in {*_variables(eqn.invars)} - kept:
                if last_use[var] == index:
                    del env[var]
        return [read(var) for var in jaxpr.outvars]

    def apply(self, eqn: JaxprEqn, inputs: list[Traced]) -> list[Traced]:
        name = eqn.primitive.name
        if name == "cond":
            branch = eqn.params["branches"][int(inputs[0][0])]
            return self.evaluate(branch.jaxpr, branch.consts, inputs[1:])
        if name in CALLS:
            inner = next(eqn.params[key] for key in ("jaxpr", "call_jaxpr", "fun_jaxpr") if key in eqn.params)
            return self.evaluate(getattr(inner, "jaxpr", inner), getattr(inner, "consts", ()), inputs)
        self.order += 1
        values = [value for value, _ in inputs]
        parents = tuple(mark for _, mark in inputs if mark.bad)
        if name == "is_finite":
            self.sinks += parents
        outputs = _bind(eqn, values)
        kept = () if parents else (*values, *outputs)
        return [(out, Trace(True, self.order, eqn, parents, kept) if _bad(out) else GOOD) for out in outputs]


def _explain(mark: Trace) -> list[Finding]:
    """Findings of one origin; a loop is run again step by step and its body searched."""
    if mark.eqn is None:
        return [Finding("", "", f"{mark.text} is not finite to begin with")]
    name, count = mark.eqn.primitive.name, len(mark.eqn.invars)
    values, outputs = mark.values[:count], mark.values[count:]
    for number, body, inputs in _iterations(mark.eqn, values):
        trace = _Trace()
        if any(_bad(value) for value in _jit(body)(*inputs)):
            trace.run(body, inputs, [""] * len(inputs))
            found = [finding for origin in trace.origins() for finding in _explain(origin)]
            inside = f"step {number} of a {name} ({_place(mark.eqn)})"
            return [Finding(f.primitive, f.where, f"{f.text}; in {inside}") for f in found]
    bad = next(value for value in outputs if _bad(value))
    made = f"{name} makes {_describe(bad)}"
    source = f" of {', '.join(_describe(value) for value in values)}" if values else ""
    return [Finding(name, _place(mark.eqn), f"{_place(mark.eqn)}: {made}{source}")]


def _iterations(eqn: JaxprEqn, values: Sequence[Any]) -> Iterator[tuple[int, Any, list[Any]]]:
    """The steps of a scan or while loop in order: number, body and the body's inputs."""
    if eqn.primitive.name == "scan":
        body, length = eqn.params["jaxpr"], eqn.params["length"]
        # Carried values are as large outside of the body as inside; rows and stacked outputs have an axis more.
        same = lambda outer, inner: sum(x.aval.ndim == y.aval.ndim for x, y in zip(outer, inner, strict=True))
        carries = same(eqn.outvars, body.jaxpr.outvars)
        consts = same(eqn.invars, body.jaxpr.invars) - carries
        fixed, carry, rows = values[:consts], values[consts : consts + carries], values[consts + carries :]
        for step in range(length - 1, -1, -1) if eqn.params["reverse"] else range(length):
            inputs = [*fixed, *carry, *(row[step] for row in rows)]
            yield step, body, inputs
            carry = _jit(body)(*inputs)[:carries]
    elif eqn.primitive.name == "while":
        body, condition = eqn.params["body_jaxpr"], eqn.params["cond_jaxpr"]
        tested, fixed = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
        carry, step = values[tested + fixed :], 0
        while _jit(condition)(*values[:tested], *carry)[0]:
            inputs = [*values[tested : tested + fixed], *carry]
            yield step, body, inputs
            carry, step = _jit(body)(*inputs), step + 1


@functools.lru_cache(maxsize=64)
def _jit(closed: Any) -> Any:
    return jax.jit(core.jaxpr_as_fun(closed))


def _bind(eqn: JaxprEqn, values: Sequence[Any]) -> list[Any]:
    def bind(*values: Any) -> Any:
        return eqn.primitive.bind(*values, **eqn.params)

    try:
        result = bind(*values)
    except NotImplementedError:  # operations that exist in compiled programs only
        result = jax.jit(bind)(*values)
    return list(result) if eqn.primitive.multiple_results else [result]


def _bad(value: Array) -> bool:
    return jnp.issubdtype(value.dtype, jnp.inexact) and not np.isfinite(np.asarray(value)).all()


def _name(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _variables(variables: Sequence[Any]) -> list[Any]:
    return [var for var in variables if not isinstance(var, core.Literal)]


def _describe(value: Array) -> str:
    """`float32[16, 64] in [-1.5, 2]`, or how many of its values are not finite and which."""
    kind = f"{value.dtype}{list(value.shape)}"
    if not jnp.issubdtype(value.dtype, jnp.inexact) or not value.size:
        return kind
    array = np.asarray(value)
    array = array.astype(np.float64) if array.dtype.itemsize < 8 else array
    bad = array[~np.isfinite(array)]
    if not bad.size:
        return f"{kind} in [{array.min():.4g}, {array.max():.4g}]"
    names = ", ".join(sorted({str(value) for value in bad[:1000]}))
    return f"{kind} with {bad.size} of {words.count(array.size, 'value')} {names}"


def _place(eqn: JaxprEqn) -> str:
    """`dreamworld/math.py:12 symlog` with its source line; the backward pass is said to be one."""
    trace = eqn.source_info.traceback
    frames = [frame for frame in (trace.frames if trace else ()) if _of_user(frame.file_name)]
    backward = "backward pass of " if "transpose" in str(eqn.source_info.name_stack) else ""
    if not frames:
        return f"{backward}an operation of a library"
    frame = frames[0]
    line = linecache.getline(frame.file_name, frame.line_num).strip()
    file = "/".join(frame.file_name.split("/")[-3:])
    return f"{backward}{file}:{frame.line_num} in {frame.function_name.split('.')[-1]} `{line}`"


def _of_user(file: str) -> bool:
    return (
        not any(part in file for part in ("/site-packages/", "/dist-packages/", "<frozen"))
        and file != __file__
    )
