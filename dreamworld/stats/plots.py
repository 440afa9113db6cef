"""The report as pictures: learning curves, aggregates, profiles, sample efficiency, wall-clock."""

from __future__ import annotations

import contextlib
import io
import math
import re
from collections.abc import Callable
from typing import Any, cast

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from dreamworld.stats.aggregate import Band
from dreamworld.stats.analysis import Analysis, SuiteResult, TaskResult
from dreamworld.stats.curves import grid, returns_at, window_frames
from dreamworld.stats.normalise import METRICS
from dreamworld.stats.tables import frames_text

COLOURS = ("#2f7fd1", "#e08a1e", "#1fa37a", "#c060a8", "#d9534f", "#7a6ff0", "#a08c1c", "#3aaec6")
DASHES = ("-", (0, (5, 1.5)), (0, (2, 1.2)))  # once the colours are used up
GREY = "#8a8f98"  # published curves
INK = "#123457"  # replaced by the page's text colour in the HTML report
STYLE: dict[str, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.15,
    "grid.linewidth": 0.8,
    "axes.linewidth": 0.8,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "svg.fonttype": "none",
    "text.parse_math": False,  # a dollar in the name of a task is no formula
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}
INKED = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "grid.color")
Draw = Callable[[], Figure]


def style_of(analysis: Analysis) -> dict[str, tuple[str, Any]]:
    """Colour and dash of each group, the same in every picture."""
    count = len(COLOURS)
    return {
        label: (COLOURS[index % count], DASHES[index // count % len(DASHES)])
        for index, label in enumerate(analysis.labels)
    }


def _frames_axis(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: frames_text(value) if value else "0"))


def _band(axes: Axes, x: np.ndarray, band: Band, colour: str, dash: Any, label: str) -> None:
    marker = "o" if np.isfinite(band.value).sum() == 1 else None
    axes.plot(x, band.value, color=colour, linestyle=dash, label=label, marker=marker, markersize=4, zorder=3)
    if np.isfinite(band.low).any():
        axes.fill_between(x, band.low, band.high, color=colour, alpha=0.2, linewidth=0)


def draw_task(axes: Axes, task: TaskResult, styles: dict[str, tuple[str, Any]]) -> None:
    """Learning curves of one task: mean and band of counted runs, every run thin, the published dashed."""
    for label, result in task.results.items():
        colour, dash = styles[label]
        for run in result.runs + result.left_out:
            at = grid(min(run.reach, 1.5 * task.budget) if task.budget else run.reach)
            returns = returns_at(run, at, window_frames(at, max(task.budget, run.reach)))
            axes.plot(at, returns, color=colour, linewidth=0.7, alpha=0.4)
            if run in result.left_out and np.isfinite(returns[-1]):
                axes.plot(at[-1:], returns[-1:], color=colour, marker="x", markersize=5, linestyle="")
        if result.runs:
            _band(axes, result.frames, result.curve, colour, dash, label)
    if task.published:
        inside = task.published.frames <= 1.05 * max(task.budget, task.published.frames[0])
        x, mean = task.published.frames[inside], task.published.mean[inside]
        axes.errorbar(
            x, mean, task.published.std[inside], color=GREY, linestyle="--", linewidth=1.3, marker="o",
            markersize=3, elinewidth=0.8, label=task.published.caption, zorder=2,
        )  # fmt: skip
    axes.set_title(task.task)
    axes.set_xlim(left=0)
    _frames_axis(axes)


def drawn_tasks(analysis: Analysis) -> list[TaskResult]:
    """Those with a finished episode, or a published curve."""
    played = lambda task: any(
        len(run.frames) for result in task.results.values() for run in result.runs + result.left_out
    )
    return [task for task in analysis.tasks if task.published or played(task)]


def figure_task(analysis: Analysis, task: TaskResult) -> Figure:
    """One task's learning curves, small."""
    figure = Figure((4.2, 2.8), layout="constrained")
    axes = figure.subplots()
    draw_task(axes, task, style_of(analysis))
    axes.set(xlabel="frames", ylabel="return")
    return figure


def figure_curves(analysis: Analysis) -> Figure:
    """Learning curves of all tasks in one picture."""
    tasks = drawn_tasks(analysis)
    columns = min(4, math.ceil(math.sqrt(len(tasks))))
    rows = math.ceil(len(tasks) / columns)
    figure = Figure((3.4 * columns + 0.6, 2.5 * rows + 0.7), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, task in zip(panels, tasks):
        draw_task(axes, task, style_of(analysis))
    for axes in panels[len(tasks) :]:
        axes.set_axis_off()
    _legend(figure)
    figure.supxlabel("environment frames", fontsize=9)
    figure.supylabel("return", fontsize=9)
    return figure


def _legend(figure: Figure) -> None:
    """One legend above all panels; none for a single unnamed line."""
    handles = {}
    for axes in figure.axes:
        handles |= dict(zip(*axes.get_legend_handles_labels()[::-1]))
    names = sorted(handles, key=lambda name: name.startswith("published"))
    if len(names) > 1:
        columns = 2 if names[-1].startswith("published") else min(len(names), 4)
        lines = [handles[name] for name in names]
        figure.legend(lines, names, loc="outside upper left", ncols=columns)


def figure_aggregates(analysis: Analysis, suite: SuiteResult) -> Figure:
    """Mean, median, IQM and optimality gap with intervals, a panel each."""
    labels = list(suite.estimates)
    names = labels + (["published"] if suite.published else [])
    statistics = list(suite.estimates[labels[0]])
    figure = Figure((9.0, 1.15 + 0.36 * len(names)), layout="constrained")
    panels = figure.subplots(1, len(statistics), sharey=True, squeeze=False)[0]
    for axes, statistic in zip(panels, statistics):
        for row, label in enumerate(labels):
            value, low, high = suite.estimates[label][statistic]
            colour, _ = style_of(analysis)[label]
            if np.isfinite(low):
                axes.barh(row, high - low, left=low, height=0.5, color=colour, alpha=0.35)
            axes.plot([value, value], [row - 0.25, row + 0.25], color=colour, linewidth=2.5)
        if statistic in suite.published:
            axes.plot(suite.published[statistic], len(labels), "o", color=GREY, markersize=5)
        axes.use_sticky_edges = False
        axes.set_title(statistic + (" ↓" if statistic == "optimality gap" else ""))
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        axes.xaxis.set_major_locator(MaxNLocator(4))
    figure.supxlabel(METRICS[suite.suite], fontsize=9)
    return figure


def figure_profiles(analysis: Analysis, suite: SuiteResult) -> Figure:
    """Share of runs above each score."""
    figure = Figure((4.6, 3.0), layout="constrained")
    axes = figure.subplots()
    for label, band in suite.profiles.items():
        _band(axes, suite.thresholds, band, *style_of(analysis)[label], label)
    axes.set(xlabel=f"τ: {METRICS[suite.suite]}", ylabel="share of runs above τ", ylim=(0, 1.02))
    axes.set_xlim(suite.thresholds[0], suite.thresholds[-1])
    return figure


def figure_efficiency(analysis: Analysis, suite: SuiteResult) -> Figure:
    """IQM against frames and, where they are known, against hours of work."""
    timed = any(np.nanmax(hours, initial=0) > 0 for hours in suite.hours.values())
    figure = Figure((8.4 if timed else 4.6, 3.0), layout="constrained")
    left, *right = figure.subplots(1, 1 + timed, sharey=True, squeeze=False)[0]
    for label, band in suite.iqm_curve.items():
        _band(left, suite.frames, band, *style_of(analysis)[label], label)
        for axes in right:
            _band(axes, suite.hours[label], band, *style_of(analysis)[label], label)
    left.set(xlabel="environment frames", ylabel=f"IQM of {METRICS[suite.suite]}")
    left.set_xlim(left=0)
    _frames_axis(left)
    for axes in right:
        axes.set(xlabel="hours of work, mean over runs")
        axes.set_xlim(left=0)
    return figure


def figure_improvement(analysis: Analysis, suite: SuiteResult) -> Figure:
    """Probability that a run of the first group beats one of the second."""
    pairs = list(suite.improvement.items())
    figure = Figure((4.6, 0.9 + 0.36 * len(pairs)), layout="constrained")
    axes = figure.subplots()
    for row, ((first, _), (value, low, high)) in enumerate(pairs):
        colour, _ = style_of(analysis)[first]
        if np.isfinite(low):
            axes.barh(row, high - low, left=low, height=0.5, color=colour, alpha=0.35)
        axes.plot([value, value], [row - 0.25, row + 0.25], color=colour, linewidth=2.5)
    axes.axvline(0.5, color=GREY, linewidth=1, linestyle="--")
    axes.set_yticks(range(len(pairs)), [f"{first}  >  {second}" for (first, second), _ in pairs])
    axes.set(xlim=(0, 1), ylim=(len(pairs) - 0.4, -0.6), xlabel="P(X > Y)")
    axes.grid(axis="y", visible=False)
    return figure


def figures(analysis: Analysis) -> dict[str, Draw]:
    """File name -> how to draw it, for everything that this analysis can show."""
    drawn: dict[str, Draw] = {"curves": lambda: figure_curves(analysis)}
    for suite in analysis.suites:
        drawn[f"aggregates_{suite.suite}"] = lambda suite=suite: figure_aggregates(analysis, suite)
        drawn[f"profiles_{suite.suite}"] = lambda suite=suite: figure_profiles(analysis, suite)
        if np.isfinite(suite.iqm_curve[next(iter(suite.iqm_curve))].value).any():
            drawn[f"efficiency_{suite.suite}"] = lambda suite=suite: figure_efficiency(analysis, suite)
        if suite.improvement:
            drawn[f"improvement_{suite.suite}"] = lambda suite=suite: figure_improvement(analysis, suite)
    return drawn


def _style(more: dict[str, Any]) -> contextlib.AbstractContextManager[None]:
    return matplotlib.rc_context(cast(Any, STYLE | more))


def figure_files(analysis: Analysis) -> dict[str, bytes]:
    """{file name: content} of every figure as PNG and SVG on white."""
    drawn = {}
    for name, draw in figures(analysis).items():
        with _style({"figure.facecolor": "white", "svg.hashsalt": name}):
            figure = draw()
            for kind in ("png", "svg"):
                metadata = {"Date": None} if kind == "svg" else None
                buffer = io.BytesIO()
                figure.savefig(buffer, format=kind, dpi=144, metadata=metadata)
                drawn[f"{name}.{kind}"] = buffer.getvalue()
    return drawn


def inline_svg(name: str, draw: Draw, caption: str) -> str:
    """A figure as an SVG element for a page: its text and axes take the page's colour and font."""
    with _style({**dict.fromkeys(INKED, INK), "svg.hashsalt": name}):
        buffer = io.StringIO()
        draw().savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(
        r'\sid="(?:figure|patch|axes|line2d|text|legend|xtick|ytick|matplotlib\.axis)[\w.]*"', "", text
    )
    box = re.search(r'viewBox="[^"]*"', text)
    assert box, "matplotlib writes a viewBox"
    head = f'<svg {box[0]} role="img" aria-label="{caption}">'
    text = head + text[text.index(">") + 1 :]
    text = re.sub(r"'DejaVu Sans'[^;\"]*", "inherit", text)
    return text.replace(INK, "currentColor").strip()
