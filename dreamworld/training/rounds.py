"""The schedule of the fused mode: stages and phases as rounds of vector steps and whole numbers of updates."""

from __future__ import annotations

import math
from typing import NamedTuple

from dreamworld import words
from dreamworld.contract import Agent, Phase, Stage
from dreamworld.errors import UserError
from dreamworld.training.schedule import Schedule

LONGEST = 100_000  # vector steps of a round


class Round(NamedTuple):
    """What the program repeats: vector steps, then updates of one phase after the other. A program for each."""

    collect: str  # "policy" or "random"
    steps: int  # vector steps; 0 where nothing is collected
    updates: tuple[tuple[str, int], ...] = ()  # (phase, updates)


def check(agent: Agent, num_envs: int) -> None:
    """UserError for an agent that learns in a way that the fused mode can't serve."""
    for phase in agent.phases:
        window = phase.window
        if window is not None and (window.order == "sweep" or window.align == "episode"):
            how = (
                "sweeps over replay" if window.order == "sweep" else "reads chunks that begin with an episode"
            )
            raise UserError(f"--run.mode fused: phase {phase.name!r} {how}, which --run.mode host can do")
        if window is not None and window.mix is not None:
            raise UserError(
                f"--run.mode fused: phase {phase.name!r} reads by a mixture of its own, which --run.mode host can do"
            )
    for stage in agent.stages:
        endless = [phase.name for phase in stage.phases if stage.collect == "none" and phase.at_most is None]
        if len(endless) > 1:
            raise UserError(
                f"--run.mode fused: stage {stage.name!r} collects nothing, and its phases {', '.join(endless)} "
                "take turns without an end, which --run.mode host can do"
            )
        _round_steps(stage, [pace(phase, num_envs)[0] for phase in stage.phases if stage.collect != "none"])


def pace(phase: Phase, num_envs: int) -> tuple[int, int]:
    """(vector steps, updates): the ratio of a phase in whole numbers, one of which is 1; no updates without a ratio."""
    if phase.ratio == 0:
        return 1, 0
    per_step = num_envs * phase.ratio / phase.rows
    steps, updates = (1, round(per_step)) if per_step >= 1 else (round(1 / per_step), 1)
    if abs(updates / steps - per_step) > 1e-6 * per_step:
        near = updates / steps * phase.rows / num_envs
        raise UserError(
            f"--run.mode fused: the train ratio {phase.ratio:g} of phase {phase.name!r} is "
            f"{words.count(per_step, 'update')} per step of {words.count(num_envs, 'environment')}; the fused mode "
            f"takes whole numbers, or one update per whole number of steps: {near:g} would do"
        )
    return steps, updates


def plan(schedule: Schedule, num_envs: int, rows: int) -> tuple[Round, int]:
    """The next round and how often it comes: about `rows` agent steps, less before something changes.

    A stage ends, and a phase begins, with the round in which it is due.
    """
    stage, counters = schedule.stage, schedule.counters
    if not schedule.collects:
        phase = schedule.current()
        assert phase is not None, "the stage is over"
        return Round("none", 0, ((phase.name, 1),)), int(min(max(1, rows), schedule.left(phase)))
    time = counters.step - counters.stage_step
    waiting = [phase.begins - time for phase in stage.phases if phase.begins > time]
    active = [phase for phase in stage.phases if phase.begins <= time and schedule.left(phase) > 0]
    # What draws aside comes last: the keys of the others are then those that they have without it.
    active.sort(key=lambda phase: phase.window is not None and phase.window.order == "aside")
    paces = {phase: pace(phase, num_envs) for phase in active}
    steps = _round_steps(stage, [own for own, _ in paces.values()])
    updates = {phase: count * (steps // own) for phase, (own, count) in paces.items() if count}
    most = max(1, rows // (steps * num_envs))
    for bound in [*waiting, *([stage.steps - time] if stage.steps is not None else [])]:
        most = min(most, -(-bound // (steps * num_envs)))
    for phase, count in updates.items():
        left = schedule.left(phase)
        updates[phase] = int(min(count, left))
        most = min(most, max(1, math.floor(left / count))) if math.isfinite(left) else most
    return Round(stage.collect, steps, tuple((phase.name, count) for phase, count in updates.items())), most


def _round_steps(stage: Stage, steps: list[int]) -> int:
    """Vector steps after which every phase has done whole updates."""
    found = math.lcm(*steps)
    if found > LONGEST:
        raise UserError(
            f"--run.mode fused: the train ratios of stage {stage.name!r} meet only after "
            f"{words.count(found, 'vector step')}; let one be a multiple of the other"
        )
    return found
