"""The contract of data: what a space, an environment, a replay row, a batch and a train state are.

Axis letters, defined here and used everywhere else:

    N  parallel environments          B  batch               T  trained rows of a chunk
    L  rows of a chunk, context + T   H  imagined steps      D  deter
    S  latent variables               K  classes of each     F  features
    A  action dimensions              Z  tokens of the encoder

One row per environment step: the observation, the reward and flags that *arrived with* it, and the action
chosen *after* it. `is_last` ends an episode for any cause; `is_terminal` is a true end (value 0 after it); a
time limit sets `is_last` without `is_terminal`. The row after an `is_last` row is the `is_first` row of the next
episode; the action stored on an `is_last` row is zero and is ignored by the environment.

What an agent is made of stands in `dreamworld.contract`. This module loads no JAX: environment workers and `--help`
import it.
"""

from __future__ import annotations

import dataclasses
import numbers
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np

from dreamworld.errors import UserError

# A jax.Array, or what stands in its place in a pytree of the same structure: a numpy array, a shape, a sharding.
Array: TypeAlias = Any
Tree: TypeAlias = Any  # any pytree of arrays
Key: TypeAlias = Any  # jax.Array, uint32 [2]
DType: TypeAlias = str | type[Any] | np.dtype[Any]  # what np.dtype and jnp.dtype take
Params = Any  # pytree of arrays
Carry = Any  # pytree of arrays, leading axis B or N
Mode = Literal["sample", "greedy"]
EnvSource: TypeAlias = (
    Any  # somebody's environment: its name, its class, a function that makes it, or the object
)
EnvObject: TypeAlias = Any  # the object of an environment of gymnasium, dm_env, gymnax or another library

FLAGS = ("reward", "is_first", "is_last", "is_terminal")

