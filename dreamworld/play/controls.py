"""Buttons, choices and sliders made from an action space, and the actions that they stand for.

A control is one element of an action: `action`, or `action/0`, `action/1` … where it has several. Discrete ones have a
choice of classes, of two classes a toggle; continuous ones a slider from -1 to 1. The first control gets the arrow
keys, the next ones other groups of keys, so that several can be held at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from dreamworld.reading import is_number
from dreamworld.types import Space, Spaces

MOST = 64  # controls; a page of more is of no use
MANY = 512  # classes of one control
# Keys as a browser's KeyboardEvent.key names them; r a p h are the page's own.
# Those that push a continuous control down and up, control by control.
AXES = (("ArrowLeft", "ArrowRight"), ("ArrowDown", "ArrowUp"), ("j", "l"), ("k", "i"), ("f", "g"), ("v", "b"))
MOVES = {
    "left": "ArrowLeft",
    "right": "ArrowRight",
    "up": "ArrowUp",
    "down": "ArrowDown",
    "forward": "ArrowUp",
}
MOVES |= {"fire": "x"}
NOTHING = ("noop", "no-op", "nothing", "stay", "none", "idle")
FREE = "1234567890qwetyuiosdfgjklzcvbnm"  # for classes whose names say no direction


class Control(NamedTuple):
    """One element of an action."""

    name: str  # unique: the key of the action, and the element where there are several
    key: str  # of the action
    index: int  # element, flat
    kind: str  # choice, toggle, slider
    choices: tuple[str, ...]  # names of the classes
    keys: tuple[str, ...]  # of a choice or a toggle one of each class, "" for none; of a slider down and up
    default: float  # while nothing is held

    def plain(self) -> dict[str, Any]:
        """As the page gets it."""
        low, high = (-1.0, 1.0) if self.kind == "slider" else (0, len(self.choices) - 1)
        return {
            "name": self.name,
            "kind": self.kind,
            "label": self.name,
            "choices": list(self.choices),
            "low": low,
            "high": high,
            "default": self.default,
            "keys": list(self.keys),
        }


@dataclasses.dataclass(frozen=True)
class Controls:
    """All controls of an action space; `problem` says why nobody can play by hand, and is empty where one can."""

    spaces: Spaces
    items: tuple[Control, ...]
    problem: str = ""

    def action(self, values: Mapping[str, float]) -> dict[str, np.ndarray]:
        """The action that controls stand for; those that are not named are at rest."""
        found = {key: np.zeros(space.size, space.dtype) for key, space in self.spaces.items()}
        for control in self.items:
            found[control.key][control.index] = values.get(control.name, control.default)
        return {key: value.reshape(self.spaces[key].shape) for key, value in found.items()}

    def values(self, action: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Where the controls are in an action: the other way round."""
        flat = {key: np.asarray(value).reshape(-1) for key, value in action.items()}
        whole = {key for key, space in self.spaces.items() if _classes(space)}
        number = lambda c: (
            int(flat[c.key][c.index]) if c.key in whole else round(float(flat[c.key][c.index]), 4)
        )
        return {control.name: number(control) for control in self.items}

    def read(self, values: object) -> dict[str, float]:
        """What a browser sent, checked; ValueError that says what is wrong."""
        if not isinstance(values, dict):
            raise ValueError("the value of an action is no object of controls and numbers")
        known = {control.name: control for control in self.items}
        found: dict[str, float] = {}
        for name, value in values.items():
            control = known.get(name)
            if control is None:
                raise ValueError(f"there is no control {str(name)[:40]!r}")
            if not is_number(value):
                raise ValueError(f"control {name}: the value is no number")
            if control.kind == "slider":
                found[name] = min(1.0, max(-1.0, float(value)))
            elif value != int(value) or not 0 <= value < len(control.choices):
                raise ValueError(f"control {name}: takes whole numbers from 0 to {len(control.choices) - 1}")
            else:
                found[name] = int(value)
        return found


def make_controls(spaces: Spaces, names: Mapping[str, tuple[str, ...]] | None = None) -> Controls:
    """The controls of an action space; `names` {action key: names of its classes} where the environment has them."""
    if sum(space.size for space in spaces.values()) > MOST:
        return Controls(spaces, (), f"an action has more than {MOST} elements")
    if any(_classes(space) > MANY for space in spaces.values()):
        return Controls(spaces, (), f"an action has more than {MANY} classes")
    items: list[Control] = []
    free = list(FREE)
    for key, space in sorted(spaces.items()):
        for index in range(space.size):
            name = key if space.size == 1 else f"{key}/{index}"
            if _classes(space):
                items.append(_choice(name, key, index, space, (names or {}).get(key, ()), free, not items))
            else:
                axis = sum(item.kind == "slider" for item in items)
                keys = AXES[axis] if axis < len(AXES) else ()
                items.append(Control(name, key, index, "slider", (), keys, 0.0))
    return Controls(spaces, tuple(items))


def _classes(space: Space) -> int:
    return space.classes if space.classes is not None else 2 if space.dtype == "bool" else 0


def _choice(
    name: str, key: str, index: int, space: Space, names: tuple[str, ...], free: list[str], first: bool
) -> Control:
    count = _classes(space)
    low = int(space.native.low[index]) if space.native and len(space.native.low) > index else 0
    labels = names if len(names) == count else tuple(str(low + i) for i in range(count))
    rest = next((i for i, label in enumerate(labels) if label.lower() in NOTHING), 0)
    if count == 2 and (not first or space.size > 1):
        return Control(name, key, index, "toggle", labels, ("", _take(free)), 0)
    keys = _named_keys(labels) if first else [""] * count
    if first and not any(keys):
        keys = _plain_keys(count)
    for i, taken in enumerate(keys):
        if not taken and i != rest:
            keys[i] = _take(free)
    return Control(name, key, index, "choice", labels, tuple(keys), rest)


def _named_keys(labels: tuple[str, ...]) -> list[str]:
    """Keys of classes whose names are made of directions: `up`, `move_left`; several together for `UPRIGHT`."""
    found = [_keys_of(label) for label in labels]
    return [keys if keys and found.index(keys) == i else "" for i, keys in enumerate(found)]


def _keys_of(label: str) -> str:
    """The keys of one name; "" where it says anything else, too."""
    left, keys = label.lower().removeprefix("move"), []
    while left := left.lstrip("_- "):
        word = next((word for word in MOVES if left.startswith(word)), None)
        if word is None:
            return ""
        left = left.removeprefix(word)
        keys.append(MOVES[word])
    return "+".join(keys)


def _plain_keys(count: int) -> list[str]:
    """Of classes without names: two are left and right, three have nothing between them."""
    if count == 2:
        return ["ArrowLeft", "ArrowRight"]
    if count == 3:
        return ["ArrowLeft", "", "ArrowRight"]
    return [""] * count


def _take(free: list[str]) -> str:
    return free.pop(0) if free else ""
