"""Compiling for devices that are not here: what is counted, and what is refused."""

import jax
import jax.numpy as jnp
import pytest

from dreamworld import cli
from dreamworld.benchmarks import target, update
from dreamworld.config import Config
from dreamworld.errors import UserError

GPU_PROGRAM = """HloModule jit_update, is_scheduled=true, entry_computation_layout={(f32[4]{0})->f32[4]{0}}

%fused_add (a: f32[4]) -> f32[4] {
  %a = f32[4]{0} parameter(0)
  ROOT %sum = f32[4]{0} add(%a, %a)
}

%inner (p: (s32[], f32[4])) -> (s32[], f32[4]) {
  %p = (s32[], f32[4]{0}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %x = f32[4]{0} get-tuple-element(%p), index=1
  %next = s32[] fusion(%i), kind=kLoop, calls=%fused_count
  %y = f32[4]{0} fusion(%x), kind=kLoop, calls=%fused_add
  ROOT %t = (s32[], f32[4]{0}) tuple(%next, %y)
}

%body (p.1: (s32[], f32[4])) -> (s32[], f32[4]) {
  %p.1 = (s32[], f32[4]{0}) parameter(0)
  %w = (s32[], f32[4]{0}) while(%p.1), condition=%cond, body=%inner, backend_config={"known_trip_count":{"n":"3"}}
  %x.1 = f32[4]{0} get-tuple-element(%w), index=1
  %product = f32[4]{0} custom-call(%x.1), custom_call_target="__cublas$gemm"
  ROOT %t.1 = (s32[], f32[4]{0}) tuple(%p.1, %product)
}

%recorded (x.2: f32[4]) -> f32[4] {
  %x.2 = f32[4]{0} parameter(0)
  %one = f32[4]{0} fusion(%x.2), kind=kLoop, calls=%fused_add
  ROOT %two = (f32[4]{0}, /*index=1*/f32[4]{0}) fusion(%one), kind=kLoop, calls=%fused_add
}

ENTRY %main (arg: f32[4]) -> f32[4] {
  %arg = f32[4]{0} parameter(0)
  %both = f32[4]{0} call(%arg), to_apply=%recorded
  %w.1 = (s32[], f32[4]{0}) while(%both), condition=%cond, body=%body, backend_config={"known_trip_count":{"n":"10"}}
  ROOT %out = f32[4]{0} get-tuple-element(%w.1), index=1
}
"""


def test_kernels_are_counted_through_loops_and_calls():
    assert target.count_kernels(GPU_PROGRAM) == {
        "kernels": 2 + 10 * (3 * 2 + 1),
        "loops": {
            "0": {"steps": 10, "kernels_per_step": 7},
            "1": {"steps": 3, "kernels_per_step": 2},
        },
    }


def test_loops_of_a_program_that_was_compiled_here_are_found():
    step = lambda x, _: (jnp.tanh(x @ x), None)
    program = jax.jit(lambda x: jax.lax.scan(step, x, None, length=7)[0]).lower(jnp.ones((4, 4))).compile()
    loops = target.count_kernels(program.as_text() or "")["loops"]
    assert [loop["steps"] for loop in loops.values()] == [7]
    assert loops["0"]["kernels_per_step"] >= 2  # at least the product and the counter


@pytest.mark.parametrize("name", ["h1", "tpu", "tpu:", "cuda:h100"])
def test_an_unknown_target_is_refused(name):
    with pytest.raises(UserError, match="takes a100, h100, or a TPU topology"):
        target.device(name)


def test_times_of_a_device_that_is_not_here_are_refused():
    with pytest.raises(UserError, match="can't time"):
        update.main(["--configs", "debug", "--target", "h100", "--profile", "x"])


def test_a_device_without_a_compiler_is_named():
    with pytest.raises(UserError, match=r"no compiler for it \(.*pip install 'jax\[tpu\]'"):
        target.device("tpu:v0:2x2")  # nothing compiles for this one, whatever is installed


def test_automatic_choices_are_those_of_accelerators_and_given_ones_stay(monkeypatch):
    monkeypatch.setattr(target, "prepare", lambda: None)  # would keep this process from its cache
    config = update.on_accelerator(Config())
    assert (config.agent.precision, config.agent.weight_gradients) == ("bfloat16", "at_once")
    given = cli.override(Config(), {"agent.precision": "float32"})
    assert update.on_accelerator(given).agent.precision == "float32"
