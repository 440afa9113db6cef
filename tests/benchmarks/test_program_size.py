"""An update holds no more products, loops, copies and transposes than recorded: what CI can hold of its speed.

Counted twice, every loop's body as often as it runs: as JAX traces the update, and as XLA optimises it for a CPU.
`pytest tests/benchmarks/test_program_size.py --record`, in one process, writes program_size.json anew, after a change
that is meant to need more, or that needs less. Counts hold for one minor version of JAX, those of XLA for processors
with the same number of cores and the same extensions.
"""

import functools
import json
import pathlib
from collections import Counter
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from dreamworld import cli, flops, nets
from dreamworld.benchmarks import hlo, machine, update

FILE = pathlib.Path(__file__).with_name("program_size.json")
VERSION = ".".join(jax.__version__.split(".")[:2])
PRIMITIVES = {
    "dot_general": "dot",
    "conv_general_dilated": "convolution",
    "scan": "loop",
    "while": "loop",
    "transpose": "transpose",
}
# {name: (command line, whether it is compiled, too)}
CASES = {
    "vector": (["--configs", "debug", "--obs", "vector:4"], True),
    "image": (["--configs", "debug", "--obs", "image:16x16x3", "--agent.weight_gradients", "at_once"], True),
    "size1m vector": (["--configs", "size1m", "--obs", "vector:24"], False),
    "size1m image": (["--configs", "size1m", "--obs", "image:64x64x3"], False),
}
# The conftest compiles without what users have by default.
OPTIONS: dict[str, Any] = {"xla_cpu_use_fusion_emitters": True}


def count_traced(jaxpr):
    """{operation: how often it runs in one call} of a traced program; of a conditional the most of each kind."""
    found = Counter()
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        inner = [count_traced(program) for program in flops.inner_programs(params)]
        found[PRIMITIVES.get(name, "")] += 1
        if name == "cond":
            found += functools.reduce(Counter.__or__, inner)
        else:
            found += Counter({key: n * params.get("length", 1) for key, n in sum(inner, Counter()).items()})
    return found


@functools.cache
def trace(case):
    """The traced update of a case."""
    return trace_anew(CASES[case][0])


def trace_anew(words):
    config, flags = cli.parse_with(words, update.Flags(act="continuous:6"), prog="")
    agent = update.make_synthetic_agent(config, flags)
    state = jax.eval_shape(agent.init, jax.random.PRNGKey(0))
    batch = update.synthetic_batch(
        agent, config.run.batch_size, config.run.batch_length + config.run.replay_context
    )
    return jax.jit(lambda *inputs: agent.phase.update(*inputs)).trace(state, (), batch)


@functools.cache
def optimise(case):
    """The program that XLA makes of a case."""
    return hlo.parse(trace(case).lower().compile(compiler_options=OPTIONS).as_text() or "")


def count(traced):
    """{operation: count} of a traced update."""
    found = count_traced(traced.jaxpr.jaxpr)
    return {name: found[name] for name in sorted(set(PRIMITIVES.values()))}


def sizes(case):
    """{traced, optimised: {operation: count}} of a case."""
    found: dict[str, Any] = {"traced": count(trace(case))}
    if CASES[case][1]:
        here = machine.describe([])
        found["for"] = f"{here.cores} cores, {' '.join(here.extensions)}"
        program = optimise(case)
        found["optimised"] = hlo.count(program) | {"different kernels": hlo.count_different(program)}
    return found


def grown(found, recorded):
    """What there is more of than recorded, in words."""
    return [
        f"{stage}: {name} {recorded[stage][name]} -> {number}"
        for stage, counts in found.items()
        if stage != "for"
        for name, number in counts.items()
        if number > recorded[stage][name]
    ]


def read():
    return json.loads(FILE.read_text()) if FILE.exists() else {}


@pytest.mark.parametrize("case", CASES)
def test_an_update_is_no_larger_than_recorded(case, request):
    recording, recorded = request.config.getoption("--record"), read()
    if VERSION not in recorded and not recording:
        pytest.skip(
            f"sizes are recorded for JAX {', '.join(recorded)}, not {VERSION}: record them with --record"
        )
    found = sizes(case)
    if recording:
        recorded.setdefault(VERSION, {})[case] = found
        FILE.write_text(json.dumps(recorded, indent=1, sort_keys=True) + "\n")
        return
    if found.get("for") != recorded[VERSION][case].get("for"):  # another kind of processor
        found.pop("optimised", None)
    more = grown(found, recorded[VERSION][case])
    assert not more, (
        f"the update of {case} has grown, {'; '.join(more)}. If that is meant, say why in the commit and run "
        "`pytest tests/benchmarks/test_program_size.py --record`"
    )


def test_what_is_counted_runs():
    step = lambda x, _: ((x @ x).T, None)
    program = lambda x: jax.lax.cond(
        x.sum() > 0, lambda x: x @ x, lambda x: x.T @ (x @ x), jax.lax.scan(step, x, None, 7)[0]
    )
    jaxpr = jax.make_jaxpr(program)(jnp.ones((4, 4))).jaxpr
    counts = count_traced(jaxpr)
    assert (counts["dot"], counts["transpose"], counts["loop"]) == (7 + 2, 7 + 1, 1)


def with_transposes(form):
    return lambda x, *rest: jnp.swapaxes(jnp.swapaxes(form(x, *rest), -1, -2), -1, -2)


def with_a_second_product(form):
    return lambda x, *rest: (form(x, *rest) + form(2 * x, *rest)) / 3


@pytest.mark.parametrize(
    ("change", "operation"), [(with_transposes, "transpose"), (with_a_second_product, "dot")]
)
def test_an_operation_too_many_is_named(change, operation, monkeypatch):
    before = {"traced": count(trace("vector"))}
    monkeypatch.setattr(nets, "block_product", change(nets.block_product))
    jax.clear_caches()
    more = grown({"traced": count(trace_anew(CASES["vector"][0]))}, before)
    jax.clear_caches()  # of what was traced with the change
    assert [
        line for line in more if line.startswith(f"traced: {operation} {before['traced'][operation]} -> ")
    ]
    assert grown(before, before) == []


def test_no_kernel_asks_for_every_flag_of_health():
    """XLA would compute an `and` of all flags anew wherever it is asked whether they hold."""
    program = optimise("vector")
    computed = [program.fused(run.instruction).values() for run in program.runs()]
    flags_read = [
        sum(one.opcode == "parameter" and one.result == "pred[]" for one in each) for each in computed
    ]
    assert max(flags_read) <= 3
