"""Functions of a user that look at a training: its log rows, the episodes that end, its checkpoints."""

from __future__ import annotations

import inspect
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from dreamworld import words
from dreamworld.errors import StopTraining, UserError
from dreamworld.text import printable

OnLog: TypeAlias = Callable[[dict[str, float]], object]  # a log row
OnEpisode: TypeAlias = Callable[[dict[str, float]], object]  # an episode that ended
OnCheckpoint: TypeAlias = Callable[[Path, int], object]  # the folder of a checkpoint, and its step

ARGUMENTS = {"on_log": ("row",), "on_episode": ("row",), "on_checkpoint": ("path", "step")}


class Callbacks:
    """What `dreamworld.train` was given; all seeds of a training share it.

    Raises UserError for what can't be called with the arguments that it would get.
    """

    def __init__(
        self,
        on_log: OnLog | None = None,
        on_episode: OnEpisode | None = None,
        on_checkpoint: OnCheckpoint | None = None,
    ):
        given = {"on_log": on_log, "on_episode": on_episode, "on_checkpoint": on_checkpoint}
        self._functions = {name: function for name, function in given.items() if function is not None}
        self._told: set[str] = set()
        for name, function in self._functions.items():
            check(name, function)

    def __contains__(self, name: str) -> bool:
        """Whether there is such a function."""
        return name in self._functions

    def call(
        self, name: str, *args: object, tell: Callable[[str], object], stop: Callable[[str], object]
    ) -> None:
        """Calls the function of that name, if there is one. What it raises never raises into training.

        `stop` is called with a reason where it raises StopTraining; anything else is told, of each function once.
        """
        function = self._functions.get(name)
        if function is None:
            return
        try:
            function(*args)
        except StopTraining as request:
            text = printable(words.said(request))
            stop(f"{name} ({text})" if text else name)
        except Exception as error:
            if name not in self._told:
                self._told.add(name)
                tell(
                    f"warning: {name} ({called(function)}) raised {printable(words.exception(error))}{place(error)}. "
                    "Training goes on and calls it again; what else it raises is not told."
                )


def check(name: str, function: object) -> None:
    """UserError where a function can't be called as `on_log`, `on_episode` or `on_checkpoint` is."""
    arguments = ARGUMENTS[name]
    form = f"{name}({', '.join(arguments)})"
    if not callable(function):
        raise UserError(
            f"train: {name} is {words.type_of(function)}; give a function that is called as {form}"
        )
    if inspect.iscoroutinefunction(function):
        raise UserError(f"train: {name} ({called(function)}) is asynchronous; give a plain function")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of some functions written in C nothing is known
        return
    try:
        signature.bind(*arguments)
    except TypeError as error:
        raise UserError(
            f"train: {name} ({called(function)}) can't be called as {form}: {printable(error)}"
        ) from None


def called(function: object) -> str:
    """The name of a function, or of the type of what is called in its place."""
    name = getattr(function, "__qualname__", None)
    return printable(name if isinstance(name, str) else type(function).__qualname__)


def place(error: Exception) -> str:
    """The last line of a traceback, in brackets: the file and the line where the error was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    last = frames[-1] if frames else None
    return f" ({printable(os.path.basename(last.filename))}, line {last.lineno})" if last else ""
