"""In words: what was missing, unequal, unfinished or left out, so that no number hides it."""

from __future__ import annotations

import numpy as np

from dreamworld import words
from dreamworld.stats.analysis import Analysis, Result, TaskResult
from dreamworld.stats.groups import Group, environments_differ
from dreamworld.stats.scores import Run

FEW_RUNS = 5


def describe(analysis: Analysis) -> list[str]:
    """One sentence or two per fact that a reader must know, most important first."""
    notes = []
    for group in analysis.groups:
        notes += _missing(group, analysis)
    for task in analysis.tasks:
        for result in task.results.values():
            notes += [_left_out(run, task) for run in result.left_out]
        notes += _lengths(task)
    notes += _environments(analysis)
    notes += _unfinished(analysis)
    notes += _suites(analysis)
    notes += _few_runs(analysis)
    notes += _published(analysis)
    notes += _unreadable(analysis)
    return notes


def _listed(values: list) -> str:
    words = [str(value) for value in values]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _missing(group: Group, analysis: Analysis) -> list[str]:
    """Seeds that the sweep planned, or that the group's other tasks have, and a task has not."""
    absent, seeds_of = [], {}
    everywhere = {run.seed for run in group.runs}
    for task in [task.task for task in analysis.tasks]:
        there = {run.seed for run in group.of_task(task)}
        planned = {seed for name, seed in group.planned if name == task}
        if not there and not planned:
            absent.append(task)
        elif missing := sorted((planned if group.planned else everywhere) - there):
            seeds_of.setdefault(tuple(missing), []).append(task)
    why = "planned by the sweep" if group.planned else "other tasks have them"
    notes = [f"{group.label} has no run of {_listed(absent)}."] if absent else []
    for seeds, tasks in seeds_of.items():
        seed = "seed" if len(seeds) == 1 else "seeds"
        notes.append(f"{group.label}: {seed} {_listed(list(seeds))} missing on {_listed(tasks)} ({why}).")
    return notes


def _left_out(run: Run, task: TaskResult) -> str:
    error = str(run.status.get("error") or "").strip().splitlines()
    why = f"{run.state}: {error[-1]}" if error else run.state
    if len(run.frames) == 0:
        return f"{run.label}, {run.name} has no finished episode ({why}) and is left out."
    if run.frames[0] > task.budget:
        return (
            f"{run.label}, {run.name} finished its first episode at {words.count(run.frames[0], 'frame')}, after the "
            f"{task.budget:,.0f} at which scores are compared, and is left out."
        )
    return (
        f"{run.label}, {run.name} came to {run.reach:,.0f} of {words.count(task.budget, 'frame')} ({why}) and is "
        "left out of the scores; its curve is drawn thin. Leaving out runs that broke off can flatter."
    )


def _lengths(task: TaskResult) -> list[str]:
    """Counted runs that are longer than the budget: their later frames are not in the scores."""
    reaches = [run.reach for result in task.results.values() for run in result.runs]
    if not reaches or max(reaches) <= 1.02 * task.budget:
        return []
    return [
        f"{task.task}: runs are of unequal length, {min(reaches):,.0f} to {max(reaches):,.0f} frames; "
        f"scores are taken at {task.budget:,.0f}."
        if max(reaches) > 1.02 * min(reaches)
        else f"{task.task}: scores are taken at {task.budget:,.0f} of {max(reaches):,.0f} frames."
    ]


def _environments(analysis: Analysis) -> list[str]:
    """Tasks that are another environment in another group, as far as the runs kept what it was."""
    notes = []
    for task in [task.task for task in analysis.tasks]:
        firsts = [runs[0] for group in analysis.groups if (runs := group.of_task(task))]
        differing = [found for other in firsts[1:] if (found := environments_differ(firsts[0], other))]
        notes += [f"{task} is not one environment: {differing[0]}."] if differing else []
    return notes


def _unfinished(analysis: Analysis) -> list[str]:
    states: dict[str, int] = {}
    for group in analysis.groups:
        for run in group.runs:
            if run.state != "finished":
                states[run.state] = states.get(run.state, 0) + 1
    total = sum(len(group.runs) for group in analysis.groups)
    if not states:
        return []
    listed = _listed([f"{number} {state}" for state, number in sorted(states.items())])
    count = sum(states.values())
    return [
        f"{count} of {words.count(total, 'run')} {'has' if count == 1 else 'have'} not finished ({listed})."
    ]


