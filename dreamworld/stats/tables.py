"""The report as tables: rows for CSV files, Markdown and the page."""

from __future__ import annotations

import dataclasses

import numpy as np

from dreamworld import words
from dreamworld.stats.aggregate import Estimate
from dreamworld.stats.analysis import Analysis, published_at
from dreamworld.stats.normalise import METRICS
from dreamworld.stats.notes import describe, method, spread, took

NONE = "–"


@dataclasses.dataclass(frozen=True)
class Table:
    """A titled table of text cells."""

    title: str
    head: list[str]
    rows: list[list[str]]
    caption: str = ""


def number(value: float) -> str:
    """Three significant digits, whole numbers from 100 on, a dash for NaN."""
    if not np.isfinite(value):
        return NONE
    text = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return text.replace("-", "−")


def with_interval(estimate: Estimate) -> str:
    """`value [low, high]`, or the value alone where there is no interval."""
    if not np.isfinite(estimate.low):
        return number(estimate.value)
    return f"{number(estimate.value)} [{number(estimate.low)}, {number(estimate.high)}]"


def frames_text(frames: float) -> str:
    """Frames as 400k or 1.1M."""
    for unit, name in ((1e6, "M"), (1e3, "k")):
        if frames >= unit:
            return f"{frames / unit:.3g}{name}"
    return f"{frames:.0f}"


def score_table(analysis: Analysis) -> Table:
    """Final scores: per task and group, mean return and normalised score with intervals."""
    head = ["task", "frames", "method", "runs", "return", "score"]
    rows = []
    for task in analysis.tasks:
        for label, result in task.results.items():
            if not result.runs and not result.left_out:
                continue
            score = NONE if task.suite == "raw" else with_interval(result.at_score)
            total = len(result.runs) + len(result.left_out)
            runs = f"{len(result.runs)} of {total}" if result.left_out else str(total)
            rows.append(
                [task.task, frames_text(task.budget), label, runs, with_interval(result.at_return), score]
            )
        if task.published:
            value = published_at(task.published, task.budget)
            seeds = int(task.published.seeds[np.argmin(np.abs(task.published.frames - task.budget))])
            rows.append([task.task, frames_text(task.budget), "published", str(seeds), number(value), NONE])
    used = sorted({task.suite for task in analysis.tasks})
    caption = "; ".join(f"{suite}: {METRICS[suite]}" for suite in used)
    return Table("Final scores", head, rows, f"Mean over runs and 95% interval. Score: {caption}.")


def aggregate_tables(analysis: Analysis) -> list[Table]:
    """One table per suite: mean, median, IQM and optimality gap of each group."""
    tables = []
    for suite in analysis.suites:
        rows = [
            [label, *(with_interval(estimate) for estimate in estimates.values())]
            for label, estimates in suite.estimates.items()
        ]
        if suite.published:
            rows.append(
                ["published", *(number(suite.published[key]) for key in ("mean", "median")), NONE, NONE]
            )
        head = ["method", "mean", "median", "IQM", "optimality gap ↓"]
        tasks = words.count(len(suite.tasks), "task")
        caption = f"{METRICS[suite.suite]}, {tasks}, 95% stratified bootstrap intervals."
        tables.append(Table(f"Aggregate over {suite.suite} tasks", head, rows, caption))
    return tables


def improvement_table(analysis: Analysis) -> Table | None:
    """Probability of improvement between groups."""
    rows = [
        [suite.suite, first, second, with_interval(estimate)]
        for suite in analysis.suites
        for (first, second), estimate in suite.improvement.items()
    ]
    head = ["suite", "X", "Y", "P(X > Y)"]
    return Table("Probability of improvement", head, rows, "Ties count half.") if rows else None


def efficiency_table(analysis: Analysis) -> Table:
    """Mean return at budgets, beside the published one."""
    rows = []
    for task in analysis.tasks:
        for label, result in task.results.items():
            for frames, estimate in result.efficiency:
                theirs = NONE
                if task.published and frames in task.published.frames:
                    index = int(np.flatnonzero(task.published.frames == frames)[0])
                    mean, std = task.published.mean[index], task.published.std[index]
                    theirs = f"{number(mean)} ± {number(std)} ({int(task.published.seeds[index])})"
                rows.append([task.task, frames_text(frames), label, with_interval(estimate), theirs])
    head = ["task", "frames", "method", "return", "published ± std over seeds (seeds)"]
    if not any(task.published for task in analysis.tasks):
        head, rows = head[:-1], [row[:-1] for row in rows]
    return Table("Sample efficiency", head, rows, "Mean return at budgets.")


def compute_table(analysis: Analysis) -> Table:
    """What the scores cost: hours, updates and rates of each group and task, on which hosts."""
    rows = []
    for task in analysis.tasks:
        for label, result in task.results.items():
            runs = [run for run in result.runs if run.total_hours > 0]
            if not runs:
                continue
            hours = np.array([run.total_hours for run in runs])
            rate = np.array([run.reach / run.total_hours / 3600 for run in runs])
            updates = np.array([run.updates for run in runs])
            where = sorted({f"{run.status.get('host', '?')} {run.device}".strip() for run in runs})
            cells = [with_interval(result.at_return), spread(result.hours), took(float(hours.sum()))]
            rates = [number(updates.mean()), number(rate.mean())]
            rows.append([task.task, label, *cells, *rates, ", ".join(where)])
    head = ["task", "method", "return", "work to it (min – max)", "work of all runs", "updates a run"]
    head += ["frames/s", "host"]
    return Table("Wall-clock and compute", head, rows, "Time of work of the counted runs, pauses left out.")


def world_table(analysis: Analysis) -> Table | None:
    """What runs last logged of their world models, beside returns; None where no run did."""
    rows, names = [], []
    for task in analysis.tasks:
        for result in task.results.values():
            names += [name for run in result.runs for name in run.assess if name not in names]
    for task in analysis.tasks:
        for label, result in task.results.items():
            found = [run for run in result.runs if run.assess]
            if not found:
                continue
            cells = [_over_runs([run.assess[name] for run in found if name in run.assess]) for name in names]
            rows.append([task.task, label, with_interval(result.at_return), *cells])
    caption = "Newest values of `assess.every`, the mean over runs (min–max); PSNR in dB at imagined steps."
    return Table("World models", ["task", "method", "return", *names], rows, caption) if rows else None


def _over_runs(values: list[float]) -> str:
    if not values:
        return NONE
    mean = number(float(np.mean(values)))
    return mean if len(values) == 1 else f"{mean} ({number(min(values))}–{number(max(values))})"


def tables(analysis: Analysis) -> list[Table]:
    """Every table of the report, in order."""
    optional = [
        world_table(analysis),
        improvement_table(analysis),
        compute_table(analysis),
        efficiency_table(analysis),
    ]
    found = [*aggregate_tables(analysis), score_table(analysis), *optional]
    return [table for table in found if table and table.rows]


def markdown(analysis: Analysis, title: str) -> str:
    """The report as Markdown."""
    lines = [f"# {title}", ""]
    lines += [*(f"- {note}" for note in describe(analysis)), ""]
    for table in tables(analysis):
        lines += [f"## {table.title}", "", table.caption, ""]
        lines += [_row(table.head), _row(["---"] * len(table.head)), *map(_row, table.rows), ""]
    return "\n".join([*lines, "## Method", "", method(analysis), ""])


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
