"""The contract of agents: world models, behaviours, simulators, the phases in which they learn, and the agent.

Everything is a pure function: parameters first, key last, all state explicit. An agent is a record of such functions;
what it can't do is None. Shapes are written in the letters of `dreamworld.types`. Loads no JAX.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal, NamedTuple, Protocol

from dreamworld.types import Array, Batch, Carry, Key, Mode, Output, Params, Spaces, TrainState

State = Any  # of a world model: a pytree of arrays of fixed shapes, leading axis B or N

# --- world models and behaviours --------------------------------------------------------------------------------


class WorldOut(NamedTuple):
    """What a world model's loss hands to behaviours."""

    states: State  # of the trained rows, [B, T, ...]
    features: Array  # [B, T, F], gradients not stopped
    entries: dict[str, Array]  # latents to write back to replay, [B, T, ...]
    metrics: dict[str, Array]  # scalars


class HasMean(Protocol):
    """A distribution of which the mean is known."""

    def mean(self) -> Array: ...


class WorldModel(Protocol):
    """A learned simulator; `params` are those of the world."""

    def init(self, key: Key) -> Params: ...
    def initial(self, params: Params, batch: int) -> State: ...
    def observe(
        self,
        params: Params,
        state: State,
        prev_action: dict[str, Array],
        obs: dict[str, Array],
        is_first: Array,
        key: Key,
    ) -> tuple[State, Any]:
        """Advances by the previous action, then corrects by the observation; `is_first` [B] clears the past."""
        ...

    def observe_sequence(
        self,
        params: Params,
        state: State,
        prev_action: dict[str, Array],
        obs: dict[str, Array],
        is_first: Array,
        key: Key,
    ) -> tuple[State, Any]:
        """`observe` over axis T of [B, T, ...] inputs; returns states and posteriors [B, T, ...]."""
        ...

    def imagine(self, params: Params, state: State, action: dict[str, Array], key: Key) -> State:
        """The next state [B, ...], without an observation."""
        ...

    def feature(self, params: Params, state: State) -> Array:
        """[..., F], what heads and behaviours see of a state."""
        ...

    def predict(self, params: Params, feature: Array) -> tuple[HasMean, HasMean]:
        """The reward that arrived with the state, and the probability that the episode goes on after it."""
        ...

    def loss(self, params: Params, batch: Batch, key: Key) -> tuple[dict[str, Array], WorldOut]:
        """Losses {name: [B, T]} over the trained rows."""
        ...


class Behaviour(Protocol):
    """What acts in a world model. It sees of it `feature`, `imagine` and `predict`; `params` are its own."""

    def initial(self, params: Params, batch: int) -> Carry:
        """What it remembers between steps, [N, ...]; an empty tuple where that is nothing."""
        ...

    def act(
        self, params: Params, carry: Carry, feature: Array, key: Key, *, mode: Mode = "sample"
    ) -> tuple[Carry, dict[str, Array]]:
        """Actions {key: [N, *shape]} for features [N, F]; continuous ones are not clipped."""
        ...


# --- simulators -------------------------------------------------------------------------------------------------


class InitialState(Protocol):
    def __call__(self, params: Params, batch: int) -> State:
        """The state before anything was seen, [batch, ...]."""
        ...


class Observe(Protocol):
    def __call__(
        self,
        params: Params,
        state: State,
        prev_action: dict[str, Array],
        obs: dict[str, Array],
        is_first: Array,
        key: Key,
    ) -> State:
        """The state after the action and the observation that followed it; `is_first` [N] clears the past."""
        ...


class Imagine(Protocol):
    def __call__(
        self,
        params: Params,
        state: State,
        action: dict[str, Array],
        key: Key,
        temperature: float | Array = 1.0,
    ) -> State:
        """The next state as the model dreams it. Noise is scaled by `temperature`: 0 takes what is most likely."""
        ...


class Feature(Protocol):
    def __call__(self, params: Params, state: State) -> Array:
        """[N, F]."""
        ...


class Expected(NamedTuple):
    """What a simulator expects of a state; [N] float32."""

    reward: Array  # that arrives with it
    cont: Array  # probability that it does not end its episode: without a discount


class Predict(Protocol):
    def __call__(self, params: Params, feature: Array) -> Expected: ...


class Decode(Protocol):
    def __call__(self, params: Params, feature: Array) -> dict[str, Array]:
        """Expected observations {key: [..., *shape]}, float32: images in 0..1, of classes the likeliest."""
        ...


