"""Writers: JSONL files and TensorBoard always, Weights & Biases when asked for.

JSONL rows are strict JSON, so a non-finite number is null there (TensorBoard keeps it as NaN). A row is one
write to a file opened for appending: kill -9 can at most cut the last line, and the next start drops that.
"""

from __future__ import annotations

import json
import logging as std_logging
import os
import secrets
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dreamworld.config import Config
from dreamworld.errors import UserError
from dreamworld.logging import video
from dreamworld.logging.rundir import RunDir, dumps


class Logger:
    """Writes everything of a run that is not a checkpoint or replay.

    `step` is the step that a continued run was restored at: later rows of all files are dropped, and
    TensorBoard is told to forget them. None keeps every row (for `eval`, or a new run).
    """

    def __init__(self, rundir: RunDir, config: Config, *, step: int | None = None):
        self.rundir = rundir
        self._sinks: list[Any] = []
        wandb = _load_wandb() if config.logger.wandb else None
        for path in (rundir.metrics, rundir.episodes, rundir.evals):
            repair_jsonl(path, step)
        if config.logger.tensorboard:
            self._sinks.append(TensorBoardSink(rundir.tensorboard, step))
        if wandb:
            self._sinks.append(WandbSink(wandb, rundir, config))

    def scalars(self, step: int, updates: int, frames: int, values: Mapping[str, float]) -> None:
        """One log row; `values` are `<group>/<name>`."""
        row = {"step": step, "frames": frames, "updates": updates, "time": time.time()}
        append_jsonl(self.rundir.metrics, row | dict(values))
        self._scalars(step, values)

    def episode(self, step: int, frames: int, row: Mapping[str, float]) -> None:
        """One finished training episode, a row of `EpisodeStats.add`."""
        append_jsonl(self.rundir.episodes, {"step": step, "frames": frames, "time": time.time()} | dict(row))
        shown = {key: value for key, value in row.items() if key != "env"}
        self._scalars(step, {f"episode/{key}": value for key, value in shown.items()})

    def evaluation(
        self,
        step: int,
        frames: int,
        mode: str,
        returns: Sequence[float],
        lengths: Sequence[int],
        log: Mapping[str, float] | None = None,
    ) -> dict[str, Any]:
        """One evaluation of one or more episodes; std is over episodes (0 for one). Returns the row."""
        row = {"step": step, "frames": frames, "time": time.time(), "mode": mode}
        row |= {"returns": [float(value) for value in returns], "lengths": [int(value) for value in lengths]}
        row |= {"mean": float(np.mean(returns)), "std": float(np.std(returns))} | dict(log or {})
        append_jsonl(self.rundir.evals, row)
        shown = {"return": row["mean"], "return_std": row["std"], "length": float(np.mean(lengths))}
        self._scalars(step, {f"eval/{key}": value for key, value in (shown | dict(log or {})).items()})
        return row

    def video(self, step: int, name: str, frames: np.ndarray, fps: float) -> list[Path]:
        """uint8 [T, H, W, 3] as report/<step>/<name>.gif and .mp4."""
        folder = self.rundir.report / str(step)
        paths = [
            video.save_gif(folder / f"{name}.gif", frames, fps),
            video.save_mp4(folder / f"{name}.mp4", frames, fps),
        ]
        for sink in self._sinks:
            sink.video(step, f"report/{name}", paths[0], frames.shape)
        return paths

    def eval_video(self, step: int, frames: np.ndarray, fps: float) -> Path:
        """uint8 [T, H, W, 3] of one evaluation episode as eval/<step>.mp4."""
        return video.save_mp4(self.rundir.eval / f"{step}.mp4", video.upscale(frames), fps)

    def image(self, step: int, name: str, array: np.ndarray) -> Path:
        """uint8 [H, W, 3] as report/<step>/<name>.png."""
        path = video.save_png(self.rundir.report / str(step) / f"{name}.png", array)
        for sink in self._sinks:
            sink.image(step, f"report/{name}", path, array.shape)
        return path

    def report(
        self, step: int, report: Mapping[str, np.ndarray], context: int, fps: float = 10.0
    ) -> list[Path]:
        """Pictures of an agent's open-loop report (`truth/<key>`, `dream/<key>`: [B, T, ...])."""
        paths: list[Path] = []
        for picture in video.draw_report(report, context):
            if picture.frames is not None:
                paths += self.video(step, picture.name, picture.frames, fps)
            paths.append(self.image(step, picture.name, picture.still))
        return paths

    def close(self) -> None:
        """Flushes and closes; safe to call twice."""
        for sink in self._sinks:
            sink.close()
        self._sinks = []

    def __enter__(self) -> Logger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _scalars(self, step: int, values: Mapping[str, float]) -> None:
        for sink in self._sinks:
            sink.scalars(step, values)


