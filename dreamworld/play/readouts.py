"""The numbers and pictures of a moment: what happened, what was dreamed, and how far they are apart."""

from __future__ import annotations

import math
import time
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dreamworld import words
from dreamworld.assess.drift import psnr
from dreamworld.play.encode import as_rgb
from dreamworld.play.reality import Row
from dreamworld.play.timeline import Moment

if TYPE_CHECKING:
    from dreamworld.play.world import World

REAL, DREAM = 0, 1  # lanes
PAUSE_S = 1.0


class Picture(NamedTuple):
    """One picture of a lane."""

    lane: int
    index: int  # of the image key
    image: np.ndarray  # uint8 [H, W, 3]


class Step(NamedTuple):
    """What a page is shown of a moment; only the newest one counts."""

    numbers: dict[str, Any]
    pictures: list[Picture]


class Spread:
    """The variance of vectors over the rows of a session, by which their errors are normalised."""

    def __init__(self) -> None:
        self._count = 0
        self._mean: dict[str, np.ndarray] = {}
        self._square: dict[str, np.ndarray] = {}

    def add(self, row: Row) -> None:
        """One more row (Welford's recursion)."""
        self._count += 1
        for key, value in row.obs.items():
            if value.dtype == np.uint8 and value.ndim == 3:
                continue
            value = np.asarray(value, np.float64)
            mean = self._mean.setdefault(key, np.zeros_like(value))
            square = self._square.setdefault(key, np.zeros_like(value))
            change = value - mean
            self._mean[key] = mean + change / self._count
            self._square[key] = square + change * (value - self._mean[key])

    def variance(self, key: str) -> np.ndarray | None:
        """Per element; None before there are two rows."""
        return self._square[key] / (self._count - 1) if self._count > 1 and key in self._square else None


class Rate:
    """Steps per second, of the newest ones; a pause begins a new measurement."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=30)

    def count(self) -> None:
        """One more step."""
        now = time.perf_counter()
        if self._times and now - self._times[-1] > PAUSE_S:
            self._times.clear()
        self._times.append(now)

    @property
    def per_second(self) -> float:
        """0 before there are two."""
        times = self._times
        return (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 and times[-1] > times[0] else 0.0


def notice(text: str, kind: str) -> dict[str, Any]:
    """A line for the person who plays: info, warning or error."""
    return {"on": "notice", "text": text, "kind": kind}


def describe(world: World, moment: Moment, spread: Spread) -> Step:
    """The event of a moment."""
    row, shown = moment.row, moment.shown
    numbers: dict[str, Any] = {
        "on": "step",
        "t": moment.t,
        "k": moment.k,
        "real": None if row is None else _real(world, row, moment.returns[0]),
        "dream": None if shown is None else _dream(world, moment),
        "drift": {} if row is None or shown is None else drift(row.obs, shown.obs, spread),
        "surprise": _finite(moment.surprise),
        "action": None if moment.action is None else world.controls.values(moment.action),
        "player": moment.who,
        "temperature": moment.temperature,
        "latent": None if shown is None else shown.latent,
    }
    return Step(numbers, pictures(world, moment))


def notices(world: World, moment: Moment) -> list[tuple[str, str]]:
    """What is to be said of a step that was taken: (kind, text)."""
    found = []
    useful, row = world.useful_horizon, moment.row
    if useful is not None and world.dreamer and moment.k == useful + 1:
        steps = words.count(useful, "step")
        found.append(("info", f"the dream is past its useful horizon of {steps} (from assess)"))
    if row is None:
        return found
    found += [("warning", event) for event in row.events]
    if row.is_last:
        how = "ended" if row.is_terminal else "was cut by its time limit"
        text = f"the episode {how} after {words.count(moment.t, 'step')} with return {moment.returns[0]:.4g}"
        found.append(("info", f"{text}; the next step begins a new one"))
    return found


def pictures(world: World, moment: Moment) -> list[Picture]:
    """Those of both lanes."""
    found = []
    row, shown = moment.row, moment.shown
    for index, key in enumerate(world.images):
        if row is not None:
            image = row.picture if world.rendered else as_rgb(row.obs[key])
            found += [] if image is None else [Picture(REAL, index, image)]
        if shown is not None and world.rendered and world.draw and shown.obs:
            image = world.draw(shown.obs)
            found += [] if image is None else [Picture(DREAM, index, image)]
        elif shown is not None and key in shown.obs:
            found.append(Picture(DREAM, index, as_rgb(shown.obs[key])))
    return found


def drift(real: dict[str, np.ndarray], dream: dict[str, np.ndarray], spread: Spread) -> dict[str, Any]:
    """Per decoded key: mean squared error (of pictures in 0..1), PSNR in dB of pictures, of vectors the error that is
    divided by the variance of each element."""
    found = {}
    for key, value in dream.items():
        error = np.asarray(value, np.float64) - np.asarray(real[key], np.float64)
        if value.dtype == np.uint8 and value.ndim == 3:
            mse = float(np.mean(np.square(error / 255)))
            found[key] = {"mse": mse, "psnr": round(float(psnr(mse)), 3), "nmse": None}
            continue
        variance = spread.variance(key)
        normalised = None
        if variance is not None and (moving := variance > 1e-12).any():
            normalised = _finite(float(np.mean(np.square(error)[moving] / variance[moving])))
        found[key] = {"mse": _finite(float(np.mean(np.square(error)))), "psnr": None, "nmse": normalised}
    return found


def _real(world: World, row: Row, total: float) -> dict[str, Any]:
    return {
        "reward": _finite(row.reward),
        "return": _finite(total),
        "cont": 0.0 if row.is_terminal else 1.0,
        "ended": row.ended,
        "vector": _vectors(world, row.obs),
    }


def _dream(world: World, moment: Moment) -> dict[str, Any]:
    shown = moment.shown
    assert shown is not None
    return {
        "reward": _finite(shown.reward),
        "return": _finite(moment.returns[1]),
        "cont": _finite(shown.cont),
        "ended": "terminated" if shown.cont is not None and shown.cont < 0.5 else None,
        "vector": _vectors(world, shown.obs),
        "value": _finite(shown.value),
    }


def _vectors(world: World, obs: dict[str, np.ndarray]) -> dict[str, list[float | None]]:
    keys = [key for key in world.vectors if key in obs]
    return {key: [_finite(float(x)) for x in np.asarray(obs[key]).reshape(-1)] for key in keys}


def _finite(value: float | None) -> float | None:
    """JSON has no NaN."""
    return round(value, 6) if value is not None and math.isfinite(value) else None
