"""What a report states: scores at a common budget, aggregates, and in words everything they rest on."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np

from dreamworld import words
from dreamworld.errors import UserError
from dreamworld.stats import aggregate
from dreamworld.stats.aggregate import Band, Estimate
from dreamworld.stats.curves import aligned, grid, hours_at, returns_at, scores_at, window_frames
from dreamworld.stats.groups import Group
from dreamworld.stats.normalise import Published, normalise, published, split_task
from dreamworld.stats.scores import Run

REACHED = 0.98  # of a budget counts as having reached it
SHARES = np.array([0.1, 0.25, 0.5, 0.75, 1.0])


@dataclasses.dataclass(frozen=True)
class Options:
    """What to report."""

    baseline: bool = False
    """Draw the published curves beside ours."""
    at_frames: float = 0
    """Compare scores at this many frames; 0 takes what every finished run reached."""
    source: str = "train"
    """train: finished training episodes. eval: evaluations."""
    resamples: int = aggregate.RESAMPLES
    """Bootstrap resamples."""
    seed: int = 0
    """Seed of the bootstrap."""


@dataclasses.dataclass(frozen=True)
class Result:
    """One group on one task, at the task's budget. Arrays have one entry per counted run."""

    label: str
    task: str
    runs: list[Run]  # counted
    left_out: list[Run]  # too short for the budget, or without an episode
    returns: np.ndarray
    scores: np.ndarray  # normalised; equal to returns for raw tasks
    hours: np.ndarray  # hours of work until the budget
    at_return: Estimate  # mean over runs
    at_score: Estimate
    frames: np.ndarray  # [G] grid
    curve: Band  # mean return over counted runs on the grid
    efficiency: list[tuple[float, Estimate]]  # mean return at budgets


@dataclasses.dataclass(frozen=True)
class TaskResult:
    """All groups on one task."""

    task: str
    suite: str
    budget: float  # frames at which scores are compared
    results: dict[str, Result]
    published: Published | None


@dataclasses.dataclass(frozen=True)
class SuiteResult:
    """Aggregates over the tasks of one normalisation that every group has."""

    suite: str
    tasks: list[str]
    estimates: dict[str, dict[str, Estimate]]  # label -> statistic -> estimate
    thresholds: np.ndarray  # [P]
    profiles: dict[str, Band]
    improvement: dict[tuple[str, str], Estimate]  # P(first > second)
    frames: np.ndarray  # [G] grid up to the smallest budget
    iqm_curve: dict[str, Band]  # IQM over the frames
    hours: dict[str, np.ndarray]  # label -> [G] mean hours at those frames
    published: dict[str, float]  # mean and median of published task means, empty unless all tasks have one


@dataclasses.dataclass(frozen=True)
class Analysis:
    """Everything that tables and plots show."""

    options: Options
    groups: list[Group]
    tasks: list[TaskResult]
    suites: list[SuiteResult]

    @property
    def labels(self) -> list[str]:
        """Group labels in order."""
        return [group.label for group in self.groups]


def analyse(groups: list[Group], options: Options = Options()) -> Analysis:
    """Computes the report of some groups."""
    tasks = sorted({task for group in groups for task in group.tasks})
    results = [_task(task, groups, options) for task in tasks]
    if not any(len(result.runs) for task in results for result in task.results.values()):
        raise UserError(f"no run reached {words.count(options.at_frames, 'frame')}; take a smaller --at")
    suites = []
    for suite in ("atari", "dmc", "crafter"):
        if found := _suite(suite, [task for task in results if task.suite == suite], groups, options):
            suites.append(found)
    return Analysis(options, groups, results, suites)


def _budget(task: str, groups: list[Group], options: Options) -> float:
    """The frames that every finished run of every group reached; all runs where a group has none finished."""
    if options.at_frames:
        return options.at_frames
    reaches = []
    for group in groups:
        runs = [run for run in group.of_task(task) if len(run.frames)]
        finished = [run for run in runs if run.state == "finished"]
        reaches += [min(run.reach for run in finished or runs)] if runs else []
    return min(reaches, default=0.0)


def _task(task: str, groups: list[Group], options: Options) -> TaskResult:
    budget = _budget(task, groups, options)
    runs = [run for group in groups for run in group.of_task(task)]
    curve = published(task, runs[0].config) if options.baseline and runs else None
    results = {group.label: _result(task, group, budget, curve, options) for group in groups}
    return TaskResult(task, split_task(task)[0], budget, results, curve)


def _result(task: str, group: Group, budget: float, curve: Published | None, options: Options) -> Result:
    everyone = group.of_task(task)
    enough = [run for run in everyone if len(run.frames) and run.reach >= REACHED * budget]
    counted = [run for run in enough if run.frames[0] <= budget]
    floor = max(budget, 1e5) if curve else budget  # the published window where curves are compared
    window = window_frames(budget, floor)
    returns = np.array([returns_at(run, budget, window) for run in counted], np.float64)
    scores = np.array([scores_at(run, budget, window) for run in counted], np.float64)
    frames = grid(budget)
    return Result(
        label=group.label,
        task=task,
        runs=counted,
        left_out=[run for run in everyone if run not in counted],
        returns=returns,
        scores=scores,
        hours=np.array([hours_at(run, budget) for run in counted]),
        at_return=_mean(returns, options),
        at_score=_mean(scores, options),
        frames=frames,
        curve=_band(aligned(counted, frames, floor), options) if counted else _nothing(frames),
        efficiency=_efficiency(counted, budget, floor, curve, options),
    )


