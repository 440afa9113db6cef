"""Writers: JSONL files and TensorBoard always, Weights & Biases when asked for.

JSONL rows are strict JSON, so a non-finite number is null there (TensorBoard keeps it as NaN). Rows are appended
in one write: kill -9 can at most leave the first of them and cut the last line, which the next start drops.
What a full disk does not take waits in memory for the next write; training goes on.
"""

from __future__ import annotations

import contextlib
import json
import logging as std_logging
import os
import secrets
import socket
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dreamworld.config import Config
from dreamworld.errors import UserError
from dreamworld.logging import video
from dreamworld.logging.rundir import RunDir, dumps

log = std_logging.getLogger("dreamworld")
MAX_WAITING_BYTES = 64 << 20  # of a file that can't be written; what comes later is dropped


class Appender:
    """Appends to a file, each call in one write; what the disk does not take waits for the next call."""

    def __init__(self, path: Path):
        self.path = path
        self._waiting = b""

    def append(self, data: bytes) -> None:
        """Raises OSError when the disk does not take it; `data` then goes with the next call."""
        if len(self._waiting) + len(data) <= MAX_WAITING_BYTES:
            self._waiting += data
        self.flush()

    def flush(self) -> None:
        """Writes what waits."""
        if self._waiting:
            append_bytes(self.path, self._waiting)
            self._waiting = b""


