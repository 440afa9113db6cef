"""Floating-point operations of a jaxpr, scan lengths counted (XLA's own cost analysis counts a loop body once),
and how many a device can do; how fast it moves memory."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

# Dense matrix products in bfloat16, TFLOP/s, as the vendors' data sheets state them; the longest name that fits.
PEAKS = {
    "NVIDIA A100": 312,
    "NVIDIA H100": 989,
    "NVIDIA H100 PCIe": 756,
    "NVIDIA H200": 989,
    "NVIDIA L4": 121,
    "NVIDIA L40S": 362,
    "NVIDIA B200": 2250,
    "TPU v4": 275,
    "TPU v5 lite": 197,
    "TPU v5": 459,
    "TPU v6 lite": 918,
}


def count(function: Callable[..., Any], *args: Any) -> int:
    """Operations of matrix products and convolutions in one call; a multiply-add is two."""
    return count_jaxpr(jax.make_jaxpr(function)(*args).jaxpr)


def count_jaxpr(jaxpr: Any) -> int:
    """`count` of a program that is traced already."""
    return sum(_equation(equation) for equation in jaxpr.eqns)


def _equation(equation: Any) -> int:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (contract, _), _ = params["dimension_numbers"]
        shape = equation.invars[0].aval.shape
        return 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(shape[axis] for axis in contract)
    if name == "conv_general_dilated":
        return _convolution(equation)
    if name == "scan":
        return params["length"] * count_jaxpr(params["jaxpr"].jaxpr)
    if name == "shard_map":  # its shapes are those of one device
        devices = math.prod(params["mesh"].shape[axis] for axis in params["newly_manual_axes"])
        return devices * sum(count_jaxpr(inner) for inner in inner_programs(params))
    if name == "cond":
        return max(count_jaxpr(branch.jaxpr) for branch in params["branches"])
    return sum(count_jaxpr(inner) for inner in inner_programs(params))


def _convolution(equation: Any) -> int:
    numbers = equation.params["dimension_numbers"]
    kernel = equation.invars[1].aval.shape
    per_output = math.prod(kernel) // kernel[numbers.rhs_spec[0]]
    dilation = math.prod(equation.params["lhs_dilation"])
    return 2 * math.prod(equation.outvars[0].aval.shape) * per_output // dilation


def inner_programs(params: dict[str, Any]) -> list[Any]:
    """The programs that an equation holds, such as the body of a loop."""
    found = []
    for value in params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            inner = getattr(item, "jaxpr", item)
            if hasattr(inner, "eqns"):
                found.append(inner)
    return found


@functools.cache
def peak(dtype: str) -> float | None:
    """FLOP/s that the default device can do: its data sheet in bfloat16, measured on CPU, None if not known."""
    device = jax.devices()[0]
    if device.platform == "cpu":
        return matmul_peak(dtype) * 1e9
    names = [name for name in PEAKS if device.device_kind.startswith(name)]
    return PEAKS[max(names, key=len)] * 1e12 if names and dtype == "bfloat16" else None


def matmul_peak(dtype: str, size: int = 2048, repeats: int = 5) -> float:
    """GFLOP/s of the best of a few large square matrix products."""
    x = jnp.ones((size, size), dtype)
    product = jax.jit(lambda x: x @ x)
    jax.block_until_ready(product(x))
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        jax.block_until_ready(product(x))
        times.append(time.perf_counter() - began)
    return 2 * size**3 / min(times) / 1e9


def memory_bandwidth(size_bytes: int, repeats: int = 5) -> float:
    """GB/s, read and written, of the best of a few passes over an array in place, which should exceed every cache."""
    x = jnp.zeros(max(1, size_bytes // 4), jnp.float32)
    increase = jax.jit(
        lambda x: x + 1, donate_argnums=0
    )  # a new array would wait for the system to clear its pages
    times = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        x = jax.block_until_ready(increase(x))
        times.append(time.perf_counter() - began)
    return 2 * x.nbytes / min(times[1:]) / 1e9  # the first compiles
