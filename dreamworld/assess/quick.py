"""A look at a world model during training: a few numbers on the same segments each time, compiled once."""

from __future__ import annotations

import jax
import numpy as np

from dreamworld.assess import actions, drift, reward
from dreamworld.assess.dreams import Dreaming, compiled, measure
from dreamworld.assess.scene import scenes
from dreamworld.assess.segments import Segments, donors
from dreamworld.assess.sheet import make_sheet
from dreamworld.contract import Simulator
from dreamworld.types import Params

STEPS = (1, 5, 15, 50)
SAMPLES = 2


class QuickLook:
    """`look(params)` of the world: drift at some steps, what actions matter, errors of rewards and of ends."""

    def __init__(self, simulator: Simulator, segments: Segments, seed: int = 0):
        self.segments = segments
        self._scenes, self._donors = scenes(segments), donors(segments)
        self._dreaming = Dreaming(simulator, segments.obs_space, self._scenes, segments.context, SAMPLES)
        self._run = compiled(self._dreaming)
        self._key = jax.random.PRNGKey(seed)

    def look(self, params: Params) -> dict[str, float]:
        """`assess/<what>` by name; numbers that are not defined are left out."""
        segments = self.segments
        found = measure(self._dreaming, params, segments, self._donors, self._key, self._run)
        sheet = make_sheet(segments.episode, resamples=0)
        drift.add_drift(sheet, segments, found, self._scenes)
        reward.add_reward(sheet, segments, found)
        reward.add_cont(sheet, segments, found)
        actions.add_shuffle(sheet, segments, found, self._donors)
        told: dict[str, float | None] = {}
        for key, space in segments.obs_space.items():
            name = "psnr" if space.is_image else "mse"
            if curve := sheet.curves.get(f"drift/{key}/{name}"):
                values = drift.at_steps(curve.value, STEPS)
                told |= {f"{key}_{name}_{step}": value for step, value in values.items()}
            told[f"{key}_psnr_gain"] = sheet.value(f"actions/{key}/psnr_gain")
        told |= {"reward_mae": sheet.value("reward/mae"), "cont_ece": sheet.value("cont/ece")}
        return {
            f"assess/{name}": value
            for name, value in told.items()
            if value is not None and np.isfinite(value)
        }
