"""`dreamworld benchmark saves`: what the checkpoints of a real training cost it, replay included."""

from __future__ import annotations

import dataclasses
import json
import statistics
import time
from collections.abc import Sequence
from typing import Annotated, Any

from dreamworld import cli, words
from dreamworld.benchmarks.loop import started
from dreamworld.benchmarks.machine import load_average
from dreamworld.benchmarks.printing import print_row
from dreamworld.config import Config
from dreamworld.limits import STEPS, Range


@dataclasses.dataclass(frozen=True)
class Flags:
    new_steps: Annotated[int, STEPS] = 10_000
    """Steps from one save to the next."""
    saves: Annotated[int, Range(1, 1e6)] = 4
    """Saves that are measured; one more comes before them, which loads what saving needs."""
    json: bool = False
    """One JSON line instead of a table."""


def main(argv: Sequence[str]) -> int:
    """Parses, measures, prints."""
    load = load_average()
    config, flags = cli.parse_with(
        argv, Flags(), prog="dreamworld benchmark saves", description="Time the saves of a training."
    )
    print_row(measure(config, flags), load, as_json=flags.json)
    return 0


def measure(config: Config, flags: Flags) -> dict[str, Any]:
    """Trains in a temporary folder. Each interval begins with a save; its second half, which has none, is compared."""
    import jax

    with started(config) as loop:
        loop.save(block=True)
        advance(loop, flags.new_steps)
        rows = [measure_interval(loop, flags.new_steps) for _ in range(flags.saves)]
        waits, commits, replay_s, replay_mb, first_s, second_s = zip(*rows)
        return {
            "task": config.task,
            "new_steps": flags.new_steps,
            "replay_save_s": [round(value, 3) for value in replay_s],
            "replay_save_mb": round(statistics.median(replay_mb), 3),
            "training_waits_s": [round(value, 3) for value in waits],
            "committed_s": [round(value, 3) for value in commits],
            "wait_fraction": round(sum(waits) / sum(first_s + second_s), 4),
            "slower_fraction": round(1 - 2 * sum(second_s) / sum(first_s + second_s), 4),
            "steps_per_s": round(flags.saves * flags.new_steps / sum(first_s + second_s), 1),
            "train_ratio": config.run.train_ratio,
            "num_envs": loop.env.num_envs,
            "device": jax.devices()[0].device_kind,
        }


def measure_interval(loop: Any, steps: int) -> tuple[float, ...]:
    """(s that training waited for a save, s until it was complete, s and MB of its replay, s of each half)."""
    began, clock, step = time.perf_counter(), time.time(), loop.counters.step
    loop.save()
    waited = time.perf_counter() - began
    advance(loop, steps // 2)
    middle = time.perf_counter()
    advance(loop, steps - steps // 2)
    ended = time.perf_counter()
    assert loop.checkpointer.wait() is None, loop.checkpointer.problem
    commit = loop.rundir.checkpoints / str(step) / "snapshot.json"
    cost = json.loads(commit.read_text())["snapshot"]["meta"]["0"]["replay"]["cost"]
    assert steps <= cost["rows"] < steps + 2 * loop.env.num_envs, (
        f"{words.count(cost['rows'], 'new row')}, not {steps}"
    )
    size_mb = (cost["obs_bytes"] + cost["latent_bytes"]) / 1e6
    return waited, commit.stat().st_mtime - clock, cost["seconds"], size_mb, middle - began, ended - middle


def advance(loop: Any, steps: int) -> None:
    """Trains for `steps` agent steps and waits for the device."""
    import jax

    end = loop.counters.step + steps
    while loop.counters.step < end:
        loop.iterate()
    jax.block_until_ready(loop.learner.state)
