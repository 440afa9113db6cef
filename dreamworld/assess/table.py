"""Judged worlds as tables of text, a column for each."""

from __future__ import annotations

from collections.abc import Sequence

from dreamworld import words
from dreamworld.assess.intervals import Curve, Estimate
from dreamworld.assess.judge import Judged

STEPS = (1, 5, 15, 50)  # at which curves are shown

# What is shown of an observation key, and of the model, with its meaning: (name, text)
DRIFT = (
    ("psnr", "PSNR, dB"),
    ("psnr_copy", "of copying the last row"),
    ("psnr_mean", "of the mean frame"),
    ("psnr_posterior", "of the posterior"),
    ("psnr_reality", "of reality, played again"),
    ("mse", "MSE"),
    ("skill", "skill over copying"),
)
NUMBERS = (
    ("mse_by_reality", "MSE, of that of reality played again"),
    ("useful_horizon", "useful horizon, steps"),
    ("growth", "growth of the error"),
    ("energy_score", "energy score"),
)
ACTIONS = (
    ("shuffle_ratio", "error under other actions, of that under the right ones"),
    ("cfc", "cosine of effects of actions"),
    ("sign", "objects moved to the right side by actions"),
    ("leak", "effect where there is none"),
)
COHERENCE = (
    ("area_ratio", "foreground, of the real one"),
    ("motion_ratio", "change from row to row, of the real one"),
    ("variance_ratio", "variance over rows, of the real one"),
    ("frozen", "share of frozen rows"),
    ("loop_dreamt", "left after a loop, of the distance at its turn"),
    ("loop_real", "in reality"),
)
OTHERS = (
    ("reward/mae", "reward: MAE"),
    ("reward/mae_constant", "of the median reward"),
    ("reward/nll", "reward: NLL, nats"),
    ("reward/spearman", "reward: Spearman"),
    ("reward/auroc", "reward: AUROC of r ≠ 0"),
    ("reward/return_error", "return: error"),
    ("cont/brier", "continue: Brier"),
    ("cont/nll", "continue: NLL, nats"),
    ("cont/ece", "continue: ECE"),
    ("cont/recall", "ends: recall"),
    ("cont/false_deaths", "ends: false"),
    ("inverse/ratio", "actions read from dreams, of those read from reality"),
    ("inverse/accuracy_dreamt", "accuracy on dreams"),
    ("inverse/accuracy_real", "on reality"),
    ("decisions/top1", "decisions: best plan found"),
    ("decisions/top1_chance", "by chance"),
    ("decisions/regret", "decisions: regret, of the spread"),
    ("decisions/spearman", "decisions: Spearman"),
    ("returns/real", "return of the policy"),
    ("returns/dreamt", "in the dream"),
    ("returns/bias_by_sd", "bias, in standard deviations"),
    ("returns/rmse", "RMSE"),
    ("returns/correlation", "correlation"),
    ("ranking/spearman", "checkpoints ranked: Spearman"),
    ("ranking/wrong_pairs", "pairs in the wrong order"),
    ("ranking/violation", "violation, of the spread"),
    ("realism/c2st", "classifier of real and dreamt (0.5 is ideal)"),
    ("objects/presence", "objects: present"),
    ("objects/centroid_error", "objects: off by, pixels"),
    ("objects/centroid_error_free", "in free flight"),
    ("objects/centroid_error_wall", "at a wall"),
    ("objects/centroid_error_pair", "at another object"),
    ("objects/switches", "objects: taken for another"),
    ("objects/count_error", "objects: error of their number"),
    ("objects/bounce_sign", "objects: right direction after a wall"),
    ("objects/speed_ratio", "objects: speed, of the real one"),
    ("objects/energy_ratio", "objects: energy, of the real one"),
    ("objects/momentum_error", "objects: error of momentum, of the real one"),
    ("objects/momentum_error_pair", "where two of them meet"),
    ("objects/energy_error", "objects: error of energy, of the real one"),
    ("objects/reemergence", "objects: back from behind the occluder"),
    ("objects/reemergence_error", "off by, pixels"),
    ("surprise/auroc", "surprise at the impossible: AUROC"),
    ("surprise/auroc_vanish", "an object vanishes"),
    ("surprise/auroc_jump", "it jumps"),
    ("surprise/auroc_stop", "it stops"),
)


