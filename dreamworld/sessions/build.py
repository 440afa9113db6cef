"""The one way from a job to loops that can run: everything is checked, then folders are held, then loops are made.

Trainings on the host, on data sets and on the device differ in their `Kind` alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

from dreamworld import words
from dreamworld.config import Config
from dreamworld.errors import UserError
from dreamworld.logging.progress import Progress
from dreamworld.sessions import beginning, pieces, preflight
from dreamworld.sessions.assessor import check_assessable, make_assessor
from dreamworld.sessions.beginning import Beginning
from dreamworld.sessions.evaluator import make_evaluator, make_player
from dreamworld.sessions.fused import Fused
from dreamworld.sessions.host import Host
from dreamworld.sessions.initialise import initialise_from
from dreamworld.sessions.job import Job
from dreamworld.sessions.offline import Offline
from dreamworld.sessions.several import SeedProgress, keeper
from dreamworld.training import snapshot
from dreamworld.training.fused_loop import FusedLoop
from dreamworld.training.group import Meeting, find_meeting, set_aside
from dreamworld.training.loop import Loop
from dreamworld.training.stops import Stop
from dreamworld.types import Spaces

# Where rows come from and which program learns. The methods are called in the order in which they stand there.
Kind = Host | Fused


class Runner(Protocol):
    """A loop, or those of several seeds in lockstep."""

    def run(self, stop: Stop) -> None:
        """Trains; a checkpoint of every seed is complete when this returns."""
        ...


class Session(NamedTuple):
    """A training that can run."""

    job: Job
    loops: list[Loop] | list[FusedLoop]  # of each seed
    runner: Runner
    progress: Progress
    devices: list[Any]
    memory: str  # of replay, in words


def kind_of(config: Config) -> type[Kind]:
    """The kind of training that the options ask for."""
    if config.data:
        return Offline
    return Fused if config.run.mode == "fused" else Host


@contextlib.contextmanager
def opened(job: Job, progress: Progress | None = None) -> Iterator[Session]:
    """A training whose folders are held, at the point where it goes on or begins.

    Raises UserError for what is wrong with it before anything is written. `progress` is made where none is given.
    """
    config, kind = job.config, kind_of(job.config)(job)
    with contextlib.ExitStack() as stack:
        for rundir in job.rundirs:
            if rundir.exists():  # a new one is held (see `RunDir.claim`) once everything is accepted
                stack.enter_context(job.team.lock(rundir))
        devices = pieces.setup_jax(config)
        layout = kind.layout(devices)
        goes_on, meeting = find_start(job)
        obs_space, act_space = kind.open(goes_on, stack)
        agent = pieces.build_agent(config, obs_space, act_space)
        preflight.check_team(agent, job.team)
        preflight.check_phases(agent, layout)
        memory = kind.fit(agent)
        preflight.check(config, agent)
        check_assessable(config, agent)
        kind.learn(agent, layout)
        begun = claim(job, (obs_space, act_space), goes_on, meeting, stack)
        show, frames = config.run.progress and job.team.leads, config.frames_per_step
        progress = progress or stack.enter_context(
            Progress(config.run.steps, frames_per_step=frames, show=show)
        )
        loops = make_loops(job, kind, progress, stack)
        if goes_on:
            resume(kind, loops, begun, meeting.step)
        else:
            start(job, kind, loops, begun, progress)
        add_evaluations(job, loops, stack)
        add_assessments(job, loops)
        add_callbacks(job, loops)
        yield Session(job, loops, kind.runner(loops, stack), progress, devices, memory)


def find_start(job: Job) -> tuple[bool, Meeting]:
    """Whether the training goes on from a checkpoint, and where its seeds meet.

    UserError where a folder holds another run, and where seeds can't go on together.
    """
    for rundir, config in zip(job.rundirs, job.configs):
        if job.team.leads:
            rundir.admit(config)
        elif rundir.exists():
            rundir.check(config)
    if not job.together:
        return bool(snapshot.snapshot_steps(job.rundirs[0].checkpoints)), Meeting(None, [])
    meeting = find_meeting(job.rundirs, job.config.run.save_every, job.seeds)
    return meeting.step is not None, meeting


def claim(
    job: Job, spaces: tuple[Spaces, Spaces], goes_on: bool, meeting: Meeting, stack: contextlib.ExitStack
) -> list[Beginning]:
    """Creates and holds the folders of an accepted training; what each run begins with, kept in those of new ones."""
    for rundir, config in zip(job.rundirs, job.configs):
        stack.enter_context(job.team.claim(rundir, config))
    begun = []
    if job.team.leads:
        begun = beginning.accept(job.rundirs, job.configs, job.source, spaces)
    for run in begun if not goes_on else ():
        run.keep()
    set_aside(job.rundirs, meeting)
    job.team.wait("run directory")
    return begun


def make_loops(job: Job, kind: Kind, progress: Progress, stack: contextlib.ExitStack) -> list[Any]:
    """The loop of each seed, as new."""
    loops, also_keep = [], keeper(job) if job.together else tuple
    for index in range(len(job.rundirs)):
        voice: Any = progress
        if job.together:
            voice = SeedProgress(progress, f"seed {job.seeds[index]}", shown=index == 0)
        loops.append(kind.loop(index, voice, stack, also_keep))
    return loops


def resume(kind: Kind, loops: list[Any], begun: list[Beginning], step: int | None) -> None:
    """Restores the loops, cuts their log files there, and says so.

    A run keeps what this session changes once its checkpoint is accepted: one that is refused can go on as it was.
    """
    problems = [restore(loop, step) for loop in loops]
    kind.join()
    for run in begun:
        run.keep()
    tell(loops, begun)
    for loop, found in zip(loops, problems):
        follow(loop, found)


def restore(loop: Loop | FusedLoop, step: int | None = None) -> list[str]:
    """Restores a loop, of exactly `step` where one is given; returns what replay had to leave out."""
    problems = loop.restore(step)
    if step is not None and loop.counters.step != step:
        raise UserError(f"{loop.rundir}: checkpoint {step} can't be read, the other seeds have it")
    return problems


def follow(loop: Loop | FusedLoop, problems: list[str]) -> None:
    """Cuts the log files of a restored loop at its step, and says what restoring told."""
    loop.logger.begin(loop.counters.step)
    updates = words.count(loop.counters.updates, "update")
    for line in [*problems, f"continued at step {loop.counters.step:,} ({updates})"]:
        loop.progress.message(line)


def tell(loops: list[Any], begun: list[Beginning]) -> None:
    """Says what a run begins with that people should know."""
    for loop, run in zip(loops, begun):
        for note in run.notes:
            loop.progress.message(note)


def start(job: Job, kind: Kind, loops: list[Any], begun: list[Beginning], progress: Progress) -> None:
    """Begins log files, and takes rows and parameters that a new training starts with."""
    tell(loops, begun)
    for loop in loops:
        loop.logger.begin(0)
    if init_from := job.config.init_from:
        for loop, view in zip(loops, kind.views):
            kind.take(view, initialise_from(init_from, loop.learner.agent, view.state))
        kind.join()
        progress.message(f"parameters taken from {init_from}")
    if told := kind.fill(loops):
        progress.message(told)


def add_evaluations(job: Job, loops: list[Any], stack: contextlib.ExitStack) -> None:
    """Gives the loops their evaluations, which one player plays for all seeds."""
    if job.config.eval.every and job.team.leads:
        player = make_player(loops[0])
        for loop in loops:
            loop.evaluate = make_evaluator(loop, job.source, stack, player)


def add_assessments(job: Job, loops: list[Any]) -> None:
    """Gives the loops what looks at their world models."""
    if job.config.assess.every and job.team.leads:
        for loop in loops:
            loop.assess = make_assessor(loop, job.source)


def add_callbacks(job: Job, loops: list[Any]) -> None:
    """Gives the loops the functions of the user, in the process that owns the run directory."""
    if job.team.leads:
        for loop in loops:
            loop.callbacks = job.callbacks
