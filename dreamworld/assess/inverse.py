"""Metric 3, inverse dynamics: can the action be read from three dreamt rows as well as from three real ones?"""

from __future__ import annotations

import numpy as np

from dreamworld.assess import intervals, small_net
from dreamworld.assess.coherence import real_thumbs
from dreamworld.assess.segments import Segments, below
from dreamworld.assess.sheet import Sheet
from dreamworld.types import Key


def add_inverse(sheet: Sheet, segments: Segments, found: dict[str, np.ndarray], key: Key) -> None:
    """Writes down the accuracy on dreamt and on real rows, and their ratio; the model is trained on real rows alone.

    It is trained on half of the episodes and tested on the others. Where real actions can't be read, there is no ratio.
    """
    images = sorted(below("thumb", found))
    single = [name for name, space in segments.act_space.items() if space.discrete and not space.shape]
    if not images or len(single) != 1 or segments.episodes < 4 or segments.horizon < 3:
        sheet.left_out["inverse"] = "needs pictures that are decoded, one discrete action and four episodes"
        return
    context, name = segments.context, single[0]
    real = triples(real_thumbs(segments, images[0])[:, context:])
    dreamt = triples(found[f"thumb/{images[0]}"])
    action = segments.columns[f"action/{name}"][:, context + 1 : -1]
    mask = segments.imagined[:, 2:]
    tested = segments.tested[:, None]
    used = mask & ~tested
    if not used.any():
        sheet.left_out["inverse"] = "needs segments with three imagined rows or more"
        return
    tell = small_net.fit(real[used], action[used], segments.act_space[name].classes or 1, key)
    score(sheet, tell(real) == action, tell(dreamt) == action, action, mask & tested)


def triples(pictures: np.ndarray) -> np.ndarray:
    """Of pictures [N, H, ...]: the middle one, and the changes before and after it, [N, H - 2, P]."""
    flat = pictures.reshape(*pictures.shape[:2], -1)
    change = flat[:, 1:] - flat[:, :-1]
    return np.concatenate([flat[:, 1:-1], change[:, :-1], change[:, 1:] - change[:, :-1]], -1)


def score(sheet: Sheet, real: np.ndarray, dreamt: np.ndarray, action: np.ndarray, mask: np.ndarray) -> None:
    """Writes down the metrics of what was told right [N, H - 2] of these actions."""
    chance = np.bincount(action[mask]).max() / max(mask.sum(), 1) if mask.any() else 1.0
    right = [intervals.total_mean(sheet.weights, x, mask) for x in (real, dreamt)]
    for name, values in zip(("real", "dreamt"), right):
        sheet.number(f"inverse/accuracy_{name}", values, int(mask.sum()))
    low = sheet.metrics["inverse/accuracy_real"].low
    if low is None or low <= chance:
        sheet.left_out["inverse/ratio"] = "needs pictures from which the real actions can be read"
        return
    with np.errstate(invalid="ignore", divide="ignore"):
        sheet.number("inverse/ratio", right[1] / right[0], int(mask.sum()))
