"""Numbers of the options: how they are written, and the ranges outside of which no run can make sense of them."""

from __future__ import annotations

import dataclasses
import enum
import math
import re
from typing import Any

from dreamworld.errors import UserError

MAX_DIGITS = 400
SHOWN = 60  # characters of a value that a message shows
# ASCII digits; underscores between them, as in Python. No hexadecimal numbers, no digits of other scripts.
_DIGITS = r"[0-9]+(?:_[0-9]+)*"
_INT = re.compile(rf"[+-]?{_DIGITS}")
_FLOAT = re.compile(rf"[+-]?(?:{_DIGITS}(?:\.(?:{_DIGITS})?)?|\.{_DIGITS})(?:[eE][+-]?[0-9]+)?")
_INFINITY = re.compile(r"([+-]?)\.?(?:inf|infinity)", re.IGNORECASE)


class Mark(enum.Enum):
    """What holds for an option, or for a whole group, beside its type: metadata of its field."""

    FIXED = "a stored run can't change it: parameters, replay or scores would not fit"
    SILENT = "a continued run may change it without a word; a change of any other one is reported"
    ACTING = "names a folder to write to, a service, or what a constructor is called with"
    OPTIONAL = "empty text, given on a command line, is one of its values"


FIXED, SILENT, ACTING, OPTIONAL = Mark


@dataclasses.dataclass(frozen=True)
class Range:
    """The least and the largest number that an option takes (every element, for a list)."""

    low: float
    high: float

    def check(self, value: Any, shown: str) -> None:
        """Raises UserError when the number, or one of a tuple, is outside; `shown` names the option."""
        for number in value if isinstance(value, tuple) else (value,):
            if not isinstance(number, str) and not self.low <= number <= self.high:
                got = show(number) if isinstance(number, int) else f"{number:g}"
                raise UserError(f"{shown}: got {got}, expects {self._words(number)}")

    def _words(self, number: float) -> str:
        if self.high <= 1000:
            return f"between {self.low:.12g} and {self.high:.12g}"
        return f"at least {self.low:.12g}" if number < self.low else f"at most {self.high:.12g}"


SHARE = Range(0, 1)
SEED = Range(0, 2**31 - 1)
STEPS = Range(1, 1e12)
PERIOD = Range(0, 1e12)  # 0 switches it off
MAX_STEP = 10**13 - 1  # that a run can come to: the last iteration may go beyond run.steps
LAYERS = Range(0, 64)
COUNT = Range(1, 65_536)
SCALE = Range(0, 1e6)
DECAY = Range(0, 0.9999999)  # 1 would divide by zero
EPS = Range(
    1e-30, 1
)  # added to what may be zero and is divided by: float32 can hold it, and 0 would be a NaN
PERCENTILE = Range(0, 100)
EPISODES = Range(1, 100_000)
DEVICES = Range(-1, 65_536)


def parse_int(value: int | float | str) -> int:
    """A whole number; `1e6` is one. Raises ValueError or OverflowError."""
    if isinstance(value, str) and _INT.fullmatch(value.strip()) and len(value) <= MAX_DIGITS:
        return int(value)
    number = parse_float(value) if isinstance(value, str) else value
    if number != int(number):
        raise ValueError(value)
    return int(number)


def parse_float(value: int | float | str) -> float:
    """A number that is not NaN; takes YAML's spelling of infinity, too. Raises ValueError or OverflowError."""
    if isinstance(value, str):
        text = value.strip()
        infinite = _INFINITY.fullmatch(text)
        if infinite:
            return -math.inf if infinite[1] == "-" else math.inf
        if len(text) > MAX_DIGITS or not _FLOAT.fullmatch(text):
            raise ValueError(value)
        value = text
    number = float(value)
    if math.isnan(number):
        raise ValueError(value)
    return number


def show(value: object) -> str:
    """A value for a message, in the spelling of Python, long ones cut short."""
    if isinstance(value, list | tuple):
        return shorten("[" + ", ".join(show(item) for item in value[:SHOWN]) + "]")
    return shorten(repr(value))


def shorten_words(text: str, most: int = 500) -> str:
    """`text` with its words of more than `most` characters cut short: nobody reads such a name in a message."""
    return re.sub(rf"\S{{{most},}}", lambda word: shorten(word[0]), text)


def shorten(text: str, most: int = SHOWN) -> str:
    """`text`, with its middle left out where it is longer than `most` characters."""
    if len(text) <= most:
        return text
    return f"{text[: most // 2]}…{text[-most // 4 :]} ({len(text):,} characters)"
