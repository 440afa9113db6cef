"""Pictures of open-loop predictions: videos, strips and plots of truth against dream.

A report holds `truth/<key>` and `dream/<key>`, [B, T, ...] each: images as floats in 0..1 [B, T, H, W, C],
vectors [B, T, D]. What a probe decoded is `probe/<key>` in place of `dream/<key>`, and is labelled so. The first
`context` rows were seen by the model (blue), the rest is dreamed (orange).
"""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dreamworld import words

CONTEXT = (70, 130, 200)
DREAM = (240, 140, 30)
PAPER = (255, 255, 255)
INK = (40, 40, 40)
ENCODING_S = 300  # an encoder that takes longer hangs
SIDES = ("dream", "probe")  # what is shown below the truth


class Picture(NamedTuple):
    """What is shown of one observation key."""

    name: str  # file name stem
    still: np.ndarray  # uint8 [H, W, 3]
    frames: np.ndarray | None  # uint8 [T, H, W, 3], None for vectors


class NoEncoder(RuntimeError):
    """No MP4 can be written here: ffmpeg or its H.264 encoder is missing, or failed."""


def shown_keys(report: Mapping[str, Any]) -> list[str]:
    """The observation keys that have truth and dream."""
    return sorted(key[6:] for key in report if key.startswith("truth/") and side_of(report, key[6:]))


def side_of(report: Mapping[str, Any], key: str) -> str:
    """Which side is shown beside the truth of a key; empty where there is none."""
    return next((side for side in SIDES if f"{side}/{key}" in report), "")


def draw_report(report: Mapping[str, Any], context: int) -> list[Picture]:
    """A picture for every key that has truth and dream."""
    return [draw_key(report, key, context) for key in shown_keys(report)]


def draw_key(report: Mapping[str, Any], key: str, context: int) -> Picture:
    """The picture of one key."""
    side = side_of(report, key) or SIDES[0]
    truth, dream = (np.asarray(report[f"{name}/{key}"], np.float32) for name in ("truth", side))
    if truth.shape != dream.shape:
        raise ValueError(f"report of {key}: truth has shape {truth.shape}, {side} {dream.shape}")
    name = ("probe_" if side == "probe" else "openloop_") + key.replace("/", "_")
    if truth.ndim == 5:
        still = draw_strip(truth[0], dream[0], context, side=side)
        return Picture(name, still, draw_video(truth, dream, context, side=side))
    flat, title = (*truth.shape[:2], -1), f"probe: {key}" if side == "probe" else key
    still = draw_vectors(truth.reshape(flat)[0], dream.reshape(flat)[0], context, title=title)
    return Picture(name, still, None)


def draw_video(
    truth: np.ndarray, dream: np.ndarray, context: int, columns: int = 6, side: str = "dream"
) -> np.ndarray:
    """uint8 [T, H', W', 3]: truth above dream above error, a column for each of the first sequences.

    `side` names the second row.
    """
    rows = _rows(truth[:columns], dream[:columns])  # 3 of [B, T, h, w, 3]
    steps = truth.shape[1]
    frames: list[np.ndarray] = []
    for t in range(steps):
        colour = CONTEXT if t < context else DREAM
        cells = [[_framed(row[b, t], colour) for b in range(row.shape[0])] for row in rows]
        label = f"context {t + 1}/{context}" if t < context else f"dream {t + 1 - context}/{steps - context}"
        frames.append(_sheet(cells, side, [label], colour))
    return np.stack(frames)


def draw_strip(
    truth: np.ndarray, dream: np.ndarray, context: int, columns: int = 12, side: str = "dream"
) -> np.ndarray:
    """uint8 [H', W', 3]: rows truth, `side`, error of one sequence [T, H, W, C], time from left to right."""
    rows = _rows(truth[None], dream[None])
    times = np.unique(np.linspace(0, truth.shape[0] - 1, columns).round().astype(int))
    colours = [CONTEXT if t < context else DREAM for t in times]
    cells = [[_framed(row[0, t], colour) for t, colour in zip(times, colours, strict=True)] for row in rows]
    return _sheet(cells, side, [f"t={t}" for t in times], INK)


