"""Where numbers and pictures go beside the run's own files: TensorBoard, and Weights & Biases when asked for."""

from __future__ import annotations

import os
import re
import secrets
import socket
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dreamworld import reading, writing
from dreamworld.config import Config
from dreamworld.errors import UserError
from dreamworld.logging.appender import Appender
from dreamworld.logging.problems import Problems
from dreamworld.logging.rundir import RunDir
from dreamworld.reading import BadFile, MissingFile

MAX_ID = 100  # bytes of the file that holds the id of a run at Weights & Biases


class Sinks:
    """All of them. One that fails is told: a full disk is tried again, anything else ends that sink in this run."""

    def __init__(self, problems: Problems):
        self._problems = problems
        self._sinks: list[Any] = []

    def add(self, make: Callable[[], Any], name: str) -> None:
        """Opens one; where that fails there is none."""
        with self._problems.attempt(f"output for {name}", f"anything for {name}"):
            self._sinks.append(make())

    def scalars(self, rows: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """(step, values) each."""
        self._each("scalars", lambda sink: sink.scalars(rows))

    def image(self, step: int, name: str, path: Path, shape: tuple[int, ...]) -> None:
        """A PNG."""
        self._each("a picture", lambda sink: sink.image(step, name, path, shape))

    def video(self, step: int, name: str, path: Path, shape: tuple[int, ...]) -> None:
        """A GIF."""
        self._each("a video", lambda sink: sink.video(step, name, path, shape))

    def close(self) -> None:
        """Writes what waits; safe to call twice."""
        self._each("the end", lambda sink: sink.close())
        self._sinks = []

    def _each(self, what: str, call: Callable[[Any], None]) -> None:
        for sink in list(self._sinks):
            kind = f"output for {sink.name}"
            with self._problems.attempt(kind, f"{what} for {sink.name}"):
                call(sink)
            if not self._problems.goes(kind):
                self._sinks.remove(sink)


class TensorBoardSink:
    """Event files in tensorboardX's format. Not by its writer: that hangs for ever once the disk was full."""

    name = "TensorBoard"

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
        try:
            self._file.append(b"".join(record(event.SerializeToString()) for event in events))
        except FileNotFoundError:  # somebody removed the folder
            self._file.path.parent.mkdir(exist_ok=True)
            self._file.flush()

    def close(self) -> None:
        self._file.flush()


def record(data: bytes) -> bytes:
    """A record of TensorBoard's file format: length, its checksum, data, its checksum."""
    from tensorboardX.record_writer import masked_crc32c

    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked_crc32c(length)) + data + struct.pack("<I", masked_crc32c(data))


class WandbSink:
    """Weights & Biases; the id lies in the run directory, so that a continued run is the same run there."""

    name = "Weights & Biases"

    def __init__(self, wandb: Any, rundir: RunDir, config: Config):
        from dreamworld import presets

        self._wandb = wandb
        self._run = wandb.init(
            project=config.logger.wandb,
            id=run_id(rundir.path / "wandb_id"),
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


def run_id(path: Path) -> str:
    """The id in the file, which is made where there is none; BadFile where it holds anything else."""
    try:
        found = reading.read_text(path, MAX_ID).strip()
    except MissingFile:
        found = secrets.token_hex(8)
        writing.replace(path, found)
    if not re.fullmatch(r"[A-Za-z0-9_-]+", found):
        raise BadFile(path, "holds no id of a run at Weights & Biases; remove it, and a new one is made")
    return found


def load_wandb() -> Any:
    """The package; UserError with the command that installs it."""
    try:
        import wandb
    except ImportError as error:
        what = "is not installed" if error.name == "wandb" else f"can't be imported ({error})"
        advice = "pip install 'dreamworld[wandb]', or leave the option empty"
        raise UserError(f"--logger.wandb: the package wandb {what}; {advice}") from None
    return wandb
