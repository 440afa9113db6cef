"""Strips of pictures for a page: truth, dream and difference of single segments, and the fan of actions."""

from __future__ import annotations

import base64
import io
from typing import NamedTuple

import jax
import numpy as np

from dreamworld import nets
from dreamworld.assess import dreams
from dreamworld.assess.dreams import Dreaming
from dreamworld.assess.judge import Judged
from dreamworld.assess.scene import scenes
from dreamworld.assess.segments import Segments, below
from dreamworld.contract import Simulator
from dreamworld.types import Params

SHOWN = 14  # pictures of a strip, at most
GAP = 1  # white pixels between pictures


class Strip(NamedTuple):
    """A segment and its dream."""

    name: str  # median or worst
    number: int  # of the segment
    rows: str  # those that are shown, from 1
    seen: int  # of them, those that the model saw
    truth: np.ndarray  # [T, h, w, c] in 0..1
    dream: np.ndarray  # [T, h, w, c]


def strips(judged: Judged, simulator: Simulator, params: Params, segments: Segments) -> list[Strip]:
    """The median and the worst segment by mean error of its pictures; none without pictures that are decoded."""
    keys = sorted(
        key for key, space in segments.obs_space.items() if space.is_image and f"mse/{key}" in judged.found
    )
    whole = np.flatnonzero(segments.valid.all(1))
    if not keys or not len(whole):
        return []
    key = keys[0]
    error = judged.found[f"mse/{key}"][whole].mean((1, 2))
    order = whole[np.argsort(error)]
    chosen = np.array([order[len(order) // 2], order[-1]])
    dreaming = Dreaming(simulator, segments.obs_space, scenes(segments), segments.context, 1, keep=True)
    found = jax.device_get(
        jax.jit(lambda *args: dreams.measure_part(dreaming, *args))(
            params, segments.batch(chosen), segments.batch(chosen).action, jax.random.PRNGKey(0)
        )
    )
    rows = _shown_rows(segments)
    truth = segments.targets(key)[chosen]
    dreamt = np.concatenate([truth[:, : segments.context], found[f"frame/{key}"][:, :, 0]], 1)
    text = ", ".join(str(row + 1) for row in rows)
    seen = int((rows < segments.context).sum())
    return [
        Strip(name, int(number), text, seen, truth[place][rows], np.clip(dreamt[place][rows], 0, 1))
        for place, (name, number) in enumerate(zip(("median", "worst"), chosen))
    ]


def _shown_rows(segments: Segments) -> np.ndarray:
    """The last two seen rows, and imagined ones that lie denser at the beginning."""
    context, horizon = segments.context, segments.horizon
    seen = np.arange(max(0, context - 2), context)
    steps = np.unique(np.round(np.geomspace(1, horizon, SHOWN - len(seen))).astype(int))
    return np.concatenate([seen, context + steps - 1])


def picture(strip: Strip) -> str:
    """Three lines of pictures as the address of a PNG."""
    off = np.abs(strip.dream - strip.truth)
    return _address(_lines([_line(strip.truth), _line(strip.dream), _line(off)]))


def fan_picture(judged: Judged, segments: Segments) -> tuple[str, int] | None:
    """What happens and what is dreamt from one start under each held action, and how many; None without pictures."""
    fan = below("fan", segments.branches)
    keys = sorted(key for key in judged.fan if segments.obs_space[key].is_image)
    if not fan or not keys:
        return None
    key = keys[0]
    alive = np.flatnonzero(fan["alive"].all((1, 2)))
    start = int(alive[0]) if len(alive) else 0
    real = np.asarray(nets.target(segments.obs_space[key], fan[f"obs/{key}"][start]))
    shown = np.clip(judged.fan[key][start], 0, 1)
    steps = np.unique(np.linspace(0, real.shape[1] - 1, 5).astype(int))
    lines = [np.concatenate([_line(a[steps]), _white(a, 6), _line(b[steps])], 1) for a, b in zip(real, shown)]
    return _address(_lines(lines)), len(real)


def _white(pictures: np.ndarray, width: int) -> np.ndarray:
    height = pictures.shape[1] + 2 * GAP
    return np.ones((height, width, 3), np.float32)


def _line(pictures: np.ndarray) -> np.ndarray:
    """Pictures [T, h, w, c] beside each other, [h, W, 3]; of other numbers of channels the first one, in grey."""
    if pictures.shape[-1] != 3:
        pictures = np.repeat(pictures[..., :1], 3, -1)
    edged = np.pad(pictures, ((0, 0), (GAP, GAP), (GAP, GAP), (0, 0)), constant_values=1.0)
    return np.concatenate(list(edged), 1)


def _lines(lines: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(lines, 0)


def _address(image: np.ndarray) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.round(image * 255).astype(np.uint8)).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
