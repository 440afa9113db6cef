"""Metric 1, drift: how far dreams move away from what happened, step by step, beside models that need no learning.

PSNR is taken of every frame and then averaged: -10 log10(MSE), at most `MOST_DB`, where the error is what rounding to
bytes makes. Errors of vectors are in units of their standard deviation.
"""

from __future__ import annotations

import numpy as np

from dreamworld.assess.scene import Scene, copy_last, mean_frame
from dreamworld.assess.segments import Segments, below
from dreamworld.assess.sheet import Sheet
from dreamworld.types import Array

LEAST_MSE = 1 / (12 * 255**2)  # of a picture that is right but for its rounding to bytes
MOST_DB = -10 * np.log10(LEAST_MSE)  # 58.9
USEFUL = 0.5  # of the skill: half of the error of copying the last row is gone
SATURATED = 0.5  # of the root error of the mean frame: beyond it, errors can't grow freely
LEAST_SHARE = 1e-4  # of the same: less is rounding
FLOOR = "needs a decoder: train with --agent.probe True"


def psnr(mse: Array) -> np.ndarray:
    """-10 log10 of the mean squared error of pixels in 0..1, in decibels."""
    return -10 * np.log10(np.maximum(mse, LEAST_MSE))


def add_drift(
    sheet: Sheet, segments: Segments, found: dict[str, np.ndarray], scenes: dict[str, Scene]
) -> None:
    """Writes down the drift of every decoded observation key, and of the latents."""
    keys = sorted(below("mse", found))
    if not keys:
        sheet.left_out["drift"] = FLOOR
    for key in keys:
        _add_key(sheet, segments, found, key, scenes[key])
    if "surprise" in found:
        sheet.mean_curve("latent/surprise", found["surprise"], segments.imagined)
    else:
        sheet.left_out["latent/surprise"] = "needs a model with a surprise"


def _add_key(sheet: Sheet, segments: Segments, found: dict[str, np.ndarray], key: str, scene: Scene) -> None:
    mask, topic = segments.imagined, f"drift/{key}"
    dreamt = found[f"mse/{key}"]  # [N, H, S]
    image = segments.obs_space[key].is_image
    lines = {
        "": dreamt.mean(-1),
        "_copy": copy_last(segments, key, scene),
        "_mean": mean_frame(segments, key, scene),
        "_posterior": found[f"mse_posterior/{key}"],
    }
    curves = {name: sheet.mean_curve(f"{topic}/mse{name}", values, mask) for name, values in lines.items()}
    sheet.mean_number(f"{topic}/mse", lines[""], mask)
    if image:
        frames = lines | {"": psnr(dreamt).mean(-1)}
        for name, values in frames.items():
            decibels = values if name == "" else psnr(values)
            sheet.mean_curve(f"{topic}/psnr{name}", decibels, mask)
            sheet.mean_number(f"{topic}/psnr{name}", decibels, mask)
        _add_front(sheet, found, key, mask, topic)
    _add_samples(sheet, dreamt, found[f"apart/{key}"], mask, topic, image)
    _add_skill(sheet, curves, mask, topic)


def _add_front(sheet: Sheet, found: dict[str, np.ndarray], key: str, mask: np.ndarray, topic: str) -> None:
    """Of the pixels that differ from the background alone; frames without any are left out."""
    there = mask & (found[f"front/{key}"] > 0)
    values = found[f"mse_front/{key}"].mean(-1)
    sheet.mean_curve(f"{topic}/foreground_mse", values, there)
    sheet.mean_number(f"{topic}/foreground_mse", values, there)


def _add_samples(
    sheet: Sheet, dreamt: np.ndarray, apart: np.ndarray, mask: np.ndarray, topic: str, image: bool
) -> None:
    """Best of S, and the energy score E|X - x| - E|X - X'| / 2, per root of the number of elements."""
    near = np.sqrt(dreamt).mean(-1)
    sheet.mean_curve(f"{topic}/energy_score", near - apart / 2, mask)
    sheet.mean_number(f"{topic}/energy_score", near - apart / 2, mask)
    rows = np.maximum(mask.sum(1), 1)[:, None]
    whole = np.where(mask[..., None], dreamt, 0).sum(1) / rows  # [N, S] of a whole dream
    best = np.take_along_axis(dreamt, whole.argmin(-1)[:, None, None], -1)[..., 0]
    sheet.mean_curve(f"{topic}/{'psnr' if image else 'mse'}_best", psnr(best) if image else best, mask)


def _add_skill(sheet: Sheet, curves: dict[str, np.ndarray], mask: np.ndarray, topic: str) -> None:
    """SS_k = 1 - MSE_k / MSE_k(copy); useful horizon; growth of the error."""
    n = mask.sum(0)
    score = skill(curves[""], curves["_copy"])
    sheet.curve(f"{topic}/skill", score, n)
    sheet.number(f"{topic}/skill_1", score[:, 0], n[0])
    sheet.number(f"{topic}/useful_horizon", useful_horizon(score), n[0])
    sheet.number(f"{topic}/growth", growth(np.sqrt(curves[""]), np.sqrt(curves["_mean"])), n[0])


def skill(mse: np.ndarray, copied: np.ndarray) -> np.ndarray:
    """1 - MSE / MSE(copy); where nothing has moved, NaN for an error and 1 for none."""
    with np.errstate(invalid="ignore", divide="ignore"):
        found = 1 - mse / copied
    return np.where(copied > 0, found, np.where(mse > 0, np.nan, 1.0))


def useful_horizon(score: np.ndarray) -> np.ndarray:
    """max{k: SS_j > 0.5 for all j <= k} of scores [R, H], from 0 to H; steps without a score pass."""
    return np.cumprod((score > USEFUL) | np.isnan(score), -1).sum(-1).astype(float)


def growth(error: np.ndarray, saturated: np.ndarray) -> np.ndarray:
    """Slope [R] of log error against log k before saturation: 1 of a bias, 1/2 of a random walk.

    The steps up to the first one whose error [R, H] passes half of `saturated`, without those whose error is that of
    rounding; NaN for fewer than three of them.
    """
    free = np.cumprod(error <= SATURATED * saturated, -1).astype(float) * (error > LEAST_SHARE * saturated)
    steps = np.log(np.arange(1, error.shape[-1] + 1))[None]
    logs = np.log(np.maximum(error, 1e-30))
    total = np.maximum(free.sum(-1, keepdims=True), 1)
    x = steps - (steps * free).sum(-1, keepdims=True) / total
    y = logs - (logs * free).sum(-1, keepdims=True) / total
    with np.errstate(invalid="ignore", divide="ignore"):
        slope = (free * x * y).sum(-1) / (free * x**2).sum(-1)
    return np.where(free.sum(-1) >= 3, slope, np.nan)


def at_steps(values: np.ndarray, steps: tuple[int, ...]) -> dict[int, float]:
    """The values of a curve [H] at some steps, counted from 1; those beyond its end are left out."""
    return {step: float(values[step - 1]) for step in steps if step <= len(values)}
