"""Figures of a report: none has axes with nothing in them, whatever the runs lack."""

import numpy as np
import pytest

from dreamworld.stats import plots
from dreamworld.stats.analysis import Options, analyse
from dreamworld.stats.groups import collect

LONG = [(frames, frames / 1000) for frames in range(1000, 50_001, 1000)]


def one_episode(make_run):
    make_run("a/0", "gym_A", scores=[(1000, 1.0)])


def one_run(make_run):
    make_run("a/0", scores=LONG)


def a_task_without_an_episode(make_run):
    make_run("a/0", scores=LONG)
    make_run("a/1", "dmc_cheetah_run", scores=[])


def all_at_one_moment(make_run):
    make_run("a/0", scores=LONG, second=0.0)
    make_run("a/1", seed=1, scores=LONG, second=0.0)


def too_short_to_count(make_run):
    make_run("a/0", scores=LONG)
    make_run("a/1", seed=1, scores=LONG[:3], state="failed")
    make_run("a/2", "dmc_cheetah_run", scores=LONG[:2], state="running", steps=50_000)


def filled(axes):
    """Whether axes show anything but their frame and their grid."""
    lines = [line for line in axes.lines if np.isfinite(np.asarray(line.get_ydata(), float)).any()]
    patches = [patch for patch in axes.patches if np.isfinite(patch.get_path().vertices).any()]
    return bool(lines or patches or axes.collections or axes.texts)


@pytest.mark.parametrize("baseline", [False, True])
@pytest.mark.parametrize(
    "make", [one_episode, one_run, a_task_without_an_episode, all_at_one_moment, too_short_to_count]
)
def test_no_axes_are_empty(make, baseline, make_run, tmp_path):
    make(make_run)
    analysis = analyse(collect([str(tmp_path / "a")]), Options(baseline=baseline, resamples=100))
    drawn = {name: draw() for name, draw in plots.figures(analysis).items()}
    drawn |= {task.task: plots.figure_task(analysis, task) for task in plots.drawn_tasks(analysis)}
    empty = [
        f"{name}, panel {index}"
        for name, figure in drawn.items()
        for index, axes in enumerate(figure.axes)
        if axes.axison and not filled(axes)
    ]
    assert drawn and not empty


def test_hours_are_a_panel_only_where_they_are_known(make_run, tmp_path):
    all_at_one_moment(make_run)
    one_run(lambda name, **more: make_run("b/0", **more))
    panels = []
    for folder in "ab":
        analysis = analyse(collect([str(tmp_path / folder)]), Options(resamples=100))
        panels.append(len(plots.figures(analysis)["efficiency_dmc"]().axes))
    assert panels == [1, 2]
