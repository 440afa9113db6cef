"""Optimised programs as data: what runs how often, and what each instruction costs."""

import jax
import jax.numpy as jnp
import pytest

from dreamworld import flops
from dreamworld.benchmarks import costs, hlo

PROGRAM = """HloModule jit_update, is_scheduled=true, entry_computation_layout={(f32[4]{0})->f32[4]{0}}

%fused (a: f32[8,4]) -> bf16[4,8] {
  %a = f32[8,4]{1,0} parameter(0)
  %turned = f32[4,8]{1,0} transpose(%a), dimensions={1,0}
  ROOT %small = bf16[4,8]{1,0} convert(%turned)
}

%inner (p: (s32[], f32[8,4])) -> (s32[], f32[8,4]) {
  %p = (s32[], f32[8,4]{1,0}) parameter(0)
  %x = f32[8,4]{1,0} get-tuple-element(%p), index=1
  %turn = bf16[4,8]{1,0} fusion(%x), kind=kLoop, calls=%fused, metadata={op_name="jit(update)/world/while/body/mul"}
  ROOT %t = (s32[], f32[8,4]{1,0}) tuple(%i, %x)
}

%body (p.1: (s32[], f32[8,4])) -> (s32[], f32[8,4]) {
  %p.1 = (s32[], f32[8,4]{1,0}) parameter(0)
  ROOT %w = (s32[], /*index=1*/f32[8,4]{1,0}) while(%p.1), condition=%c, body=%inner, backend_config={"known_trip_count":{"n":"3"}}
}

ENTRY %main (arg: f32[8,4]) -> f32[8,4] {
  %arg = f32[8,4]{1,0} parameter(0)
  %kept = f32[8,4]{1,0} copy(%arg)
  ROOT %w.1 = (s32[], f32[8,4]{1,0}) while(%kept), condition=%c, body=%body, backend_config={"known_trip_count":{"n":"10"}}
}
"""  # noqa: E501
X = jnp.ones((6, 4))


def compiled(function, *args):
    program = jax.jit(function).lower(*args).compile()
    return program, hlo.parse(program.as_text() or "")


def total(program):
    """(flop, bytes) of one call."""
    found = [(run.times, costs.cost(program, run.computation, run.instruction)) for run in program.runs()]
    return sum(times * cost.flop for times, cost in found), sum(times * cost.moved for times, cost in found)


def test_loops_within_loops_multiply():
    program = hlo.parse(PROGRAM)
    assert (program.name, program.entry) == ("jit_update", "main")
    runs = {run.instruction.name: run for run in program.runs()}
    assert runs["turn"].times == 30 and [caller.name for caller in runs["turn"].callers] == ["w.1", "w"]
    assert runs["turn"].instruction.operands == ("x",) and runs["turn"].instruction.op_name.endswith(
        "body/mul"
    )
    assert runs["w.1"].instruction.is_root and runs["w.1"].instruction.steps == 10
    assert hlo.count(program) == {
        "kernels": 31, "dot": 0, "convolution": 0, "while": 11, "copy": 1, "transpose": 30, "concatenate": 0,
    }  # fmt: skip


def test_bytes_are_those_of_operands_and_results():
    assert hlo.size_of("(s32[], /*index=1*/bf16[4,8]{1,0}, pred[3], s4[4])") == 4 + 64 + 3 + 2
    runs = {run.instruction.name: run for run in hlo.parse(PROGRAM).runs()}
    cost = costs.cost(hlo.parse(PROGRAM), runs["turn"].computation, runs["turn"].instruction)
    assert cost == (0, 8 * 4 * 4 + 4 * 8 * 2)


def test_products_in_a_scan_count_once_per_step():
    step = lambda x, _: (jnp.tanh(x @ jnp.full((4, 4), 0.5)), None)
    function = lambda x: jax.lax.scan(step, x, None, length=7)[0]
    _, program = compiled(function, X)
    assert total(program)[0] == flops.count(function, X) == 7 * 2 * 6 * 4 * 4


def test_convolutions_count_as_their_trace_does():
    def conv(x, k):
        return jax.lax.conv_general_dilated(x, k, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    args = jnp.ones((2, 8, 8, 3)), jnp.ones((5, 5, 3, 4))
    assert total(compiled(conv, *args)[1])[0] == flops.count(conv, *args) == 2 * (2 * 8 * 8 * 4) * (5 * 5 * 3)
    wide = lambda x, k: jax.lax.conv_general_dilated(
        x, k, (1, 1), [(2, 2), (2, 2)], lhs_dilation=(2, 2), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    assert total(compiled(wide, *args)[1])[0] == flops.count(wide, *args)


def test_bytes_of_a_program_without_loops_are_those_of_xlas_own_analysis():
    def loss(w, x, place):
        hidden = jax.nn.silu(x @ w) @ w.T
        row = jax.lax.dynamic_slice(hidden, (place, 0), (2, 32))
        return jax.nn.log_softmax(hidden).sum() + (row * jnp.sort(row)).sum(), jnp.concatenate([row, hidden])

    args = jnp.ones((32, 64)), jnp.ones((128, 32)), jnp.int32(3)
    executable, program = compiled(jax.grad(loss, has_aux=True), *args)
    analysis = executable.cost_analysis()
    assert analysis and total(program)[1] == pytest.approx(analysis["bytes accessed"], rel=0.02)


def test_a_scan_moves_its_rows_and_not_the_arrays_that_hold_them():
    rows, width, steps = 16, 256, 64
    _, program = compiled(
        lambda x: jax.lax.scan(lambda s, row: (s, jnp.tanh(row)), 0.0, x)[1], jnp.ones((steps, rows, width))
    )
    row_bytes = 4 * rows * width
    moved = total(program)[1]
    assert 2 * steps * row_bytes <= moved < 6 * steps * row_bytes


def test_kernels_that_differ_in_names_alone_are_one_to_compile():
    function = lambda x, y, z: (jnp.sin(x) + 1, jnp.sin(y) + 1, jnp.cos(z) * 2)
    program = hlo.parse(jax.jit(function).lower(X, X + 1, X + 2).compile().as_text() or "")
    fused = [run.instruction for run in program.runs() if program.fused(run.instruction)]
    assert len(fused) == 3 and hlo.count_different(program) == 2
