"""A trained agent, ready to act: its parameters bound to its functions, and its actions in the environment's form."""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, cast, get_args

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from dreamworld import words
from dreamworld.config import EnvConfig
from dreamworld.contract import Agent
from dreamworld.envs.spaces import make_native
from dreamworld.errors import UserError
from dreamworld.spaces import describe_space, describe_spaces
from dreamworld.types import FLAGS, Array, Carry, Mode, Params, Space, Spaces

if TYPE_CHECKING:
    import gymnasium

    from dreamworld.policy import Policy

EVAL_STREAM = 3


class PlayerState(NamedTuple):
    """What a player remembers of the past; explicit, so that one player serves many streams."""

    carry: Carry  # latents and previous action, [N, ...]
    step: int  # calls so far
    batch: int  # N

    def __repr__(self) -> str:
        """How far it is, without its arrays."""
        return f"PlayerState({words.count(self.step, 'call')} so far, batch {self.batch})"


class Player:
    """A trained agent with its parameters and key.

        player = dreamworld.load(DIR)
        state = player.initial()
        state, action = player.act(state, obs)

    `obs` holds the observation keys, as lists or arrays: [N, ...], or without the batch axis for a single
    environment; the action has a batch axis where the observation has one. `is_first`, [N] or one bool, is true
    on the first row of an episode; without it the first call after `initial` is one, and later calls are not.
    """

    def __init__(
        self, agent: Agent, params: Params, seed: int = 0, mode: Mode = "sample", env: EnvConfig | None = None
    ):
        self.agent, self.params = agent, params
        self.obs_space, self.act_space = agent.obs_space, agent.act_space
        self.mode = check_mode(mode)
        self.env_config = env or EnvConfig()  # how training showed the environment, for `policy`
        self._used = {key: self.obs_space[key] for key in sorted(self.obs_space) if key in agent.assignment}
        self._native = {key: make_native(space) for key, space in self.act_space.items()}
        self._root = make_root(seed)
        self._act = jax.jit(functools.partial(_act, agent), static_argnames="mode")

    def __repr__(self) -> str:
        """What it sees, what it does, how it acts."""
        obs, act = describe_spaces(self._used), describe_spaces(self.act_space)
        size = words.count(sum(leaf.size for leaf in jax.tree.leaves(self.params)), "parameter")
        return f"Player(sees {obs}; acts {act}; {size}, mode {self.mode})"

    def renewed(self, params: Params, seed: int) -> Player:
        """A player of the same agent with other parameters and another key; what was compiled is kept."""
        player = copy.copy(self)
        player.params, player._root = params, make_root(seed)
        return player

    def initial(self, batch: int = 1) -> PlayerState:
        """The state before anything was seen, for `batch` parallel environments."""
        if not hasattr(batch, "__index__") or batch < 1:
            raise UserError(f"initial: batch {batch!r}: needs at least 1, a whole number")
        carry = self.agent.initial(self.params, batch)
        like = jax.tree.leaves(self.params)[0].sharding if jax.tree.leaves(self.params) else None
        if isinstance(
            like, NamedSharding
        ):  # as `act` returns it: one trace for the first call and the others
            carry = jax.device_put(carry, NamedSharding(like.mesh, PartitionSpec()))
        return PlayerState(carry, 0, batch)

    def act(
        self, state: PlayerState, obs: object, *, mode: Mode | None = None, normalised: bool = False
    ) -> tuple[PlayerState, dict[str, Any]]:
        """Actions {key: [N, ...]} in the environment's own bounds; `normalised` continuous ones are in [-1, 1].

        Raises UserError that names what is expected for an observation that does not fit.
        """
        if not isinstance(state, PlayerState):
            raise UserError(
                f"act: the state is {words.type_of(state)}; give what `initial` or the last `act` returned"
            )
        rows, batched = read_observation(obs, self._used, self.obs_space, state)
        carry, action = self._act(
            self.params,
            state.carry,
            rows,
            self._root,
            np.uint32(state.step),
            mode=check_mode(mode or self.mode),
        )
        action = {key: np.asarray(value) for key, value in action.items()}
        if not batched:
            action = {key: value[0] for key, value in action.items()}
        convert = self._normalise if normalised else lambda key, value: self._native[key](value)
        return PlayerState(carry, state.step + 1, state.batch), {
            key: convert(key, value) for key, value in action.items()
        }

    def policy(self, env: gymnasium.Env, *, mode: Mode | None = None) -> Policy:
        """Plays a plain gymnasium environment: `policy(obs)` is its next action; `policy.reset()` at its reset."""
        from dreamworld.policy import Policy

        return Policy(self, env, mode)

    def _normalise(self, key: str, value: np.ndarray) -> np.ndarray:
        return value if self.act_space[key].discrete else np.clip(value, -1, 1)


