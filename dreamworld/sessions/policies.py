"""Who acts: uniformly random actions, the agent of a run, or a function of the user's own."""

from __future__ import annotations

import difflib
import os
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from dreamworld import words
from dreamworld.envs.building import survivable
from dreamworld.envs.modules import import_user_module
from dreamworld.envs.names import nearest
from dreamworld.envs.spelling import require_module
from dreamworld.errors import UserError
from dreamworld.spaces import describe_space, describe_spaces
from dreamworld.types import Mode, Space, Spaces, TimeStep

if TYPE_CHECKING:
    from dreamworld.datasets.collect import Act
    from dreamworld.player import Player
    from dreamworld.sessions.stored import Stored

RANDOM = "random"


def is_run(name: str) -> bool:
    """Whether a policy is named by a folder."""
    return name != RANDOM and (os.path.isdir(os.path.expanduser(name)) or ":" not in name)


def check_name(name: str) -> None:
    """UserError for what is neither a folder nor looks like the path of one: it was meant for `random`."""
    if not os.path.exists(os.path.expanduser(name)) and difflib.get_close_matches(name.lower(), [RANDOM]):
        raise UserError(f"policy {name!r}: there is no such folder; did you mean {RANDOM}?")


def random_policy(act_space: Spaces, num_envs: int, seed: int) -> Act:
    """Uniform actions."""
    random = np.random.default_rng(seed)
    return lambda step: {key: space.sample(random, num_envs) for key, space in act_space.items()}


def run_policy(
    run: Stored, task: str, spaces: tuple[Spaces, Spaces], num_envs: int, *, mode: Mode, step: int, seed: int
) -> Act:
    """The agent of a run in environments with these spaces; UserError where it was trained on others."""
    from dreamworld.sessions import load, stored

    agent = stored.fitting_agent(run, task, *spaces)
    params = load.restore_params(run.rundir, agent, step if step >= 0 else None)
    return player_policy(load.make_player(run.config, agent, params, mode=mode, seed=seed), num_envs)


def player_policy(player: Player, num_envs: int) -> Act:
    """A player as a policy, which keeps what it remembers of so many environments."""
    state = player.initial(num_envs)

    def act(step: TimeStep) -> dict[str, np.ndarray]:
        nonlocal state
        state, action = player.act(state, {**step.obs, "is_first": step.is_first}, normalised=True)
        return action

    return act


def load_function(name: str) -> Callable[..., Any]:
    """The function `fn` of `module:fn`; UserError that says what is there instead."""
    module_name, _, attribute = name.partition(":")
    label = f"policy {name!r}"
    if not attribute.isidentifier() or not module_name:
        raise UserError(f"{label}: expected random, the folder of a run, or module:function")
    require_module(module_name, attribute, label)
    module = import_user_module(module_name, label)
    function = getattr(module, attribute, None)
    if not callable(function):
        close = nearest(attribute, [key for key, value in vars(module).items() if callable(value)])
        what = f"{module_name} has no function {attribute!r}"
        raise UserError(f"{label}: {what}" + (f"; did you mean {' or '.join(close)}?" if close else ""))
    return function


def function_policy(
    name: str, function: Callable[..., Any], act_space: Spaces, num_envs: int, seed: int
) -> Act:
    """`function(obs, random)`, called for each environment in turn: obs without a batch axis, a numpy Generator."""
    random = np.random.default_rng(seed)

    def act(step: TimeStep) -> dict[str, np.ndarray]:
        chosen = []
        for index in range(num_envs):
            obs = {key: value[index] for key, value in step.obs.items()} | {"is_first": step.is_first[index]}
            try:
                value = function(obs, random)
            except BaseException as error:
                raise _own_problem(name, survivable(error)) from error
            chosen.append(_read_action(name, value, act_space))
        return {key: np.stack([action[key] for action in chosen]) for key in act_space}

    return act


def _own_problem(name: str, error: Exception) -> UserError:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return UserError(f"policy {name!r} raised {words.exception(error)} ({frame.filename}:{frame.lineno})")


def _read_action(name: str, value: object, act_space: Spaces) -> dict[str, np.ndarray]:
    if not isinstance(value, dict):
        if len(act_space) != 1:
            raise UserError(f"policy {name!r}: return a mapping of {describe_spaces(act_space)}")
        value = {next(iter(act_space)): value}
    if value.keys() != act_space.keys():
        raise UserError(
            f"policy {name!r} returned {', '.join(map(repr, value))}; expected {describe_spaces(act_space)}"
        )
    return {key: _read_value(name, key, value[key], space) for key, space in act_space.items()}


def _read_value(name: str, key: str, value: object, space: Space) -> np.ndarray:
    expected = f"expected {describe_space(space)}" + ("" if space.discrete else " in [-1, 1]")
    try:
        array = np.asarray(value)
    except ValueError:  # lists of unequal length
        array = np.asarray(None)
    if array.dtype.kind not in ("iu" if space.discrete else "iuf") or array.shape != space.shape:
        raise UserError(f"policy {name!r} returned {array.dtype} {array.shape} for {key!r}; {expected}")
    wrong = (array < 0) | (array >= space.classes) if space.classes is not None else ~np.isfinite(array)
    if wrong.any():
        raise UserError(f"policy {name!r} returned {array[wrong][0]} for {key!r}; {expected}")
    return array
