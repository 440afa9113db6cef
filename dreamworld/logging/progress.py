"""The progress line: a live one on a terminal, now and then a plain one elsewhere. Messages go above it.

Nothing here raises: a stream that takes nothing is guarded (`dreamworld.streams`), a line that can't be drawn is
written as plain text.
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterator
from typing import TextIO

from dreamworld import streams, words
from dreamworld.logging.speed import Speed
from dreamworld.text import printable_lines

BAR = 9  # columns that the bar has at least, with a space behind it, where the numbers leave any


class Progress:
    """Shows agent steps, updates, environment frames per second, last and mean return, and ETA.

    `show` False prints messages only. Without a terminal a plain line comes every `plain_every_s` seconds.
    Nothing here reads from the device: pass host numbers.
    """

    def __init__(
        self,
        total: float,
        *,
        frames_per_step: int = 1,
        show: bool = True,
        file: TextIO | None = None,
        plain_every_s: float = 60.0,
    ):
        from rich.console import Console

        self.speed = Speed(total)
        self._total = total
        self._frames_per_step = frames_per_step
        self._show = show
        self._plain_every_s = plain_every_s
        self._file = streams.guard(file or sys.stderr)
        # FORCE_COLOR, which notebooks and CI systems set, asks for colours: there is still no line to draw over.
        terminal = None if self._file.isatty() else False
        self._console = Console(file=self._file, force_terminal=terminal, soft_wrap=True, highlight=False)  # type: ignore[arg-type]
        self._live = None
        self._shown_s = -math.inf
        self._unshown = ""
        self._step = 0.0

    def update(self, step: float, updates: int, last_return: float, mean_return: float) -> None:
        """Takes the newest numbers; draws at most ten times a second."""
        now = time.monotonic()
        self.speed.update(step, now)
        self._step = step
        if not self._show:
            return
        width = self._console.width - BAR if self._console.is_terminal else 0
        text = self.line(step, updates, last_return, mean_return, width)
        if now - self._shown_s < (0.1 if self._console.is_terminal else self._plain_every_s):
            self._unshown = text
            return
        self._shown_s, self._unshown = now, ""
        if self._console.is_terminal:
            self._say(lambda: self._draw(step, text), text)
        else:
            self.message(text)

    def line(self, step: float, updates: int, last_return: float, mean_return: float, width: int = 0) -> str:
        """The numbers as text; with a `width`, as many of them as fit into it, the time left always."""
        total = max(round(step), round(self._total))  # the last iteration may go beyond
        done, fps = f"{round(step):,}/{total:,}", f"{words.rate(self.speed.fps * self._frames_per_step)} fps"
        counts = f"{round(step):,}/{words.count(total, 'step')}  {words.count(updates, 'update')}"
        last, mean = f"return {format_number(last_return)}", f"(mean {format_number(mean_return)})"
        eta = f"ETA {format_duration(self.speed.eta_s)}"
        forms = [
            f"{counts}  {fps}  {last} {mean}  {eta}{self._without()}",
            f"{counts}  {fps}  {last} {mean}  {eta}",
        ]
        forms += [f"{done}  {fps}  {last} {mean}  {eta}", f"{done}  {last}  {eta}"]
        return next((form for form in forms if not width or len(form) <= width), forms[-1])

    def _without(self) -> str:
        """What the time left does not hold: evaluations before the first one."""
        return " without evaluations" if "evaluation" in self.speed.unknown else ""

    @contextlib.contextmanager
    def pause(self, name: str, text: str = "") -> Iterator[None]:
        """Time that is no part of the speed; `text` says what is done instead."""
        began = time.monotonic()
        if text and self._show and self._console.is_terminal:
            self._say(lambda: self._draw(self._step, text), text)
        elif text and self._show:
            self.message(text)
        try:
            yield
        finally:
            self.speed.pause(name, time.monotonic() - began)

    def message(self, text: str) -> None:
        """Prints text above the line."""
        text = printable_lines(text)
        self._say(lambda: self._console.print(text, markup=False, emoji=False), text)

    def print(self, renderable: object, text: str = "") -> None:
        """Prints a rich renderable above the line; `text` where it can't be drawn."""
        self._say(lambda: self._console.print(renderable), text)

    def _say(self, draw: Callable[[], None], text: str) -> None:
        try:
            draw()
        except Exception:  # a terminal that rich can't handle must not end a training
            self._file.write(f"{text}\n")

    def close(self) -> None:
        """Leaves the last line on the screen; safe to call twice."""
        if self._live is not None:
            live, self._live = self._live, None
            self._say(live.stop, "")
        elif self._unshown:
            self.message(self._unshown)
        self._unshown = ""

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _draw(self, step: float, text: str) -> None:
        from rich.live import Live
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        width = self._console.width
        grid = Table.grid(padding=(0, 1))
        bar = ProgressBar(
            total=max(1.0, self._total), completed=step, width=max(0, min(16, width - len(text) - 1))
        )
        grid.add_row(bar, Text(text, no_wrap=True, overflow="ellipsis"))
        if self._live is None:
            self._live = Live(grid, console=self._console, auto_refresh=False)
            self._live.start()
        self._live.update(grid, refresh=True)


def format_duration(seconds: float) -> str:
    """`45s`, `12m 5s`, `3h 20m`, `2d 4h`; `?` when unknown."""
    if not math.isfinite(seconds):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d {hours}h"
    if hours:
        return f"{hours}h {minutes}m"
    return f"{minutes}m {rest}s" if minutes else f"{rest}s"


def format_number(value: float) -> str:
    """A return in at most five characters or so; `-` before the first episode."""
    if math.isnan(value):
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
