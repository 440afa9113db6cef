"""Pictures as bytes for a browser: PNG where pixels are looked at, JPEG where a picture is large."""

from __future__ import annotations

import io
import struct

import numpy as np

PNG, JPEG = 0, 1
EXACT_PIXELS = 128 * 128  # up to here pictures arrive as they are
QUALITY = 88
HEADER = struct.Struct(">IBBB")  # number of the step, lane, index of the image key, format


def as_rgb(image: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] of an observation [H, W, C]; of stacked pictures the newest one."""
    channels = image.shape[-1]
    if channels == 3:
        return image
    if channels % 3 == 0:
        return image[..., -3:]
    return np.repeat(image[..., -1:], 3, -1)


def encode(image: np.ndarray) -> tuple[int, bytes]:
    """The format and the bytes of uint8 [H, W, 3]."""
    from PIL import Image

    buffer = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(image))
    if image.shape[0] * image.shape[1] <= EXACT_PIXELS:
        picture.save(buffer, "png", compress_level=1)
        return PNG, buffer.getvalue()
    picture.save(buffer, "jpeg", quality=QUALITY)
    return JPEG, buffer.getvalue()


def frame(number: int, lane: int, index: int, image: np.ndarray) -> bytes:
    """A binary message: what it shows, then the picture."""
    kind, body = encode(image)
    return HEADER.pack(number & 0xFFFFFFFF, lane, index, kind) + body
