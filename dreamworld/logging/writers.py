"""Writers: JSONL files and TensorBoard always, Weights & Biases when asked for.

JSONL rows are strict JSON, so a non-finite number is null there (TensorBoard keeps it as NaN). Rows are appended
in one write: kill -9 can at most leave the first of them and cut the last line, which the next start drops.
What a full disk does not take waits in memory for the next write; training goes on.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging as std_logging
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from dreamworld import reading, words, writing
from dreamworld.config import Config
from dreamworld.logging.appender import Appender
from dreamworld.logging.obstacles import obstacle
from dreamworld.logging.pictures import Pictures
from dreamworld.logging.problems import Problems
from dreamworld.logging.rows import dumps
from dreamworld.logging.rundir import RunDir
from dreamworld.logging.sinks import Sinks, TensorBoardSink, WandbSink, load_wandb
from dreamworld.reading import BadFile, is_number

log = std_logging.getLogger("dreamworld")


class Logger:
    """Writes everything of a run that is not a checkpoint or replay.

    What can't be written or drawn never raises into training: `take_problems` tells, and rows go with the next ones.

    `step` is the step that a continued run was restored at: later rows of all files are dropped, and
    TensorBoard is told to forget them. None keeps every row (for `eval`). Where the step is not known yet,
    `begin` False leaves all files as they are until `begin(step)`.
    """

    def __init__(self, rundir: RunDir, config: Config, *, step: int | None = None, begin: bool = True):
        self.rundir, self._config = rundir, config
        self.problems = Problems()
        self._wandb = load_wandb() if config.logger.wandb else None
        self._sinks = Sinks(self.problems)
        self.pictures = Pictures(rundir, self.problems, self._sinks)
        self._metrics, self._episodes, self._evals = (
            Appender(path) for path in (rundir.metrics, rundir.episodes, rundir.evals)
        )
        if begin:
            self.begin(step)

    def begin(self, step: int | None) -> None:
        """Cuts the files at the step that was restored, and opens the other outputs; call it once, before any row."""
        rundir, config = self.rundir, self._config
        for appender in (self._metrics, self._episodes, self._evals):
            appender.prepare(functools.partial(repair_jsonl, appender.path, step))
        self.flush()
        if config.logger.tensorboard:
            self._sinks.add(lambda: TensorBoardSink(rundir.tensorboard, step), TensorBoardSink.name)
        if self._wandb:
            self._sinks.add(lambda: WandbSink(self._wandb, rundir, config), WandbSink.name)

    def scalars(self, step: int, updates: int, frames: int, values: Mapping[str, float]) -> None:
        """One log row; `values` are `<group>/<name>`."""
        row = {"step": step, "frames": frames, "updates": updates, "time": time.time()}
        self._append(self._metrics, [row | dict(values)])
        self._show([(step, values)])

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
        self._show([(step, shown(row)) for step, _, row in rows])

    def evaluation(
        self,
        step: int,
        frames: int,
        mode: str,
        returns: Sequence[float],
        lengths: Sequence[int],
        log: Mapping[str, float] | None = None,
    ) -> dict[str, Any]:
        """One evaluation of one or more episodes; std is over episodes (0 for one). Returns the row.

        One that is there already, because the run was killed after it and went on before it, is not written again.
        """
        row = evaluation_row(step, frames, mode, returns, lengths, log)
        if self._holds(row):
            return row
        self._append(self._evals, [row])
        shown = {"return": row["mean"], "return_std": row["std"], "length": float(np.mean(lengths))}
        values = {f"eval/{key}": value for key, value in (shown | dict(log or {})).items()}
        self._show([(step, values)])
        return row

    def _holds(self, row: Mapping[str, Any]) -> bool:
        """Whether the evaluations end with this row, but for the time when it was made."""
        last: list[dict[str, Any]] = []
        with contextlib.suppress(OSError):
            last = read_jsonl(self._evals.path)[-1:]
        return bool(last) and {**last[0], "time": 0} == {**json.loads(dumps(row)), "time": 0}

    def report(
        self, step: int, report: Mapping[str, np.ndarray], context: int, fps: float = 10.0
    ) -> list[Path]:
        """Pictures of an agent's open-loop report (`truth/<key>`, `dream/<key>` or `probe/<key>`: [B, T, ...])."""
        return self.pictures.report(step, report, context, fps) if self.is_here() else []

    def told(self, what: str) -> AbstractContextManager[None]:
        """Makes an OSError a problem to be told instead of the end of the training."""
        return self.problems.told(what)

    def take_problems(self) -> list[str]:
        """What could not be written since the last call, or not be drawn."""
        return self.problems.take()

    def flush(self) -> None:
        """Writes the rows that wait."""
        if not self.is_here():
            return
        for appender in (self._metrics, self._episodes, self._evals):
            with self._waits(appender):
                appender.flush()

    def close(self) -> None:
        """Writes what still waits and closes; safe to call twice. Rows that are lost now are told."""
        self.flush()
        self._sinks.close()
        lost = [a for a in (self._metrics, self._episodes, self._evals) if a.waiting_bytes]
        for appender in lost:
            log.warning(
                f"NOT WRITTEN: the last {words.count(appender.waiting_bytes, 'byte')} of {appender.path}"
            )

    def __enter__(self) -> Logger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _append(self, appender: Appender, rows: Sequence[Mapping[str, Any]]) -> None:
        appender.keep("".join(dumps(row) + "\n" for row in rows).encode())
        if self.is_here():
            with self._waits(appender):
                appender.flush()

    def is_here(self) -> bool:
        """Whether the run directory is in its place: else rows wait and the rest is left out, which is told once."""
        away = self.rundir.away()
        with self.told("the log (its rows wait in memory)"):
            if away:
                raise OSError(away)
        return not away

    def _show(self, rows: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        if self.is_here():
            self._sinks.scalars(rows)

    def _waits(self, appender: Appender) -> AbstractContextManager[None]:
        return self.told(f"{appender.path} (its rows wait in memory)")


def evaluation_row(
    step: int,
    frames: int,
    mode: str,
    returns: Sequence[float],
    lengths: Sequence[int],
    log: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """A row of eval.jsonl."""
    row = {"step": step, "frames": frames, "time": time.time(), "mode": mode}
    row |= {"returns": [float(value) for value in returns], "lengths": [int(value) for value in lengths]}
    return row | {"mean": float(np.mean(returns)), "std": float(np.std(returns))} | dict(log or {})


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Rows of a file, [] when there is none; damaged lines and one still being written are left out."""
    try:
        return [row for row in reading.read_rows(path) if row is not None and is_number(row.get("step"))]
    except BadFile:
        return []


def repair_jsonl(path: Path, step: int | None) -> int:
    """Drops an incomplete last line, damaged lines, and rows beyond `step`; returns how many lines went.

    The file is replaced atomically, and only when something has to go. Damage, which no kill leaves, is told.
    """
    if why := obstacle(path):
        raise OSError(f"it {why}")
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
        log.warning(f"{path}: dropped {words.count(damaged, 'damaged line')}")
    text = b"".join(line + b"\n" for line in kept)
    if text != content:
        writing.replace(path, text)
    return len(complete) - len(kept) + bool(lines[-1])


def _parse(line: bytes) -> dict[str, Any] | None:
    """The row; None for what was never written so."""
    row = reading.parse_row(line)
    return row if row is not None and is_number(row.get("step")) else None
