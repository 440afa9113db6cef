"""Metrics 5 (coherence) and the first of 8 (realism): do dreams stay as full, as lively and as real as what happens?

Realism is a classifier two-sample test (Lopez-Paz & Oquab, 2017): a small network learns to tell dreamt pairs of rows
from real ones, on half of the episodes, and is tested on the others. 0.5 is ideal; it is no FVD.
"""

from __future__ import annotations

import jax
import numpy as np

from dreamworld.assess import small_net
from dreamworld.assess.dreams import thumbs
from dreamworld.assess.segments import Segments, below
from dreamworld.assess.sheet import Sheet
from dreamworld.types import Key

STILL = 0.1  # of the usual change from row to row: a row that changes less is frozen
NEEDS = "needs pictures that are decoded"


def add_coherence(sheet: Sheet, segments: Segments, found: dict[str, np.ndarray]) -> None:
    """Writes down, of pictures, dreamt by real foreground, change and variance, and the share of frozen rows."""
    keys = sorted(below("moved", found))
    if not keys:
        sheet.left_out["coherence"] = NEEDS
    mask = segments.imagined
    for key in keys:
        topic = f"coherence/{key}"
        ratios = {"area_ratio": ("front_dream", "front"), "motion_ratio": ("moved_dream", "moved")}
        for name, (dreamt, real) in ratios.items():
            values = [np.where(mask, x, 0) for x in (_mean(found[f"{dreamt}/{key}"]), found[f"{real}/{key}"])]
            sheet.ratio_curve(f"{topic}/{name}", *values)
            sheet.ratio_number(f"{topic}/{name}", *values, n=int(mask.sum()))
        moved = found[f"moved/{key}"]
        usual = moved[mask].mean() if mask.any() else 0.0
        lively = mask & (moved > STILL * usual)
        frozen = (found[f"moved_dream/{key}"] < STILL * usual).mean(-1)
        sheet.mean_curve(f"{topic}/frozen", frozen, lively)
        sheet.mean_number(f"{topic}/frozen", frozen, lively)
        real = real_thumbs(segments, key)[:, segments.context :]
        spread = [_variance(x, mask) for x in (found[f"thumb/{key}"], real)]
        sheet.ratio_number(f"{topic}/variance_ratio", *spread, n=len(segments))


def _mean(values: np.ndarray) -> np.ndarray:
    return values.mean(-1) if values.ndim > 2 else values


def _variance(pictures: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Variance over the rows of each segment, [N], the mean over pixels."""
    weight = mask[:, :, None, None, None] / np.maximum(mask.sum(1), 1)[:, None, None, None, None]
    mean = (pictures * weight).sum(1, keepdims=True)
    return ((pictures - mean) ** 2 * weight).sum(1).mean((1, 2, 3))


def real_thumbs(segments: Segments, key: str) -> np.ndarray:
    """Small pictures of all rows, [N, L, ...]."""
    make = jax.jit(thumbs)
    return np.stack([np.asarray(make(rows)) for rows in segments.targets(key)])


# --- realism ---------------------------------------------------------------------------------------------------


def add_realism(sheet: Sheet, segments: Segments, found: dict[str, np.ndarray], key: Key) -> None:
    """Writes down the accuracy of the classifier on episodes that it was not trained on."""
    images = sorted(below("thumb", found))
    if not images or segments.episodes < 4:
        sheet.left_out["realism"] = NEEDS if not images else "needs four episodes"
        return
    first = images[0]
    real = real_thumbs(segments, first)[:, segments.context :]
    dreamt = found[f"thumb/{first}"]
    mask = segments.imagined[:, 1:] & segments.imagined[:, :-1]
    tested = segments.tested
    if not (mask & ~tested[:, None]).any():
        sheet.left_out["realism"] = "needs segments with two imagined rows or more"
        return
    right = classify(real, dreamt, mask, ~tested, key)
    used = mask & tested[:, None]
    sheet.mean_number("realism/c2st", right, used)
    sheet.mean_curve("realism/c2st", np.concatenate([np.zeros_like(right[:, :1]), right], 1), _late(used))


def _late(mask: np.ndarray) -> np.ndarray:
    """The mask of pairs at their second row."""
    return np.concatenate([np.zeros_like(mask[:, :1]), mask], 1)


def classify(
    real: np.ndarray, dreamt: np.ndarray, mask: np.ndarray, trained: np.ndarray, key: Key
) -> np.ndarray:
    """How often each pair of rows is told right, of the real and of the dreamt one, [N, H - 1].

    Trained on the segments `trained` [N].
    """
    pairs = [_pairs(x) for x in (real, dreamt)]  # [N, H - 1, P]
    used = mask & trained[:, None]
    label = np.repeat([0, 1], int(used.sum()))
    tell = small_net.fit(np.concatenate([x[used] for x in pairs]), label, 2, key)
    said = [tell(x) for x in pairs]
    return ((said[0] == 0).astype(float) + (said[1] == 1)) / 2


def _pairs(pictures: np.ndarray) -> np.ndarray:
    flat = pictures.reshape(*pictures.shape[:2], -1)
    return np.concatenate([flat[:, 1:], flat[:, 1:] - flat[:, :-1]], -1)