def make_root(seed: int) -> Array:
    """The key of a player."""
    return jax.random.fold_in(jax.random.PRNGKey(seed), EVAL_STREAM)


def _act(
    agent: Agent, params: Params, carry: Carry, obs: dict[str, Array], root: Array, step: Array, *, mode: Mode
) -> tuple[Carry, dict[str, Array]]:
    carry, action, _ = agent.act(params, carry, obs, jax.random.fold_in(root, step), mode=mode)
    return carry, action


def check_mode(mode: str) -> Mode:
    """The mode; UserError for one that does not exist."""
    if mode not in get_args(Mode):
        raise UserError(f"mode {mode!r}: expected {' or '.join(get_args(Mode))}")
    return cast(Mode, mode)


def read_observation(
    obs: object, used: Spaces, known: Spaces, state: PlayerState
) -> tuple[dict[str, np.ndarray], bool]:
    """The rows [N, ...] of the keys `used` and of `is_first`, and whether they came with the batch axis."""
    if not isinstance(obs, Mapping):
        if len(used) != 1:
            raise UserError(f"the agent takes several observations; give a mapping: {describe_spaces(used)}")
        obs = {next(iter(used)): obs}
    for key in obs:
        if key not in known and key not in FLAGS:
            raise UserError(f"{key!r} is not an observation of this agent; expected {describe_spaces(used)}")
    rows, batched = {}, {}
    for key, space in used.items():
        if key not in obs:
            raise UserError(f"the observation has no {key!r}; expected {describe_spaces(used)}")
        rows[key] = read_array(key, obs[key], space)
        batched[key] = _is_batched(key, rows[key], space, state.batch)
    first, *others = batched
    for key in others:
        if batched[key] != batched[first]:
            one, other = (key, first) if batched[key] else (first, key)
            raise UserError(
                f"observation {one!r} has a batch axis and {other!r} has none; give all or none of it"
            )
    if not batched[first]:
        rows = {key: value[None] for key, value in rows.items()}
    rows["is_first"] = _read_is_first(obs.get("is_first"), state)
    return rows, batched[first]


def read_array(key: str, value: object, space: Space) -> np.ndarray:
    """An observation in the dtype of its space; UserError for values that it can't hold."""
    array = _as_array(key, value, describe_space(space))
    if array.dtype == jax.numpy.bfloat16:  # which numpy does not know for a float
        array = array.astype(np.float32)
    kinds = "biuf" if np.dtype(space.dtype).kind not in "biu" else "biu"
    if array.dtype.kind not in kinds:
        raise UserError(f"observation {key!r} holds {_kind(array)}; expected {describe_space(space)}")
    if kinds == "biuf":
        with np.errstate(over="ignore"):
            array = array.astype(space.dtype)
        if not np.isfinite(array).all():
            raise UserError(f"observation {key!r} holds nan or inf; expected numbers")
        return array
    low, high, what = _range(space)
    outside = array[(array < low) | (array > high)]
    if outside.size:
        raise UserError(f"observation {key!r} holds {outside[0]}; expected {what} from {low} to {high}")
    return array.astype(space.dtype)


def _as_array(key: str, value: object, expected: str) -> np.ndarray:
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):  # lists of unequal length
        array = np.asarray(None)
    if array.dtype == object:
        raise UserError(f"observation {key!r} is no array of numbers; expected {expected}")
    return array


def _kind(array: np.ndarray) -> str:
    return "text" if array.dtype.kind in "US" else str(array.dtype)


def _range(space: Space) -> tuple[int, int, str]:
    if space.classes is not None:
        return 0, space.classes - 1, "a class"
    if space.dtype == "bool":
        return 0, 1, "bool"
    info = np.iinfo(space.dtype)
    return int(info.min), int(info.max), "values"


def _is_batched(key: str, array: np.ndarray, space: Space, batch: int) -> bool:
    whole = (batch, *space.shape)
    if array.shape == whole:
        return True
    if array.shape == space.shape and batch == 1:
        return False
    shape = f"{space.shape} or {whole}" if batch == 1 else f"{whole}"
    text = f"observation {key!r} has the shape {array.shape}; expected {shape}"
    if array.ndim == len(whole) and array.shape[1:] == space.shape and len(array):
        found = words.count(len(array), "environment")
        text += f" (the state is of initial({batch}); for {found} it is initial({len(array)}))"
    raise UserError(text)


def _read_is_first(value: object, state: PlayerState) -> np.ndarray:
    """[N] bool from one bool or N of them; by default the first call is the first row."""
    if value is None:
        return np.full(state.batch, state.step == 0)
    array = read_array("is_first", value, Space((), "bool"))
    if array.shape not in ((), (state.batch,)):
        raise UserError(
            f"observation 'is_first' has the shape {array.shape}; expected one bool, or {state.batch} of them"
        )
    return np.array(np.broadcast_to(array, state.batch))
