"""Options of planners that act in the dream of any agent (`--planner`, `--plan.*`). Loads no JAX."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from dreamworld import words
from dreamworld.errors import UserError
from dreamworld.limits import SHARE, Range

Planning = Literal["none", "cem", "mppi"]


@dataclasses.dataclass(frozen=True)
class PlanConfig:
    horizon: Annotated[int, Range(1, 1000)] = 12
    """Steps that a plan looks ahead."""
    candidates: Annotated[int, Range(2, 1e6)] = 500
    """Plans that are tried in every iteration."""
    iterations: Annotated[int, Range(1, 1000)] = 6
    """How often the distribution of plans is fitted to the best ones."""
    elites: Annotated[int, Range(1, 1e6)] = 50
    """The best plans, to which it is fitted."""
    dreams: Annotated[int, Range(1, 1000)] = 1
    """Dreams of every plan, over which its return is averaged."""
    actor: Annotated[int, Range(0, 1e6)] = 0
    """How many of the candidates the agent's own actor proposes, each in a dream of its own."""
    value: bool = True
    """Add to a return what the agent's critic, if it has one, expects after the last step."""
    discount: Annotated[float, Range(0, 1)] = 0.0
    """Of later rewards, for each step; 0 for that of the agent."""
    ends: bool = True
    """Weigh rewards by the predicted probability that the episode has not ended before them."""
    warm: bool = True
    """Begin with the plan of the step before, shifted by one; else with zeros."""
    std: Annotated[float, Range(1e-3, 100)] = 1.0
    """Standard deviation of plans in the first iteration."""
    min_std: Annotated[float, Range(0, 100)] = 0.05
    """The smallest one in later iterations."""
    color: Annotated[float, Range(0, 10)] = 0.0
    """Exponent of the noise: 0 is white, 2 changes slowly over a plan (iCEM, arXiv:2008.06389)."""
    keep: Annotated[float, SHARE] = 0.0
    """Share of the elites that stay candidates, also for the next step (iCEM)."""
    temperature: Annotated[float, Range(0, 1e6)] = 0.5
    """Of mppi: elites weigh exp(temperature x return)."""
    goal: str = ""
    """Plan towards this observation instead of for rewards: an .npz file with an array for each key that matters."""
    goal_by: Literal["decoded", "feature"] = "decoded"
    """What is near: the decoded observation, or the feature of the state, both by the mean squared difference."""

    @property
    def kept(self) -> int:
        """Elites that stay candidates."""
        return round(self.keep * self.elites)


DEFAULT = PlanConfig()


def check(options: PlanConfig, prefix: str = "--plan.") -> None:
    """UserError for numbers of plans that do not go together; `prefix` is that of the options."""
    if options.elites > options.candidates:
        raise UserError(
            f"{prefix}elites {options.elites}: more than the {options.candidates} of {prefix}candidates"
        )
    given = options.actor + options.kept
    if given >= options.candidates:
        what = " and ".join(
            [f"{options.actor} of {prefix}actor"] * bool(options.actor)
            + [f"{words.count(options.kept, 'kept elite')} of {prefix}keep"] * bool(options.kept)
        )
        raise UserError(
            f"{prefix}candidates {options.candidates}: leaves no plan to draw, beside {what}; give more than {given}"
        )


def check_used(planner: str, options: PlanConfig) -> None:
    """UserError for options of plans that nobody makes."""
    if planner != "none":
        return
    for field in dataclasses.fields(options):
        if getattr(options, field.name) != field.default:
            raise UserError(
                f"--plan.{field.name}: has no effect without a planner; add --planner cem or mppi"
            )
