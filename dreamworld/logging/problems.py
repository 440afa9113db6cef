"""What could not be written or drawn: told in one line each, and never raised into training."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from dreamworld.text import printable


class Problems:
    """Collects what goes wrong, each thing once, until somebody takes it.

    A file that can't be written is tried again, and told again when it can be. What can't be made at all (a package,
    an encoder or a renderer is missing, a library raises) is told once, and not tried again in this run.
    """

    def __init__(self, then: str = "Training goes on.") -> None:
        self._then = then  # what happens all the same
        self._texts: dict[str, None] = {}  # in order
        self._failing: dict[str, str] = {}  # what -> why, as it was told
        self._given_up: set[str] = set()

    @contextlib.contextmanager
    def told(self, what: str) -> Iterator[None]:
        """Makes an OSError a problem to be told."""
        try:
            yield
        except OSError as error:
            why = error.strerror or str(error)
            where = "" if os.sep in what or not error.filename else f" ({printable(error.filename)})"
            self._tell(what, why, f"NOT WRITTEN: {what}: {why}{where}. {self._then}".strip())
        else:
            if self._failing.pop(what, ""):
                self._texts[f"written again: {what}"] = None

    @contextlib.contextmanager
    def attempt(self, kind: str, what: str = "") -> Iterator[None]:
        """Makes anything that goes wrong a problem; unless the disk did not take it, `kind` is given up.

        `what` names the one thing at hand, by default all of its kind.
        """
        try:
            with self.told(what or kind):
                try:
                    yield
                except OSError as error:
                    if error.errno is None:  # of a library, not of the system
                        raise RuntimeError(str(error)) from error
                    raise
        except Exception as error:
            self.give_up(kind, f"{type(error).__name__}: {error}")

    def give_up(self, kind: str, why: str) -> None:
        """From now on `kind` is not tried again."""
        if self.goes(kind):
            self._given_up.add(kind)
            why = " ".join(why.split())
            why = why if len(why) < 400 else f"{why[:150]} ... {why[-200:]}"
            self._texts[f"NO MORE {kind} in this run: {why}. {self._then}".strip()] = None

    def goes(self, kind: str) -> bool:
        """Whether `kind` was not given up."""
        return kind not in self._given_up

    def take(self) -> list[str]:
        """The problems since the last call."""
        texts, self._texts = list(self._texts), {}
        return texts

    def _tell(self, what: str, why: str, text: str) -> None:
        if self._failing.get(what) != why:
            self._failing[what] = why
            self._texts[text] = None
