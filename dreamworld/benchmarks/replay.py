"""`dreamworld benchmark replay`: inserts, batches, compression, saves and waiting of replay on this machine.

EndlessRows are those of an image agent of size12m: a 64 x 64 x 3 picture, a 6-dimensional action, reward and flags,
and as latents deter (2048 numbers) and stoch (32 class indices). Pictures are real frames of a random policy.
"""

from __future__ import annotations

import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from dreamworld import cli
from dreamworld.benchmarks.machine import load_average
from dreamworld.benchmarks.printing import print_row
from dreamworld.config import AtariConfig, EnvConfig, ReplayConfig
from dreamworld.errors import UserError
from dreamworld.limits import COUNT, STEPS, Range
from dreamworld.replay import Pipeline, Replay
from dreamworld.types import Space

CONTEXT = 1
DETER, STOCH, CLASSES = 2048, 32, 16
NEW_STEPS = 10_000  # of the incremental save


@dataclasses.dataclass(frozen=True)
class Flags:
    rows: Annotated[int, STEPS] = 40_000
    """EndlessRows held by each replay that is measured."""
    envs: Annotated[int, COUNT] = 16
    """Parallel environments: rows of an insert."""
    batch: Annotated[int, COUNT] = 16
    length: Annotated[int, COUNT] = 65
    """EndlessRows of a window, one of context."""
    deter: Literal["float32", "bfloat16"] = "float32"
    """Stored precision of the deterministic latents."""
    frames: Annotated[int, Range(1, 1e8)] = 2048
    """Real frames recorded of each environment; they are repeated to fill replay."""
    rounds: Annotated[int, Range(1, 1e6)] = 5
    """Measurements of which the median is reported."""
    round_s: Annotated[float, Range(0.001, 1e6)] = 1.0
    """Length of a measurement."""
    update_ms: Annotated[float, Range(0, 1e6)] = 20.0
    """Device time of the pretended update, with which waiting for data is measured."""
    directory: str = ""
    """Where files go; empty for the temporary directory."""
    json: bool = False
    """One JSON line instead of a table."""


def main(argv: Sequence[str]) -> int:
    """Parses, measures, prints."""
    load = load_average()
    flags = cli.parse_flags(argv, Flags(), prog="dreamworld benchmark replay", description=__doc__ or "")
    print_row(measure(flags), load, as_json=flags.json)
    return 0


def measure(flags: Flags) -> dict[str, Any]:
    """One row of results."""
    row: dict[str, Any] = {"batch": flags.batch, "length": flags.length, "deter": flags.deter}
    pictures = {
        name: frames for name in ("crafter", "pong") if (frames := record(name, flags.frames)) is not None
    }
    row["pictures"] = sorted(pictures) or ["noise: neither crafter nor ale-py is installed"]
    main_frames = next(iter(pictures.values()), None)
    if main_frames is None:
        shape = (flags.frames, 64, 64, 3)
        main_frames = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    with tempfile.TemporaryDirectory(dir=flags.directory or None) as folder:
        for storage in ("raw", "lz4", "disk"):
            path = Path(folder) / storage
            replay = build(flags, storage, path)
            source = EndlessRows(flags, main_frames)
            insert(replay, source, flags.rows)
            row |= {f"{storage}_{key}": value for key, value in rates(replay, source, flags).items()}
            if storage == "raw":
                row |= waiting(replay, source, flags)
                row |= saving(replay, source, flags, path)
            replay.files.close()
    return row | {f"{name}_image_ratio": ratio(flags, frames) for name, frames in pictures.items()}


def spaces(deter: str) -> dict[str, Space]:
    """EndlessRows of an image agent of size12m."""
    flag = Space((), "bool")
    return {
        "obs/image": Space((64, 64, 3), "uint8"),
        "action/action": Space((6,), "float32"),
        "reward": Space((), "float32"),
        "is_first": flag,
        "is_last": flag,
        "is_terminal": flag,
        "latent/deter": Space((DETER,), deter),
        "latent/stoch": Space((STOCH,), "uint8", classes=CLASSES),
    }


def build(flags: Flags, storage: str, path: Path) -> Replay:
    """An empty replay; compressed and disk storage keep hardly a chunk raw, so that they are measured."""
    options: dict[str, Any] = {"storage": storage, "hot_chunks": 1, "min_starts": 1}
    config = ReplayConfig(capacity_steps=flags.rows, **options)
    return Replay(
        spaces(flags.deter), config, num_envs=flags.envs, length=flags.length, context=CONTEXT, directory=path
    )


class EndlessRows:
    """Endless rows: every environment plays the recorded frames from another place on."""

    def __init__(self, flags: Flags, frames: np.ndarray):
        random = np.random.default_rng(0)
        self.frames, self.step = frames, 0
        self.places = random.integers(len(frames), size=flags.envs)
        self.rest = [
            {key: space.sample(random, flags.envs) for key, space in spaces(flags.deter).items()}
            for _ in range(32)
        ]
        for rows in self.rest:
            rows["is_first"][:], rows["is_last"][:] = False, False

    def next(self) -> dict[str, np.ndarray]:
        """One row for each environment."""
        self.step += 1
        images = self.frames[(self.places + self.step) % len(self.frames)]
        return self.rest[self.step % len(self.rest)] | {"obs/image": images}


