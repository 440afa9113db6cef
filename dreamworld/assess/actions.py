"""Metric 3, actions matter: a dream under the actions that were taken is nearer to what happened than under others."""

from __future__ import annotations

import numpy as np

from dreamworld.assess import intervals
from dreamworld.assess.drift import FLOOR, LEAST_MSE, psnr
from dreamworld.assess.segments import Segments, below
from dreamworld.assess.sheet import Sheet


def add_shuffle(sheet: Sheet, segments: Segments, found: dict[str, np.ndarray], donors: np.ndarray) -> None:
    """Writes down PSNR(own actions) - PSNR(actions of another segment), equal noise in both, and the ratio of errors.

    Of vectors, the ratio alone. Rows are left out where the other segment has ended.
    """
    keys = sorted(below("mse_pair", found))
    if not keys:
        sheet.left_out["actions"] = FLOOR
    mask = segments.imagined & segments.imagined[donors]
    for key in keys:
        own, other = found[f"mse_pair/{key}"], found[f"mse_other/{key}"]
        if segments.obs_space[key].is_image:
            gain = psnr(own) - psnr(other)
            sheet.mean_curve(f"actions/{key}/psnr_gain", gain, mask)
            sheet.mean_number(f"actions/{key}/psnr_gain", gain, mask)
        mean = lambda values: intervals.total_mean(sheet.weights, np.maximum(values, LEAST_MSE), mask)
        sheet.number(f"actions/{key}/shuffle_ratio", mean(other) / mean(own), int(mask.sum()))
