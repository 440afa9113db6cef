"""The learning curve of a run, drawn from its JSONL files by the object API of matplotlib (no display)."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dreamworld import writing
from dreamworld.logging.rundir import RunDir
from dreamworld.logging.writers import read_jsonl

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RETURN = "#2f6fb0"
EVAL = "#d9761a"
INK = "#333333"
PANELS, COLUMNS = 8, 4


def learning_curve(rundir: RunDir, path: Path | None = None) -> Path | None:
    """Writes learning_curve.png: episode returns, evaluations, losses, those that there are. None for none of them."""
    episodes, evals, metrics = (read_jsonl(file) for file in (rundir.episodes, rundir.evals, rundir.metrics))
    episodes = [row for row in episodes if row.get("return") is not None]
    evals = [row for row in evals if row.get("mean") is not None]
    names, played = panel_names(metrics), bool(episodes or evals)
    if not (played or names):
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines = -(-len(names) // COLUMNS)
    figure = Figure(figsize=(12, 0.6 + 4.2 * played + 1.9 * lines), dpi=90, layout="constrained")
    figure.suptitle(_title(rundir), fontsize=11, color=INK)
    grid = figure.add_gridspec(played + lines, COLUMNS, height_ratios=[4.2] * played + [1.7] * lines)
    if played:
        _draw_returns(figure.add_subplot(grid[0, :]), episodes, evals)
    for place, name in enumerate(names):
        axes = figure.add_subplot(grid[played + place // COLUMNS, place % COLUMNS])
        _draw_metric(axes, metrics, name)
    path = path or rundir.learning_curve
    picture = io.BytesIO()
    FigureCanvasAgg(figure).print_png(picture)
    writing.replace(path, picture.getvalue())
    return path


def panel_names(metrics: list[dict[str, Any]]) -> list[str]:
    """The metrics that get a panel: losses first, then reports, at most 8."""
    names = sorted({key for row in metrics for key, value in row.items() if "/" in key and value is not None})
    reports = [name for name in names if name.startswith("report/")]
    losses = [name for name in names if re.search(r"(^|/)loss(/|_|$)", name) and name not in reports]
    return (losses + reports)[:PANELS]


def smooth(values: np.ndarray, window: int) -> np.ndarray:
    """Mean over the last `window` values (fewer at the start)."""
    sums = np.cumsum(np.concatenate([[0.0], values]))
    end = np.arange(1, len(values) + 1)
    start = np.maximum(0, end - window)
    return (sums[end] - sums[start]) / (end - start)


def _title(rundir: RunDir) -> str:
    if not rundir.exists():
        return rundir.path.name
    config = rundir.load_config()
    return f"{config.task}, {config.agent.name}, seed {config.seed}"


def _column(rows: list[dict[str, Any]], key: str) -> np.ndarray:
    return np.array([np.nan if row.get(key) is None else row[key] for row in rows], np.float64)


def _draw_returns(axes: Axes, episodes: list[dict[str, Any]], evals: list[dict[str, Any]]) -> None:
    if episodes:
        frames, returns = _column(episodes, "frames"), _column(episodes, "return")
        window = max(5, min(100, len(returns) // 20))
        axes.plot(frames, returns, "o", color=RETURN, alpha=0.35, ms=3.5, mew=0, label="training episode")
        axes.plot(frames, smooth(returns, window), color=RETURN, lw=2, label=f"mean of the last {window}")
    if evals:
        style: dict[str, Any] = {"color": EVAL, "ms": 5, "lw": 1.5, "capsize": 3}
        axes.errorbar(
            _column(evals, "frames"),
            _column(evals, "mean"),
            yerr=_column(evals, "std"),
            fmt="o-",
            label="evaluation, mean and standard deviation over episodes",
            **style,
        )
    axes.legend(fontsize=8, frameon=False)
    axes.set_xlabel("environment frames (action repeat counted)", fontsize=9)
    axes.set_ylabel("episode return", fontsize=9)
    _tidy(axes, 8)
    _add_step_axis(axes, [*episodes, *evals])


def _add_step_axis(axes: Axes, rows: list[dict[str, Any]]) -> None:
    """Agent steps above, where they differ from frames."""
    ratios = [row["frames"] / row["step"] for row in rows if row.get("step")]
    repeat = float(np.median(ratios)) if ratios else 1.0
    if repeat != 1.0:
        upper = axes.secondary_xaxis(
            "top", functions=(lambda x: np.divide(x, repeat), lambda x: np.multiply(x, repeat))
        )
        upper.set_xlabel("agent steps", fontsize=9)
        _tidy(upper, 8)


def _draw_metric(axes: Axes, metrics: list[dict[str, Any]], name: str) -> None:
    rows = [row for row in metrics if row.get(name) is not None]
    axes.plot(
        _column(rows, "frames"), _column(rows, name), color=INK, lw=1.1, marker="." if len(rows) < 5 else ""
    )
    axes.set_title(name, fontsize=9, pad=3, color=INK)
    _tidy(axes, 7)


def _tidy(axes: Any, size: int) -> None:
    from matplotlib.ticker import EngFormatter

    axes.grid(alpha=0.25, lw=0.6)
    axes.tick_params(labelsize=size)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
