"""The loss of a world: the squared error of what it dreams of held-out segments, for models that are compared."""

from __future__ import annotations

import functools

import jax
import numpy as np

from dreamworld.assess import scene
from dreamworld.assess.dreams import Dreaming
from dreamworld.assess.segments import Segments
from dreamworld.assess.studies import drift
from dreamworld.contract import Simulator
from dreamworld.types import Params

PLAIN = drift.Means("plain")


class WorldLoss:
    """`errors(params)`: squared errors [N, H] of the dreams of segments, compiled once for all parameters.

    Those of the first picture that is decoded, else of the first of all observations, as in the study of drift.
    `whole` are the segments that say by what errors of vectors are divided.
    """

    def __init__(
        self, simulator: Simulator, segments: Segments, samples: int, seed: int, whole: Segments | None = None
    ):
        scenes = scene.scenes(whole or segments)
        self.segments, self.key = segments, ""
        self._dreaming = Dreaming(simulator, segments.obs_space, scenes, segments.context, samples)
        self._batch = segments.batch()
        self._keys = jax.random.split(jax.random.PRNGKey(seed), samples)
        self._run = jax.jit(functools.partial(drift.errors, self._dreaming, means=PLAIN), static_argnums=0)

    def errors(self, params: Params) -> np.ndarray:
        """The mean over the dreams of each segment."""
        self.key = drift.shown_key(self._dreaming, params)
        found = [np.asarray(self._run(self.key, params, self._batch, key=key)) for key in self._keys]
        return np.mean(found, 0)

    def copied(self) -> np.ndarray:
        """The errors [N, H] of copying the last row, once `errors` has chosen the observation."""
        return scene.copy_last(self.segments, self.key, self._dreaming.scenes[self.key])
