"""Every option, its default and its meaning. Dataclasses hold the defaults; `configs/*.yaml` hold named presets.

The defaults are DreamerV3 as published (Hafner et al., Nature 2025), size200m. Loads no JAX.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from dreamworld.limits import (
    COUNT,
    DECAY,
    DEVICES,
    EPISODES,
    LAYERS,
    PERCENTILE,
    PERIOD,
    SCALE,
    SEED,
    SHARE,
    STEPS,
    Range,
)
from dreamworld.values import CHOICES, OPTIONS, PATTERN


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
    num: Annotated[int, COUNT] = 16
    """Parallel environments."""
    engine: Literal["auto", "inprocess", "process", "atari", "jax"] = "auto"
    """What steps them: this process, worker processes, Atari's C++ threads, or one jitted vmap."""
    workers: Annotated[int, Range(0, 4096)] = 0
    """Worker processes; 0 means one per core."""
    size: Annotated[tuple[int, int], Range(1, 4096)] = (64, 64)
    """Image height and width."""
    repeat: Annotated[int, Range(1, 1000)] = 1
    """Action repeat of suites other than Atari; rewards are summed."""
    time_limit: Annotated[int, Range(0, 1e9)] = 0
    """Agent steps until an episode is truncated; 0 keeps the environment's own limit."""
    resize: bool = False
    """Resize images of other environments to `size`."""
    gray: bool = False
    """Turn RGB images into one gray channel (Atari has an option of its own)."""
    image_keys: Annotated[str, PATTERN] = "auto"
    """Regular expression of Box observations to read as pictures, scaled by their bounds; `auto` by shape."""
    vector_keys: Annotated[str, PATTERN] = "auto"
    """Regular expression of Box observations to read as vectors, such as tables that look like pictures."""
    stack: Annotated[int, Range(1, 64)] = 1
    """Frames stacked on the channels of images."""
    clip_reward: Annotated[float, Range(0, 1e9)] = 0.0
    """Clip rewards to plus or minus this; 0 for no clipping."""
    options: Annotated[str, OPTIONS] = ""
    """Options of the environment's own constructor: `obs=image,size=32,map={"rows": [1, 2]}`."""
    randomize: Annotated[str, CHOICES] = ""
    """Reset options drawn anew each episode: `gravity=-12:-8,map=small|large`."""
    timeout_s: Annotated[float, Range(0.01, 1e6)] = 120.0
    """A worker that takes longer than this for one step is killed and rebuilt."""
    max_failures: Annotated[int, Range(0, 1e6)] = 10
    """Environment failures in a row that stop the run."""
    seed: Annotated[int, Range(-1, SEED.high)] = -1
    """Environment seed; -1 derives it from the run's seed."""
    atari: AtariConfig = AtariConfig()
    dmc: DMCConfig = DMCConfig()

    def __post_init__(self) -> None:
        # Canonical text (also of a mapping) makes equal options equal configs.
        object.__setattr__(self, "options", OPTIONS.canonical(self.options))
        object.__setattr__(self, "randomize", CHOICES.canonical(self.randomize))


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
    depth: Annotated[int, Range(1, 4096)] = 64
    """Base number of convolution channels."""
    mults: Annotated[tuple[int, ...], Range(1, 64)] = (2, 3, 4, 4)
    """Channel multipliers of the stages."""
    kernel: Annotated[int, Range(1, 31)] = 5
    """Convolution kernel size."""
    layers: Annotated[int, Range(1, LAYERS.high)] = 3
    """Layers of the vector encoder and of the vector decoder."""
    units: Annotated[int, COUNT] = 1024
    """Width of these layers."""
    vector_keys: Annotated[str, PATTERN] = "auto"
    """Regular expression of the observation keys for the vector encoder, `auto` by shape, empty for none."""
    image_keys: Annotated[str, PATTERN] = "auto"
    """Regular expression of the observation keys for the image encoder, `auto` by shape, empty for none."""
    symlog: bool = True
    """Squash vector observations with symlog."""


