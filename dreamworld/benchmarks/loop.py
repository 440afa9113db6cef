"""`dreamworld benchmark loop`: frames per second of a whole training loop, and how long it waits for data."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any

from dreamworld import cli
from dreamworld.benchmarks.machine import load_average
from dreamworld.benchmarks.printing import print_row
from dreamworld.config import Config
from dreamworld.limits import Range


@dataclasses.dataclass(frozen=True)
class Flags:
    seconds: Annotated[float, Range(0, 1e6)] = 60.0
    """Measured time, after collection has filled replay and everything is compiled."""
    json: bool = False
    """One JSON line instead of a table."""


def main(argv: Sequence[str]) -> int:
    """Parses, measures, prints."""
    load = load_average()
    config, flags = cli.parse_with(
        argv, Flags(), prog="dreamworld benchmark loop", description="Time a whole training loop."
    )
    print_row(measure(config, flags.seconds), load, as_json=flags.json)
    return 0


def measure(config: Config, seconds: float) -> dict[str, Any]:
    """Trains in a temporary folder: first until two updates are done, then for `seconds`."""
    import jax

    from dreamworld.precision import precision_name

    with started(config) as loop:
        iterate = iterate_of(loop)
        watch, phases = loop.watch, dict(loop.phases.seconds)
        mark = (loop.counters.step, loop.counters.updates, watch.starved_s)
        (began, idle_s), cpu = watch.look(), time.process_time()
        while time.perf_counter() - began < seconds:
            iterate()
        jax.block_until_ready(loop.learner.state)
        now, idle_until_now_s = watch.look()
        duration = now - began
        frames = (loop.counters.step - mark[0]) * config.frames_per_step
        return {
            "task": config.task,
            "frames_per_s": round(frames / duration, 2),
            "updates_per_s": round((loop.counters.updates - mark[1]) / duration, 3),
            "replay_wait_fraction": round((watch.starved_s - mark[2]) / duration, 4),
            "device_idle_fraction": round((idle_until_now_s - idle_s) / duration, 4),
            **{
                f"{name}_fraction": round((spent - phases.get(name, 0.0)) / duration, 4)
                for name, spent in loop.phases.seconds.items()
            },
            "cpu_s_per_s": round((time.process_time() - cpu) / duration, 2),
            "seconds": round(duration, 1),
            "num_envs": loop.env.num_envs,
            "engine": loop.env.engine,
            "train_ratio": config.run.train_ratio,
            "dtype": precision_name(config.agent.precision),
            "device": jax.devices()[0].device_kind,
            "jax": jax.__version__,
        }


def iterate_of(loop: Any) -> Callable[[], None]:
    """One iteration of the host loop, or one chunk of the fused one."""
    from dreamworld.training.fused_loop import FusedLoop

    return loop.chunks.iterate if isinstance(loop, FusedLoop) else loop.iterate


@contextlib.contextmanager
def started(config: Config) -> Iterator[Any]:
    """The loop of a training in a temporary folder, after two updates: everything is compiled."""
    import jax

    from dreamworld.logging.progress import Progress
    from dreamworld.sessions.build import opened
    from dreamworld.sessions.job import Job

    progress = Progress(config.run.steps, show=False, file=io.StringIO())
    with (
        tempfile.TemporaryDirectory() as folder,
        opened(Job.of(dataclasses.replace(config, logdir=folder)), progress) as session,
    ):
        (loop,) = session.loops
        loop.begin()
        iterate = iterate_of(loop)
        while loop.counters.updates < 2:
            iterate()
        jax.block_until_ready(loop.learner.state)
        yield loop
