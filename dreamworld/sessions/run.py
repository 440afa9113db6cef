"""Runs a session that was built, and says how it ended: exit code, status of each seed, learning curves."""

from __future__ import annotations

from collections.abc import Sequence

from dreamworld import words
from dreamworld.envs.vector import EnvFailure
from dreamworld.exits import Exit
from dreamworld.logging.progress import Progress
from dreamworld.sessions import ending, learning
from dreamworld.sessions.announce import announce
from dreamworld.sessions.build import Runner, Session
from dreamworld.training.run import NumericalStop, Run, SaveFailed
from dreamworld.training.stops import Stop


def run(session: Session) -> int:
    """Says what is trained, and trains; returns the exit code."""
    job, loops, progress = session.job, session.loops, session.progress
    if job.team.leads:
        announce(session)
    if job.together:
        progress.message(
            f"{words.count(len(loops), 'seed')} in one program: {', '.join(map(str, job.rundirs))}"
        )
    if job.team.leads:
        tell_idle(loops[0], progress)
    mark(loops, "starting")
    with Stop(job.config.run.grace_s, unwind=False) as stop:
        return run_to_end(session.runner, loops, progress, stop)


def tell_idle(loop: Run, progress: Progress) -> None:
    """Says of a training that would end without an update why that is so."""
    agent, envs = loop.learner.agent, loop.env.num_envs
    reason = learning.why_nothing_is_trained(loop.config, agent, envs, loop.team.count)
    if reason and (loop.config.data or not loop.counters.updates):
        progress.message(reason)


def run_to_end(runner: Runner, loops: Sequence[Run], progress: Progress, stop: Stop) -> int:
    """Trains, and says how it ended; returns the exit code."""
    try:
        runner.run(stop)
    except NumericalStop as error:
        return end_numerically(error, loops, progress)
    except EnvFailure as error:
        return end_by_failure(error, loops, progress)
    except SaveFailed as error:
        return end_unsaved(error, loops, progress)
    except Exception as error:
        mark(loops, "failed", f"{type(error).__name__}: {error}".splitlines()[0])
        raise
    progress.close()
    for loop in loops:
        if loop.group:
            loop.checkpointer.tidy()  # what was kept for a seed that had not saved yet
    mark(loops, "preempted" if stop.requested else "finished")
    return end_stopped(stop, loops, progress) if stop.requested else end_finished(loops, progress)


def mark(loops: Sequence[Run], state: str, error: str = "") -> None:
    """Writes the status of each seed."""
    for loop in loops:
        if error:
            loop.write_status(state, error=error)
        else:
            loop.write_status(state)


def end_numerically(error: NumericalStop, loops: Sequence[Run], progress: Progress) -> int:
    """Says that updates are not finite, and what can be done."""
    mark([loop for loop in loops if loop.rundir.read_status().get("state") != "failed"], "failed", str(error))
    progress.message(str(error))
    progress.message(
        f"stopped with exit code {Exit.NUMERICAL:d}; the last finite state is saved at step "
        f"{loops[0].counters.step:,}. Mend the cause, or go on with --run.nan_policy skip --run.nan_limit N."
    )
    return int(Exit.NUMERICAL)


def end_by_failure(error: EnvFailure, loops: Sequence[Run], progress: Progress) -> int:
    """Saves the runs whose environments failed too often, and says so."""
    text, *trace = str(error).splitlines()
    for loop in loops:
        loop.save_at_failure()
    mark(loops, "failed", text)
    for line in [text, *trace]:  # of the environment, where it raised
        progress.message(line)
    progress.message(
        f"stopped with exit code {Exit.FAILURE:d}; saved at step {loops[0].counters.step:,}. Mend the environment, or "
        "allow more with --env.max_failures; the same command continues with new episodes."
    )
    return int(Exit.FAILURE)


def end_unsaved(error: SaveFailed, loops: Sequence[Run], progress: Progress) -> int:
    """Says that the last save failed."""
    progress.message(f"error: {error}")
    mark(loops, "failed", str(error))
    tell_problems(loops)
    return int(Exit.FAILURE)


def end_stopped(stop: Stop, loops: Sequence[Run], progress: Progress) -> int:
    """Says how a training that was asked to stop goes on."""
    tell_problems(loops)
    again = ending.how_to_continue([loop.rundir for loop in loops], [loop.config for loop in loops])
    progress.message(f"stopped by {stop.reason}; saved at step {loops[0].counters.step:,}. {again}")
    return int(Exit.PREEMPTED)


def end_finished(loops: Sequence[Run], progress: Progress) -> int:
    """Draws the learning curves, and says what may come next."""
    for loop in loops:
        if loop.team.leads:
            loop.logger.flush()
            loop.logger.pictures.learning_curve()
    tell_problems(loops)
    if loops[0].team.leads:
        for line in ending.finished_lines(loops):
            progress.message(line)
        if reason := learning.why_nothing_was_trained(loops[0]):
            progress.message(reason)
    return int(Exit.OK)


def tell_problems(loops: Sequence[Run]) -> None:
    """Says what could not be saved, written or drawn."""
    for loop in loops:
        for problem in filter(None, [loop.checkpointer.poll(), *loop.logger.take_problems()]):
            loop.progress.message(problem)