@dataclasses.dataclass(frozen=True)
class RSSMConfig:
    deter: Annotated[int, Range(1, 1_048_576)] = 8192
    """Size of the recurrent state."""
    hidden: Annotated[int, COUNT] = 1024
    """Width of the input, prior and posterior layers."""
    stoch: Annotated[int, Range(1, 1024)] = 32
    """Number of categorical latents."""
    classes: Annotated[int, Range(1, 256)] = 64
    """Classes of each latent."""
    blocks: Annotated[int, Range(1, 1024)] = 8
    """Blocks of the block-diagonal recurrent layers."""
    dyn_layers: Annotated[int, LAYERS] = 1
    """Block-diagonal hidden layers before the gates."""
    prior_layers: Annotated[int, LAYERS] = 2
    """Layers of the prior."""
    posterior_layers: Annotated[int, LAYERS] = 1
    """Layers of the posterior."""
    unimix: Annotated[float, SHARE] = 0.01
    """Share of the uniform distribution in every latent."""
    free_nats: Annotated[float, Range(0, 1000)] = 1.0
    """The two KL losses are clipped below at this."""


@dataclasses.dataclass(frozen=True)
class ActorCriticConfig:
    units: Annotated[int, COUNT] = 1024
    """Width of reward, continue, actor and critic heads."""
    actor_layers: Annotated[int, LAYERS] = 3
    """Hidden layers of the actor."""
    critic_layers: Annotated[int, LAYERS] = 3
    """Hidden layers of the critic."""
    reward_layers: Annotated[int, LAYERS] = 1
    """Hidden layers of the reward head."""
    cont_layers: Annotated[int, LAYERS] = 1
    """Hidden layers of the continue head."""
    bins: Annotated[int, Range(3, COUNT.high)] = 255
    """Bins of the symexp two-hot heads (odd)."""
    imag_length: Annotated[int, Range(1, 1000)] = 15
    """Imagined steps."""
    horizon: Annotated[int, Range(1, 1e9)] = 333
    """Discount horizon: gamma = 1 - 1/horizon."""
    lam: Annotated[float, SHARE] = 0.95
    """Lambda of the lambda-returns."""
    entropy: Annotated[float, SCALE] = 3e-4
    """Scale of the entropy bonus."""
    slow_rate: Annotated[float, SHARE] = 0.02
    """Step of the slow critic towards the critic after each update."""
    slow_scale: Annotated[float, SCALE] = 1.0
    """Weight of the slow critic's regression target."""
    slow_target: bool = False
    """Use the slow critic for the targets, too."""
    return_rate: Annotated[float, SHARE] = 0.01
    """Rate of the moving return percentiles."""
    return_low: Annotated[float, PERCENTILE] = 5.0
    """Lower percentile of the return range."""
    return_high: Annotated[float, PERCENTILE] = 95.0
    """Upper percentile of the return range."""
    return_limit: Annotated[float, Range(1e-8, 1e9)] = 1.0
    """Lower limit of the percentile range that advantages are divided by."""
    std_min: Annotated[float, Range(1e-6, 100)] = 0.1
    """Smallest standard deviation of continuous actions."""
    std_max: Annotated[float, Range(1e-6, 100)] = 1.0
    """Largest standard deviation of continuous actions."""


@dataclasses.dataclass(frozen=True)
class LossConfig:
    obs: Annotated[float, SCALE] = 1.0
    """Scale of each observation key's reconstruction."""
    reward: Annotated[float, SCALE] = 1.0
    """Scale of the reward loss."""
    cont: Annotated[float, SCALE] = 1.0
    """Scale of the continue loss."""
    dyn: Annotated[float, SCALE] = 1.0
    """Scale of the KL that moves the prior to the posterior."""
    rep: Annotated[float, SCALE] = 0.1
    """Scale of the KL that moves the posterior to the prior."""
    actor: Annotated[float, SCALE] = 1.0
    """Scale of the actor loss."""
    critic: Annotated[float, SCALE] = 1.0
    """Scale of the critic loss on imagined states."""
    replay_value: Annotated[float, SCALE] = 0.3
    """Scale of the critic loss on replayed states."""


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    lr: Annotated[float, Range(0, 10)] = 4e-5
    """Learning rate after the warm-up."""
    warmup: Annotated[int, PERIOD] = 1000
    """Updates of linear learning-rate warm-up; the first is at 0."""
    anneal: Annotated[int, PERIOD] = 0
    """Update at which the learning rate has fallen linearly to a tenth, where it stays; 0 keeps it, as published."""
    agc: Annotated[float, SCALE] = 0.3
    """Adaptive gradient clipping: gradient norm per tensor at most this times the parameter norm."""
    agc_floor: Annotated[float, SCALE] = 1e-3
    """Parameter norm floor of the clipping."""
    beta1: Annotated[float, DECAY] = 0.9
    """Momentum decay."""
    beta2: Annotated[float, DECAY] = 0.999
    """Decay of the squared-gradient average."""
    eps: Annotated[float, SHARE] = 1e-20
    """Added to the root of that average."""


