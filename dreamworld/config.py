"""Every option, its default and its meaning. Dataclasses hold the defaults; `configs/*.yaml` hold named presets.

The defaults are DreamerV3 as published (Hafner et al., Nature 2025), size200m. Loads no JAX.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Annotated, Literal

from dreamworld.agents.dreamerv3.config import DreamerV3Config
from dreamworld.limits import (
    ACTING,
    COUNT,
    DEVICES,
    EPISODES,
    FIXED,
    OPTIONAL,
    PERIOD,
    SCALE,
    SEED,
    SHARE,
    SILENT,
    STEPS,
    Range,
)
from dreamworld.options import AgentConfig
from dreamworld.values import CHOICES, OPTIONS, PATTERN

SHOWN = 8  # options that differ from their defaults, in `repr(config)`


@dataclasses.dataclass(frozen=True)
class AtariConfig:
    resize: Literal["pillow", "area"] = "pillow"
    """pillow: bilinear, as published. area: the fast C++ path."""
    gray: bool = False
    """One channel instead of three."""
    repeat: Annotated[int, Range(1, 1000)] = 4
    """Emulator frames per agent step; the last two are max-pooled."""
    sticky: Annotated[float, SHARE] = 0.0
    """Probability per emulator frame that the previous action is repeated."""
    noops: Annotated[int, Range(0, 10_000)] = 30
    """Up to this many no-op frames after a reset."""
    actions: Literal["all", "needed"] = "all"
    """all: 18 actions. needed: the game's minimal set."""
    max_frames: Annotated[int, Range(1, 1e9)] = 108_000
    """Emulator frames until the episode is truncated (not terminated)."""


@dataclasses.dataclass(frozen=True)
class DMCConfig:
    obs: Literal["proprio", "vision", "both"] = "proprio"
    """Which observations the agent gets."""
    camera: Annotated[int, Range(-1, 1000)] = -1
    """Camera id; -1 takes the published one of the domain (quadruped 2, otherwise 0)."""
    quality: Literal["exact", "fast"] = "exact"
    """fast: 512-texel shadows and no multisampling, about three times faster in software rendering."""


@dataclasses.dataclass(frozen=True)
class EnvConfig:
    num: Annotated[int, COUNT, FIXED] = 16
    """Parallel environments."""
    engine: Annotated[Literal["auto", "inprocess", "process", "atari", "jax"], SILENT] = "auto"
    """What steps them: this process, worker processes, Atari's C++ threads, or one jitted vmap."""
    workers: Annotated[int, Range(0, 4096), SILENT] = 0
    """Worker processes; 0 means one per core."""
    size: Annotated[tuple[int, int], Range(1, 4096), FIXED] = (64, 64)
    """Image height and width."""
    repeat: Annotated[int, Range(1, 1000), FIXED] = 1
    """Action repeat of suites other than Atari; rewards are summed."""
    time_limit: Annotated[int, Range(0, 1e9), FIXED] = 0
    """Agent steps until an episode is truncated; 0 keeps the environment's own limit."""
    resize: Annotated[bool, FIXED] = False
    """Resize images of other environments to `size`."""
    gray: Annotated[bool, FIXED] = False
    """Turn RGB images into one gray channel (Atari has an option of its own)."""
    image_keys: Annotated[str, PATTERN, FIXED] = "auto"
    """Regular expression of Box observations to read as pictures, scaled by their bounds; `auto` by shape."""
    vector_keys: Annotated[str, PATTERN, FIXED] = "auto"
    """Regular expression of Box observations to read as vectors, such as tables that look like pictures."""
    stack: Annotated[int, Range(1, 64), FIXED] = 1
    """Frames stacked on the channels of images."""
    clip_reward: Annotated[float, Range(0, 1e9), FIXED] = 0.0
    """Clip rewards to plus or minus this; 0 for no clipping."""
    options: Annotated[str, OPTIONS, FIXED, ACTING] = ""
    """Options of the environment's own constructor: `obs=image,size=32,map={"rows": [1, 2]}`."""
    randomize: Annotated[str, CHOICES] = ""
    """Reset options drawn anew each episode: `gravity=-12:-8,map=small|large`."""
    timeout_s: Annotated[float, Range(0.01, 1e6), SILENT] = 120.0
    """A worker that takes longer than this for one step is killed and rebuilt."""
    max_failures: Annotated[int, Range(0, 1e6), SILENT] = 10
    """Environment failures in a row that stop the run."""
    seed: Annotated[int, Range(-1, SEED.high), FIXED] = -1
    """Environment seed; -1 derives it from the run's seed."""
    atari: Annotated[AtariConfig, FIXED] = AtariConfig()
    dmc: Annotated[DMCConfig, FIXED] = DMCConfig()

    def __post_init__(self) -> None:
        # Canonical text (also of a mapping) makes equal options equal configs.
        object.__setattr__(self, "options", OPTIONS.canonical(self.options))
        object.__setattr__(self, "randomize", CHOICES.canonical(self.randomize))