def insert(replay: Replay, source: EndlessRows, rows: int) -> None:
    """Adds at least `rows` rows."""
    for _ in range(-(-rows // replay.num_envs)):
        replay.add(source.next())


def rates(replay: Replay, source: EndlessRows, flags: Flags) -> dict[str, float]:
    """Inserts at capacity, batches, bytes delivered; the rows are made before the clock starts."""
    rows = [source.next() for _ in range(64)]
    adds, adds_cpu = per_second(lambda i: replay.add(rows[i % 64]), flags)
    replay.sampler.queue.clear()  # the backlog of the inserts: uniform sampling is measured
    size = sum(value.nbytes for value in replay.sample(flags.batch).values())
    batches, batches_cpu = per_second(lambda i: replay.sample(flags.batch), flags)
    return {
        "inserts_per_s": round(adds * flags.envs),
        "inserts_per_cpu_s": round(adds_cpu * flags.envs),
        "batches_per_s": round(batches, 1),
        "batches_per_cpu_s": round(batches_cpu, 1),
        "gb_per_s": round(batches * size / 1e9, 2),
    }


def per_second(call: Callable[[int], Any], flags: Flags) -> tuple[float, float]:
    """Medians over rounds of calls per second and per CPU second (which a busy machine changes less)."""
    walls, cpus = [], []
    for _ in range(flags.rounds):
        begin, cpu, count = time.perf_counter(), time.process_time(), 0
        while (spent := time.perf_counter() - begin) < flags.round_s:
            call(count)
            count += 1
        walls.append(count / spent)
        cpus.append(count / max(time.process_time() - cpu, 1e-9))
    return statistics.median(walls), statistics.median(cpus)


def waiting(replay: Replay, source: EndlessRows, flags: Flags) -> dict[str, float]:
    """A loop whose update takes `update_ms` elsewhere; one step of every environment per update."""
    updates = max(4, round(flags.round_s * flags.rounds * 1000 / max(flags.update_ms, 1)))
    with Pipeline(replay, lambda batch: batch, batch_size=flags.batch) as pipeline:
        pipeline.next()
        pipeline.drain()
        begin, waited = time.perf_counter(), pipeline.waited_s
        for _ in range(updates):
            pipeline.add(source.next())
            item = pipeline.next()
            latents = {k: v[:, CONTEXT:] for k, v in item.host.items() if k.startswith("latent/")}
            time.sleep(flags.update_ms / 1000)
            pipeline.write_back(item.rows[:, CONTEXT:], latents)
        spent = time.perf_counter() - begin
        share = (pipeline.waited_s - waited) / spent
    return {"update_ms": flags.update_ms, "waiting_share": round(share, 4)}


def saving(replay: Replay, source: EndlessRows, flags: Flags, path: Path) -> dict[str, float]:
    """Seconds of a save after 10,000 new steps, alone and when the latents of every row have changed, too."""
    row: dict[str, Any] = {}
    replay.collect_garbage([replay.save(path)])
    seconds, sizes = [], []
    for _ in range(flags.rounds):
        insert(replay, source, NEW_STEPS)
        manifest = replay.save(path)
        replay.collect_garbage([manifest])
        if not manifest["cost"]["compacted"]:
            seconds.append(manifest["cost"]["seconds"])
            sizes.append(manifest["cost"]["obs_bytes"] + manifest["cost"]["latent_bytes"])
    row["save_new_steps"] = NEW_STEPS
    if seconds:
        row |= {
            "save_s": round(statistics.median(seconds), 3),
            "save_mb": round(statistics.median(sizes) / 1e6, 1),
        }
    for chunk in replay.chunks:
        chunk.dirty[: chunk.rows] = True
    cost = replay.save(path)["cost"]
    return row | {
        "save_all_latents_s": round(cost["seconds"], 3),
        "save_all_latents_rows": cost["latent_rows"],
    }


def ratio(flags: Flags, frames: np.ndarray) -> float:
    """How many times smaller the observations of full chunks become; latents are not compressed."""
    small = dataclasses.replace(flags, rows=max(4096, 3 * len(frames)), envs=1)
    replay = build(small, "lz4", Path())
    insert(replay, EndlessRows(small, frames), small.rows)
    packed = [chunk for chunk in replay.chunks if chunk.body.nbytes < chunk.rows * replay.layout.obs_bytes]
    if not packed:
        raise UserError("benchmark replay: --rows is too small for a full chunk")
    return round(
        sum(c.rows for c in packed) * replay.layout.obs_bytes / sum(c.body.nbytes for c in packed), 2
    )


def record(name: str, count: int) -> np.ndarray | None:
    """Frames of a random policy, [count, 64, 64, 3], or None where the package is not installed."""
    from dreamworld.envs import make_vector_env

    task = {"crafter": "crafter_reward", "pong": "atari_pong"}[name]
    config = EnvConfig(num=1, engine="inprocess", atari=AtariConfig(sticky=0.25, max_frames=10**6))
    try:
        env = make_vector_env(task, config, seed=0, num=1)
    except (ImportError, UserError):
        return None
    random, frames = np.random.default_rng(0), [env.reset(0).obs["image"][0]]
    while len(frames) < count:
        action = {key: space.sample(random, 1) for key, space in env.act_space.items()}
        frames.append(env.step(action).obs["image"][0])
    env.close()
    return np.stack(frames)