class Surprise(Protocol):
    def __call__(
        self,
        params: Params,
        state: State,
        prev_action: dict[str, Array],
        obs: dict[str, Array],
        is_first: Array,
        key: Key,
    ) -> Array:
        """How little the model expected what it saw, [N]; in nats where the model has a likelihood."""
        ...


class RewardNLL(Protocol):
    def __call__(self, params: Params, feature: Array, reward: Array) -> Array:
        """-log likelihood, in nats, of the reward that arrived with a state, [N]; what a head learns from."""
        ...


class Edit(Protocol):
    def __call__(self, params: Params, state: State, obs: dict[str, Array], key: Key) -> State:
        """The state that the model has if it sees this observation now, in a state [N, ...]: no time passes."""
        ...


class Simulator(NamedTuple):
    """A world model to step through; `params` is `acting(train_state)["world"]`. None is what it can't do."""

    initial: InitialState
    observe: Observe
    imagine: Imagine
    feature: Feature
    predict: Predict | None = None
    decode: Decode | None = None
    surprise: Surprise | None = None
    edit: Edit | None = None
    reward_nll: RewardNLL | None = None
    probed: bool = False  # `decode` is a probe that the model did not learn from (`dreamworld.probe`)
    act_space: Spaces | None = (
        None  # actions that `imagine` takes; `dreamworld.agents.make_agent` fills it in
    )


# --- learning as data -------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Mix:
    """How windows are drawn: the newest ones once each if `online`, the others with these shares.

    ValueError for shares that are none.
    """

    uniform: float = 1.0
    prioritized: float = 0.0
    recent: float = 0.0
    online: bool = False

    def __post_init__(self) -> None:
        shares = [self.uniform, self.prioritized, self.recent]
        if not all(math.isfinite(share) and share >= 0 for share in shares) or sum(shares) <= 0:
            raise ValueError(
                f"shares of a mixture: none may be negative and one must be positive; they are {shares}"
            )


@dataclasses.dataclass(frozen=True)
class Window:
    """What a phase reads from replay: `batch` chunks of `context + length` rows.

    `draw` draws them by `mix`; without one as replay is configured, those that are shorter than the longest window of
    the agent uniformly. `aside` draws them uniformly, by random numbers of its own: what other phases draw stays as it
    is without this one. `sweep` trains on every row, stream by stream, and on some at the ends of streams twice.
    `episode` takes chunks that begin with an episode; rows after its end are those of the next one. ValueError for
    what can't be.
    """

    batch: int  # B
    length: int  # T, trained rows
    context: int = 0  # rows before them, whose stored latents start the recurrence
    order: Literal["draw", "aside", "sweep"] = "draw"
    align: Literal["row", "episode"] = "row"
    mix: Mix | None = None

    def __post_init__(self) -> None:
        if self.batch < 1 or self.length < 1 or self.context < 0:
            raise ValueError(f"{self}: needs at least one chunk of one row")
        if (self.order, self.align) == ("sweep", "episode"):
            raise ValueError(
                f"{self}: a sweep takes every row, not those that follow the beginnings of episodes"
            )
        if self.mix and (self.order, self.align) != ("draw", "row"):
            raise ValueError(f"{self}: a sweep and the beginnings of episodes are not drawn by a mixture")

    @property
    def rows(self) -> int:
        """Trained rows of a batch."""
        return self.batch * self.length


class Update(Protocol):
    def __call__(
        self, train_state: TrainState, carry: Carry, batch: Any, /
    ) -> tuple[TrainState, Carry, Output]:
        """One learning step on a Batch of the phase's window, or on None where it has no window."""
        ...


class InitialCarry(Protocol):
    def __call__(self, params: Params, batch: int) -> Carry: ...


def no_carry(params: Params, batch: int) -> Carry:
    """Of phases whose batches have nothing to do with each other."""
    return ()


@dataclasses.dataclass(frozen=True)
class Phase:
    """One kind of update: what it reads, and how often it comes. Names are unique in an agent.

    It owes `ratio` trained rows per agent step of its stage, as `run.train_ratio` counts them. In a stage that collects
    nothing, a phase comes after the one before it is done; those that are never done take turns, by their ratios.
    """

    name: str
    window: Window | None  # None: it reads no batch, and its update gets None
    update: Update
    ratio: float
    initial: InitialCarry = no_carry  # what an update hands to the next one, leading axis B
    begins: int = 0  # agent steps of its stage before the first update
    at_most: int | None = None  # updates; None for no limit, of a sweep those that it takes

    @property
    def rows(self) -> int:
        """Trained rows of an update; 1 where it reads none, so that `ratio` counts updates."""
        return self.window.rows if self.window else 1