@dataclasses.dataclass(frozen=True)
class ReplayConfig:
    capacity_steps: Annotated[float, STEPS] = 5e6
    """Rows kept; whichever of the two capacities is hit first."""
    capacity_bytes: Annotated[float, Range(0, 1e16)] = 0
    """Bytes kept; 0 for no limit of its own."""
    storage: Literal["auto", "raw", "lz4", "disk"] = "auto"
    """Where observation chunks live: raw RAM, LZ4-compressed RAM, or files; auto is the first of them that fits."""
    chunk: Annotated[int, Range(1, 1e7)] = 1024
    """Rows per stored chunk."""
    hot_chunks: Annotated[int, Range(1, 1e7)] = 64
    """Chunks kept raw in RAM by the compressed storage."""
    online: bool = True
    """Serve each freshly collected chunk once, first."""
    uniform: Annotated[float, SCALE] = 1.0
    """Mixture share of uniform sampling."""
    prioritized: Annotated[float, SCALE] = 0.0
    """Mixture share of prioritised sampling."""
    recent: Annotated[float, SCALE] = 0.0
    """Mixture share of recency-weighted sampling."""
    beta: Annotated[float, SHARE] = 0.0
    """Exponent of the importance weights of windows that are drawn in part by priority; 0 for none."""
    held_out: Annotated[float, SHARE, FIXED] = 0.0
    """Share of the episodes, of a data set or collected, that are never trained on."""
    min_starts: Annotated[int, Range(1, 1e9)] = 1024
    """Valid start positions before the first update."""


@dataclasses.dataclass(frozen=True)
class RunConfig:
    steps: Annotated[float, STEPS, SILENT] = 1.1e6
    """Agent steps in all environments together (action repeat not counted)."""
    train_ratio: Annotated[float, SCALE] = 256.0
    """Trained rows per agent step: one update per batch_size x batch_length / train_ratio agent steps."""
    batch_size: Annotated[int, COUNT] = 16
    """Chunks of an update."""
    batch_length: Annotated[int, COUNT] = 64
    """Trained rows of a chunk."""
    replay_context: Annotated[int, SHARE, FIXED] = 1
    """1: every chunk starts from the latents stored with the row before it, as published. 0: it starts from zeros."""
    mode: Annotated[Literal["host", "fused"], FIXED] = "host"
    """fused: collect, replay and update of a JAX environment as one jitted program."""
    prefetch: Annotated[int, Range(0, 1000)] = 2
    """Batches drawn ahead of the update that trains on them: a fixed count, so that runs are reproducible."""
    log_every: Annotated[float, STEPS, SILENT] = 1000
    """Agent steps between log rows."""
    report_every: Annotated[float, PERIOD, SILENT] = 20_000
    """Agent steps between open-loop prediction reports; 0 for none."""
    save_every: Annotated[float, PERIOD, SILENT] = 20_000
    """Agent steps between checkpoints; 0 saves at the end only."""
    keep_last: Annotated[int, Range(1, 1e6), SILENT] = 2
    """Newest checkpoints kept."""
    keep_every: Annotated[float, PERIOD, SILENT] = 0
    """Checkpoints at multiples of this many agent steps are kept for good; 0 for none."""
    keep_best: Annotated[bool, SILENT] = False
    """Keep the checkpoint with the best evaluation score, too."""
    grace_s: Annotated[float, Range(0, 1e6), SILENT] = 30.0
    """Time for a save after SIGTERM, SIGINT or SIGHUP."""
    platform: Annotated[Literal["auto", "cpu", "gpu", "tpu"], SILENT] = "auto"
    """Device to require; auto takes what JAX finds."""
    nan_policy: Literal["stop", "skip"] = "stop"
    """After a non-finite update (which is never applied): stop, or go on for at most nan_limit of them."""
    nan_limit: Annotated[int, Range(0, 1e9)] = 10
    """Non-finite updates that `skip` allows."""
    compile_cache: Annotated[str, SILENT, ACTING, OPTIONAL] = "~/.cache/dreamworld/xla"
    """Folder of compiled programs, shared by runs; empty for none."""
    progress: Annotated[bool, SILENT] = True
    """Show a progress line."""


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    every: Annotated[float, PERIOD] = 0
    """Agent steps between evaluations on separate environments; 0 for none."""
    episodes: Annotated[int, EPISODES] = 4
    """Episodes of an evaluation."""
    max_steps: Annotated[int, STEPS] = 30_000
    """Agent steps after which an episode is cut; Atari's own limit is 27,000."""
    mode: Literal["sample", "greedy"] = "sample"
    """Sampled (as published) or greedy actions."""
    video: bool = True
    """Keep a video of one episode."""


