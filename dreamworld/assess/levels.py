"""Metric 10, the level card: which levels a world reaches, and the number that stops it."""

from __future__ import annotations

import operator
from typing import NamedTuple

from dreamworld.assess.sheet import Sheet


class Level(NamedTuple):
    """One of the levels. `reached` is None where it was not measured."""

    name: str
    asks: str
    reached: bool | None
    shown: str  # the number, or what it needs


HOLDS = {">": operator.gt, "≥": operator.ge, "<": operator.lt}


class Ask(NamedTuple):
    """A number and its bound."""

    name: str  # in the sheet
    text: str
    bound: float
    sign: str  # of HOLDS, between the number and its bound


def levels(sheet: Sheet) -> list[Level]:
    """All levels, from L0 to L4."""
    key = _key(sheet)
    useful = f"drift/{key}/useful_horizon"
    asks = {
        "L0": [Ask(f"drift/{key}/skill_1", "skill after one step", 0, ">")],
        "L1": [Ask("realism/c2st", "accuracy of a classifier of real and dreamt", 0.75, "<")],
        "L2": [
            Ask("surprise/auroc", "AUROC of surprise at the impossible", 0.8, ">"),
            Ask("objects/bounce_sign", "right directions after a bounce", 0.9, ">"),
        ],
        "L3": [
            Ask(f"actions/{key}/cfc", "cosine of effects of actions", 0.9, ">"),
            Ask(useful, "useful horizon", 50, "≥"),
        ],
        "L4": [Ask("objects/centroid_error@100", "centroid error after 100 steps, pixels", 0.5, "<")],
    }
    return [_level(sheet, name, wanted) for name, wanted in asks.items()]


def _key(sheet: Sheet) -> str:
    """The observation that is judged: the picture where there is one."""
    keys = sorted({name.split("/")[1] for name in sheet.metrics if name.startswith("drift/")})
    images = [key for key in keys if f"drift/{key}/psnr" in sheet.metrics]
    return (images or keys or ["?"])[0]


def _level(sheet: Sheet, name: str, wanted: list[Ask]) -> Level:
    shown, reached = [], []
    for ask in wanted:
        value = _value(sheet, ask.name)
        if value is None:
            shown.append(f"{ask.text}: not measured")
            reached.append(None)
            continue
        reached.append(HOLDS[ask.sign](value, ask.bound))
        shown.append(f"{ask.text}: {value:.3g}")
    asks = " and ".join(f"{ask.text} {ask.sign} {ask.bound:g}" for ask in wanted)
    all_hold = False if False in reached else None if None in reached else True
    return Level(name, asks, all_hold, "; ".join(shown))


def _value(sheet: Sheet, name: str) -> float | None:
    """A number, or the value of a curve at a step: `name@100`."""
    name, at, step = name.partition("@")
    if not at:
        return sheet.value(name)
    curve = sheet.curves.get(name)
    if curve is None or len(curve.value) < int(step):
        return None
    value = float(curve.value[int(step) - 1])
    return value if value == value else None


def summary(card: list[Level]) -> str:
    """`reaches L0; stopped at L1: …`."""
    reached = ""
    for level in card:
        if level.reached is not True:
            begin = f"reaches {reached}" if reached else "reaches no level"
            why = "stopped at" if level.reached is False else "not measured:"
            return f"{begin}; {why} {level.name} ({level.shown}; asked: {level.asks})"
        reached = level.name
    return f"reaches {reached}, the last one"
