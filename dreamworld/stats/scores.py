"""Reading run directories: episodes, evaluations, wall-clock time and settings, from files alone."""

from __future__ import annotations

import dataclasses
import functools
import re
from pathlib import Path
from typing import Any

import numpy as np

from dreamworld import presets
from dreamworld.config import Config
from dreamworld.reading import INT64, BadFile
from dreamworld.stats.files import LARGE, is_sane, read_config, read_rows, read_status
from dreamworld.text import printable

ACHIEVEMENT = re.compile(r"(?:log/)*achievement_([^/]+)")  # its last value; `.../mean` is another key
NOT_OURS = "names no task and seed, as that of a run does"
PAUSE_S = 600.0  # a longer silence in the log is a pause between sittings, not work
UNSTATED = re.compile(  # settings that change no result, or that the report states in words of its own
    r"(task|seeds?|logdir|resume|env\.(seed|workers|engine|timeout_s|max_failures)|replay\.(storage|chunk|hot_chunks)"
    r"|run\.(steps|prefetch|log_every|report_every|save_every|keep_.*|grace_s|platform|compile_cache|progress)"
    r"|(logger|parallel|eval|assess)\..*)"
)


@dataclasses.dataclass(frozen=True)
class Run:
    """One training run as its files tell it. Arrays hold one entry per finished episode or evaluation."""

    path: Path
    task: str
    seed: int
    config: dict[str, Any]  # nested, as saved
    status: dict[str, Any]  # last heartbeat; empty where there is none
    frames: np.ndarray  # [E] environment frames at which each score was made, ascending
    returns: np.ndarray  # [E]
    hours: np.ndarray  # [E] hours of work until then, pauses left out
    achievements: dict[str, np.ndarray]  # {name: [E]} bool
    reach: float  # frames that the run has come to
    total_hours: float
    updates: float
    device: str
    assess: dict[str, float] = dataclasses.field(default_factory=dict)  # of its world model, newest values
    unreadable: int = 0  # lines that are not JSON (a crash cuts a line)
    label: str = ""

    @property
    def name(self) -> str:
        """Task and seed, for messages."""
        return f"{self.task} seed {self.seed}"

    @property
    def state(self) -> str:
        """State of the last heartbeat, `unknown` without one."""
        return str(self.status.get("state", "unknown"))


def read_jsonl(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Rows in the order of steps, and the number of unreadable lines.

    A run that was killed continues from its last checkpoint and writes some steps again: rows that a
    later row stepped back behind are dropped, so no step counts twice.
    """
    rows: list[dict[str, Any]] = []
    unreadable = 0
    at_step: set[str] = set()  # environments that have a row at the last step
    for row in read_rows(path):
        if row is None:
            unreadable += 1
            continue
        env = repr(row.get("env"))
        if rows and (rows[-1]["step"] > row["step"] or (rows[-1]["step"] == row["step"] and env in at_step)):
            while rows and rows[-1]["step"] >= row["step"]:
                rows.pop()
            at_step = set()
        elif rows and rows[-1]["step"] < row["step"]:
            at_step = set()
        at_step.add(env)
        rows.append(row)
    return rows, unreadable


def flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one level with dotted keys."""
    flat = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + str(key)] = value
    return flat


