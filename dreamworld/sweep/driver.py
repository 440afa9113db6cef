"""Runs a sweep to its end: starts, judges, retries, stops, reports."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from dreamworld import streams, system, words
from dreamworld.errors import UserError
from dreamworld.exits import Exit, stopping
from dreamworld.sweep import cost
from dreamworld.sweep.launch import Launcher, make_launcher, process
from dreamworld.sweep.plan import Job, check_tasks, expand
from dreamworld.sweep.spec import Spec
from dreamworld.sweep.state import (
    State,
    forget,
    is_finished,
    last_error,
    locked,
    progress_of,
    record,
    save_plan,
    state_of,
)
from dreamworld.sweep.status import rows
from dreamworld.sweep.table import print_plan, show

POLL_S = 0.2
SHOWN = 40  # runs of a table at the end
CRASHES = (signal.SIGABRT, signal.SIGSEGV, signal.SIGFPE, signal.SIGILL)  # of a process's own making
Say = Callable[[str], None]


@dataclasses.dataclass
class Outcome:
    """How a sweep went."""

    finished: list[str] = dataclasses.field(default_factory=list)
    failed: dict[str, str] = dataclasses.field(default_factory=dict)  # run -> why
    left: list[str] = dataclasses.field(default_factory=list)  # stopped or still queued elsewhere


class SweepStop:
    """Turns Ctrl-C, SIGTERM and SIGHUP into a request; the second Ctrl-C raises KeyboardInterrupt."""

    def __init__(self) -> None:
        self.requested = False

    def _handle(self, number: int, frame: object) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True

    @contextlib.contextmanager
    def installed(self) -> Iterator[SweepStop]:
        """Installs the handlers; the old ones are back afterwards."""
        before = {number: signal.signal(number, self._handle) for number in stopping()}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class Driver:
    """Keeps a launcher busy with runs, and retries those that fail."""

    def __init__(self, spec: Spec, launcher: Launcher, say: Say):
        self.spec, self.launcher, self.say = spec, launcher, say
        self.outcome = Outcome()
        self._furthest: dict[str, int] = {}
        self._failures: dict[str, int] = {}
        self._recorded = True

    def run(self, jobs: Sequence[Job], stop: SweepStop) -> Outcome:
        """Runs `jobs` to their ends, or until `stop` is requested."""
        waiting, running = deque(jobs), set()
        try:
            while (waiting or running) and not stop.requested:
                while waiting and len(running) < self.launcher.limit:
                    job = waiting.popleft()
                    if self._start(job):
                        running.add(job.name)
                for job, code in self.launcher.poll():
                    running.discard(job.name)
                    if self._judge(job, code):
                        waiting.append(job)
                if self.launcher.detached and not waiting:
                    break
                time.sleep(POLL_S)
            if stop.requested:
                self._stop(self.spec.grace_s)
        except BaseException:
            self._stop(0)
            raise
        self.outcome.left += [job.name for job in waiting] + sorted(running)
        return self.outcome

    def _start(self, job: Job) -> bool:
        """Whether it could be started; a run that can't be is one that failed."""
        self._furthest.setdefault(job.name, progress_of(job))
        self._record("start", job, failures=self._failures.get(job.name, 0))
        again = " again" if self._failures.get(job.name) else ""
        self.say(f"start{again}: {job.name}")
        try:
            self.launcher.start(job)
        except OSError as error:
            self._record("failed", job, error=str(error))
            self.outcome.failed[job.name] = f"can't be started: {error}"
            self.say(f"failed: {job.name}: can't be started: {error}")
            return False
        return True

    def _record(self, event: str, job: Job, **fields: Any) -> None:
        """Records an event; a disk that does not take it is told once, and the sweep goes on."""
        try:
            record(self.spec.folder, event, job, **fields)
            self._recorded = True
        except OSError as error:
            if self._recorded:
                self.say(f"NOT WRITTEN: events of the sweep: {error}. The sweep goes on.")
            self._recorded = False

    def _judge(self, job: Job, code: int) -> bool:
        """Records how a run ended; returns whether it goes back in line."""
        if code == 0 and is_finished(job):
            self._record("finished", job)
            self.outcome.finished.append(job.name)
            self.say(f"finished: {job.name}")
            return False
        steps = progress_of(job)
        if steps > self._furthest[job.name]:
            self._furthest[job.name], self._failures[job.name] = steps, 0
        self._failures[job.name] = self._failures.get(job.name, 0) + 1
        error = last_error(job) if speaks(code) else ""
        why = process.describe_exit(code) + (f": {error}" if error else "")
        final = code == Exit.USAGE or self._failures[job.name] > self.spec.retries
        self._record("failed" if final else "broke", job, code=code, step=steps, error=error)
        if final:
            self.outcome.failed[job.name] = why
            self.say(f"failed: {job.name}: {why}; log: {job.logdir / 'log.txt'}")
        else:
            self.say(f"broke off at step {steps:,}: {job.name}: {why}; will be continued")
        return not final

    def _stop(self, grace_s: float) -> None:
        self.say("stopping: runs save and end" if grace_s else "stopping at once")
        self.launcher.stop(grace_s)


def speaks(code: int) -> bool:
    """Whether a run that ended so has said why: not one that was stopped, killed or lost in the middle of its work."""
    return (code > 0 and code != Exit.PREEMPTED) or -code in CRASHES


