"""Option groups of world models, behaviours and optimisers, from which agents compose their options. Loads no JAX.

The defaults are those of DreamerV3 as published (Hafner et al., Nature 2025), size200m.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any, Literal

from dreamworld.limits import COUNT, DECAY, EPS, FIXED, LAYERS, PERCENTILE, PERIOD, SCALE, SHARE, Range
from dreamworld.values import PATTERN


@dataclasses.dataclass(frozen=True)
class AgentConfig:
    """What the options of every agent begin with; each agent has a subclass of its own (`agents/<name>/config.py`)."""

    name: Annotated[str, FIXED] = ""
    """The agent: a composition of a world model and a behaviour."""
    precision: Literal["auto", "bfloat16", "float32"] = "auto"
    """Compute precision; auto is bfloat16 on accelerators and float32 on CPU. Parameters are always float32."""

    probe: Annotated[bool, FIXED] = False
    """Train a small decoder on the features of an agent that does not decode, without an effect on the agent."""

    if TYPE_CHECKING:  # which options there are is only known once an agent is chosen

        def __getattr__(self, name: str) -> Any: ...

    @property
    def width(self) -> int:
        """Size of the widest recurrent layer, by which compilers are set and their time is estimated; 0 for none."""
        return 0


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
    units: Annotated[int, COUNT, FIXED] = 1024
    """Width of reward, continue, actor and critic heads."""
    actor_layers: Annotated[int, LAYERS, FIXED] = 3
    """Hidden layers of the actor."""
    critic_layers: Annotated[int, LAYERS, FIXED] = 3
    """Hidden layers of the critic."""
    reward_layers: Annotated[int, LAYERS, FIXED] = 1
    """Hidden layers of the reward head."""
    cont_layers: Annotated[int, LAYERS, FIXED] = 1
    """Hidden layers of the continue head."""
    bins: Annotated[int, Range(3, COUNT.high), FIXED] = 255
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
    agc: Annotated[float, Range(1e-6, SCALE.high)] = 0.3
    """Adaptive gradient clipping: gradient norm per tensor at most this times the parameter norm."""
    agc_floor: Annotated[float, Range(1e-12, SCALE.high)] = 1e-3
    """Parameter norm floor of the clipping."""
    beta1: Annotated[float, DECAY] = 0.9
    """Momentum decay."""
    beta2: Annotated[float, DECAY] = 0.999
    """Decay of the squared-gradient average."""
    eps: Annotated[float, EPS] = 1e-20
    """Added to the root of that average."""


@dataclasses.dataclass(frozen=True)
class AdamConfig:
    """Of the first Dreamers, whose world, actor and value have an optimiser each; the defaults are of the first one."""

    world_lr: Annotated[float, Range(0, 10)] = 6e-4
    """Learning rate of the world model."""
    actor_lr: Annotated[float, Range(0, 10)] = 8e-5
    """Learning rate of the actor."""
    value_lr: Annotated[float, Range(0, 10)] = 8e-5
    """Learning rate of the value."""
    eps: Annotated[float, EPS] = 1e-7
    """Added by Adam to the root of the squared-gradient average."""
    clip: Annotated[float, Range(1e-9, 1e9)] = 100.0
    """Norm of the gradients of each of the three is clipped to this."""


@dataclasses.dataclass(frozen=True)
class CategoricalWorldConfig:
    """Of DreamerV2; the defaults are those of its code."""

    deter: Annotated[int, COUNT] = 1024
    """Size of the recurrent state."""
    hidden: Annotated[int, COUNT] = 1024
    """Width of the hidden layers of the dynamics."""
    stoch: Annotated[int, Range(1, 1024)] = 32
    """Number of categorical latents."""
    classes: Annotated[int, Range(1, 256)] = 32
    """Classes of each latent."""
    depth: Annotated[int, Range(1, 1024)] = 48
    """Channels of the first convolution; each following one has twice as many."""
    vector_layers: Annotated[int, Range(1, LAYERS.high)] = 4
    """Layers of the vector encoder, and hidden ones of the vector decoder."""
    reward_layers: Annotated[int, LAYERS] = 4
    """Hidden layers of the reward head."""
    cont_layers: Annotated[int, LAYERS] = 4
    """Hidden layers of the head of ends, which predicts the discount; 0 for none, where episodes don't end."""
    units: Annotated[int, COUNT] = 400
    """Width of the layers of vectors and heads."""
    layer_norm: bool = False
    """Normalise every hidden layer of the world, of the actor and of the value, as published for Crafter."""


@dataclasses.dataclass(frozen=True)
class GaussianWorldConfig:
    """Of PlaNet and the first Dreamer; the defaults are those of PlaNet's code."""

    stoch: Annotated[int, Range(1, 4096)] = 30
    """Size of the sampled part of the state."""
    belief: Annotated[int, COUNT] = 200
    """Size of the recurrent part of the state."""
    hidden: Annotated[int, COUNT] = 200
    """Width of the hidden layers of the dynamics, and of the encoder and decoder of vectors."""
    min_std: Annotated[float, Range(1e-6, 10)] = 0.1
    """Smallest standard deviation of prior and posterior."""
    depth: Annotated[int, Range(1, 1024)] = 32
    """Channels of the first convolution; each following one has twice as many."""
    reward_layers: Annotated[int, LAYERS] = 3
    """Hidden layers of the reward head."""
    reward_units: Annotated[int, COUNT] = 300
    """Their width."""


@dataclasses.dataclass(frozen=True)
class DynamicsGradientConfig:
    """Of the first Dreamer; the defaults are those of its code."""

    actor_layers: Annotated[int, LAYERS] = 4
    """Hidden layers of the actor."""
    value_layers: Annotated[int, LAYERS] = 3
    """Hidden layers of the value."""
    units: Annotated[int, COUNT] = 400
    """Their width."""
    init_std: Annotated[float, Range(1e-3, 100)] = 5.0
    """Standard deviation of actions, before the tanh, that the actor begins with."""
    min_std: Annotated[float, Range(1e-6, 10)] = 1e-4
    """The smallest one."""
    mean_scale: Annotated[float, Range(1e-3, 100)] = 5.0
    """Means of actions, before the tanh, stay within this."""
    imag_length: Annotated[int, Range(2, 1000)] = 15
    """Imagined steps."""
    discount: Annotated[float, SHARE] = 0.99
    """Of later rewards, for each step."""
    lam: Annotated[float, SHARE] = 0.95
    """Mixes returns of all lengths: 0 is one step, 1 is the whole dream."""


@dataclasses.dataclass(frozen=True)
class MixedGradientConfig:
    """Of DreamerV2; the defaults are those of its code."""

    actor_layers: Annotated[int, LAYERS, FIXED] = 4
    """Hidden layers of the actor."""
    value_layers: Annotated[int, LAYERS, FIXED] = 4
    """Hidden layers of the value."""
    units: Annotated[int, COUNT, FIXED] = 400
    """Their width."""
    min_std: Annotated[float, Range(1e-2, 10)] = 0.1
    """The smallest standard deviation of continuous actions, before they are cut off at -1 and 1."""
    imag_length: Annotated[int, Range(2, 1000)] = 15
    """Imagined steps."""
    discount: Annotated[float, SHARE] = 0.99
    """Of later rewards, for each step."""
    lam: Annotated[float, SHARE] = 0.95
    """Mixes returns of all lengths: 0 is one step, 1 is the whole dream."""
    entropy: Annotated[float, SCALE] = 2e-3
    """Scale of the entropy bonus."""
    slow_every: Annotated[int, Range(1, 1e9)] = 100
    """Updates after which the target network becomes a copy of the value again."""