@dataclasses.dataclass(frozen=True)
class Stage:
    """A part of a training: the phases that learn in it, and where its rows come from.

    A stage that collects lasts for `steps` agent steps, one that collects nothing until its phases are done; None lasts
    until the end of the training.
    """

    name: str
    phases: tuple[Phase, ...]
    collect: Literal["policy", "random", "none"] = "policy"
    steps: int | None = None


# --- agents -----------------------------------------------------------------------------------------------------


class Init(Protocol):
    def __call__(self, key: Key, /) -> TrainState: ...


class Acting(Protocol):
    def __call__(self, train_state: TrainState, /) -> Params:
        """What acting needs of the train state: {"world": ..., "behaviour": ...}."""
        ...


class Act(Protocol):
    def __call__(
        self, params: Params, carry: Carry, obs: dict[str, Array], key: Key, *, mode: Mode = "sample"
    ) -> tuple[Carry, dict[str, Array], dict[str, Array]]:
        """The new carry, actions {key: [N, *shape]}, and latents and extras to store; obs includes `is_first` [N].

        `params` is what `acting` returned.
        """
        ...


class Value(Protocol):
    def __call__(self, params: Params, feature: Array) -> Array:
        """The return that is expected after a state, [N], of features [N, F] of the simulator.

        The reward that arrived with the state is not in it; the discount of the next one, and the chance that there is
        one, are. `params` is what `acting` returned.
        """
        ...


class Choose(Protocol):
    def __call__(
        self, params: Params, feature: Array, key: Key, *, mode: Mode = "sample"
    ) -> dict[str, Array]:
        """Actions {key: [N, *shape]} of the actor in states whose features [N, F] these are, without a past."""
        ...


class Memory(NamedTuple):
    """Bytes that an update holds beside the train state, and the options that they follow from."""

    what: str
    size: int
    options: tuple[str, ...]


class Agent(NamedTuple):
    """A record of pure functions, as optax records `(init, update)`."""

    obs_space: Spaces
    act_space: Spaces
    latent_space: Spaces  # columns of replay that `act` returns and updates refresh, keys "latent/<name>"
    init: Init
    acting: Acting
    initial: InitialCarry  # the carry of `act`, from what `acting` returned
    act: Act
    stages: tuple[Stage, ...]
    simulator: Simulator | None
    assignment: dict[str, str]  # observation key -> what reads it, for the log
    memory: tuple[Memory, ...] = ()
    widths: dict[str, tuple[str, ...]] = {}  # noqa: RUF012 - of a module: the options that its size follows from
    extra_space: Spaces = {}  # noqa: RUF012 - more columns that `act` returns, keys "extra/<name>": read as they are
    value: Value | None = None  # of an agent with a critic
    choose: Choose | None = None  # of an agent whose actor sees nothing but a feature
    discount: float = 1.0  # of the returns that it learns to earn, for each step

    def __repr__(self) -> str:
        """What it sees and does, and the phases of its updates; without its functions."""
        names = ", ".join(phase.name for phase in self.phases)
        return f"Agent(sees {self.obs_space}; acts {self.act_space}; phases {names})"

    @property
    def phases(self) -> tuple[Phase, ...]:
        """Those of all stages, in order."""
        return tuple(phase for stage in self.stages for phase in stage.phases)

    @property
    def phase(self) -> Phase:
        """The phase of an agent that has only one; the last of several."""
        return self.phases[-1]


def longest(agent: Agent) -> Window:
    """The window that replay is made for: the longest one. Shorter ones are parts of it."""
    windows = [phase.window for phase in agent.phases if phase.window is not None]
    return max(windows, key=lambda window: window.context + window.length, default=Window(1, 1))


def mixes(agent: Agent) -> tuple[Mix, ...]:
    """The mixtures of those phases that have one of their own."""
    return tuple(phase.window.mix for phase in agent.phases if phase.window and phase.window.mix)


def modules(params: Params) -> dict[str, Params]:
    """Parameters by module, from those of the world and of the behaviour: {"encoder": ..., "actor": ...}."""
    return {name: tree for part in ("world", "behaviour") for name, tree in params[part].items()}
