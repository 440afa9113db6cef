"""The learning curve of a run."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from dreamworld import cli
from dreamworld.logging import plots
from dreamworld.logging.appender import append_jsonl
from dreamworld.logging.rundir import RunDir


@pytest.fixture
def rundir(tmp_path):
    rundir = RunDir(tmp_path)
    rundir.begin(cli.parse(["--configs", "debug"]))
    return rundir


def test_a_run_with_nothing_yet_has_no_curve(rundir):
    assert plots.learning_curve(rundir) is None
    assert not rundir.learning_curve.exists()


@pytest.mark.parametrize("parts", [("episodes",), ("evals",), ("metrics",), ("episodes", "evals", "metrics")])
def test_whatever_there_is_is_drawn(parts, rundir):
    for step in range(0, 400, 10):
        at = {"step": step, "frames": 2 * step}
        rows = {
            "episodes": {**at, "return": float(step)},
            "evals": {**at, "mean": float(step), "std": 3.0},
            "metrics": {**at, "train/loss/dyn": None if step % 20 else 1.0 / (1 + step)},
        }
        for part in parts:
            append_jsonl(getattr(rundir, part), rows[part])
    path = plots.learning_curve(rundir)
    assert path == rundir.learning_curve
    with Image.open(rundir.learning_curve) as image:
        picture = np.asarray(image.convert("RGB")).astype(int)
    blue = (np.abs(picture - (0x2F, 0x6F, 0xB0)).sum(-1) < 30).sum()
    orange = (np.abs(picture - (0xD9, 0x76, 0x1A)).sum(-1) < 30).sum()
    assert (blue > 500) == ("episodes" in parts) and (orange > 500) == ("evals" in parts)


@pytest.mark.parametrize("parts", [("episodes",), ("metrics",), ("episodes", "metrics")])
def test_no_panel_is_empty(parts, rundir, monkeypatch):
    """A training on data has no episodes; a metric that is never a number has no panel."""
    figures, original = [], Figure.__init__
    monkeypatch.setattr(
        Figure,
        "__init__",
        lambda self, *args, **more: (figures.append(self), original(self, *args, **more))[1],
    )
    for step in range(3):
        at = {"step": step, "frames": step}
        append_jsonl(
            rundir.metrics, at | ({"loss/a": 1.0, "loss/b": None} if "metrics" in parts else {"fps/env": 1.0})
        )
        append_jsonl(rundir.episodes, at | {"return": 1.0 if "episodes" in parts else None})
    assert plots.learning_curve(rundir)
    axes = figures[0].axes
    assert len(axes) == len(parts) and all(each.lines for each in axes)
    assert figures[0].get_suptitle() == "gym_CartPole-v1, dreamerv3, seed 0"


def test_a_run_cut_in_the_middle_of_a_line_is_drawn(rundir):
    rundir.episodes.write_bytes(
        b'{"step": 1, "frames": 1, "return": 3.0}\n{"step": 2, "frames": 2, "return": null}\n{"st'
    )
    assert plots.learning_curve(rundir)


def test_losses_get_panels_before_reports():
    names = [
        "train/loss/rep",
        "loss/dyn",
        "report/mse",
        "report/loss",
        "train/lr",
        "train/glossy",
        "train/loss_total",
    ]
    rows = [{"step": 1, **dict.fromkeys(names, 1.0), "train/loss/none": None}]
    wanted = ["loss/dyn", "train/loss/rep", "train/loss_total", "report/loss", "report/mse"]
    assert plots.panel_names(rows) == wanted


def test_smoothing_is_the_mean_of_the_last_values():
    np.testing.assert_allclose(plots.smooth(np.array([1.0, 3.0, 5.0, 1.0]), 2), [1, 2, 4, 3])
    np.testing.assert_allclose(plots.smooth(np.array([1.0, 3.0, 5.0]), 9), [1, 2, 3])
