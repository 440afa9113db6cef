"""The first operation that makes a NaN or inf is named, with its line; what is cut off is not."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamworld.training import culprit

X = jnp.array([3.0, 2.0, 0.5, 4.0])


def find(function, x: Any = X):
    result, findings = culprit.find(function, {"x": x})
    jax.tree.map(np.testing.assert_array_equal, result, jax.jit(function)(x))
    return findings


def test_a_finite_computation_has_no_findings():
    assert find(lambda x: jax.grad(lambda x: jnp.tanh(x).sum())(x)) == []


def test_the_operation_its_line_and_its_inputs_are_named():
    def function(x):
        safe = jnp.exp(x)
        return jnp.log(x - 1.0) + safe

    (finding,) = find(function)
    assert finding.primitive == "log"
    assert (
        "test_culprit.py" in finding.where and "in function `return jnp.log(x - 1.0) + safe`" in finding.where
    )
    assert "float32[4] with 1 of 4 values nan of float32[4] in [-0.5, 3]" in finding.text


def test_what_a_where_cuts_off_is_not_reported():
    def function(x):
        cut = jnp.where(x > 1, jnp.log(x - 1.0), 0.0)
        return cut + jnp.sqrt(x - 3.0)

    assert [finding.primitive for finding in find(function)] == ["sqrt"]


def test_a_failed_test_of_finiteness_is_a_result():
    def function(x):
        healthy = jnp.isfinite(jnp.exp(100 * x)).all()
        return jnp.where(healthy, x, 0.0)

    assert [finding.primitive for finding in find(function)] == ["exp"]


def test_loops_are_opened():
    def function(x):
        def body(carry, row):
            return carry * 1.5 + jnp.sqrt(row - 1.0), carry

        return jax.lax.scan(body, 0.0, x)[0]

    (finding,) = find(function)
    assert finding.primitive == "sqrt" and "in step 2 of a scan" in finding.text
    assert "in body `return carry * 1.5 + jnp.sqrt(row - 1.0), carry`" in finding.where

    def squares(x):
        return jax.lax.while_loop(lambda c: c[1] < 9, lambda c: (c[0] ** 2, c[1] + 1), (x.max(), 0))

    (finding,) = find(squares)  # 4 = 2^2; the sixth square is 2^128
    assert "in step 5 of a while" in finding.text and "in squares" in finding.text


def test_a_branch_is_followed():
    (finding,) = find(lambda x: jax.lax.cond(x[0] > 1, lambda x: jnp.log(-x), lambda x: jnp.sqrt(-x), x))
    assert finding.primitive == "log"


def test_the_backward_pass_points_at_the_forward_line():
    def loss(x):
        return jnp.sqrt(jnp.sum(x * 0.0))

    findings = find(jax.grad(loss))
    assert findings[0].primitive == "div" and "return jnp.sqrt(jnp.sum(x * 0.0))" in findings[0].where


def test_calls_are_looked_into():
    @jax.custom_jvp
    def clipped(x):
        return jnp.log(-x)

    clipped.defjvp(lambda primals, tangents: (clipped(*primals), tangents[0]))

    @jax.custom_vjp
    def straight(x):
        return clipped(x)

    straight.defvjp(lambda x: (straight(x), None), lambda _, gradient: (gradient,))
    function = jax.jit(jax.checkpoint(lambda x: straight(x) + jax.random.normal(jax.random.key(0), x.shape)))
    assert [finding.primitive for finding in find(function)] == ["log"]


def test_a_bad_input_is_named_and_constants_are_not():
    (finding,) = find(
        lambda x: jnp.percentile(x["a"], 5.0) + jnp.max(x["a"], initial=-jnp.inf), {"a": X * jnp.nan}
    )
    assert finding.text == "x/a is not finite to begin with" and finding.primitive == ""
    (finding,) = find(lambda x: x + jnp.nan)
    assert finding.text == "a constant of the program is not finite to begin with"


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_overflow_is_found(dtype):
    (finding,) = find(lambda x: (x * 2.0).sum(), jnp.full(3, jnp.finfo(dtype).max, dtype))
    assert finding.primitive == "mul" and "values inf" in finding.text
