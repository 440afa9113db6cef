"""Turns what an environment shows people into a frame of a video."""

from __future__ import annotations

import numpy as np

MAX_SIDE = 1024  # pixels; of larger pictures every k-th pixel is kept


def as_picture(value: object) -> np.ndarray:
    """uint8 [H, W, 3] of gray, RGB or RGBA, channels first or last; bytes, 0..1 or 0..255. ValueError otherwise.

    Of a list of pictures, as `render_mode="rgb_array_list"` gives it, the last one counts.
    """
    if isinstance(value, list | tuple) and value and np.ndim(value[-1]) >= 2 and hasattr(value[-1], "shape"):
        value = value[-1]
    image = np.asarray(value)
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or not image.size or image.dtype.kind not in "buif":
        raise ValueError(f"a picture of {image.dtype} {image.shape}; expected uint8 [height, width, 3]")
    if image.shape[0] in (1, 3, 4) and image.shape[2] > 4:
        image = image.transpose(1, 2, 0)
    every = max(1, -(-max(image.shape[:2]) // MAX_SIDE))
    image = image[::every, ::every]
    if image.dtype != np.uint8:
        unit = image.dtype.kind == "b" or (image.dtype.kind == "f" and np.nanmax(image, initial=0) <= 1)
        image = np.nan_to_num(image.astype(np.float32))
        image = np.clip(image * (255 if unit else 1), 0, 255).astype(np.uint8)
    return image[..., :3].copy() if image.shape[-1] >= 3 else np.repeat(image[..., :1], 3, -1)


def fit(image: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The picture in the size of the first one: a video has one size."""
    if image.shape == shape:
        return image
    rows, columns = (np.arange(want) * have // want for want, have in zip(shape[:2], image.shape[:2]))
    return image[rows][:, columns]
