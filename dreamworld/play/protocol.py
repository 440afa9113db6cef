"""What a browser may say: one JSON object a message, checked before anything is done with it."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from dreamworld import words
from dreamworld.reading import is_number

MAX_BYTES = 4096
MAX_RATE = 200  # messages in a second
MAX_SPEED = 60


class BadMessage(ValueError):
    """A message that no page of ours sends; `code` is that of the websocket's close frame."""

    def __init__(self, reason: str, code: int = 1008):
        super().__init__(reason)
        self.code = code


class Command(NamedTuple):
    """A message that was understood."""

    do: str
    value: Any = None
    name: str = ""  # of an edit
    id: int = 0  # of an action, which the step that it leads to gives back


def number(low: float, high: float, *, whole: bool = False) -> Callable[[object], float]:
    """Reads a number within bounds."""

    def read(value: Any) -> float:
        if not is_number(value):
            raise ValueError("needs a number")
        if whole and value != int(value):
            raise ValueError("needs a whole number")
        if not low <= value <= high:
            raise ValueError(f"needs a number from {low:g} to {high:g}")
        return int(value) if whole else float(value)

    return read


def text(most: int) -> Callable[[object], str]:
    """Reads a short text."""

    def read(value: object) -> str:
        if not isinstance(value, str) or len(value) > most:
            raise ValueError(f"needs a text of at most {words.count(most, 'character')}")
        return value

    return read


def flag(value: object) -> bool:
    """Reads true or false."""
    if not isinstance(value, bool):
        raise ValueError("needs true or false")
    return value


def controls(value: object) -> dict[str, Any]:
    """Reads an object; which controls there are is the session's to know."""
    if not isinstance(value, dict):
        raise ValueError("needs an object of controls and numbers")
    return value


def edited(value: object) -> Any:
    """Reads a number, or a point of two."""
    read = number(-1e9, 1e9)
    if isinstance(value, list):
        if len(value) != 2:
            raise ValueError("needs a number, or a point [x, y]")
        return [read(one) for one in value]
    return read(value)


WHOLE = 2**31 - 1
# {command: {field: (how it is read, whether it may be left out)}}; the fields are given on as `value` and `name`.
COMMANDS: dict[str, dict[str, tuple[Callable[[object], Any], bool]]] = {
    **{name: {} for name in ("hello", "play", "pause", "step", "anchor", "segments")},
    "action": {"value": (controls, False), "id": (number(0, 2**53, whole=True), True)},
    "speed": {"value": (number(1, MAX_SPEED), False)},
    "player": {"value": (text(20), False)},
    "temperature": {"value": (number(0, 3), False)},
    "reset": {"segment": (number(0, WHOLE, whole=True), True)},
    "rewind": {"to": (number(0, WHOLE, whole=True), False)},
    "branch": {"id": (number(0, WHOLE, whole=True), False)},
    "edit": {"name": (text(100), False), "value": (edited, False)},
    "record": {"on": (flag, False)},
    "replay": {"recording": (number(0, WHOLE, whole=True), False)},
    "save": {"what": (text(20), False)},
    "ack": {"frame": (number(0, 2**32 - 1, whole=True), False)},
}


def read(message: str | bytes) -> Command:
    """The command of a message; BadMessage with what is wrong with it."""
    if isinstance(message, bytes):
        raise BadMessage("a binary message: this server takes JSON text", 1003)
    if len(message) > MAX_BYTES or len(message.encode("utf-8", "replace")) > MAX_BYTES:
        raise BadMessage(f"a message of more than {MAX_BYTES} bytes", 1009)
    try:
        row = json.loads(message)
    except (ValueError, RecursionError):
        raise BadMessage("a message that is no JSON", 1007) from None
    if not isinstance(row, dict) or not isinstance(row.get("do"), str):
        raise BadMessage('a message without a command: {"do": ...}')
    fields = COMMANDS.get(row["do"])
    if fields is None:
        raise BadMessage(f"there is no command {row['do'][:40]!r}")
    if unknown := sorted(set(row) - {"do", *fields}):
        raise BadMessage(f"{row['do']} has no field {unknown[0][:40]!r}")
    found: dict[str, Any] = {}
    for name, (parse, optional) in fields.items():
        if name not in row:
            if not optional:
                raise BadMessage(f"{row['do']} needs the field {name!r}")
            continue
        try:
            found[name] = parse(row[name])
        except ValueError as error:
            raise BadMessage(f"{row['do']}: the field {name!r} {error}") from None
    name, mark = found.pop("name", ""), found.pop("id", 0) if row["do"] == "action" else 0
    return Command(row["do"], next(iter(found.values()), None), name, mark)


class Rate:
    """Counts messages; more than `most` within a second are too many."""

    def __init__(self, most: int = MAX_RATE, clock: Callable[[], float] = time.monotonic):
        self._most, self._clock = most, clock
        self._times: deque[float] = deque(maxlen=most + 1)

    def count(self) -> None:
        """One more message; BadMessage where that is one too many."""
        now = self._clock()
        self._times.append(now)
        if len(self._times) > self._most and now - self._times[0] < 1.0:
            raise BadMessage(f"more than {self._most} messages in a second")