def draw_vectors(
    truth: np.ndarray, dream: np.ndarray, context: int, title: str, limit: int = 12
) -> np.ndarray:
    """uint8 [H', W', 3]: prediction against truth [T, D] over time; the `limit` dimensions that vary most."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    order = np.sort(np.argsort(-truth.std(0), kind="stable")[:limit])
    columns = 2 if len(order) == 4 else min(3, len(order))
    lines = -(-len(order) // columns)
    figure = Figure(figsize=(4.2 * columns, 1.7 * lines + 0.9), dpi=80, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    time = np.arange(len(truth))
    for place, dim in enumerate(order):
        axes = figure.add_subplot(lines, columns, place + 1)
        axes.axvspan(-0.5, context - 0.5, color=_unit(CONTEXT), alpha=0.12, lw=0, label="context")
        axes.plot(time, truth[:, dim], color=_unit(INK), lw=1.5, label="truth")
        axes.plot(time[:context], dream[:context, dim], color=_unit(CONTEXT), lw=1.5, label="reconstruction")
        axes.plot(time[context:], dream[context:, dim], color=_unit(DREAM), lw=1.5, label="dream")
        axes.set_title(f"{title}[{dim}]", fontsize=9, pad=3)
        axes.tick_params(labelsize=7)
        axes.set_xlim(-0.5, len(truth) - 0.5)
    shown = (
        f"{len(order)} of {words.count(truth.shape[1], 'dimension')}"
        if len(order) < truth.shape[1]
        else "all dimensions"
    )
    figure.legend(
        *figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, fontsize=8
    )
    figure.supxlabel(f"time step, {shown}", fontsize=8)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _unit(colour: tuple[int, int, int]) -> tuple[float, float, float]:
    return colour[0] / 255, colour[1] / 255, colour[2] / 255


def _rows(truth: np.ndarray, dream: np.ndarray) -> list[np.ndarray]:
    """Truth, dream and error (gray where equal), uint8 [B, T, h, w, 3], upscaled."""
    error = np.clip((dream - truth + 1) / 2, 0, 1)
    return [upscale(_rgb(image)) for image in (truth, dream, error)]


def _rgb(image: np.ndarray) -> np.ndarray:
    """Floats 0..1 [..., C] as uint8 [..., 3]; other than 1 and 3 channels show their mean."""
    if image.shape[-1] != 3:
        image = np.repeat(image.mean(-1, keepdims=True), 3, -1)
    return (np.clip(image, 0, 1) * 255).round().astype(np.uint8)


def upscale(image: np.ndarray, height: int = 128) -> np.ndarray:
    """Repeats pixels of [..., H, W, 3] a whole number of times, so that a picture is about `height` high."""
    times = max(1, round(height / image.shape[-3]))
    return image.repeat(times, -3).repeat(times, -2)


def _framed(image: np.ndarray, colour: tuple[int, int, int], width: int = 3) -> np.ndarray:
    height, breadth, _ = image.shape
    framed = np.empty((height + 2 * width, breadth + 2 * width, 3), np.uint8)
    framed[:] = colour
    framed[width:-width, width:-width] = image
    return framed


def _sheet(
    cells: list[list[np.ndarray]], side: str, labels: list[str], colour: tuple[int, int, int]
) -> np.ndarray:
    """Rows truth, `side` and error of equal cells, `labels` above (one for all, or one a column)."""
    from PIL import Image, ImageDraw

    gap, left, top = 4, 44, 20
    height, width, _ = cells[0][0].shape
    columns = len(cells[0])
    size = (left + columns * (width + gap), top + len(cells) * (height + gap))
    sheet = Image.new("RGB", (size[0] + size[0] % 2, size[1] + size[1] % 2), PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, label in enumerate(labels):
        draw.text((left + column * (width + gap), 4), label, fill=colour)
    for row, (name, images) in enumerate(zip(("truth", side, "error"), cells, strict=True)):
        y = top + row * (height + gap)
        draw.text((6, y + height // 2 - 6), name, fill=INK)
        for column, image in enumerate(images):
            sheet.paste(Image.fromarray(image), (left + column * (width + gap), y))
    return np.asarray(sheet)


def save_png(path: str | Path, image: np.ndarray) -> Path:
    """Writes uint8 [H, W, 3]; makes the folder."""
    from PIL import Image

    path = _placed(path)
    Image.fromarray(image).save(path)
    return path


def save_gif(path: str | Path, frames: Iterable[np.ndarray], fps: float) -> Path:
    """Writes uint8 [H, W, 3] frames of one size as an endless animation; makes the folder."""
    from PIL import Image

    path, images = _placed(path), (Image.fromarray(frame) for frame in frames)
    first = next(images)
    first.save(path, save_all=True, append_images=images, duration=round(1000 / fps), loop=0)
    return path


def save_mp4(path: str | Path, frames: Iterable[np.ndarray], fps: float) -> Path:
    """Writes uint8 [H, W, 3] frames of one size as H.264 with the ffmpeg that imageio bundles; makes the folder.

    Raises NoEncoder when that fails, and leaves nothing behind.
    """
    path, even = _placed(path), map(_even, frames)
    first = next(even)
    height, width, _ = first.shape
    command = [ffmpeg(), "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24"]
    command += [
        "-s",
        f"{width}x{height}",
        "-r",
        str(fps),
        "-i",
        "-",
        "-c:v",
        "libx264",
        "-pix_fmt",
        "yuv420p",
    ]
    command += ["-crf", "18", "-preset", "veryfast", "-threads", "1", "-movflags", "+faststart", str(path)]
    try:
        code, said = _feed(command, itertools.chain([first], even))
    except (OSError, subprocess.SubprocessError) as error:
        raise NoEncoder(f"ffmpeg could not be run: {error}") from error
    if code:
        with contextlib.suppress(OSError):
            path.unlink()
        raise NoEncoder(f"ffmpeg could not write {path}: {said or f'exit code {code}'}")
    return path


def _feed(command: list[str], frames: Iterable[np.ndarray]) -> tuple[int, str]:
    """Runs a program that reads frames, which are made one by one; its exit code and what it said."""
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said, bufsize=0
        )
        limit = threading.Timer(ENCODING_S, process.kill)
        limit.start()
        try:
            assert process.stdin is not None
            with (
                process.stdin as pipe,
                contextlib.suppress(BrokenPipeError),
            ):  # it has ended: its code says why
                for frame in frames:
                    pipe.write(frame.tobytes())
            code = process.wait()
        finally:
            limit.cancel()
            process.kill()
            process.wait()
        said.seek(0)
        return code, said.read().decode(errors="replace").strip()


def _even(frame: np.ndarray) -> np.ndarray:
    """The frame with one more row or column where their number is odd, which H.264 doesn't take."""
    return np.pad(frame, ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)), mode="edge")


def ffmpeg() -> str:
    """The program; NoEncoder where there is none."""
    try:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError, OSError) as error:
        raise NoEncoder(f"{error} (pip install 'imageio[ffmpeg]')") from error


def _placed(path: str | Path) -> Path:
    """The path; its folder is there afterwards."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