@dataclasses.dataclass(frozen=True)
class AssessConfig:
    every: Annotated[float, PERIOD] = 0
    """Agent steps between looks at what the world model dreams of held-out segments; 0 for none."""
    segments: Annotated[int, Range(2, 100_000)] = 64
    """Segments, half of random actions and half of the agent as it is at the first look."""
    context: Annotated[int, Range(1, 10_000)] = 5
    """Rows of a segment that the model sees."""
    horizon: Annotated[int, Range(1, 100_000)] = 50
    """Rows that it imagines."""


@dataclasses.dataclass(frozen=True)
class ParallelConfig:
    """Mesh of devices; at most one axis may be -1, which takes the rest."""

    seed: Annotated[int, DEVICES] = 1
    """Devices along the axis of independent seeds."""
    data: Annotated[int, DEVICES] = -1
    """Devices along which the batch is split."""
    fsdp: Annotated[int, DEVICES] = 1
    """Devices along which large parameters are split."""
    fsdp_threshold: Annotated[int, PERIOD] = 1 << 20
    """Parameters with fewer elements are replicated."""
    coordinator: Annotated[str, ACTING, OPTIONAL] = ""
    """host:port of the first process, `auto` for SLURM or TPU metadata, empty for one process."""
    processes: Annotated[int, COUNT] = 1
    """Processes (hosts) of the run."""
    process_id: Annotated[int, Range(0, COUNT.high)] = 0
    """Index of this process."""
    heartbeat_s: Annotated[float, Range(1, 1e6)] = 60.0
    """A process that is not heard of for so long is lost, and all others exit."""


@dataclasses.dataclass(frozen=True)
class LoggerConfig:
    tensorboard: bool = True
    """Write TensorBoard event files."""
    wandb: Annotated[str, ACTING, OPTIONAL] = ""
    """Weights & Biases project; empty for none. Needs the extra `wandb`."""


@dataclasses.dataclass(frozen=True)
class Config:
    """One training run."""

    task: Annotated[str, FIXED] = "dmc_walker_walk"
    """Environment: atari_<game>, dmc_<domain>_<task>, crafter_reward, gym_<id>, jax_<name>, module:Name, ..."""
    seed: Annotated[int, SEED, FIXED] = 0
    """Seed of parameters, sampling and environments."""
    seeds: Annotated[str, FIXED] = ""
    """Train several seeds in one program: `0:8` or `0,3,5`."""
    logdir: Annotated[str, SILENT, ACTING] = "~/dreamworld/{task}-{seed}"
    """Folder of the run; {task} and {seed} are filled in. The same command continues a stopped run."""
    data: Annotated[str, FIXED] = ""
    """Train on data sets, without an environment: their folders, comma-separated. A step is then an update."""
    init_from: Annotated[str, SILENT, ACTING] = ""
    """Start from the parameters of another run: DIR, or DIR:module,module."""
    resume: Annotated[Literal["auto", "must", "never"], SILENT] = "auto"
    """auto continues a run found in logdir; must fails without one; never fails with one."""
    env: EnvConfig = EnvConfig()
    agent: AgentConfig = DreamerV3Config()
    replay: ReplayConfig = ReplayConfig()
    run: RunConfig = RunConfig()
    eval: Annotated[EvalConfig, SILENT] = EvalConfig()
    assess: Annotated[AssessConfig, SILENT] = AssessConfig()
    parallel: Annotated[ParallelConfig, SILENT] = ParallelConfig()
    logger: Annotated[LoggerConfig, SILENT] = LoggerConfig()

    def __repr__(self) -> str:
        """Task, agent, folder, and the options that differ from their defaults, as on a command line."""
        own, plain = dict(_flat(self)), dict(_flat(Config()))
        if isinstance(self.agent, AgentConfig):
            plain |= dict(_flat(type(self.agent)(), "agent."))
        first = [key for key in ("task", "agent.name", "logdir") if key in own]
        other = [key for key in own if key not in first and own[key] != plain.get(key)]
        shown = [f"{key}={own[key]}" for key in [*first, *other[:SHOWN]]]
        if (more := len(other) - SHOWN) > 0:
            shown.append(f"and {more} more that differ from the defaults")
        return f"Config({', '.join(shown)})"

    @property
    def frames_per_step(self) -> int:
        """Environment frames of an agent step: the action repeat; without an environment, 1."""
        if self.data:
            return 1
        atari = self.task.startswith(("atari_", "atari100k_")) and ":" not in self.task
        return self.env.atari.repeat if atari else self.env.repeat


def _flat(group: object, prefix: str = "") -> Iterator[tuple[str, str]]:
    """(dotted key, written value) of every option, whatever was put in its place."""
    for field in dataclasses.fields(group):  # type: ignore[arg-type]
        value = getattr(group, field.name)
        if dataclasses.is_dataclass(value):
            yield from _flat(value, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", repr(value)
