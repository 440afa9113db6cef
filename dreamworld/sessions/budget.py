"""Memory of a run before anything of it is built: parameters, batches, imagination, environments, then replay."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from dreamworld import words
from dreamworld.config import Config, EnvConfig
from dreamworld.contract import Agent, modules
from dreamworld.errors import UserError
from dreamworld.replay.fit import check_memory
from dreamworld.replay.memory import USABLE, Estimate, available_memory
from dreamworld.sessions import pieces
from dreamworld.types import EnvSource, Spaces, Tree

MANY = 64  # environments that are not built before one of them has told the spaces
WORKER_BYTES = 24 << 20  # of its own, in a process with a gymnasium environment; 72 MiB with one of MuJoCo


class Item(NamedTuple):
    """What something takes at least."""

    size: float  # bytes
    what: str
    options: tuple[str, ...]  # what makes it large


class Room(NamedTuple):
    """What is free."""

    size: float  # bytes
    source: str


def check_number_of_envs(config: Config, source: EnvSource, seeds: int = 1) -> None:
    """Raises UserError where so many environments can't fit; many are not built to find that out."""
    total = config.env.num * seeds
    if total <= MANY:
        return
    env = pieces.make_eval_env(config, source, episodes=1)
    try:
        agent = pieces.build_agent(config, env.obs_space, env.act_space)
        check(config, agent, seeds)
    finally:
        env.close()


def check(config: Config, agent: Agent, seeds: int = 1, directory: Path | None = None) -> Estimate:
    """Raises UserError where a run on the host's replay would not fit; returns what its full replay takes."""
    host, device = rooms()
    learning = learning_items(config, agent, seeds)
    spaces = pieces.row_spaces(agent)
    total = config.env.num * seeds
    rows = [Item(2 * total * row_bytes(spaces), f"rows of {words.count(total, 'environment')}", ("env.num",))]
    if workers := worker_processes(config.env, seeds):
        what = words.count(workers, "worker process", "worker processes")
        rows.append(Item(workers * WORKER_BYTES, what, ("env.workers",)))
    if device is not None:
        refuse(config, learning, device)
    taken = rows if device is not None else [*learning, *rows]
    refuse(config, taken, host)
    capacity = dataclasses.replace(config.replay, capacity_steps=config.replay.capacity_steps * seeds)
    return check_memory(
        spaces,
        capacity,
        config.run.steps * seeds,
        num_envs=total,
        directory=directory,
        available_bytes=int(host.size),
        used_bytes=int(sum(item.size for item in taken)),
        source=host.source,
    )


def worker_processes(config: EnvConfig, seeds: int = 1) -> int:
    """Processes that were asked for; those that `auto` may take by itself are one per core, and few."""
    asked = config.workers and config.engine in ("process", "auto")
    return seeds * min(config.workers, config.num) if asked else 0


def check_fused(config: Config, agent: Agent, need: Estimate, seeds: int = 1) -> None:
    """Raises UserError where a run with its replay on the device would not fit."""
    host, device = rooms()
    replay = Item(need.ram_bytes * seeds, f"replay, {need.describe_rows()}", ("replay.capacity_steps",))
    least = seeds * config.env.num * config.run.batch_length * row_bytes(pieces.row_spaces(agent))
    windows = Item(least, "a window of every environment", ("env.num", "run.batch_length"))
    refuse(config, [*learning_items(config, agent, seeds), replay, windows], device or host)


def rooms() -> tuple[Room, Room | None]:
    """Free memory of the host, and of the devices of this process together; None on CPUs, which share the host's."""
    host = Room(*available_memory())
    limits = [(device.memory_stats() or {}).get("bytes_limit", 0) for device in jax.local_devices()]
    if jax.default_backend() == "cpu" or not all(limits):
        return host, None
    return host, Room(float(sum(limits)), f"memory of {words.count(len(limits), 'device')}")


def learning_items(config: Config, agent: Agent, seeds: int = 1) -> list[Item]:
    """What updates take at least: a lower bound, so that nothing that fits is refused."""
    run = config.run
    state = jax.eval_shape(agent.init, jax.random.PRNGKey(0))
    held = tree_bytes(state) + tree_bytes(state.params)  # parameters, moments, slow copies; gradients
    copies = held / max(1, tree_bytes(state.params))
    items = [
        Item(seeds * copies * tree_bytes(tree), f"parameters of the {name}", agent.widths.get(name, ()))
        for name, tree in modules(state.params).items()
    ]
    items += [Item(seeds * memory.size, memory.what, memory.options) for memory in agent.memory]
    batch = run.batch_size * (run.replay_context + run.batch_length) * row_bytes(pieces.row_spaces(agent))
    items.append(Item(seeds * (run.prefetch + 1) * batch, "batches", ("run.batch_size", "run.batch_length")))
    return items


def with_storage(config: Config, need: Estimate) -> Config:
    """The config with the storage that was chosen, in place of `auto`."""
    return dataclasses.replace(config, replay=dataclasses.replace(config.replay, storage=need.storage))


def refuse(config: Config, items: Sequence[Item], room: Room) -> None:
    """Raises UserError, which names the largest of the items and its options, where they do not fit."""
    total, usable = sum(item.size for item in items), USABLE * room.size
    if total <= usable:
        return
    from dreamworld import presets

    values, most = presets.flat(config), max(items, key=lambda item: item.size)
    listed = ", ".join(f"--{key} {values[key]:g}" for key in most.options) or "the size of the agent"
    raise UserError(
        f"this run would need {words.size(total)} of memory or more, {words.size(usable)} are usable "
        f"({USABLE:.0%} of the {room.source}); most of it is {most.what}: {words.size(most.size)}. "
        f"Reduce {listed}"
    )


def row_bytes(spaces: Spaces) -> int:
    """Bytes of one replay row, in its stored form."""
    return sum(
        math.prod(space.shape) * np.dtype(jax.numpy.dtype(space.dtype)).itemsize for space in spaces.values()
    )


def tree_bytes(tree: Tree) -> int:
    """Bytes of all arrays of a tree of shapes."""
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(tree) if hasattr(x, "dtype"))
