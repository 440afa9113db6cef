"""Pictures of open-loop predictions: videos, strips and plots of truth against dream.

A report holds `truth/<key>` and `dream/<key>`, [B, T, ...] each: images as floats in 0..1 [B, T, H, W, C],
vectors [B, T, D]. What a probe decoded is `probe/<key>` in place of `dream/<key>`, and is labelled so. The first
`context` rows were seen by the model (blue), the rest is dreamed (orange). Where `is_first` [B, T] says that an
episode starts, the left border is red: nothing that was seen tells a model what comes there.
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

CONTEXT = (70, 130, 200)
DREAM = (240, 140, 30)
START = (215, 25, 70)
PAPER = (255, 255, 255)
INK = (40, 40, 40)
LABEL = 110  # pixels of the widest label of a strip
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
    first = np.asarray(report.get("is_first", np.zeros(truth.shape[:2])), bool)
    name = ("probe_" if side == "probe" else "openloop_") + key.replace("/", "_")
    if truth.ndim == 5:
        still = draw_strip(truth[0], dream[0], context, side=side, first=first[0])
        return Picture(name, still, draw_video(truth, dream, context, side=side, first=first))
    from dreamworld.logging.traces import draw_traces

    flat, title = (*truth.shape[:2], -1), f"probe: {key}" if side == "probe" else key
    still = draw_traces(truth.reshape(flat), dream.reshape(flat), context, title=title, first=first)
    return Picture(name, still, None)


def draw_video(
    truth: np.ndarray,
    dream: np.ndarray,
    context: int,
    columns: int = 6,
    side: str = "dream",
    first: np.ndarray | None = None,
) -> np.ndarray:
    """uint8 [T, H', W', 3]: truth above dream above error, a column for each of the first sequences.

    `side` names the second row; `first` [B, T] is true where an episode starts.
    """
    rows = _rows(truth[:columns], dream[:columns])  # 3 of [B, T, h, w, 3]
    steps = truth.shape[1]
    frames: list[np.ndarray] = []
    for t in range(steps):
        colour = CONTEXT if t < context else DREAM
        starts = [first is not None and first[b, t] for b in range(len(rows[0]))]
        cells = [[_framed(row[b, t], colour, start) for b, start in enumerate(starts)] for row in rows]
        label = f"context {t + 1}/{context}" if t < context else f"dream {t + 1 - context}/{steps - context}"
        frames.append(_sheet(cells, side, [label], colour))
    return np.stack(frames)


def draw_strip(
    truth: np.ndarray,
    dream: np.ndarray,
    context: int,
    columns: int = 12,
    side: str = "dream",
    first: np.ndarray | None = None,
) -> np.ndarray:
    """uint8 [H', W', 3]: rows truth, `side`, error of one sequence [T, H, W, C], time from left to right.

    An episode that starts (`first` [T]) between two steps that are shown is marked at the second of them.
    """
    rows = _rows(truth[None], dream[None])
    times = np.unique(np.linspace(0, truth.shape[0] - 1, columns).round().astype(int))
    colours = [CONTEXT if t < context else DREAM for t in times]
    spans = zip([0, *times[:-1] + 1], times)
    starts = [first is not None and bool(first[begin : end + 1].any()) for begin, end in spans]
    cells = [
        [_framed(row[0, t], colour, start) for t, colour, start in zip(times, colours, starts)]
        for row in rows
    ]
    wide = cells[0][0].shape[1] >= LABEL
    said = [("context " if t < context else "dream ") * wide + f"t={t}" for t in times]
    return _sheet(
        cells, side, [text + " (start)" * (start and wide) for text, start in zip(said, starts)], INK
    )


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


def _framed(
    image: np.ndarray, colour: tuple[int, int, int], start: bool = False, width: int = 3
) -> np.ndarray:
    height, breadth, _ = image.shape
    framed = np.empty((height + 2 * width, breadth + 2 * width, 3), np.uint8)
    framed[:] = colour
    if start:
        framed[:, :width] = START
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
