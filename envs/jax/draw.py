"""Anti-aliased drawing of discs, boxes and lines with pure functions.

Points are (x, y) in the unit square, x to the right and y down; pictures are float32 [size, size, 3] in
[0, 1]. A shape is first its coverage, [size, size] in [0, 1]: the share of each pixel that it hides.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

Array = jax.Array


def canvas(size: int, color: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Array:
    """A picture of one colour, [size, size, 3]."""
    return jnp.broadcast_to(jnp.asarray(color, jnp.float32), (size, size, 3))


def paint(picture: Array, coverage: Array, color: tuple[float, float, float] | Array) -> Array:
    """Lays a shape of one colour over the picture."""
    alpha = coverage[:, :, None]
    return picture * (1 - alpha) + alpha * jnp.asarray(color, jnp.float32)[None, None]


def disc(size: int, center: Array, radius: Array | float) -> Array:
    """A disc; its edge is one pixel wide. `center` is [2]."""
    pixel = jnp.arange(size) + 0.5
    dx, dy = pixel - center[0] * size, pixel - center[1] * size
    distance = jnp.sqrt(dx[None, :] ** 2 + dy[:, None] ** 2)
    return jnp.clip(radius * size + 0.5 - distance, 0, 1)


def box(
    size: int, left: Array | float, top: Array | float, right: Array | float, bottom: Array | float
) -> Array:
    """An axis-aligned box; the coverage is exact."""
    return _interval(size, top, bottom)[:, None] * _interval(size, left, right)[None, :]


def line(size: int, start: Array, end: Array, width: Array | float) -> Array:
    """A line with round ends from `start` [2] to `end` [2]."""
    pixel = (jnp.arange(size) + 0.5) / size
    along, length2 = end - start, jnp.maximum(jnp.sum((end - start) ** 2), 1e-12)
    dx, dy = (pixel - start[0])[None, :], (pixel - start[1])[:, None]
    share = jnp.clip((dx * along[0] + dy * along[1]) / length2, 0, 1)
    distance = jnp.sqrt((dx - share * along[0]) ** 2 + (dy - share * along[1]) ** 2)
    return jnp.clip((width / 2 - distance) * size + 0.5, 0, 1)


def grid(cells: Array, size: int, margin: int = 64) -> Array:
    """Cells [rows, cols, channels] uint8 as equal boxes of whole pixels, centred on a gray margin."""
    rows, cols, channels = cells.shape
    picture = jnp.repeat(jnp.repeat(cells, size // rows, axis=0), size // cols, axis=1)
    top, left = (size - picture.shape[0]) // 2, (size - picture.shape[1]) // 2
    frame = jnp.full((size, size, channels), margin, jnp.uint8)
    return frame.at[top : top + picture.shape[0], left : left + picture.shape[1]].set(picture)


def to_uint8(picture: Array) -> Array:
    """Rounds [0, 1] to 0..255."""
    return jnp.round(jnp.clip(picture, 0, 1) * 255).astype(jnp.uint8)


def _interval(size: int, low: Array | float, high: Array | float) -> Array:
    """Share of each pixel of a row that lies between `low` and `high`."""
    pixel = jnp.arange(size)
    return jnp.clip(jnp.minimum(high * size, pixel + 1) - jnp.maximum(low * size, pixel), 0, 1)