def _suites(analysis: Analysis) -> list[str]:
    notes = []
    for suite in analysis.suites:
        tasks = [task for task in analysis.tasks if task.suite == suite.suite]
        if absent := [task.task for task in tasks if task.task not in suite.tasks]:
            notes.append(f"Aggregates leave out {_listed(absent)}: not every group has a counted run there.")
        if lost := [label for label in analysis.labels if label not in suite.estimates]:
            notes.append(f"{_listed(lost)}: no counted run among the {suite.suite} tasks.")
        budgets = sorted({round(task.budget) for task in tasks if task.task in suite.tasks})
        if budgets[-1] > 1.02 * budgets[0]:
            notes.append(
                f"Tasks are compared at different budgets ({budgets[0]:,} to {budgets[-1]:,} frames); "
                "curves over all tasks end at the smallest."
            )
        for label in suite.estimates:
            counts = [len(task.results[label].runs) for task in tasks if task.task in suite.tasks]
            if min(counts) != max(counts):
                notes.append(
                    f"{label}: tasks have {min(counts)} to {max(counts)} counted runs; "
                    "every task weighs the same."
                )
    if raw := [task.task for task in analysis.tasks if task.suite == "raw"]:
        notes.append(
            f"No normalisation is known for {_listed(raw)}: raw returns, "
            "and no part in any aggregate over tasks."
        )
    return notes


def _few_runs(analysis: Analysis) -> list[str]:
    counts = sorted({len(result.runs) for result in _results(analysis) if result.runs})
    if not counts or counts[0] >= FEW_RUNS:
        return []
    if counts[-1] == 1:
        return ["One run per task: no interval can be given, and one run is an anecdote."]
    least = "a single run" if counts[0] == 1 else f"{words.count(counts[0], 'run')}"
    return [
        f"Some tasks rest on {least} per method: "
        f"a bootstrap interval from fewer than {FEW_RUNS} runs is too narrow; read it as a spread."
    ]


def _published(analysis: Analysis) -> list[str]:
    if not analysis.options.baseline:
        return []
    captions = sorted({task.published.caption for task in analysis.tasks if task.published})
    notes = [f"{caption.capitalize()}." for caption in captions]
    if notes:
        notes.append(
            "The published file holds means over seeds: only mean and median of tasks can be given for it. "
            "Its returns are averaged over the last 5% of the frames so far (at least 10k), as are ours."
        )
    if without := [task.task for task in analysis.tasks if not task.published]:
        notes.append(f"No published curve is carried for {_listed(without)}.")
    return notes


def _unreadable(analysis: Analysis) -> list[str]:
    left_out = [
        f"A run is left out, or a plan, that can't be read: {line}."
        for group in analysis.groups
        for line in group.bad
    ]
    return left_out + [
        f"{run.label}, {run.name}: {words.count(run.unreadable, 'unreadable log line')} skipped (a crash cuts a line)."
        for group in analysis.groups
        for run in group.runs
        if run.unreadable
    ]


def _results(analysis: Analysis) -> list[Result]:
    return [result for task in analysis.tasks for result in task.results.values()]


def method(analysis: Analysis) -> str:
    """How the numbers were made, for the foot of a report."""
    what = "evaluations" if analysis.options.source == "eval" else "training episodes"
    return (
        f"A run's score is its mean return over the {what} that ended in the last 5% of the frames (at least "
        "10k frames, or a tenth of a shorter run). Crafter's score is over all episodes. Intervals are 95% "
        f"percentile intervals of a bootstrap with {analysis.options.resamples} resamples (seed "
        f"{analysis.options.seed}) that draws runs within tasks. IQM: mean of the middle half of all runs. "
        "Optimality gap: 1 minus the mean score clipped at 1. Frames count action repeat. Hours are hours of "
        "work, pauses between sittings left out."
    )


def spread(values: np.ndarray) -> str:
    """`mean (min – max)` of some hours, for tables."""
    if len(values) == 0 or not np.isfinite(values).all():
        return "–"
    mean = took(float(values.mean()))
    return mean if len(values) == 1 else f"{mean} ({took(float(values.min()))} – {took(float(values.max()))})"


def took(hours: float) -> str:
    """Hours in the unit that suits them: `9.5 s`, `12 min`, `3.2 h`, `120 h`."""
    for unit, name in ((1.0, "h"), (1 / 60, "min")):
        if hours >= 0.995 * unit:
            return f"{_two_digits(hours / unit)} {name}"
    return f"{_two_digits(3600 * hours)} s"


def _two_digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 9.95 else f"{value:.2g}"
