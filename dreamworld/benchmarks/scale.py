"""`dreamworld benchmark scale`: what the mesh costs on one device, several processes, several seeds."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from dreamworld import cli, words
from dreamworld.benchmarks import update
from dreamworld.benchmarks.machine import load_average
from dreamworld.benchmarks.printing import print_row
from dreamworld.config import Config, ParallelConfig
from dreamworld.contract import Agent
from dreamworld.errors import UserError
from dreamworld.limits import COUNT, Range
from dreamworld.types import Batch


@dataclasses.dataclass(frozen=True)
class Flags:
    obs: str = "vector:24"
    """Observations, as of `dreamworld benchmark update`."""
    act: str = "continuous:6"
    """Actions, as of `dreamworld benchmark update`."""
    parts: str = "mesh,seeds,processes"
    """Which measurements to do."""
    pairs: Annotated[int, Range(1, 1e6)] = 20
    """Interleaved pairs of the mesh measurement."""
    updates: Annotated[int, Range(1, 1e6)] = 10
    """Updates of each timing of seeds and processes."""
    seed_counts: Annotated[tuple[int, ...], COUNT] = (1, 2, 4)
    """Numbers of seeds in one program."""
    processes: Annotated[int, COUNT] = 2
    """Processes of the weak scaling, pinned to one core each, with run.batch_size rows each."""
    worker: str = ""
    """Set by the benchmark for the processes that it starts."""
    json: bool = False
    """One JSON line instead of a table."""


PARTS = ("mesh", "seeds", "processes")


def main(argv: Sequence[str]) -> int:
    """Parses, measures, prints."""
    load = load_average()
    config, flags = cli.parse_with(
        argv, Flags(), prog="dreamworld benchmark scale", description="Time updates on a mesh."
    )
    if unknown := sorted(set(flags.parts.split(",")) - set(PARTS)):
        raise UserError(f"--parts {flags.parts}: no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    if flags.worker:
        print(json.dumps(measure_worker(config, flags)), flush=True)
        return 0
    row: dict[str, Any] = {"batch_size": config.run.batch_size, "batch_length": config.run.batch_length}
    if "processes" in flags.parts:  # first, before this process takes part of the machine
        row |= measure_processes(argv, flags)
    if "mesh" in flags.parts:
        row |= measure_mesh(config, flags)
    if "seeds" in flags.parts:
        row |= measure_seeds(config, flags)
    print_row(row, load, as_json=flags.json)
    return 0


def make_agent(config: Config, flags: Flags) -> Agent:
    """The configured agent for made-up spaces."""
    return update.make_synthetic_agent(config, update.Flags(obs=flags.obs, act=flags.act))


def make_batch(config: Config, agent: Agent, rows: int, seed: int = 0) -> Batch:
    """A made-up batch of `rows` chunks."""
    return update.synthetic_batch(agent, rows, config.run.replay_context + config.run.batch_length, seed)


def make_learner(config: Config, agent: Agent, layout: Any, seeds: int = 0) -> Any:
    """A learner of one seed, or of several."""
    from dreamworld.training.learner import Learner

    rows = config.run.batch_size * (layout.mesh.shape["data"] if not seeds else 1)
    return Learner(agent, list(range(seeds)) if seeds else 0, num_envs=1, batch_size=rows, layout=layout)


def measure_mesh(config: Config, flags: Flags) -> dict[str, Any]:
    """Interleaved pairs: the learner's update on a mesh of one device against `jax.jit` of the same function."""
    import jax

    from dreamworld import parallel
    from dreamworld.training import guard

    agent = make_agent(config, flags)
    layout = parallel.make_layout(
        ParallelConfig(data=1), batch_size=config.run.batch_size, devices=jax.local_devices()[:1]
    )
    batch = make_batch(config, agent, config.run.batch_size)
    on_mesh, plain = make_learner(config, agent, layout), make_learner(config, agent, layout)
    device = jax.local_devices()[0]
    own = plain.learning()
    plain.state, own.carry = jax.device_put((plain.state, own.carry), device)
    own.guard = jax.device_put(plain.init_guard(batch), device)
    arguments = (own.guard, plain.state, own.carry, jax.device_put(batch, device))
    simple = (
        jax.jit(guard.guarded(agent.phase.update, "stop"), donate_argnums=(0, 1, 2))
        .lower(*arguments)
        .compile()
    )
    placed = layout.put(batch)
    state = (on_mesh.init_guard(placed), on_mesh.state, on_mesh.learning().carry)
    meshed = on_mesh.jit_update().lower(*state, placed).compile()
    plain.set_update(simple)
    on_mesh.set_update(meshed)
    calls = (lambda: plain.update(arguments[3]), lambda: on_mesh.update(placed))
    pairs = interleave(calls, flags.pairs)
    ratios = [second / first for first, second in pairs]
    return {
        "mesh_pairs": len(pairs),
        "mesh_plain_s": statistics.median(first for first, _ in pairs),
        "mesh_ratio": statistics.median(ratios),
        "mesh_same_operations": operations(simple.as_text() or "") == operations(meshed.as_text() or ""),
    }


