"""`dreamworld benchmark update`: median time of one full learning step on a synthetic batch."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any

import numpy as np

from dreamworld import cli, presets, system
from dreamworld.benchmarks import machine
from dreamworld.benchmarks.printing import print_row
from dreamworld.config import Config
from dreamworld.contract import Agent
from dreamworld.datasets.writer import require_writable
from dreamworld.errors import UserError
from dreamworld.limits import SCALE, Range
from dreamworld.text import expand_path
from dreamworld.types import Batch, Space, Spaces


@dataclasses.dataclass(frozen=True)
class Flags:
    obs: str = "image:64x64x3"
    """Observations, comma-separated: vector:24, image:64x64x3."""
    act: str = "continuous:6"
    """Actions: continuous:6 or discrete:18."""
    updates: Annotated[int, SCALE] = 10
    """Timed updates, after one that is not."""
    parts: bool = False
    """Also trace three updates: seconds, operations and bytes of each part, and which limit of the machine it is at."""
    depth: Annotated[int, Range(1, 9)] = 2
    """Of the names of the parts: 1 for world_model, 2 for world_model/scan, 3 for world_model/scan/Recurrent."""
    profile: str = ""
    """Folder for a profile of three updates, for TensorBoard or ui.perfetto.dev."""
    compile_only: bool = False
    """Compile, print what the compiler says of memory, and stop: for sizes that don't fit here."""
    target: str = ""
    """Compile for an accelerator that need not be here (a100, h100, tpu:v5e:2x2): memory, and kernels of a GPU."""
    params_only: bool = False
    """Print parameters by module and stop; compiles nothing."""
    json: bool = False
    """One JSON line instead of a table."""


def main(argv: Sequence[str]) -> int:
    """Parses, measures, prints."""
    load = machine.load_average()
    config, flags = cli.parse_with(
        argv, Flags(), prog="dreamworld benchmark update", description="Time one full learning step."
    )
    if flags.target:
        if flags.profile or flags.parts:
            timed = "--profile" if flags.profile else "--parts"
            raise UserError(f"--target compiles for a device that is not here: it can't time {timed}")
        config = on_accelerator(config)
    if flags.profile:
        folder = expand_path(flags.profile)
        require_writable(folder)
        flags = dataclasses.replace(flags, profile=str(folder))
    agent = make_synthetic_agent(config, flags)
    row = count_parameters(agent) if flags.params_only else measure(config, agent, flags)
    print_row({"obs": flags.obs, "act": flags.act, **row}, load, as_json=flags.json)
    return 0


def parse_spaces(text: str, kinds: str) -> Spaces:
    """`vector:24,image:64x64x3` or `continuous:6`, `discrete:18` as spaces."""
    spaces: Spaces = {}
    for part in text.split(","):
        kind, _, size = part.partition(":")
        if kind not in kinds.split() or not re.fullmatch(r"\d+(x\d+)*", size):
            raise UserError(
                f"{part!r}: expects one of {', '.join(f'{k}:SIZE' for k in kinds.split())}, such as image:64x64x3"
            )
        shape = tuple(int(number) for number in size.split("x"))
        spaces[kind if kind in ("vector", "image") else "action"] = {
            "vector": Space(shape, "float32"),
            "image": Space(shape, "uint8"),
            "continuous": Space(shape, "float32", low=-1, high=1),
            "discrete": Space((), "int32", classes=shape[0]),
        }[kind]
    return spaces


def on_accelerator(config: Config) -> Config:
    """The config with what `auto` means on an accelerator; JAX itself stays on the CPU."""
    from dreamworld.benchmarks import target

    target.prepare()
    given = presets.flat(config)
    on_device = {"agent.precision": "bfloat16", "agent.weight_gradients": "at_once"}
    chosen = {key: value for key, value in on_device.items() if given.get(key) == "auto"}
    return cli.override(config, chosen)


def make_synthetic_agent(config: Config, flags: Flags) -> Agent:
    """The configured agent for made-up spaces."""
    from dreamworld.sessions import pieces

    pieces.setup_jax(config)
    obs, act = parse_spaces(flags.obs, "vector image"), parse_spaces(flags.act, "continuous discrete")
    return pieces.build_agent(config, obs, act)


def synthetic_batch(agent: Agent, batch: int, length: int, seed: int = 0) -> Batch:
    """Random rows [batch, length, ...] with an episode border here and there."""
    random = np.random.default_rng(seed)
    shape = (batch, length)
    obs = {key: space.sample(random, *shape) for key, space in agent.obs_space.items()}
    action = {key: space.sample(random, *shape) for key, space in agent.act_space.items()}
    last = random.uniform(size=shape) < 0.02
    first = np.concatenate([np.zeros((batch, 1), bool), last[:, :-1]], 1)
    extras: dict[str, Any] = {
        key: np.zeros((*shape, *space.shape), _dtype(space.dtype))
        for key, space in (agent.latent_space | agent.extra_space).items()
    }
    extras["row"] = np.zeros((*shape, 2), np.int32)
    reward = random.normal(size=shape).astype(np.float32)
    return Batch(obs, action, reward, first, last, last & (random.uniform(size=shape) < 0.5), extras)


def count_parameters(agent: Agent) -> dict[str, Any]:
    """Trained parameters by module, from shapes alone."""
    import jax

    from dreamworld.sessions import announce

    counts = announce.count_parameters(jax.eval_shape(agent.init, jax.random.PRNGKey(0)).params)
    return {"params": sum(counts.values()), "modules": counts}


