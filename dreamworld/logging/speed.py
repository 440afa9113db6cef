"""How fast a training is and how long it will take: pauses are no part of its speed, but of the time that is left."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Mapping


class Speed:
    """Steps per second of training, over the last minute or so, and the time left.

    A pause (an evaluation, a report, a save, a compilation) stops this clock. Those that come every so many steps
    are expected to take as long as they took so far.
    """

    def __init__(self, total: float, window_s: float = 60.0):
        self._total = total
        self._window_s = window_s
        self._marks: deque[tuple[float, float]] = deque()
        self._paused_s = 0.0
        self._every: dict[str, float] = {}  # pause -> steps between two of it
        self._took: dict[str, dict[float, float]] = {}  # pause -> {step: seconds}

    def update(self, step: float, now: float | None = None) -> None:
        """Marks that `step` agent steps are done; at most four marks a second are kept."""
        now = (time.monotonic() if now is None else now) - self._paused_s
        if len(self._marks) > 1 and now - self._marks[-2][0] < 0.25:
            self._marks.pop()
        self._marks.append((now, step))
        while len(self._marks) > 2 and now - self._marks[0][0] > self._window_s:
            self._marks.popleft()

    def expect(self, every: Mapping[str, float]) -> None:
        """Pauses to come: steps between two of each kind, 0 for none."""
        self._every = {name: steps for name, steps in every.items() if steps > 0}

    def pause(self, name: str, seconds: float) -> None:
        """A pause that has just ended; several at the same step count as one."""
        self._paused_s += seconds
        took = self._took.setdefault(name, {})
        took[self._step] = took.get(self._step, 0.0) + seconds

    def restart(self) -> None:
        """Forgets the speed so far: from now on a step means other work."""
        self._marks.clear()

    @property
    def _step(self) -> float:
        return self._marks[-1][1] if self._marks else 0.0

    @property
    def fps(self) -> float:
        """Steps per second; NaN before two marks, when nothing is measured."""
        if len(self._marks) < 2:
            return math.nan
        (start_s, start), (end_s, end) = self._marks[0], self._marks[-1]
        return (end - start) / max(1e-9, end_s - start_s)

    @property
    def eta_s(self) -> float:
        """Seconds until `total` steps, with the pauses that were seen before; inf when nothing moves."""
        left = max(0.0, self._total - self._step)
        return left / self.fps + self.pauses_s if self.fps > 0 else (0.0 if left == 0 else math.inf)

    @property
    def pauses_s(self) -> float:
        """Seconds of the pauses that are left, those of a kind that did not come yet left out."""
        return sum(self._left(name) * self._usual_s(name) for name in self._every if name in self._took)

    def _usual_s(self, name: str) -> float:
        """Mean duration; without the first one, which compiles, once there is another."""
        seconds = list(self._took[name].values())
        seconds = seconds[1:] or seconds
        return sum(seconds) / len(seconds)

    @property
    def unknown(self) -> list[str]:
        """Pauses that will come and never came."""
        return [name for name in self._every if self._left(name) and name not in self._took]

    def _left(self, name: str) -> int:
        every = self._every[name]
        return max(0, int(self._total // every - self._step // every))
