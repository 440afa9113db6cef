"""The report of `dreamworld envs check`, and what a single row or space may have wrong with it."""

from __future__ import annotations

import dataclasses

import numpy as np

from dreamworld import words
from dreamworld.envs.base import Step
from dreamworld.envs.findings import Findings
from dreamworld.envs.pictures import notes_on
from dreamworld.envs.spy import Spy, distance
from dreamworld.types import Space, Spaces

ENCODER_STRIDE = 16
SLACK = 1e-6  # bounds were rounded to float32, too


@dataclasses.dataclass
class Report:
    """What was found. `problems` are wrong and will hurt; `notes` deserve a look."""

    spaces: list[str] = dataclasses.field(default_factory=list)
    facts: list[str] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    found: Findings = dataclasses.field(default_factory=Findings)
    spy: Spy | None = None  # what stands before the environment's own code

    @property
    def problems(self) -> list[str]:
        """One sentence for each kind of problem."""
        lines = self.found.lines() + (self.spy.problems.lines() if self.spy else [])
        return list(dict.fromkeys(lines))

    def problem(self, text: str) -> None:
        """Adds a problem once."""
        self.found.add(text)

    def value_problem(self, kind: str, key: str, text: str, badness: float = 0.0) -> None:
        """Adds a problem with an observation, unless the spy has seen it before it was converted."""
        if not (self.spy and self.spy.knows(kind, key)):
            self.found.add(f"observation {key!r} {text}", (kind, key), badness)

    def text(self) -> str:
        """The report as lines."""
        lines = [*self.spaces, *self.facts]
        lines += [f"note: {text}" for text in self.notes]
        lines += [f"PROBLEM: {text}" for text in self.problems]
        lines.append(f"{words.count(len(self.problems), 'problem')} found")
        return "\n".join(lines)


def check_row(step: Step, spaces: Spaces, first: bool, report: Report) -> None:
    """One row against its spaces and the meaning of its flags."""
    if set(step.obs) != set(spaces):
        report.problem(f"observations {sorted(step.obs)} were returned, the spaces say {sorted(spaces)}")
    for key, space in spaces.items():
        if key in step.obs:
            _check_value(key, np.asarray(step.obs[key]), space, report)
    if not np.isfinite(step.reward):
        report.problem(f"a reward was {step.reward}")
    if first and step.reward != 0:
        report.problem(f"the first row of an episode has reward {step.reward:g}; it must be 0")
    if bool(step.is_first) != first:
        report.problem(f"is_first was {bool(step.is_first)} after {'reset' if first else 'step'}()")
    if step.is_terminal and not step.is_last:
        report.problem("is_terminal without is_last: an episode that is over has to end")
    for key, value in step.log.items():
        if np.ndim(value) or not key.startswith("log/"):
            report.problem(f"log entry {key!r}: wants a name log/... and a scalar")


def _check_value(key: str, value: np.ndarray, space: Space, report: Report) -> None:
    if value.shape != space.shape:
        text = f"has the shape {value.shape}, its space says {space.shape}"
        report.value_problem("shape", key, text)
        return
    if value.dtype != space.dtype:
        report.value_problem("dtype", key, f"has the dtype {value.dtype}, its space says {space.dtype}")
    if value.dtype.kind == "f" and not (finite := np.isfinite(value)).all():
        report.value_problem("nan", key, "holds NaN or infinity", float((~finite).sum()))
    elif space.classes is not None and ((value < 0) | (value >= space.classes)).any():
        text = f"is {value}, outside its {words.count(space.classes or 0, 'class', 'classes')}"
        report.value_problem("range", key, text, distance(0, space.classes - 1, value))
    elif not _within(value, space):
        values, bounds = f"{np.min(value):g} to {np.max(value):g}", f"[{space.low:g}, {space.high:g}]"
        text = f"has values from {values}, outside its space {bounds}"
        report.value_problem("range", key, text, distance(space.low, space.high, value))


def _within(value: np.ndarray, space: Space) -> bool:
    low, high = space.low - SLACK * abs(space.low), space.high + SLACK * abs(space.high)
    return bool(((value >= low) & (value <= high)).all())


def describe_spaces(obs_space: Spaces, act_space: Spaces) -> list[str]:
    """One line per key."""
    lines = []
    for kind, spaces in (("observation", obs_space), ("action", act_space)):
        for key, space in spaces.items():
            shape = "x".join(map(str, space.shape)) or "scalar"
            what = (
                f"{words.count(space.classes or 0, 'class', 'classes')}"
                if space.discrete
                else f"{space.low:g} to {space.high:g}"
            )
            image = ", image" if space.is_image else ""
            lines.append(f"{kind} {key}: {shape} {space.dtype}, {what}{image}")
    return lines


def check_spaces(obs_space: Spaces, report: Report) -> None:
    """Images that the encoder can't take, and vectors that were meant as images."""
    report.notes += notes_on(obs_space)
    for key, space in obs_space.items():
        if space.is_image and any(side % ENCODER_STRIDE for side in space.shape[:2]):
            height, width = space.shape[:2]
            report.problem(
                f"image {key!r} is {height}x{width}: the encoder takes multiples of {ENCODER_STRIDE}; "
                "resize it with --env.resize True --env.size 64 64, or, if it is no picture but a table, say "
                f"--env.vector_keys {key}"
            )
