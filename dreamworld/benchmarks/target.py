"""`dreamworld benchmark update --target h100`: what a compiler makes of an update for an accelerator not at hand.

Needs the compiler alone, which `pip install 'jax[cuda13]'` or `'jax[tpu]'` brings to a Linux machine.
"""

from __future__ import annotations

import os
from typing import Any

import jax

from dreamworld.benchmarks import hlo
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


def count_kernels(text: str) -> dict[str, Any]:
    """Kernels that one call of a compiled GPU program starts, and per step of its loops, longest in all first.

    A loop whose length XLA does not know counts once, of a conditional the longest branch. Library calls (cuBLAS,
    cuDNN) count as one kernel.
    """
    program = hlo.parse(text)
    loops: list[dict[str, int]] = []

    def walk(name: str) -> int:
        kernels = 0
        for one in program.computations[name].values():
            if one.opcode == "while":
                inside = walk(one.called("body")[0])
                loops.append({"steps": one.steps, "kernels_per_step": inside})
                kernels += one.steps * inside
            elif one.opcode == "call":
                kernels += walk(one.called("to_apply")[0])
            elif one.opcode == "conditional":
                kernels += max(map(walk, one.called(hlo.BRANCHES)), default=0)
            elif one.opcode not in hlo.FREE:
                kernels += 1
        return kernels

    total = walk(program.entry)
    loops.sort(key=lambda loop: -loop["steps"] * loop["kernels_per_step"])
    return {"kernels": total, "loops": {str(index): loop for index, loop in enumerate(loops)}}