def _efficiency(
    runs: list[Run], budget: float, floor: float, curve: Published | None, options: Options
) -> list[tuple[float, Estimate]]:
    points = curve.frames[curve.frames <= budget / REACHED] if curve else np.zeros(0)
    points = points if len(points) else budget * SHARES
    if not runs:
        return []
    table = np.array([returns_at(run, points, window_frames(points, floor)) for run in runs])
    return [(float(at), _mean(column, options)) for at, column in zip(points, table.T, strict=True)]


def _mean(values: np.ndarray, options: Options) -> Estimate:
    """Mean over runs with its bootstrap interval; NaN where a run has no score yet: never over fewer runs."""
    if len(values) == 0 or not np.isfinite(values).all():
        return Estimate(np.nan, np.nan, np.nan)
    band = _band(values[:, None], options)
    return Estimate(float(band.value[0]), float(band.low[0]), float(band.high[0]))


def _band(curves: np.ndarray, options: Options) -> Band:
    return aggregate.mean_band(curves, options.resamples, options.seed)


def _nothing(frames: np.ndarray) -> Band:
    return Band(*(np.full_like(frames, np.nan) for _ in range(3)))


def _suite(suite: str, tasks: list[TaskResult], groups: list[Group], options: Options) -> SuiteResult | None:
    """Aggregates over the tasks on which every group has a counted run; groups without any are left out."""
    labels = [group.label for group in groups if any(len(task.results[group.label].runs) for task in tasks)]
    shared = [task for task in tasks if all(len(task.results[label].runs) for label in labels)]
    if not shared or not labels:
        return None
    scores = {label: [task.results[label].scores for task in shared] for label in labels}
    sampling = (options.resamples, options.seed)
    highest = max(float(np.max(task)) for method in scores.values() for task in method)
    thresholds = np.linspace(0, max(1.0, min(highest, 8.0)), 101)
    frames = grid(min(task.budget for task in shared), 25)
    return SuiteResult(
        suite=suite,
        tasks=[task.task for task in shared],
        estimates={label: aggregate.estimate(scores[label], *sampling) for label in labels},
        thresholds=thresholds,
        profiles={
            label: aggregate.performance_profile(scores[label], thresholds, *sampling) for label in labels
        },
        improvement={
            (first, second): aggregate.probability_of_improvement(scores[first], scores[second], *sampling)
            for first, second in itertools.combinations(labels, 2)
        },
        frames=frames,
        iqm_curve={label: _iqm_curve(shared, label, frames, options) for label in labels},
        hours={label: _hours(shared, label, frames) for label in labels},
        published=_published_aggregate(shared),
    )


def _iqm_curve(tasks: list[TaskResult], label: str, frames: np.ndarray, options: Options) -> Band:
    """IQM of the scores at each grid point; NaN until every run of every task has a score."""
    curves = []
    for task in tasks:
        floor = max(task.budget, 1e5) if task.published else task.budget
        curves.append(aligned(task.results[label].runs, frames, floor, normalised=True))
    points = []
    for index in range(len(frames)):
        scores = [curve[:, index] for curve in curves]
        if not all(np.isfinite(task).all() for task in scores):
            points.append((np.nan, np.nan, np.nan))
            continue
        value = float(aggregate.iqm(scores))
        if all(len(task) < 2 for task in scores):
            points.append((value, np.nan, np.nan))
            continue
        drawn = aggregate.iqm(aggregate.resample(scores, min(options.resamples, 1000), options.seed))
        points.append((value, *aggregate.interval(drawn)))
    return Band(*np.array(points).T)


def _hours(tasks: list[TaskResult], label: str, frames: np.ndarray) -> np.ndarray:
    runs = [run for task in tasks for run in task.results[label].runs]
    return np.mean([[hours_at(run, at) for at in frames] for run in runs], axis=0)


def _published_aggregate(tasks: list[TaskResult]) -> dict[str, float]:
    """Mean and median of published task means at each task's budget, where the publication reaches it."""
    means = []
    for task in tasks:
        if task.published is None or task.budget > task.published.frames[-1] / REACHED:
            return {}
        value = published_at(task.published, task.budget)
        means.append(float(normalise(task.task, np.asarray(value))))
    return {"mean": float(np.mean(means)), "median": float(np.median(means))}


def published_at(curve: Published, frames: float) -> float:
    """Published mean return at `frames`, linear between its points; NaN outside them."""
    return float(np.interp(frames, curve.frames, curve.mean, left=np.nan, right=curve.mean[-1]))
