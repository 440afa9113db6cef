"""`dreamworld benchmark update --target h100`: what a compiler makes of an update for an accelerator not at hand.

Needs the compiler alone, which `pip install 'jax[cuda13]'` or `'jax[tpu]'` brings to a Linux machine.
"""

from __future__ import annotations

import os
import re
from typing import Any

import jax

from dreamworld.errors import UserError

# What XLA needs to know of a GPU, from its own descriptions (openxla/xla, xla/backends/gpu/target_config/specs).
COMMON = {
    "threads_per_block_limit": 1024,
    "threads_per_warp": 32,
    "shared_memory_per_block": 49152,
    "threads_per_core_limit": 2048,
    "block_dim_limit_x": 2147483647,
    "block_dim_limit_y": 65535,
    "block_dim_limit_z": 65535,
    "registers_per_core_limit": 65536,
    "registers_per_block_limit": 65536,
    "thread_dim_limit_x": 1024,
    "thread_dim_limit_y": 1024,
    "thread_dim_limit_z": 64,
    "driver_version": '"13.0.0"',
    "runtime_version": '"12.8.0"',
    "compile_time_toolkit_version": '"12.8.0"',
    "dnn_version": '"9.10.0"',
}
GPUS = {
    "a100": {
        "shared_memory_per_core": 167936,
        "core_count": 108,
        "fpus_per_core": 64,
        "memory_bandwidth": 1555200000000,
        "l2_cache_size": 41943040,
        "clock_rate_ghz": 1.41,
        "device_memory_size": 42331013120,
        "shared_memory_per_block_optin": 166912,
        "cuda_compute_capability": "{ major: 8 }",
        "name": '"NVIDIA A100-SXM4-40GB"',
    },
    "h100": {
        "shared_memory_per_core": 233472,
        "core_count": 132,
        "fpus_per_core": 128,
        "memory_bandwidth": 3352320000000,
        "l2_cache_size": 52428800,
        "clock_rate_ghz": 1.98,
        "device_memory_size": 84942979072,
        "shared_memory_per_block_optin": 232448,
        "cuda_compute_capability": "{ major: 9 feature_extension: ACCELERATED_FEATURES }",
        "name": '"NVIDIA H100 80GB HBM3"',
    },
}
# Trying out kernels needs the GPU; the first choice of every product and convolution is taken instead.
OPTIONS: dict[str, Any] = {"xla_gpu_autotune_level": 0}
# Entries of a program that start no kernel.
NO_KERNEL = {"parameter", "constant", "get-tuple-element", "tuple", "bitcast", "after-all", "partition-id"}


def prepare() -> None:
    """Keeps JAX itself on the CPU, and TPU's library from asking for a TPU; before JAX has made its devices."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_compilation_cache", False)  # it can't hold programs for other devices
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")


def device(name: str) -> Any:
    """A device to compile for: a100, h100, or a TPU topology such as tpu:v5e:2x2.

    Raises UserError for another name, and where the compiler is not installed.
    """
    from jax.experimental import topologies

    platform, _, topology = name.partition(":")
    if name not in GPUS and (platform != "tpu" or not topology):
        raise UserError(f"--target {name}: takes {', '.join(GPUS)}, or a TPU topology such as tpu:v5e:2x2")
    try:
        if platform == "tpu":
            return topologies.get_topology_desc(topology, platform="tpu").devices[0]
        found = topologies.get_topology_desc(platform="cuda", topology="1x1x1", target_config=gpu(name))
        return found.devices[0]
    except (RuntimeError, NotImplementedError, KeyError) as error:
        extra = "jax[tpu]" if platform == "tpu" else "jax[cuda13]"
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"--target {name}: no compiler for it ({reason}); pip install '{extra}'") from None


def gpu(name: str) -> str:
    """XLA's description of a GPU, as text of a GpuTargetConfigProto."""
    fields = "\n".join(f"  {key}: {value}" for key, value in (COMMON | GPUS[name]).items())
    title = GPUS[name]["name"]
    version = "dnn_version_info { major: 9 minor: 10 patch: 0 }"
    return f'gpu_device_info {{\n{fields}\n}}\nplatform_name: "CUDA"\n{version}\ndevice_description_str: {title}\n'


def count_kernels(hlo: str) -> dict[str, Any]:
    """Kernels that one call of a compiled GPU program starts, and per step of its loops, longest in all first.

    A loop whose length XLA does not know counts once. Library calls (cuBLAS, cuDNN) count as one kernel.
    """
    programs, entry = _programs(hlo)
    loops: list[dict[str, int]] = []

    def walk(name: str) -> int:
        kernels = 0
        for kind, line in programs[name]:
            if kind == "while":
                length = re.search(r'known_trip_count":\{"n":"(\d+)"', line)
                steps = int(length.group(1)) if length else 1
                inside = walk(_called(line, "body")[0])
                loops.append({"steps": steps, "kernels_per_step": inside})
                kernels += steps * inside
            elif kind == "call":
                kernels += walk(_called(line, "to_apply")[0])
            elif kind == "conditional":
                branches = _called(line, "branch_computations|true_computation|false_computation")
                kernels += max(map(walk, branches), default=0)
            elif kind not in NO_KERNEL:
                kernels += 1
        return kernels

    total = walk(entry)
    loops.sort(key=lambda loop: -loop["steps"] * loop["kernels_per_step"])
    return {"kernels": total, "loops": {str(index): loop for index, loop in enumerate(loops)}}


def _programs(hlo: str) -> tuple[dict[str, list[tuple[str, str]]], str]:
    """{name: [(kind, line)]} of every computation in HLO text, and the name of the first to run."""
    programs: dict[str, list[tuple[str, str]]] = {}
    name = entry = ""
    for line in hlo.splitlines():
        if header := re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\{$", line):
            name = header.group(2)
            entry = name if header.group(1) else entry
            programs[name] = []
        elif name and " = " in line:
            # NAME = TYPE KIND(OPERANDS), ...; the type of a tuple is in parentheses, and has blanks.
            kind = re.search(r" ([a-z][\w\-]*)\(", line.split(" = ", 1)[1])
            programs[name].append((kind.group(1) if kind else "", line))
    return programs, entry


def _called(line: str, attribute: str) -> list[str]:
    found = re.search(rf"(?:{attribute})=\{{?([^,}}\s]+(?:, *%[^,}}\s]+)*)", line)
    assert found, line
    return [name.strip(" %") for name in found.group(1).split(",")]
