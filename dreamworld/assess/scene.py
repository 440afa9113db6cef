"""How observations are compared: their scale, what is background, and the baselines that need no model."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dreamworld.assess.segments import Segments
from dreamworld.types import Array, Space

DIFFERENT = 0.1  # a pixel that is this far from the background, in any channel, is foreground
FRAMES = 512  # from which the background is taken, at most


class Scene(NamedTuple):
    """Of one observation key, from the rows that models are shown."""

    scale: np.ndarray  # [*shape], by which errors are divided: of vectors their standard deviation, else 1
    mean: np.ndarray  # [*shape], the mean observation; of classes the likeliest
    background: np.ndarray | None  # [*shape], of images the median


def scenes(segments: Segments) -> dict[str, Scene]:
    """The scene of each observation key."""
    return {key: _scene(segments, key, space) for key, space in segments.obs_space.items() if space.size}


def _scene(segments: Segments, key: str, space: Space) -> Scene:
    seen = segments.targets(key)[:, : segments.context]
    rows = seen.reshape(-1, *space.shape)
    ones = np.ones(space.shape, np.float32)
    if space.classes is not None:
        counts = np.stack([(rows == value).mean(0) for value in range(space.classes)])
        return Scene(ones, counts.argmax(0).astype(np.float32), None)
    mean = rows.mean(0, dtype=np.float64).astype(np.float32)
    if not space.is_image:
        spread = rows.std(0, dtype=np.float64).astype(np.float32)
        return Scene(np.where(spread > 1e-6, spread, 1).astype(np.float32), mean, None)
    every = max(1, len(rows) // FRAMES)
    return Scene(ones, mean, np.median(rows[::every], 0).astype(np.float32))


def squared_error(space: Space, scene: Scene, found: Array, truth: Array) -> Array:
    """Mean over the elements of an observation, [...]; of classes the share that is wrong."""
    axes = tuple(range(-len(space.shape), 0))
    if space.discrete:
        return (found != truth).astype(np.float32).mean(axes)
    return (((found - truth) / lead(scene.scale, found.ndim)) ** 2).mean(axes)


def lead(array: np.ndarray, rank: int) -> np.ndarray:
    """The array with axes of length 1 before its own, as many as make up a rank."""
    return array.reshape((1,) * (rank - array.ndim) + array.shape)


def copy_last(segments: Segments, key: str, scene: Scene) -> np.ndarray:
    """Squared errors [N, H] of a model that repeats the last observed row."""
    rows = segments.targets(key)
    last = rows[:, segments.context - 1 : segments.context]
    return squared_error(segments.obs_space[key], scene, last, rows[:, segments.context :])


def mean_frame(segments: Segments, key: str, scene: Scene) -> np.ndarray:
    """Squared errors [N, H] of a model that shows the mean observation."""
    return squared_error(
        segments.obs_space[key], scene, scene.mean[None, None], segments.targets(key)[:, segments.context :]
    )
