"""`dreamworld benchmark update`: median time of one full learning step on a synthetic batch."""

from __future__ import annotations

import dataclasses
import json
import re
import resource
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from dreamworld import cli
from dreamworld.config import Config
from dreamworld.errors import UserError
from dreamworld.types import Agent, Batch, Space, Spaces


@dataclasses.dataclass(frozen=True)
class Flags:
    obs: str = "image:64x64x3"
    """Observations, comma-separated: vector:24, image:64x64x3."""
    act: str = "continuous:6"
    """Actions: continuous:6 or discrete:18."""
    updates: int = 10
    """Timed updates, after one that is not."""
    params_only: bool = False
    """Print parameters by module and stop; compiles nothing."""
    json: bool = False
    """One JSON line instead of a table."""


def main(argv: Sequence[str]) -> int:
    """Parses, measures, prints."""
    config, flags = cli.parse_with(
        argv, Flags(), prog="dreamworld benchmark update", description="Time one full learning step."
    )
    agent = make_synthetic_agent(config, flags)
    row = count_parameters(agent) if flags.params_only else measure(config, agent, flags.updates)
    row = {"obs": flags.obs, "act": flags.act, **row}
    print(json.dumps(row) if flags.json else "\n".join(f"{key:20} {value}" for key, value in row.items()))
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


def make_synthetic_agent(config: Config, flags: Flags) -> Agent:
    """The configured agent for made-up spaces."""
    from dreamworld.scripts import common

    common.setup_jax(config)
    obs, act = parse_spaces(flags.obs, "vector image"), parse_spaces(flags.act, "continuous discrete")
    return common.build_agent(config, obs, act)


def synthetic_batch(agent: Agent, batch: int, length: int, seed: int = 0) -> Batch:
    """Random rows [batch, length, ...] with an episode border here and there."""
    random = np.random.default_rng(seed)
    shape = (batch, length)
    obs = {key: space.sample(random, *shape) for key, space in agent.obs_space.items()}
    action = {key: space.sample(random, *shape) for key, space in agent.act_space.items()}
    last = random.uniform(size=shape) < 0.02
    first = np.concatenate([np.zeros((batch, 1), bool), last[:, :-1]], 1)
    extras = {
        key: np.zeros((*shape, *space.shape), _dtype(space.dtype))
        for key, space in agent.latent_space.items()
    }
    extras |= {"consec": np.zeros(batch, np.int32), "row": np.zeros((*shape, 2), np.int32)}
    reward = random.normal(size=shape).astype(np.float32)
    return Batch(obs, action, reward, first, last, last & (random.uniform(size=shape) < 0.5), extras)


def count_parameters(agent: Agent) -> dict[str, Any]:
    """Trained parameters by module, from shapes alone."""
    import jax

    from dreamworld.scripts.announce import count_parameters

    params = jax.eval_shape(agent.init, jax.random.PRNGKey(0)).params
    counts = count_parameters(agent, params)
    return {"params": sum(counts.values()), "modules": counts}


def measure(config: Config, agent: Agent, updates: int) -> dict[str, Any]:
    """Compiles, warms up, times `updates` steps one by one."""
    import jax

    from dreamworld import flops
    from dreamworld.agents.dreamerv3 import precision_name

    run = config.run
    state = jax.jit(agent.init)(jax.random.PRNGKey(0))
    carry = agent.initial_train(state.params, run.batch_size)
    batch = jax.device_put(synthetic_batch(agent, run.batch_size, run.batch_length + run.replay_context))
    gflop = flops.count(agent.update, state, carry, batch) / 1e9
    began = time.perf_counter()
    update = jax.jit(agent.update, donate_argnums=(0, 1)).lower(state, carry, batch).compile()
    compile_s = time.perf_counter() - began
    state, carry, output = update(state, carry, batch)
    jax.block_until_ready((state, output))
    wall, cpu = [], []
    for _ in range(updates):
        began, began_cpu = time.perf_counter(), time.process_time()
        state, carry, output = update(state, carry, batch)
        jax.block_until_ready((state, output))
        wall.append(time.perf_counter() - began)
        cpu.append(time.process_time() - began_cpu)
    return {
        "update_s": round(float(np.median(wall)), 5),
        "update_s_min": round(min(wall), 5),
        "cpu_s": round(float(np.median(cpu)), 5),
        "compile_s": round(compile_s, 2),
        "params": count_parameters(agent)["params"],
        "gflop": round(gflop, 2),
        "gflops": round(gflop / float(np.median(wall)), 1),
        "matmul_peak_gflops": round(flops.matmul_peak(precision_name(config.agent)), 1),
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "batch": [run.batch_size, run.batch_length, run.replay_context],
        "device": jax.devices()[0].device_kind,
        "dtype": precision_name(config.agent),
        "jax": jax.__version__,
    }


def _dtype(name: str) -> Any:
    import jax.numpy as jnp

    return jnp.dtype(name)