class Logger:
    """Writes everything of a run that is not a checkpoint or replay.

    A file that can't be written never raises into training: `take_problems` tells, and rows go with the next ones.

    `step` is the step that a continued run was restored at: later rows of all files are dropped, and
    TensorBoard is told to forget them. None keeps every row (for `eval`, or a new run).
    """

    def __init__(self, rundir: RunDir, config: Config, *, step: int | None = None):
        self.rundir = rundir
        self._sinks: list[Any] = []
        self._problems: dict[str, None] = {}  # in order, each once
        wandb = load_wandb() if config.logger.wandb else None
        for path in (rundir.metrics, rundir.episodes, rundir.evals):
            repair_jsonl(path, step)
        self._metrics, self._episodes, self._evals = map(
            Appender, (rundir.metrics, rundir.episodes, rundir.evals)
        )
        if config.logger.tensorboard:
            self._sinks.append(TensorBoardSink(rundir.tensorboard, step))
        if wandb:
            self._sinks.append(WandbSink(wandb, rundir, config))

    def scalars(self, step: int, updates: int, frames: int, values: Mapping[str, float]) -> None:
        """One log row; `values` are `<group>/<name>`."""
        row = {"step": step, "frames": frames, "updates": updates, "time": time.time()}
        self._append(self._metrics, [row | dict(values)])
        self._scalars([(step, values)])

    def episode(self, step: int, frames: int, row: Mapping[str, float]) -> None:
        """One finished training episode, a row of `EpisodeStats.add`."""
        self.episodes([(step, frames, row)])

    def episodes(self, rows: Sequence[tuple[int, int, Mapping[str, float]]]) -> None:
        """Finished training episodes (step, frames, row of `EpisodeStats.add`), each file written once."""
        if not rows:
            return
        now = time.time()
        self._append(
            self._episodes,
            [{"step": step, "frames": frames, "time": now} | dict(row) for step, frames, row in rows],
        )
        shown = lambda row: {f"episode/{key}": value for key, value in row.items() if key != "env"}
        self._scalars([(step, shown(row)) for step, _, row in rows])

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
        self._append(self._evals, [row])
        shown = {"return": row["mean"], "return_std": row["std"], "length": float(np.mean(lengths))}
        values = {f"eval/{key}": value for key, value in (shown | dict(log or {})).items()}
        self._scalars([(step, values)])
        return row

    def video(self, step: int, name: str, frames: np.ndarray, fps: float) -> list[Path]:
        """uint8 [T, H, W, 3] as report/<step>/<name>.gif and .mp4."""
        folder = self.rundir.report / str(step)
        paths = [
            video.save_gif(folder / f"{name}.gif", frames, fps),
            video.save_mp4(folder / f"{name}.mp4", frames, fps),
        ]
        for sink in self._sinks:
            with self.told("a video of the report"):
                sink.video(step, f"report/{name}", paths[0], frames.shape)
        return paths

    def eval_video(self, step: int, frames: np.ndarray, fps: float) -> Path:
        """uint8 [T, H, W, 3] of one evaluation episode as eval/<step>.mp4."""
        return video.save_mp4(self.rundir.eval / f"{step}.mp4", video.upscale(frames), fps)

    def image(self, step: int, name: str, array: np.ndarray) -> Path:
        """uint8 [H, W, 3] as report/<step>/<name>.png."""
        path = video.save_png(self.rundir.report / str(step) / f"{name}.png", array)
        for sink in self._sinks:
            with self.told("a picture of the report"):
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

    @contextlib.contextmanager
    def told(self, what: str) -> Iterator[None]:
        """Makes an OSError a problem to be told instead of the end of the training."""
        try:
            yield
        except OSError as error:
            self._problems[f"NOT WRITTEN: {what}: {error.strerror or error}. Training goes on."] = None

    def take_problems(self) -> list[str]:
        """What could not be written since the last call."""
        problems, self._problems = list(self._problems), {}
        return problems

    def close(self) -> None:
        """Writes what still waits and closes; safe to call twice. OSError when the disk does not take it."""
        sinks, self._sinks = self._sinks, []
        for sink in sinks:
            sink.close()
        for appender in (self._metrics, self._episodes, self._evals):
            appender.flush()

    def __enter__(self) -> Logger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _scalars(self, rows: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        for sink in self._sinks:
            with self.told("scalars for TensorBoard or W&B"):
                sink.scalars(rows)

    def _append(self, appender: Appender, rows: Sequence[Mapping[str, Any]]) -> None:
        with self.told(f"{appender.path} (its rows wait in memory)"):
            appender.append("".join(dumps(row) + "\n" for row in rows).encode())


class TensorBoardSink:
    """Event files in tensorboardX's format. Not by its writer: that hangs for ever once the disk was full."""

    def __init__(self, folder: Path, step: int | None):
        from tensorboardX.proto import event_pb2

        self._Event: Any = event_pb2.Event  # type: ignore[attr-defined]
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}.{os.getpid()}"
        self._file = Appender(folder / name)
        self._write([self._Event(wall_time=time.time(), file_version="brain.Event:2")])
        if step is not None:  # TensorBoard forgets what comes after it
            log = event_pb2.SessionLog  # type: ignore[attr-defined]
            self._write([self._Event(step=step + 1, session_log=log(status=log.START))])

    def scalars(self, rows: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """(step, values): one event each, all in one write."""
        from tensorboardX.proto import summary_pb2

        Summary: Any = summary_pb2.Summary  # type: ignore[attr-defined]
        value = lambda item: Summary.Value(tag=item[0], simple_value=float(item[1]))
        events = [
            self._Event(
                wall_time=time.time(), step=step, summary=Summary(value=list(map(value, values.items())))
            )
            for step, values in rows
        ]
        self._write(events)

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
        self._write([self._Event(wall_time=time.time(), step=step, summary=summary)])

    def _write(self, events: Sequence[Any]) -> None:
        self._file.append(b"".join(record(event.SerializeToString()) for event in events))

    def close(self) -> None:
        self._file.flush()


def record(data: bytes) -> bytes:
    """A record of TensorBoard's file format: length, its checksum, data, its checksum."""
    from tensorboardX.record_writer import masked_crc32c

    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked_crc32c(length)) + data + struct.pack("<I", masked_crc32c(data))


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

    def scalars(self, rows: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        for step, values in rows:
            self._run.log({"step": step} | dict(values))

    def image(self, step: int, name: str, path: Path, shape: tuple[int, ...]) -> None:
        self._run.log({"step": step, name: self._wandb.Image(str(path))})

    def video(self, step: int, name: str, path: Path, shape: tuple[int, ...]) -> None:
        self._run.log({"step": step, name: self._wandb.Video(str(path), format="gif")})

    def close(self) -> None:
        self._run.finish()


def load_wandb() -> Any:
    """The package; UserError with the command that installs it."""
    try:
        import wandb
    except ImportError as error:
        what = "is not installed" if error.name == "wandb" else f"can't be imported ({error})"
        advice = "pip install 'dreamworld[wandb]', or leave the option empty"
        raise UserError(f"--logger.wandb: the package wandb {what}; {advice}") from None
    return wandb


def append_jsonl(path: Path, row: Mapping[str, Any]) -> None:
    """Appends one line in a single write, so that several processes may append to one file."""
    append_bytes(path, (dumps(row) + "\n").encode())


def append_bytes(path: Path, data: bytes) -> None:
    """Appends all of `data`, in a single write unless the disk fills up; or nothing, and raises OSError."""
    with open(path, "ab", buffering=0) as file:
        written = 0
        try:
            while written < len(data):
                written += file.write(data[written:]) or 0
        except OSError:
            os.ftruncate(file.fileno(), os.fstat(file.fileno()).st_size - written)
            raise


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Complete rows of a file, [] when there is none; damaged lines and one still being written are left out."""
    if not path.exists():
        return []
    rows = [_parse(line) for line in path.read_bytes().split(b"\n")[:-1] if line.strip()]
    return [row for row in rows if row is not None]


def repair_jsonl(path: Path, step: int | None) -> int:
    """Drops an incomplete last line, damaged lines, and rows beyond `step`; returns how many lines went.

    The file is replaced atomically, and only when something has to go. Damage, which no kill leaves, is told.
    """
    if not path.exists():
        return 0
    content = path.read_bytes()
    lines = content.split(b"\n")
    complete = [line for line in lines[:-1] if line.strip()]
    rows = [_parse(line) for line in complete]
    kept = [
        line for line, row in zip(complete, rows) if row is not None and (step is None or row["step"] <= step)
    ]
    if damaged := sum(row is None for row in rows):
        log.warning(f"{path}: {damaged} damaged lines were dropped")
    text = b"".join(line + b"\n" for line in kept)
    if text != content:
        part = path.with_name(f".{path.name}.{os.getpid()}")
        part.write_bytes(text)
        os.replace(part, path)
    return len(complete) - len(kept) + bool(lines[-1])


def _parse(line: bytes) -> dict[str, Any] | None:
    """The row; None for what was never written so."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and isinstance(row.get("step"), int | float) else None