DTYPES = (
    *("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
    *("float16", "bfloat16", "float32", "float64"),  # numpy knows bfloat16 only once JAX is loaded
)


class Native(NamedTuple):
    """How an environment itself writes an action: class 0, or -1, is `low`; the last class, or 1, is `high`."""

    low: tuple[float, ...]  # one per element, flat; whole numbers where the action is discrete
    high: tuple[float, ...]
    dtype: str


@dataclasses.dataclass(frozen=True)
class Space:
    """One flat array space. `classes` makes it discrete: integers in [0, classes), one categorical per element.

    Nested and composite spaces are flattened into `{"a/b": Space}` by the environment adapters. Raises UserError
    for values that describe no space.
    """

    shape: tuple[int, ...]
    dtype: str  # numpy name: uint8, float32, int32, bool ...
    _: dataclasses.KW_ONLY
    classes: int | None = None  # number of values of each element when discrete
    low: float = -np.inf  # of all elements
    high: float = np.inf
    native: Native | None = dataclasses.field(default=None, compare=False, repr=False)  # of an action

    def __post_init__(self) -> None:
        shape, dtype, classes = _shape(self.shape), _dtype_name(self.dtype), self.classes
        if classes is not None:
            if not _is_whole(classes) or classes < 1:
                raise UserError(f"Space classes={classes!r}: give a whole number of at least 1, or None")
            if dtype == "bool" or "float" in dtype or classes - 1 > np.iinfo(dtype).max:
                held = "no classes; use int32" if dtype[0] in "bf" else f"at most {np.iinfo(dtype).max + 1:,}"
                raise UserError(f"Space classes={classes}: {dtype} holds {held}")
            classes = int(classes)
        for name, bound in (("low", self.low), ("high", self.high)):
            if not np.isscalar(bound) or not isinstance(bound, numbers.Real) or np.isnan(float(bound)):
                raise UserError(f"Space {name}={bound!r}: give one number, which holds for all elements")
        if self.low > self.high:
            raise UserError(f"Space low={self.low:g}, high={self.high:g}: low is above high")
        for name, value in (("shape", shape), ("dtype", dtype), ("classes", classes)):
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        """What makes it again, without what is as by default: `Space((2,), 'int32', classes=5)`."""
        given = [f"classes={self.classes}"] if self.discrete else []
        bounds = (("low", self.low), ("high", self.high))
        given += [f"{name}={float(value):g}" for name, value in bounds if np.isfinite(value)]
        return f"Space({', '.join([repr(self.shape), repr(self.dtype), *given])})"

    @property
    def discrete(self) -> bool:
        """Whether values are class indices."""
        return self.classes is not None

    @property
    def is_image(self) -> bool:
        """uint8 of rank 3, [height, width, channels]: the image encoder takes these."""
        return self.dtype == "uint8" and len(self.shape) == 3 and not self.discrete

    @property
    def size(self) -> int:
        """Number of elements (for a discrete space: number of categoricals)."""
        return int(np.prod(self.shape, dtype=np.int64))

    def zeros(self, *leading: int) -> np.ndarray:
        """Zeros with the given leading axes."""
        return np.zeros((*leading, *self.shape), self.dtype)

    def sample(self, random: np.random.Generator, *leading: int) -> np.ndarray:
        """Uniform sample; unbounded sides are taken as -1 and 1."""
        shape = (*leading, *self.shape)
        if self.discrete:
            return random.integers(0, self.classes, shape).astype(self.dtype)
        if np.issubdtype(np.dtype(self.dtype), np.integer):
            info = np.iinfo(self.dtype)
            low, high = max(self.low, info.min), min(self.high, info.max)
            return random.integers(int(low), int(high), shape, endpoint=True).astype(self.dtype)
        low = self.low if np.isfinite(self.low) else -1.0
        high = self.high if np.isfinite(self.high) else 1.0
        return random.uniform(low, high, shape).astype(self.dtype)


def _is_whole(value: object) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _shape(shape: object) -> tuple[int, ...]:
    if not isinstance(shape, tuple | list) or not all(_is_whole(side) and side >= 0 for side in shape):
        raise UserError(
            f"Space shape={shape!r}: give a tuple of whole numbers, such as (3,), or () for a scalar"
        )
    return tuple(int(side) for side in shape)


def _dtype_name(dtype: DType) -> str:
    try:  # np.float32, jnp.bfloat16 or a numpy.dtype
        name = dtype if isinstance(dtype, str) else np.dtype(dtype).name
    except TypeError:
        name = ""
    if name not in DTYPES:
        raise UserError(f"Space dtype={dtype!r}: give one of {', '.join(DTYPES)}")
    return name


Spaces = dict[str, Space]


@dataclasses.dataclass(frozen=True)
class TimeStep:
    """What N environments returned. Arrays are the caller's: an engine never overwrites one it returned."""

    obs: dict[str, np.ndarray]  # each [N, ...], dtype of its space
    reward: np.ndarray  # [N] float32, 0 where is_first
    is_first: np.ndarray  # [N] bool
    is_last: np.ndarray  # [N] bool
    is_terminal: np.ndarray  # [N] bool, implies is_last
    log: dict[str, np.ndarray] = dataclasses.field(
        default_factory=dict
    )  # each [N], logged, never learned from
    events: tuple[str, ...] = ()  # failures that were survived, one line each


@runtime_checkable
class VectorEnv(Protocol):
    """N environments that reset themselves.

    `step` takes `{key: [N, ...]}` in the dtypes of `act_space` (continuous actions in [-1, 1] after clipping by the
    environment, unclipped here). An environment whose last row was `is_last` ignores its action and returns the
    first row of a new episode.
    """

    num_envs: int
    obs_space: Spaces  # flat, without reward and flags
    act_space: Spaces  # flat; continuous ones normalised to [-1, 1]
    engine: str  # what drives it, for the log: inprocess, process, atari, jax

    def reset(self, seed: int) -> TimeStep:
        """Starts a new episode in every environment, deterministically from `seed`; all rows are `is_first`."""
        ...

    def step(self, action: dict[str, np.ndarray]) -> TimeStep:
        """Advances every environment by one row."""
        ...

    def save(self) -> dict[str, np.ndarray] | None:
        """The full state as arrays, or None where the environments can't save theirs."""
        ...

    def restore(self, state: dict[str, np.ndarray]) -> TimeStep:
        """Restores `save()` and returns the time step that was current then."""
        ...

    def render(self, index: int = 0) -> np.ndarray | None:
        """A uint8 [height, width, 3] picture of one environment for people, or None."""
        ...

    def close(self) -> None:
        """Releases processes and memory; safe to call twice."""
        ...


BAD_FLAG = "is_last or is_terminal is nan, not True or False"


class JaxStep(NamedTuple):
    """One row of a JAX environment; unbatched."""

    obs: dict[str, Array]
    reward: Array  # [] float32
    is_last: Array  # [] bool
    is_terminal: Array  # [] bool


@runtime_checkable
class JaxEnv(Protocol):
    """A pure, vmappable environment. State is a pytree of arrays: saving and restoring it is copying it."""

    @property
    def obs_space(self) -> Spaces: ...
    @property
    def act_space(self) -> Spaces: ...

    def reset(self, key: Key) -> tuple[Any, dict[str, Array]]:
        """Returns the first state and observation."""
        ...

    def step(self, state: Tree, action: dict[str, Array], key: Key) -> tuple[Any, JaxStep]:
        """Advances by one action; does not reset itself."""
        ...


class Batch(NamedTuple):
    """Chunks drawn from replay; arrays [B, L, ...] with L = replay_context + T."""

    obs: dict[str, Array]
    action: dict[str, Array]  # chosen after the row's observation; discrete as int
    reward: Array  # float32
    is_first: Array  # bool; forced on the first row of the chunk
    is_last: Array
    is_terminal: Array
    # "row" [B, L] ids; columns "latent/<name>" and "extra/<name>" [B, L, ...]; importance weights "weight" [B], if any
    extras: dict[str, Array]


class TrainState(NamedTuple):
    """Everything that learning changes: plain pytrees, so that checkpoints, vmap and sharding need no special cases."""

    params: Params  # {"world": ..., "behaviour": ...}, each {module: parameters}
    opt_state: Tree
    slow: Params  # slow targets: a part of the tree of params
    stats: Tree  # normaliser statistics
    step: Array  # int32, updates applied
    key: Key  # the learner's key (raw uint32 [2])


class Output(NamedTuple):
    """What one update returns beside the new state; stays on the device until somebody reads it."""

    metrics: dict[str, Array]  # scalars, "loss/total" among them, on which the loop waits
    # {"latent/<name>" or "extra/<name>": [B, T, ...]} for the rows `extras["row"][:, -T:]`: all, some or none.
    writeback: dict[str, Array]
    priorities: Array | None  # [B, T] signal for prioritised replay
    # One or more bool scalars, "loss/<name>" and "grad/<tensor>": finite; if not all are, nothing is applied.
    health: dict[str, Array]
