"""Resizing and graying of uint8 images, exactly as the published preprocessing does it."""

from __future__ import annotations

import functools

import numpy as np
from PIL import Image

GRAY_WEIGHTS = np.array([0.299, 0.587, 1 - (0.299 + 0.587)])


def resize_bilinear(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Pillow's bilinear filter (antialiased when shrinking) on uint8 [H, W, C]; size is (height, width)."""
    height, width = size
    if image.shape[:2] == (height, width):
        return image
    channels = image.shape[2]
    if channels in (1, 3):
        picture = Image.fromarray(image[:, :, 0] if channels == 1 else image)
        out = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
        return out.reshape(height, width, channels)
    parts = [resize_bilinear(np.ascontiguousarray(image[:, :, i : i + 1]), size) for i in range(channels)]
    return np.concatenate(parts, axis=2)


def to_gray(image: np.ndarray) -> np.ndarray:
    """Luma of uint8 [H, W, 3] as [H, W, 1], rounded down; a plain mean would merge red and green."""
    return (image * GRAY_WEIGHTS).sum(-1, keepdims=True).astype(np.uint8)


def resize_area(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Pixel-area average of uint8 [H, W, C], shrinking only; the same bytes as OpenCV's INTER_AREA."""
    height, width = size
    if image.shape[:2] == (height, width):
        return image
    columns, alphas = _area_taps(image.shape[1], width)
    rows, betas = _area_taps(image.shape[0], height)
    # OpenCV sums in float32, tap by tap, columns first. Keeping the order keeps the rounding.
    x = image.astype(np.float32)
    wide = np.zeros((x.shape[0], width, x.shape[2]), np.float32)
    for index, weight in zip(columns, alphas):
        wide += x[:, index] * weight[:, None]
    tall = np.zeros((height, *wide.shape[1:]), np.float32)
    for index, weight in zip(rows, betas):
        tall += wide[index] * weight[:, None, None]
    return np.rint(tall).astype(np.uint8)


@functools.lru_cache
def _area_taps(old: int, new: int) -> tuple[np.ndarray, np.ndarray]:
    """Source indices and float32 weights, both [taps, new]; unused taps have weight 0."""
    if new > old:
        raise ValueError(f"area resizing only shrinks: {old} to {new}")
    scale = old / new
    taps: list[list[tuple[int, float]]] = []
    for i in range(new):
        start, end = i * scale, (i + 1) * scale
        cell = min(scale, old - start)
        first, last = int(np.ceil(start)), min(int(np.floor(end)), old - 1)
        first = min(first, last)
        taps.append([])
        if first - start > 1e-3:
            taps[-1].append((first - 1, (first - start) / cell))
        taps[-1] += [(j, 1 / cell) for j in range(first, last)]
        if end - last > 1e-3:
            taps[-1].append((last, min(min(end - last, 1.0), cell) / cell))
    count = max(map(len, taps))
    padded = [row + [(0, 0.0)] * (count - len(row)) for row in taps]
    index = np.array([[j for j, _ in row] for row in padded]).T
    weight = np.array([[w for _, w in row] for row in padded], np.float32).T
    return index, weight