def rows(judged: Sequence[Judged]) -> list[tuple[str, list[str]]]:
    """(what it is, the cells of all worlds) of everything that at least one of them has."""
    found: list[tuple[str, list[str]]] = []
    for key in _keys(judged, "drift/"):
        found.append((f"drift of {key}", ["" for _ in judged]))
        for name, meaning in DRIFT:
            found += _curve(judged, f"drift/{key}/{name}", meaning)
        for name, meaning in NUMBERS:
            found += _number(judged, f"drift/{key}/{name}", meaning)
    for key in _keys(judged, "actions/"):
        found += _curve(judged, f"actions/{key}/psnr_gain", f"PSNR gained by the right actions, {key}")
        for name, meaning in ACTIONS:
            found += _number(judged, f"actions/{key}/{name}", f"{meaning}, {key}")
    for key in _keys(judged, "coherence/"):
        for name, meaning in COHERENCE:
            found += _number(judged, f"coherence/{key}/{name}", f"{meaning}, {key}")
    for name, meaning in OTHERS:
        found += _number(judged, name, meaning)
    found += _costs(judged)
    return found


def _keys(judged: Sequence[Judged], topic: str) -> list[str]:
    names = {name for one in judged for name in one.sheet.metrics if name.startswith(topic)}
    return sorted({name.removeprefix(topic).rpartition("/")[0] for name in names})


def _curve(judged: Sequence[Judged], name: str, meaning: str) -> list[tuple[str, list[str]]]:
    curves = [one.sheet.curves.get(name) for one in judged]
    if not any(curves):
        return []
    longest = max(len(curve.value) for curve in curves if curve)
    steps = [step for step in STEPS if step <= longest]
    label = f"  {meaning} at {', '.join(map(str, steps))}"
    return [(label, [at_steps(curve, steps) for curve in curves])]


def at_steps(curve: Curve | None, steps: Sequence[int]) -> str:
    """The values of a curve at some steps: `31.2, 27.9, 22.0`."""
    return "–" if curve is None else ", ".join(_short(float(curve.value[step - 1])) for step in steps)


def _number(judged: Sequence[Judged], name: str, meaning: str) -> list[tuple[str, list[str]]]:
    found = [one.sheet.metrics.get(name) for one in judged]
    return [(f"  {meaning}", [with_interval(value) for value in found])] if any(found) else []


def with_interval(found: Estimate | None) -> str:
    """`0.93 [0.91, 0.95]`."""
    if found is None or found.value is None:
        return "–"
    if found.low is None or found.high is None:
        return _short(found.value)
    return f"{_short(found.value)} [{_short(found.low)}, {_short(found.high)}]"


def _short(value: float) -> str:
    if value != value:
        return "–"
    return f"{value:.4g}" if abs(value) < 10 else f"{value:.1f}" if abs(value) < 1e5 else f"{value:.2g}"


def _costs(judged: Sequence[Judged]) -> list[tuple[str, list[str]]]:
    found = []
    for kind in ("imagine", "imagine and decode"):
        cells = [one.about["step_s"].get(kind) for one in judged]
        if any(cells):
            batches = next(cell for cell in cells if cell)
            label = f"  time to {kind} a step, ms, at batch {', '.join(batches)}"
            shown = [", ".join(f"{1e3 * s:.3g}" for s in cell.values()) if cell else "–" for cell in cells]
            found.append((label, shown))
    return found


def heads(judged: Sequence[Judged]) -> list[str]:
    """Name, agent, step and parameters of each world."""
    return [f"{one.name} ({', '.join(_model(one))})" if _model(one) else one.name for one in judged]


def _model(one: Judged) -> list[str]:
    about = one.about
    step = [f"step {about['step']:,}"] if "step" in about else []
    return [
        *([about["agent"]] if "agent" in about else []),
        *step,
        words.count(about["parameters"], "parameter"),
    ]


def left_out(judged: Sequence[Judged]) -> list[str]:
    """`cont/recall needs …`, once for each reason, with the worlds that it holds for if these are not all."""
    found: dict[tuple[str, str], list[str]] = {}
    for one in judged:
        for name, reason in one.sheet.left_out.items():
            found.setdefault((name, reason), []).append(one.name)
    return [
        f"{name} {reason}" + ("" if len(names) == len(judged) else f" ({', '.join(names)})")
        for (name, reason), names in found.items()
    ]


def print_cells(cells: Sequence[Sequence[str]]) -> None:
    """Prints rows of text below their heads, the first of them."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from dreamworld.text import marked

    console = Console()
    if not console.is_terminal:
        console.width = 160
    grid = Table(*map(marked, cells[0]), box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0))
    for row in cells[1:]:
        grid.add_row(*map(marked, row))
    console.print(grid, highlight=False)


def print_table(judged: Sequence[Judged]) -> None:
    """Prints the table, and what is left out."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from dreamworld.text import marked

    console = Console()
    if not console.is_terminal:
        console.width = max(120, 56 + 44 * len(judged))
    grid = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0))
    grid.add_column("")
    for head in heads(judged):
        grid.add_column(marked(head))
    for label, cells in rows(judged):
        grid.add_row(marked(label), *map(marked, cells))
    console.print(grid, highlight=False)
    for line in left_out(judged):
        console.print(f"left out: {marked(line)}", highlight=False, soft_wrap=True)