class TensorBoardSink:
    """Event files, by tensorboardX."""

    def __init__(self, folder: Path, step: int | None):
        from tensorboardX import SummaryWriter

        std_logging.getLogger("tensorboardX.x2num").setLevel(std_logging.ERROR)  # a line for every NaN
        purge_step = None if step is None else step + 1
        self._writer = SummaryWriter(str(folder), purge_step=purge_step, flush_secs=10)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def image(self, step: int, name: str, path: Path, shape: tuple[int, ...]) -> None:
        self._add_encoded(step, name, path, shape[0], shape[1])

    def video(self, step: int, name: str, path: Path, shape: tuple[int, ...]) -> None:
        """TensorBoard plays an animated GIF in an image summary."""
        self._add_encoded(step, name, path, shape[1], shape[2])

    def _add_encoded(self, step: int, name: str, path: Path, height: int, width: int) -> None:
        from tensorboardX.proto import summary_pb2

        Summary: Any = summary_pb2.Summary  # type: ignore[attr-defined]
        image = Summary.Image(
            height=height, width=width, colorspace=3, encoded_image_string=path.read_bytes()
        )
        summary = Summary(value=[Summary.Value(tag=name, image=image)])
        writer = self._writer.file_writer
        assert writer is not None, "the event file is closed"
        writer.add_summary(summary, step)

    def close(self) -> None:
        self._writer.close()


class WandbSink:
    """Weights & Biases; the id lies in the run directory, so that a continued run is the same run there."""

    def __init__(self, wandb: Any, rundir: RunDir, config: Config):
        from dreamworld import presets

        file = rundir.path / "wandb_id"
        if not file.exists():
            file.write_text(secrets.token_hex(8))
        self._wandb = wandb
        self._run = wandb.init(
            project=config.logger.wandb,
            id=file.read_text().strip(),
            name=rundir.path.name,
            dir=str(rundir.path),
            config=presets.nested(config),
            resume="allow",
        )
        self._run.define_metric("*", step_metric="step")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({"step": step} | dict(values))

    def image(self, step: int, name: str, path: Path, shape: tuple[int, ...]) -> None:
        self._run.log({"step": step, name: self._wandb.Image(str(path))})

    def video(self, step: int, name: str, path: Path, shape: tuple[int, ...]) -> None:
        self._run.log({"step": step, name: self._wandb.Video(str(path), format="gif")})

    def close(self) -> None:
        self._run.finish()


def _load_wandb() -> Any:
    try:
        import wandb
    except ImportError as error:
        what = "is not installed" if error.name == "wandb" else f"can't be imported ({error})"
        advice = "pip install 'dreamworld[wandb]', or leave the option empty"
        raise UserError(f"--logger.wandb: the package wandb {what}; {advice}") from None
    return wandb


def append_jsonl(path: Path, row: Mapping[str, Any]) -> None:
    """Appends one line in a single write, so that several processes may append to one file."""
    with open(path, "ab", buffering=0) as file:
        file.write((dumps(row) + "\n").encode())


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Complete rows of a file, [] when there is none; a last line that is still being written is left out."""
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]
    return [json.loads(line) for line in lines if line.strip()]


def repair_jsonl(path: Path, step: int | None) -> int:
    """Drops an incomplete last line, and rows beyond `step` when it is given; returns how many lines went.

    The file is replaced atomically, and only when something has to go.
    """
    if not path.exists():
        return 0
    content = path.read_bytes()
    lines = content.split(b"\n")
    complete = [line for line in lines[:-1] if line.strip()]
    kept = [line for line in complete if _keep(line, step)]
    text = b"".join(line + b"\n" for line in kept)
    if text != content:
        part = path.with_name(f".{path.name}.{os.getpid()}")
        part.write_bytes(text)
        os.replace(part, path)
    return len(complete) - len(kept) + bool(lines[-1])


def _keep(line: bytes, step: int | None) -> bool:
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return False
    return step is None or row["step"] <= step