@dataclasses.dataclass(frozen=True)
class AgentConfig:
    name: Literal["dreamerv3"] = "dreamerv3"
    """The agent: a composition of a world model and a behaviour."""
    precision: Literal["auto", "bfloat16", "float32"] = "auto"
    """Compute precision; auto is bfloat16 on accelerators and float32 on CPU. Parameters are always float32."""
    weight_gradients: Literal["auto", "per_step", "at_once"] = "auto"
    """Of the recurrence: step by step of the observe scan, or at once after it; auto is at_once on accelerators."""
    encoder: EncoderConfig = EncoderConfig()
    rssm: RSSMConfig = RSSMConfig()
    behaviour: ActorCriticConfig = ActorCriticConfig()
    loss: LossConfig = LossConfig()
    optim: OptimConfig = OptimConfig()


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
    min_starts: Annotated[int, Range(1, 1e9)] = 1024
    """Valid start positions before the first update."""


@dataclasses.dataclass(frozen=True)
class RunConfig:
    steps: Annotated[float, STEPS] = 1.1e6
    """Agent steps in all environments together (action repeat not counted)."""
    train_ratio: Annotated[float, SCALE] = 256.0
    """Trained rows per agent step: one update per batch_size x batch_length / train_ratio agent steps."""
    batch_size: Annotated[int, COUNT] = 16
    """Chunks of an update."""
    batch_length: Annotated[int, COUNT] = 64
    """Trained rows of a chunk."""
    replay_context: Annotated[int, SHARE] = 1
    """1: every chunk starts from the latents stored with the row before it, as published. 0: it starts from zeros."""
    mode: Literal["host", "fused"] = "host"
    """fused: collect, replay and update of a JAX environment as one jitted program."""
    prefetch: Annotated[int, Range(0, 1000)] = 2
    """Batches drawn ahead of the update that trains on them: a fixed count, so that runs are reproducible."""
    log_every: Annotated[float, STEPS] = 1000
    """Agent steps between log rows."""
    report_every: Annotated[float, PERIOD] = 20_000
    """Agent steps between open-loop prediction reports; 0 for none."""
    save_every: Annotated[float, PERIOD] = 20_000
    """Agent steps between checkpoints; 0 saves at the end only."""
    keep_last: Annotated[int, Range(1, 1e6)] = 2
    """Newest checkpoints kept."""
    keep_every: Annotated[float, PERIOD] = 0
    """Checkpoints at multiples of this many agent steps are kept for good; 0 for none."""
    keep_best: bool = False
    """Keep the checkpoint with the best evaluation score, too."""
    grace_s: Annotated[float, Range(0, 1e6)] = 30.0
    """Time for a save after SIGTERM or SIGINT."""
    platform: Literal["auto", "cpu", "gpu", "tpu"] = "auto"
    """Device to require; auto takes what JAX finds."""
    nan_policy: Literal["stop", "skip"] = "stop"
    """After a non-finite update (which is never applied): stop, or go on for at most nan_limit of them."""
    nan_limit: Annotated[int, Range(0, 1e9)] = 10
    """Non-finite updates that `skip` allows."""
    compile_cache: str = "~/.cache/dreamworld/xla"
    """Folder of compiled programs, shared by runs; empty for none."""
    progress: bool = True
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
    coordinator: str = ""
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
    wandb: str = ""
    """Weights & Biases project; empty for none. Needs the extra `wandb`."""


@dataclasses.dataclass(frozen=True)
class Config:
    """One training run."""

    task: str = "dmc_walker_walk"
    """Environment: atari_<game>, dmc_<domain>_<task>, crafter_reward, gym_<id>, jax_<name>, module:Name, ..."""
    seed: Annotated[int, SEED] = 0
    """Seed of parameters, sampling and environments."""
    seeds: str = ""
    """Train several seeds in one program: `0:8` or `0,3,5`."""
    logdir: str = "~/dreamworld/{task}-{seed}"
    """Folder of the run; {task} and {seed} are filled in. The same command continues a stopped run."""
    init_from: str = ""
    """Start from the parameters of another run: DIR, or DIR:module,module."""
    resume: Literal["auto", "must", "never"] = "auto"
    """auto continues a run found in logdir; must fails without one; never fails with one."""
    env: EnvConfig = EnvConfig()
    agent: AgentConfig = AgentConfig()
    replay: ReplayConfig = ReplayConfig()
    run: RunConfig = RunConfig()
    eval: EvalConfig = EvalConfig()
    parallel: ParallelConfig = ParallelConfig()
    logger: LoggerConfig = LoggerConfig()
