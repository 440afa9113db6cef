"""Whether what is asked of a run can be had, looked at before any environment is played."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dreamworld import words
from dreamworld.contract import Agent
from dreamworld.errors import UserError
from dreamworld.lists import split_list
from dreamworld.sessions import load, stored
from dreamworld.sessions.stored import Stored
from dreamworld.text import expand_path
from dreamworld.training.snapshot import snapshot_steps

if TYPE_CHECKING:
    from dreamworld.assess.ranking import Policy
    from dreamworld.sessions.assess import Flags

ALL = "all"
HOTTEST = 100.0
FEWEST = 2  # checkpoints that can be ranked


def require_simulator(run: Stored) -> None:
    """UserError for an agent without a world."""
    if stored.build_agent(run).simulator is None:
        raise UserError(
            f"{run.rundir}: the agent {run.config.agent.name} has no simulator, so there is no world to judge"
        )


def require_checkpoint(run: Stored, step: int) -> None:
    """UserError where there is no checkpoint, or not that of a step; -1 for the newest."""
    steps = snapshot_steps(run.rundir.checkpoints)
    if not steps:
        raise UserError(f"{run.rundir}: there is no complete checkpoint, so there is no world to judge")
    if step >= 0 and step not in steps:
        raise UserError(f"--step {step}: {run.rundir} has no such checkpoint; {_listed(steps)}")


def choose_checkpoints(run: Stored, checkpoints: str) -> list[int]:
    """The steps of `all` or of `N,M`; UserError where some are missing, or fewer than two are there."""
    if not checkpoints:
        return []
    option, steps = f"--checkpoints {checkpoints}", snapshot_steps(run.rundir.checkpoints)
    chosen = steps if checkpoints == ALL else []
    for word in [] if checkpoints == ALL else split_list(checkpoints):
        if not word.isdecimal():
            raise UserError(
                f"{option}: {word!r} is no step; give all, or steps such as {steps[0]},{steps[-1]}"
            )
        if int(word) not in steps:
            raise UserError(f"{option}: {run.rundir} has no checkpoint {word}; {_listed(steps)}")
        chosen.append(int(word))
    if len(set(chosen)) < FEWEST:
        raise UserError(
            f"{option}: at least two checkpoints are needed to rank them; {run.rundir}: {_listed(steps)}. "
            "A training keeps more with --run.keep_every or --run.keep_last"
        )
    simulator = stored.build_agent(run).simulator
    if simulator is None or simulator.predict is None or simulator.decode is None:
        raise UserError(f"{option}: needs a model that decodes and predicts rewards; give --agent.probe True")
    return sorted(set(chosen))


def policies(run: Stored, agent: Agent, checkpoints: str) -> tuple[Policy, ...]:
    """The policies of checkpoints, by their steps."""
    from dreamworld.assess.ranking import Policy

    steps = choose_checkpoints(run, checkpoints)
    return tuple(Policy(str(step), agent, load.restore_params(run.rundir, agent, step)) for step in steps)


def require_rows(run: Stored, flags: Flags) -> None:
    """UserError where no episode of the environment of a run can be as long as a segment."""
    limit = episode_limit(run)
    if flags.data or not limit or flags.context + flags.horizon <= limit + 1:
        return
    told = f"episodes of {run.name} have at most {words.count(limit + 1, 'row')}"
    if flags.context > limit:
        raise UserError(f"--context {flags.context}: {told}; use --context {min(5, limit)}")
    most = limit + 1 - flags.context
    raise UserError(
        f"--context {flags.context} --horizon {flags.horizon}: {told}; use --horizon {most} or less"
    )


def episode_limit(run: Stored) -> int:
    """Steps after which every episode of the environment of a run has ended; 0 where it does not say."""
    from dreamworld.envs.vector import auto

    try:
        played = stored.choose_env(run)
        target = played.name if played.source is None else played.source
        if played.config.env.time_limit:
            return played.config.env.time_limit
        if auto.is_jax(target):
            return int(getattr(auto.as_jax_env(target, played.config.env), "time_limit", 0) or 0)
    except UserError:
        return 0  # said where it is played
    if played.source is None and played.name.startswith("gym_") and ":" not in played.name:
        import gymnasium

        found = gymnasium.registry.get(played.name.removeprefix("gym_"))
        own = getattr(found, "max_episode_steps", None) or 0
        return -(-own // played.config.env.repeat)
    return 0


def require_study(run: Stored, flags: Flags) -> None:
    """UserError where a study needs what the model of a run can't do, and for temperatures that are none."""
    if flags.study == "none":
        return
    simulator = stored.build_agent(run).simulator
    option = f"--study {flags.study}"
    if simulator is None or simulator.decode is None:
        raise UserError(f"{option}: {run.rundir} needs a decoder: train with --agent.probe True")
    if flags.study == "temperature":
        temperatures(flags)
        if simulator.predict is None:
            raise UserError(f"{option}: {run.rundir} needs a model that predicts rewards")
        if flags.data and not expand_path(flags.data).is_file():
            raise UserError(
                f"{option}: a data set can't be gone on from; leave --data out, so that it is played"
            )


def temperatures(flags: Flags) -> list[float]:
    """Those of the study; UserError for what is none."""
    found = []
    for word in split_list(flags.temperatures):
        try:
            value = float(word)
        except ValueError:
            value = -1.0
        if not 0 <= value <= HOTTEST:
            raise UserError(
                f"--temperatures {flags.temperatures}: {word!r} is no number from 0 to {HOTTEST:g}"
            )
        found.append(value)
    return found


def _listed(steps: list[int]) -> str:
    shown = ", ".join(str(step) for step in steps[-5:])
    return f"there {'is' if len(steps) == 1 else 'are'} {'…, ' if len(steps) > 5 else ''}{shown}"
