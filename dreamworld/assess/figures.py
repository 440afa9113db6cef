"""The pictures of a page of judged worlds: curves over imagined steps with baselines, and reliability."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dreamworld.assess.judge import Judged
from dreamworld.assess.segments import Segments
from dreamworld.stats.plots import COLOURS, GREY, Draw

Titled = tuple[str, str, Draw]  # name, caption, how to draw it
BASELINES = {"_copy": ("copying the last row", "--"), "_mean": ("mean frame", "-.")}
REALITY = {"_reality": ("reality, played again", "-")}  # of stochastic environments


def curves(judged: Sequence[Judged], segments: Segments) -> Iterator[Titled]:
    """Errors and skill of each observation key, the gain of right actions, surprise, and places of objects."""
    for key in segments.obs_space:
        name = f"drift/{key}/psnr" if segments.obs_space[key].is_image else f"drift/{key}/mse"
        unit = "PSNR, dB" if name.endswith("psnr") else "squared error, in variances"
        stochastic = any(f"drift/{key}/mse_by_reality" in one.sheet.metrics for one in judged)
        beside = BASELINES | (REALITY if stochastic else {})
        yield from _titled(judged, name, f"{key}: {unit}", f"Error of {key}.", beside, posterior=True)
        yield from _titled(
            judged, f"drift/{key}/skill", f"{key}: skill", "1 - MSE / MSE of copying; useful above 0.5.", {}
        )
        yield from _titled(
            judged,
            f"actions/{key}/psnr_gain",
            "PSNR gained, dB",
            "What the right actions gain over others.",
            {},
        )
    places = {"_copy": ("stays where it was", "--"), "_linear": ("goes straight on", "-.")}
    yield from _titled(judged, "objects/presence", "share", "Objects that are where they should be.", {})
    yield from _titled(
        judged,
        "objects/centroid_error",
        "pixels",
        "How far off those are that are near; grey: all, wherever they are.",
        places,
    )
    yield from _titled(
        judged, "latent/surprise", "nats", "Surprise at each row, after dreaming until it.", {}
    )


def rewards(judged: Sequence[Judged]) -> Iterator[Titled]:
    """The error of rewards."""
    yield from _titled(judged, "reward/mae", "error of the reward", "Mean absolute error of rewards.", {})


def _titled(
    judged: Sequence[Judged],
    name: str,
    unit: str,
    caption: str,
    baselines: dict[str, tuple[str, str]],
    posterior: bool = False,
) -> Iterator[Titled]:
    if any(name in one.sheet.curves for one in judged):
        yield name, caption, functools.partial(_curves, judged, name, unit, baselines, posterior)


def _curves(
    judged: Sequence[Judged], name: str, unit: str, baselines: dict[str, tuple[str, str]], posterior: bool
) -> Figure:
    figure = Figure((5.0, 3.1), layout="constrained")
    axes = figure.subplots()
    for number, one in enumerate(judged):
        colour = COLOURS[number % len(COLOURS)]
        if curve := one.sheet.curves.get(name):
            steps = np.arange(1, len(curve.value) + 1)
            axes.plot(steps, curve.value, color=colour, label=one.name)
            if np.isfinite(curve.low).any():
                axes.fill_between(steps, curve.low, curve.high, color=colour, alpha=0.2, linewidth=0)
        if posterior and (floor := one.sheet.curves.get(f"{name}_posterior")):
            axes.plot(
                np.arange(1, len(floor.value) + 1), floor.value, color=colour, linestyle=":", linewidth=1.2
            )
    for suffix, (label, dash) in baselines.items():
        found = next(
            (one.sheet.curves[name + suffix] for one in judged if name + suffix in one.sheet.curves), None
        )
        if found:
            steps = np.arange(1, len(found.value) + 1)
            axes.plot(steps, found.value, color=GREY, linestyle=dash, linewidth=1.2, label=label)
    if name.endswith("/skill"):
        axes.axhline(0.5, color=GREY, linewidth=1, linestyle="--")
        axes.set_ylim(bottom=max(-1.0, axes.get_ylim()[0]), top=1.03)
    axes.set(xlabel="imagined step", ylabel=unit)
    axes.set_xlim(left=0)
    axes.legend(fontsize=8)
    return figure


def reliability(judged: Sequence[Judged]) -> Figure:
    """Said against happened, one point for each bin of equal mass."""
    figure = Figure((5.0, 3.1), layout="constrained")
    axes: Axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--")
    for number, one in enumerate(judged):
        if diagram := one.sheet.diagrams.get("cont"):
            rows = np.asarray(diagram["rows"])
            size = 15 + 60 * rows / max(rows.max(), 1)
            colour = COLOURS[number % len(COLOURS)]
            axes.plot(diagram["expected"], diagram["happened"], color=colour, linewidth=1, label=one.name)
            axes.scatter(diagram["expected"], diagram["happened"], size, color=colour)
    axes.set(xlabel="said", ylabel="happened", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.legend(fontsize=8)
    return figure