def settings(run: Run) -> dict[str, Any]:
    """The dotted settings that make one run's scores comparable with another's."""
    return {key: value for key, value in flatten(run.config).items() if not UNSTATED.fullmatch(key)}


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Keys of settings that differ; one that a run lacks (it is older than the option) counts as the default."""
    return [key for key in sorted({*one, *other}) if setting(one, key) != setting(other, key)]


def setting(flat: dict[str, Any], key: str) -> Any:
    """The value of a dotted key, its default where the run lacks it."""
    value = flat[key] if key in flat else _defaults().get(key)
    return list(value) if isinstance(value, tuple) else value


@functools.cache
def _defaults() -> dict[str, Any]:
    return presets.flat(Config())


def working_hours(time_s: np.ndarray) -> np.ndarray:
    """Hours of work at each of ascending times [M] -> [M]: steps longer than a pause count as nothing."""
    if len(time_s) == 0:
        return np.zeros(0)
    gaps = np.diff(time_s, prepend=time_s[0])
    usual = np.median(gaps[1:]) if len(gaps) > 1 else 0.0
    gaps = np.where((gaps < 0) | (gaps > max(PAUSE_S, 20 * usual)), 0.0, gaps)
    return np.cumsum(gaps) / 3600


def read_run(path: str | Path, source: str = "train") -> Run:
    """Reads a run directory. `source`: train (finished training episodes) or eval (evaluations).

    BadFile where the directory says neither task nor seed.
    """
    path = Path(path)
    config, status = read_config(path), read_status(path)
    task, seed = config.get("task", status.get("task")), config.get("seed", status.get("seed"))
    if task is None or seed is None:
        raise BadFile(path / "config.yaml", NOT_OURS)
    if not isinstance(task, str) or type(seed) is not int or not 0 <= seed < INT64:
        raise BadFile(path / "config.yaml", "task must be text and seed a whole number")
    metrics, bad_metrics = read_jsonl(path / "metrics.jsonl")
    found, bad_rows = read_jsonl(path / ("eval.jsonl" if source == "eval" else "episodes.jsonl"))
    rows = _scored(found, "mean" if source == "eval" else "return")
    frames, returns = _column(rows, "frames"), _column(rows, "mean" if source == "eval" else "return")
    clock = [row for row in metrics if is_sane(row.get("time"))] or [
        row for row in rows if is_sane(row.get("time"))
    ]
    hours = working_hours(_column(clock, "time"))
    ticks = _column(clock, "frames")
    updates = metrics[-1].get("updates") if metrics else status.get("updates")
    return Run(
        path=path,
        task=task,
        seed=seed,
        config=config,
        status=status,
        frames=frames,
        returns=returns,
        hours=np.interp(frames, ticks, hours) if len(ticks) else np.zeros_like(frames),
        achievements=_achievements(rows),
        reach=_reach(status, metrics, rows),
        total_hours=float(hours[-1]) if len(hours) else 0.0,
        updates=float(updates) if is_sane(updates) else 0.0,  # type: ignore[arg-type]
        device=str(status.get("device", "")),
        assess=_assessed(metrics),
        unreadable=bad_metrics + bad_rows + len(found) - len(rows),
    )


def _scored(rows: list[dict[str, Any]], value: str) -> list[dict[str, Any]]:
    """Rows with a score and ascending frames, which every row of a run has."""
    kept, frames = [], 0.0
    for row in rows:
        if is_sane(row.get(value)) and is_sane(row.get("frames")) and row["frames"] >= frames:
            frames = row["frames"]
            kept.append(row)
    return kept


def _column(rows: list[dict[str, Any]], key: str) -> np.ndarray:
    return np.array([row[key] if is_sane(row.get(key)) else np.nan for row in rows], np.float64)


def _achievements(rows: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    names = {key: printable(match[1]) for row in rows for key in row if (match := ACHIEVEMENT.fullmatch(key))}
    unlocked = lambda key: np.array([is_sane(row.get(key)) and row[key] > 0 for row in rows])
    return {name: unlocked(key) for key, name in sorted(names.items())}


def _assessed(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The newest number of each that `assess.every` logs."""
    found: dict[str, float] = {}
    for row in rows:
        named = {printable(key)[7:]: value for key, value in row.items() if key.startswith("assess/")}
        found |= {key: float(value) for key, value in named.items() if is_sane(value)}
    return found


def _reach(status: dict[str, Any], metrics: list[dict[str, Any]], rows: list[dict[str, Any]]) -> float:
    """Frames the run has come to: the last row logged, or the heartbeat's step where it is further."""
    last = [row for row in (metrics[-1:] + rows[-1:]) if is_sane(row.get("frames")) and row["step"] > 0]
    last = [row for row in last if row["frames"] > 0]
    if not last:
        return 0.0
    row = max(last, key=lambda row: row["step"])
    step = max(float(status.get("step") or 0), row["step"])
    return min(row["frames"] / row["step"] * step, LARGE)