def measure(config: Config, agent: Agent, flags: Flags) -> dict[str, Any]:
    """Compiles, warms up, times updates one by one."""
    import jax

    from dreamworld import flops
    from dreamworld.precision import precision_name

    if flags.parts and jax.default_backend() != "cpu":
        raise UserError(
            "--parts reads the trace of a CPU; elsewhere --profile DIR shows the parts in TensorBoard"
        )
    run, phase = config.run, agent.phase
    shapes = jax.eval_shape(agent.init, jax.random.PRNGKey(0))
    shape_carry = jax.eval_shape(lambda params: phase.initial(params, run.batch_size), shapes.params)
    host_batch = synthetic_batch(agent, run.batch_size, run.batch_length + run.replay_context)
    began = time.perf_counter()
    # Counting traces the update, and compiling takes that trace: a part of `compile_s`.
    gflop = flops.count(phase.update, shapes, shape_carry, host_batch) / 1e9
    arguments = (shapes, shape_carry, host_batch)
    with names_kept() if flags.parts or flags.profile else contextlib.nullcontext():
        update = compile_update(agent, arguments, flags.target)
    row = {
        "compile_s": round(time.perf_counter() - began, 2),
        "params": count_parameters(agent)["params"],
        "gflop": round(gflop, 2),
        "batch": [run.batch_size, run.batch_length, run.replay_context],
        "agent": config.agent.name,
        "dtype": precision_name(config.agent.precision),
        "device": flags.target or jax.devices()[0].device_kind,
        "jax": jax.__version__,
        **memory(update),
    }
    if flags.compile_only or flags.target:
        return row | count_operations(update, flags.target)
    batch = jax.device_put(host_batch)
    state = jax.jit(agent.init)(jax.random.PRNGKey(0))
    learning = [state, phase.initial(state.params, run.batch_size)]
    del state

    def step() -> Any:
        learning[0], learning[1], output = update(learning[0], learning[1], batch)
        return learning, output

    # The text of a program is counted last: it takes memory, which is measured, too.
    return {**time_update(step, update, gflop, row["dtype"], flags), **row, **count_operations(update, "")}


def time_update(
    step: Callable[[], Any], update: Any, gflop: float, dtype: str, flags: Flags
) -> dict[str, Any]:
    """What is measured of `step`, which calls the compiled `update` once, and of the machine."""
    import jax

    from dreamworld.benchmarks import parts, roofline

    seconds, cpu_s = time_calls(step, flags.updates)
    peak_bytes = system.peak_memory_bytes()  # before the array that measures the bandwidth
    limits = roofline.measure(dtype, machine.describe([]))
    row = {
        "update_s": round(seconds, 5),
        "cpu_s": round(cpu_s, 5),
        "gflops": round(gflop / seconds, 1),
        "matmul_peak_gflops": round(limits.gflops, 1),
        "memory_gb_per_s": round(limits.gb_per_s, 1),
        "peak_rss_bytes": peak_bytes,
    }
    if flags.parts:
        row |= parts.measure(step, update.as_text(), limits, depth=flags.depth)
    if flags.profile:
        with jax.profiler.trace(flags.profile, create_perfetto_trace=True):
            time_calls(step, 3)
        row["profile"] = flags.profile
    return row


def count_operations(program: Any, target: str) -> dict[str, Any]:
    """How many kernels one call of a compiled program starts; of a GPU's program by loop, of others by operation."""
    from dreamworld.benchmarks import hlo
    from dreamworld.benchmarks import target as targets

    if target.startswith("tpu"):
        return {}
    if target:
        return targets.count_kernels(program.as_text())
    parsed = hlo.parse(program.as_text())
    found = hlo.count(parsed)
    return {
        "kernels": found.pop("kernels"),
        "different_kernels": hlo.count_different(parsed),
        "operations": found,
    }


@contextlib.contextmanager
def names_kept() -> Iterator[None]:
    """Takes no program from the cache whose operations have other names than those that are compiled now."""
    import jax

    option = "jax_compilation_cache_include_metadata_in_key"
    before = jax.config.values[option]
    jax.config.update(option, True)
    try:
        yield
    finally:
        jax.config.update(option, before)


def compile_update(agent: Agent, arguments: tuple[Any, ...], target: str) -> Any:
    """The compiled update, for the device here or for a named one."""
    import jax

    from dreamworld.benchmarks import target as targets

    sharding, options = None, {}
    if target:
        sharding = jax.sharding.SingleDeviceSharding(targets.device(target))
        options = {} if target.startswith("tpu") else targets.OPTIONS
    update = jax.jit(agent.phase.update, donate_argnums=(0, 1), in_shardings=sharding, out_shardings=sharding)
    return update.lower(*arguments).compile(compiler_options=options)


def time_calls(call: Callable[[], Any], count: int) -> tuple[float, float]:
    """Median wall and CPU seconds until the results of a call are there, after one that is not counted."""
    import jax

    jax.block_until_ready(call())
    wall, cpu = [], []
    for _ in range(count):
        began, began_cpu = time.perf_counter(), time.process_time()
        jax.block_until_ready(call())
        wall.append(time.perf_counter() - began)
        cpu.append(time.process_time() - began_cpu)
    return float(np.median(wall)), float(np.median(cpu))


def memory(program: Any) -> dict[str, int]:
    """What the compiler says: bytes of the arguments (state and batch), and of everything else at the worst moment."""
    found = program.memory_analysis()
    kept = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    return {"state_bytes": int(kept), "temporary_bytes": int(found.temp_size_in_bytes)}


def _dtype(name: str) -> Any:
    import jax.numpy as jnp

    return jnp.dtype(name)
