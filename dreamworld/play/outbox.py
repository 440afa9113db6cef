"""What waits for a browser: texts in order, and the newest step. Nothing else queues, so memory stays flat."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from dreamworld.play.readouts import Step

MOST_TEXTS = 256  # of a browser that reads nothing
UNSEEN = 2  # steps that were sent and not painted yet


class Full(RuntimeError):
    """A browser has not read for so long that its session is given up."""


class Outbox:
    """Filled by a session's thread, emptied by the server's; `wake` is called where there is something to send."""

    def __init__(self, wake: Callable[[], None]):
        self._wake, self._lock = wake, threading.Lock()
        self._texts: deque[dict[str, Any]] = deque()
        self._step: Step | None = None
        self._sent: deque[int] = deque()  # numbers of steps that are not acknowledged
        self.dropped = 0

    def put(self, event: dict[str, Any] | Step) -> None:
        """Adds an event; a step takes the place of one that was not sent yet."""
        with self._lock:
            if isinstance(event, Step):
                self.dropped += self._step is not None
                self._step = event
            elif len(self._texts) >= MOST_TEXTS:
                raise Full("the browser does not read what it is sent")
            else:
                self._texts.append(event)
        self._wake()

    def acknowledge(self, number: int) -> None:
        """The browser has painted step `number`, and so all before it."""
        with self._lock:
            while self._sent and self._sent[0] <= number:
                self._sent.popleft()
        self._wake()

    def take(self) -> tuple[list[dict[str, Any]], Step | None]:
        """Everything that may be sent now."""
        with self._lock:
            texts = list(self._texts)
            self._texts.clear()
            step = None
            if self._step is not None and len(self._sent) < UNSEEN:
                step, self._step = self._step, None
                self._sent.append(step.numbers["n"])
                step.numbers["dropped"] = self.dropped
            return texts, step
