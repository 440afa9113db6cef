"""What a worker process runs: a `EnvGroup` whose rows live in shared memory. It never imports JAX."""

from __future__ import annotations

import faulthandler
import functools
import os
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, NamedTuple

from dreamworld import streams
from dreamworld.config import EnvConfig
from dreamworld.envs.vector.alone import beside_another
from dreamworld.envs.vector.common import EnvFailure, RowArrays, describe
from dreamworld.envs.vector.inprocess import EnvGroup
from dreamworld.envs.vector.shared import SharedArrays, shared_arrays
from dreamworld.errors import UserError
from dreamworld.types import Spaces

if TYPE_CHECKING:
    from dreamworld.envs.base import Env


class Setup(NamedTuple):
    """What a worker is told first."""

    make: str | Callable[..., Any]  # name or importable factory
    config: EnvConfig
    first: int  # index of its first environment
    num: int  # environments it hosts


class Ready(NamedTuple):
    """What a worker answers when its environments stand."""

    obs_space: Spaces
    act_space: Spaces


class Failed(NamedTuple):
    """What a worker answers when it can't go on: too many failures, or environments that can't be built."""

    what: str
    trace: str
    user: bool  # the user's to mend: shown without a traceback


class Done(NamedTuple):
    """What a worker answers when a request is done; rows are in the shared memory."""

    logs: dict[int, dict[str, float]]
    events: list[str]
    result: object = None


def maker(make: str | Callable[..., Any], config: EnvConfig) -> Callable[[], Env]:
    """A factory of one environment; of an object that the user made, one that leaves it open."""
    from dreamworld.envs.factory import make_env
    from dreamworld.envs.sources import is_object
    from dreamworld.envs.wrappers import Borrowed

    if is_object(make):
        return lambda: Borrowed(make_env(make, config))
    return lambda: make_env(make, config)


def main(connection: Connection, memory: int, trace: int) -> None:
    """Serves requests until told to close, or until the parent is gone."""
    streams.guard_process("stdout", "stderr")  # what an environment prints must not end it
    faulthandler.enable(trace)
    faulthandler.register(signal.SIGUSR1, trace)  # asked for before a hanging worker is killed
    threading.Thread(target=_die_with_parent, args=(os.getppid(),), daemon=True).start()
    try:
        setup: Setup = connection.recv()
        _serve(connection, memory, setup)
    except (EOFError, ConnectionError):
        os._exit(1)  # the parent is gone: nobody waits for a tidy end


def _die_with_parent(parent: int) -> None:
    """Ends this process when its parent has died, even while an environment hangs."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def _serve(connection: Connection, memory: int, setup: Setup) -> None:
    try:
        make = maker(setup.make, setup.config)
        group = EnvGroup(
            make,
            setup.num,
            first=setup.first,
            max_failures=setup.config.max_failures,
            beside=functools.partial(beside_another, setup.make, setup.config),
        )
    except Exception as error:
        what, trace = describe(error)
        user = isinstance(error, UserError)
        connection.send(Failed(str(error) if user else what, trace, user))
        return
    connection.send(Ready(group.obs_space, group.act_space))
    begin = connection.recv()
    if begin[0] == "close":  # the parent was stopped before everything stood
        group.close()
        return
    total, seed, attempt = begin
    group.seed(seed, attempt)
    shared = SharedArrays(memory, shared_arrays(group.obs_space, group.act_space, total))
    part = slice(setup.first, setup.first + setup.num)
    arrays = {name: array[part] for name, array in shared.arrays.items()}
    rows = RowArrays(group.obs_space, setup.num, arrays)
    action = {key: arrays[f"action/{key}"] for key in group.act_space}
    while True:
        verb, argument = connection.recv()
        if verb == "close":
            group.close()
            return
        try:
            result = _handle(group, verb, argument, action, rows)
        except EnvFailure as error:
            connection.send(Failed(str(error), "", isinstance(error, UserError)))
        except Exception as error:
            connection.send(Failed(*describe(error), False))
        else:
            connection.send(Done(group.logs, group.events, result))


def _handle(group: EnvGroup, verb: str, argument: Any, action: dict, rows: RowArrays) -> Any:
    if verb == "step":
        # Copies: environments may keep their last action, and the parent writes the next one to this memory.
        group.step({key: value.copy() for key, value in action.items()}, rows, rows)
    elif verb == "begin":
        indices, seed = argument
        if seed is not None:
            group.seed(seed)
        group.begin(indices, rows)
    elif verb == "render":
        return group.render(argument)
    elif verb == "no_picture":
        return group.no_picture(argument)
    elif verb == "save":
        return group.save()
    elif verb == "restore":
        group.restore(argument, rows.is_last)
    else:
        raise ValueError(f"unknown request {verb!r}")
    return None