def sweep(spec: Spec, *, command: Sequence[str] = (), say: Say = print) -> int:
    """Runs a sweep, or continues it; returns 0, 1 where runs failed, 75 where it was stopped.

    `command` is what trains one run (its arguments are appended), by default `dreamworld train` of this
    installation. UserError, before anything is written, for what does not fit.
    """
    with streams.guarded("stdout", "stderr"):
        return _sweep(spec, tuple(command), say)


def _sweep(spec: Spec, command: tuple[str, ...], say: Say) -> int:
    jobs = expand(spec)
    states: dict[str, State] = {job.name: state_of(job) for job in jobs}
    unfinished = [job for job in jobs if states[job.name] != "finished"]
    if not command:  # another command may train on tasks that ours does not know
        command = process.train_command()
        check_tasks(unfinished)
    if spec.dry_run:
        return dry_run(spec, jobs, states, command, say)
    system.require_posix("sweep", "start the trainings one by one")
    if not unfinished:
        print_plan(spec, jobs, dict.fromkeys([job.name for job in jobs], "finished"))
        say("nothing left to train")
        write_report(spec, say)
        return 0
    is_new = not spec.folder.exists()
    with contextlib.closing(make_launcher(spec, len(unfinished), command)) as launcher, locked(spec.folder):
        try:
            return _run(spec, jobs, launcher, say)
        except UserError:  # SLURM did not take the first runs
            if is_new:
                forget(spec.folder)
            raise


def _run(spec: Spec, jobs: list[Job], launcher: Launcher, say: Say) -> int:
    """Runs what is not finished; the caller holds the sweep's directory."""
    states: dict[str, State] = {job.name: state_of(job) for job in jobs}
    elsewhere = queued_elsewhere(spec, jobs)
    try:
        save_plan(spec.folder, spec.name, jobs)
    except OSError as error:
        say(f"NOT WRITTEN: the plan of the sweep: {error}. The sweep goes on.")
    print_plan(spec, jobs, states)
    say(f"launcher: {launcher.about}")
    say(f"cost: {cost.describe(cost.estimate(spec, jobs, states), launcher.slots)}")
    if elsewhere:
        say(f"in SLURM's queue already: {words.count(len(elsewhere), 'run')}")
    todo = [job for job in jobs if states[job.name] != "finished" and job.name not in elsewhere]
    with SweepStop().installed() as stop:
        outcome = Driver(spec, launcher, say).run(todo, stop)
    outcome.left += sorted(elsewhere)
    return conclude(spec, outcome, stop, say)


def queued_elsewhere(spec: Spec, jobs: list[Job]) -> set[str]:
    """Runs that an earlier call left in a queue."""
    if spec.launcher != "slurm":
        return set()
    from dreamworld.sweep.launch import slurm

    return slurm.still_queued(spec, jobs)


def dry_run(
    spec: Spec, jobs: list[Job], states: Mapping[str, State], command: Sequence[str], say: Say
) -> int:
    """Prints the plan and its cost; for slurm the scripts, too. Writes nothing."""
    todo = [job for job in jobs if states[job.name] != "finished"]
    slots, text = max(1, spec.workers), ""
    if spec.launcher == "slurm":
        from dreamworld.sweep.launch import slurm

        text = slurm.scripts(spec, todo, tuple(command)) if todo else ""
    elif spec.launcher == "local":
        from dreamworld.sweep.launch import local

        pool = local.make(spec, len(jobs), tuple(command))
        slots, text = pool.slots, f"launcher: {pool.about}"
    print_plan(spec, jobs, states)
    if text:
        say(text)
    say(f"cost: {cost.describe(cost.estimate(spec, jobs, states), slots)}")
    return 0


def conclude(spec: Spec, outcome: Outcome, stop: SweepStop, say: Say) -> int:
    """Says how it went, writes the report, and returns the exit code."""
    for name, why in outcome.failed.items():
        say(f"failed: {name}: {why}")
    if outcome.left:
        follow = f"follow: dreamworld status {spec.folder} --watch; the same command continues"
        say(f"not finished: {words.count(len(outcome.left), 'run')}; {follow}")
    write_report(spec, say)
    if stop.requested:
        return Exit.PREEMPTED
    return 1 if outcome.failed else 0


def show_table(spec: Spec) -> None:
    """Prints the state of the runs, of many those that are not finished; nothing where no run has begun."""
    with contextlib.suppress(UserError):
        show(rows(spec.folder), SHOWN)


def write_report(spec: Spec, say: Say) -> None:
    """The table of the runs, and the report over all of them, finished or not; a line where there is none yet."""
    from dreamworld.stats.analysis import Options
    from dreamworld.stats.report import print_tables, report

    options = Options(baseline=spec.baseline == "published")
    show_table(spec)
    try:
        analysis, page = report([str(spec.folder)], title=spec.name, options=options)
        print_tables(analysis)
    except UserError as error:
        say(f"no report yet: {error}")
    except Exception as error:  # the runs are what counts: a report can be made again
        say(
            f"NOT WRITTEN: the report: {type(error).__name__}: {error}; again: dreamworld report {spec.folder}"
        )
    else:
        say(f"report: {page}")
