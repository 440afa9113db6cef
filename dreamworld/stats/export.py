"""The report as CSV files at full precision, one line per run, score, aggregate or curve point."""

from __future__ import annotations

import csv
import io
from typing import Any

import numpy as np

from dreamworld.stats.aggregate import Estimate
from dreamworld.stats.analysis import Analysis, published_at
from dreamworld.text import cell

Rows = list[dict[str, Any]]


def csv_files(analysis: Analysis) -> dict[str, str]:
    """{file name: content} of one CSV file per kind of row; empty content where there are no rows."""
    kinds = {
        "runs": run_rows(analysis),
        "scores": score_rows(analysis),
        "aggregates": aggregate_rows(analysis),
        "efficiency": efficiency_rows(analysis),
        "curves": curve_rows(analysis),
        "profiles": profile_rows(analysis),
        "improvement": improvement_rows(analysis),
    }
    return {f"{name}.csv": _csv(rows) if rows else "" for name, rows in kinds.items()}


def _csv(rows: Rows) -> str:
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, rows[0])
    writer.writeheader()
    writer.writerows({key: cell(value) for key, value in row.items()} for row in rows)
    return file.getvalue()


def _bounds(name: str, estimate: Estimate) -> dict[str, float]:
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def run_rows(analysis: Analysis) -> Rows:
    """Every run, those left out included, with an empty score."""
    rows = []
    for task in analysis.tasks:
        for label, result in task.results.items():
            for index, run in enumerate(result.runs + result.left_out):
                counted = index < len(result.runs)
                rows.append(
                    {
                        "method": label,
                        "task": task.task,
                        "seed": run.seed,
                        "state": run.state,
                        "reach_frames": run.reach,
                        "budget_frames": task.budget,
                        "counted": "yes" if counted else "no",
                        "return": result.returns[index] if counted else "",
                        "score": result.scores[index] if counted else "",
                        "hours": run.total_hours,
                        "updates": run.updates,
                        "path": run.path,
                    }
                )
    return rows


def score_rows(analysis: Analysis) -> Rows:
    """Means over runs per task and group."""
    return [
        {
            "method": label,
            "task": task.task,
            "suite": task.suite,
            "frames": task.budget,
            "runs": len(result.runs),
            **_bounds("return", result.at_return),
            **_bounds("score", result.at_score),
            "published_return": published_at(task.published, task.budget) if task.published else "",
        }
        for task in analysis.tasks
        for label, result in task.results.items()
    ]


def aggregate_rows(analysis: Analysis) -> Rows:
    """Statistics over the tasks of each suite."""
    return [
        {"suite": suite.suite, "method": label, "statistic": statistic, "tasks": len(suite.tasks)}
        | _bounds("value", estimate)
        for suite in analysis.suites
        for label, estimates in suite.estimates.items()
        for statistic, estimate in estimates.items()
    ]


def efficiency_rows(analysis: Analysis) -> Rows:
    """Mean returns at budgets."""
    return [
        {"method": label, "task": task.task, "frames": frames, **_bounds("return", estimate)}
        for task in analysis.tasks
        for label, result in task.results.items()
        for frames, estimate in result.efficiency
    ]


def curve_rows(analysis: Analysis) -> Rows:
    """Learning curves on their grids."""
    return [
        {"method": label, "task": task.task, "frames": frames, "runs": len(result.runs)}
        | _bounds("return", Estimate(*point))
        for task in analysis.tasks
        for label, result in task.results.items()
        for frames, *point in zip(result.frames, *result.curve, strict=True)
        if np.isfinite(point[0])
    ]


def profile_rows(analysis: Analysis) -> Rows:
    """Performance profiles."""
    return [
        {"suite": suite.suite, "method": label, "threshold": threshold}
        | _bounds("share_above", Estimate(*point))
        for suite in analysis.suites
        for label, band in suite.profiles.items()
        for threshold, *point in zip(suite.thresholds, *band, strict=True)
    ]


def improvement_rows(analysis: Analysis) -> Rows:
    """Probability that a run of x beats one of y."""
    return [
        {"suite": suite.suite, "x": first, "y": second, **_bounds("probability_x_above_y", estimate)}
        for suite in analysis.suites
        for (first, second), estimate in suite.improvement.items()
    ]