def operations(text: str) -> Counter[str]:
    """How often each operation occurs in an optimised program."""
    return Counter(re.findall(r"^\s+(?:ROOT )?\S+ = .*? ([\w-]+)\(", text, re.MULTILINE))


def interleave(calls: Sequence[Callable[[], Any]], pairs: int) -> list[tuple[float, float]]:
    """Seconds of both calls in turn, the order swapped each time, after two that are not counted."""
    found = []
    for index in range(pairs + 2):
        order = (0, 1) if index % 2 else (1, 0)
        seconds = {which: time_call(calls[which]) for which in order}
        found.append((seconds[0], seconds[1]))
    return found[2:]


def time_call(call: Callable[[], Any], count: int = 1) -> float:
    """Seconds until the results of `count` calls are there."""
    import jax

    began = time.perf_counter()
    for _ in range(count):
        output = call()
    jax.block_until_ready(output)
    return time.perf_counter() - began


def measure_seeds(config: Config, flags: Flags) -> dict[str, Any]:
    """Updates per second of all seeds together, for several numbers of seeds in one program."""
    import jax

    from dreamworld import parallel

    agent = make_agent(config, flags)
    calls = {}
    for seeds in flags.seed_counts:
        layout = parallel.make_layout(
            ParallelConfig(data=1),
            batch_size=config.run.batch_size,
            seeds=seeds,
            devices=jax.local_devices()[:1],
        )
        learner = make_learner(config, agent, layout, seeds)
        parts = [
            layout.seed_row(s).put(make_batch(config, agent, config.run.batch_size, s)) for s in range(seeds)
        ]
        calls[seeds] = functools.partial(learner.update, parallel.join(parts, layout))
        time_call(calls[seeds], 2)
    times: dict[int, list[float]] = {seeds: [] for seeds in calls}
    for _ in range(flags.updates):  # in turn, so that a busy moment of the machine meets all of them
        for seeds, call in calls.items():
            times[seeds].append(time_call(call))
    rates = {str(seeds): seeds / statistics.median(found) for seeds, found in times.items()}
    return {"seeds_updates_per_s": rates}


def measure_processes(argv: Sequence[str], flags: Flags) -> dict[str, Any]:
    """Weak scaling: n processes of one core each with the same rows per process, against one such process."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(cores) < flags.processes:
        return {"processes_skipped": f"needs {words.count(flags.processes, 'core')}, there are {len(cores)}"}
    one = start_workers(argv, 1, cores)[0]
    many = start_workers(argv, flags.processes, cores)
    slowest = max(found["update_s"] for found in many)
    return {
        "processes": flags.processes,
        "process_update_s": one["update_s"],
        "processes_update_s": slowest,
        "weak_scaling": one["update_s"] / slowest,
    }


def start_workers(argv: Sequence[str], count: int, cores: Sequence[int]) -> list[dict[str, Any]]:
    """Runs this benchmark in `count` processes that are joined, each on a core of its own."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [sys.executable, "-m", "dreamworld", "benchmark", "scale", *argv]
    runs = []
    for index in range(count):
        words = ["--worker", f"{count}:{index}:{port}:{cores[index]}"]
        runs.append(subprocess.Popen([*command, *words], stdout=subprocess.PIPE, text=True))
    outputs = [run.communicate(timeout=900)[0] for run in runs]
    if any(run.returncode for run in runs):
        raise UserError("a process of the weak scaling failed; its message is above")
    return [json.loads(output.strip().splitlines()[-1]) for output in outputs]


def measure_worker(config: Config, flags: Flags) -> dict[str, Any]:
    """One process of the weak scaling."""
    count, index, port, core = map(int, flags.worker.split(":"))
    os.sched_setaffinity(0, {core})  # before JAX starts its threads

    from dreamworld import parallel
    from dreamworld.training import hosts

    address = f"127.0.0.1:{port}" if count > 1 else ""
    team = hosts.connect(ParallelConfig(coordinator=address, processes=count, process_id=index))
    agent = make_agent(config, flags)
    layout = parallel.make_layout(ParallelConfig(), batch_size=config.run.batch_size * count)
    learner = make_learner(config, agent, layout)
    batch = layout.put(make_batch(config, agent, config.run.batch_size, seed=index))
    time_call(lambda: learner.update(batch), 2)
    times = []
    for _ in range(flags.updates):
        team.wait("update")
        times.append(time_call(lambda: learner.update(batch)))
    return {"update_s": statistics.median(times)}
