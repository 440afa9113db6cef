"""Plots of open-loop predictions of vectors: truth against dream over time, a panel for each dimension."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dreamworld import words
from dreamworld.logging.video import CONTEXT, DREAM, INK, START

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARGIN = 0.08  # of the range of the truth, above and below it


def draw_traces(
    truth: np.ndarray,
    dream: np.ndarray,
    context: int,
    title: str,
    limit: int = 12,
    first: np.ndarray | None = None,
) -> np.ndarray:
    """uint8 [H', W', 3]: prediction against truth of the first of some sequences [B, T, D].

    Shows the `limit` dimensions that vary most. `first` [B, T] is true where an episode starts.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    order = np.sort(np.argsort(-truth[0].std(0), kind="stable")[:limit])
    columns = 2 if len(order) == 4 else min(3, len(order))
    lines = -(-len(order) // columns)
    figure = Figure(figsize=(max(5.6, 4.2 * columns), 1.7 * lines + 0.9), dpi=80, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    bounds = limits(truth)
    starts = np.flatnonzero(first[0]) if first is not None else np.zeros(0, int)
    for place, dim in enumerate(order):
        axes = figure.add_subplot(lines, columns, place + 1)
        axes.set_ylim(*bounds[dim])
        _draw(axes, truth[0, :, dim], dream[0, :, dim], context, starts)
        axes.set_title(f"{title}[{dim}]", fontsize=9, pad=3)
    shown = f"{len(order)} of {words.count(truth.shape[2], 'dimension')}"
    shown = shown if len(order) < truth.shape[2] else "all dimensions"
    of = words.count(len(truth), "sequence")
    handles = dict(zip(*figure.axes[0].get_legend_handles_labels()[::-1]))
    figure.legend(
        list(handles.values()),
        list(handles),
        loc="outside upper center",
        ncols=5,
        fontsize=8,
        columnspacing=1,
    )
    figure.supxlabel(
        f"time step; {shown}; axes show the range of the truth in {of}, × lies beyond", fontsize=8
    )
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def limits(truth: np.ndarray) -> np.ndarray:
    """The axis [D, 2] of each dimension, from the truth [B, T, D] of all sequences alone: no dream moves it."""
    low, high = truth.min((0, 1)), truth.max((0, 1))
    still = np.where(low == 0, 1.0, 0.1 * np.abs(low))
    margin = np.where(high > low, MARGIN * (high - low), still)
    return np.stack([low - margin, high + margin], 1)


def _draw(axes: Axes, truth: np.ndarray, dream: np.ndarray, context: int, starts: np.ndarray) -> None:
    """One dimension [T]."""
    from matplotlib.ticker import MaxNLocator, ScalarFormatter

    time, (low, high) = np.arange(len(truth)), axes.get_ylim()
    axes.axvspan(-0.5, context - 0.5, color=unit(CONTEXT), alpha=0.12, lw=0, label="context")
    axes.plot(time, truth, color=unit(INK), lw=1.5, label="truth")
    axes.plot(time[:context], dream[:context], color=unit(CONTEXT), lw=1.5, label="reconstruction")
    axes.plot(time[context:], dream[context:], color=unit(DREAM), lw=1.5, label="dream")
    beyond = np.flatnonzero((dream < low) | (dream > high))
    edge = np.clip(dream[beyond], low, high)
    axes.scatter(beyond, edge, s=14, marker="x", lw=1, clip_on=False, zorder=4, color=unit(DREAM))
    for start in starts:
        axes.axvline(start - 0.5, color=unit(START), lw=1.2, ls="--", label="episode start")
    axes.set_xlim(-0.5, len(truth) - 0.5)
    axes.set_ylim(low, high)
    axes.tick_params(labelsize=7)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_formatter(ScalarFormatter(useOffset=False))


def unit(colour: tuple[int, int, int]) -> tuple[float, float, float]:
    """A colour of 0..255 as matplotlib takes it."""
    return colour[0] / 255, colour[1] / 255, colour[2] / 255
