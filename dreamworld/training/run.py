"""What the host loop and the fused loop have in common: what happens every so many steps, stopping, and saving."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from typing import Any

from dreamworld.contract import Phase
from dreamworld.fields import Fields
from dreamworld.logging.rundir import RunDir
from dreamworld.presets import dump_yaml
from dreamworld.reading import BlockedFile, PathLike
from dreamworld.training import saved, snapshot
from dreamworld.training.checkpoint import Restored
from dreamworld.training.counters import Counters
from dreamworld.training.failures import save_bad_batch
from dreamworld.training.guard import Failure, GuardState, inspect
from dreamworld.training.record import Record
from dreamworld.training.schedule import Schedule, find_stage
from dreamworld.types import Tree


class NumericalStop(RuntimeError):
    """Training can't go on: updates are not finite. A checkpoint of the last finite state is complete."""


class SaveFailed(OSError):
    """The last save of a session failed. The text says why, and what there is to go on from."""


def describe_newest(step: int | None) -> str:
    """What a run whose last save failed can go on from."""
    return "There is no checkpoint" if step is None else f"The newest checkpoint is that of step {step:,}"


@dataclasses.dataclass(kw_only=True)
class Run(Record):
    """A training in a run directory. Subclasses step, learn, and know what to save."""

    def __post_init__(self) -> None:
        super().__post_init__()
        stages, offline = self.learner.agent.stages, bool(self.config.data)
        self.schedule = Schedule(stages, self.counters, self.sweep_updates, offline=offline)

    # --- what subclasses do ------------------------------------------------------------------------------

    def save(self, block: bool = False) -> None:
        """Snapshots everything that the run changes, at this point of the logical clock.

        If saving fails, the run prints the reason and tries again at the next save; with `block` it raises SaveFailed.
        """
        raise NotImplementedError

    def sweep_updates(self, phase: Phase) -> int:
        """Updates in which a phase sees every row once."""
        raise NotImplementedError

    # --- a session ---------------------------------------------------------------------------------------

    @property
    def finished(self) -> bool:
        """Whether all steps are done, or all stages."""
        return self.counters.step >= self.config.run.steps or self.schedule.finished

    @property
    def stopping(self) -> bool:
        """Whether a stop was asked for."""
        return self.stop is not None and self.stop.requested

    def begin(self) -> None:
        """Starts the session's clock, and makes up for an evaluation that a stop interrupted."""
        counters = self.counters
        self._began = time.monotonic() - counters.seconds
        self._mark = self._now()
        run, every = self.config.run, self.config.eval.every if self.evaluate else 0
        look = self.config.assess.every if self.assess else 0
        self.progress.speed.expect(
            {"evaluation": every, "assessment": look, "report": run.report_every, "save": run.save_every}
        )
        if counters.evaluation_due:
            counters.evaluation_due = 0
            self.run_evaluation()
            if self.score is not None and not counters.evaluation_due:  # as where nothing interrupted it
                self.checkpointer.add_score(counters.step, self.score)

    def end(self) -> None:
        """After the last iteration of a session: a complete checkpoint."""
        # A run that is stopped keeps its averages for the log row that is due after it goes on.
        if self.finished and self.counters.step > self._mark.step:
            self.log()
        self.save(block=True)
        self.call_back()
        self.watch.close()

    def passed_multiple(self, previous: int, every: float) -> bool:
        """Whether a multiple of a period was passed since the step `previous`; of 0 there is none."""
        return every > 0 and self.counters.step // every > previous // every

    def change_stage(self) -> bool:
        """Goes on to the next stage where this one is over; whether a policy takes over that has seen nothing yet."""
        before = self.schedule.stage.collect
        return self.schedule.advance() and (before, self.schedule.stage.collect) == ("random", "policy")

    def attend(self, previous: int) -> None:
        """Logs, reports, evaluates and saves when a multiple of their period was passed since `previous`."""
        run, step = self.config.run, self.counters.step
        self.counters.seconds = time.monotonic() - self._began
        due = lambda every: self.passed_multiple(previous, every)
        self.progress.update(step, self.counters.updates, self.episodes.last, self.episodes.mean)
        self.call_back()
        if self.assess and due(self.config.assess.every):
            self.run_assessment()
        if due(run.log_every):
            self.log()
        if due(run.report_every):
            with self.pause("report", "report"):
                self.report()
        if self.evaluate and due(self.config.eval.every):
            self.run_evaluation()
        if due(run.save_every):
            with self.pause("save", "save"):
                self.save()

    def log(self) -> None:
        """A log row; here, and only here, a run waits for the device."""
        with self.phases("log"):
            values, counters = self.write_row(), self.counters
        counts = {"step": counters.step, "frames": self.frames, "updates": counters.updates}
        self._call("on_log", {"seed": self.config.seed} | counts | values)
        self.check()

    def call_back(self) -> None:
        """Shows callbacks the episodes that ended and the checkpoints that became complete, in this thread."""
        ended, self._ended = self._ended, []
        for row in ended:
            self._call("on_episode", row)
        for step in self.checkpointer.take_complete():
            self._call("on_checkpoint", self.rundir.checkpoints / str(step), step)

    def _call(self, name: str, *args: object) -> None:
        if name in self.callbacks:
            with self.phases("callbacks"):
                self.callbacks.call(name, *args, tell=self.progress.message, stop=self._stop_for)

    def _stop_for(self, reason: str) -> None:
        """Ends the session as a signal does; where everything is done already, there is nothing to stop."""
        if self.stop is not None and not self.finished:
            self.stop.request(reason)

    def check(self) -> None:
        """Says what the numerical guard caught and keeps the batch; raises NumericalStop once updates are frozen."""
        caught: GuardState | None = self.learner.caught
        if caught is None or (report := inspect(caught)) is None:
            return
        if report.frozen:
            self.save_at_failure()
        text = self.keep(report, caught) if self.team.leads and caught.batch is not None else report.text
        if report.frozen:
            raise NumericalStop(text)
        if self.team.leads:
            self.progress.message(text)
        self.learner.release()

    def keep(self, report: Failure, caught: GuardState) -> str:
        """Writes the batch that the guard caught under `failures/`; the text of the report and of where it is."""
        good, phase = self.checkpointer.last_good(), self.learner.caught_phase
        if away := self.rundir.away():
            return f"{report.text}. The batch could not be kept: {away}"
        try:
            folder = save_bad_batch(self.rundir.path / "failures", caught, report, good, phase)
        except OSError as error:
            return f"{report.text}. The batch could not be kept: {error}"
        return f"{report.text}. Kept in {folder}: dreamworld debug {self.rundir}"

    # --- saving ------------------------------------------------------------------------------------------

    def save_at_failure(self) -> None:
        """The last save of a session that ends for another reason: that it failed is said."""
        try:
            self.save(block=True)
            self.call_back()
        except SaveFailed as error:
            self.progress.message(str(error))

    def save_failed(self, problem: str, block: bool) -> None:
        """Says that nothing was saved, or raises SaveFailed where this was the last time."""
        text = f"SAVE FAILED at step {self.counters.step:,}: {problem}"
        if block:
            newest = describe_newest(self._newest())
            raise SaveFailed(f"{text}. {newest}; once this is mended, the same command goes on from there.")
        self.progress.message(f"{text}. Training goes on; tried again later.")

    def _newest(self) -> int | None:
        """The step of the newest checkpoint, also in a directory that was moved; None for none."""
        if not self.rundir.away():
            return self.checkpointer.last_good()
        place = self.rundir.now()
        with contextlib.suppress(BlockedFile):
            return max(snapshot.snapshot_steps(RunDir(place).checkpoints), default=None) if place else None
        return None

    def keep_files(self) -> None:
        """Makes again what somebody removed while the run goes on, where its directory is in its place."""
        if not self.team.leads or self.rundir.away():
            return
        with self.logger.told(str(self.rundir.config)):
            self.rundir.keep_config(self.config)
        with self.logger.told(str(self.rundir.path / ".lock")):
            self.rundir.keep_lock()

    def commit(self, tree: Tree, host: dict[str, Any], meta: dict[str, Any], block: bool) -> None:
        """Hands a snapshot to the checkpointer: device arrays, host arrays, and what is JSON, beside what all have."""
        host = {
            "counters": self.counters.state(),
            "metrics": self.metrics.state(),
            "episodes": self.episodes.state(),
        } | host
        common = {"config": dump_yaml(self.config), "processes": self.team.count, "stages": self._stage_names}
        meta = common | meta
        meta |= {"group": list(self.group)} if self.group else {}
        self.checkpointer.save(self.counters.step, tree, host, meta, score=self.score, block=block)
        if block and (problem := self.checkpointer.take_problem()):
            self.save_failed(problem, block)

    def check_counts(self, restored: Restored, file: PathLike) -> Fields:
        """Raises BadFile where the counts of a snapshot, read from a file, are not those of such a run.

        UserError where the run is in a stage that this agent has not.
        """
        step, stages = restored.meta["step"], self._stages_of(restored.meta)
        found = saved.check_counts(restored.host, file, self.env.num_envs, step, len(stages))
        find_stage(int(found.fields("counters").get("stage", 0)), stages, self._stage_names)
        return found

    @property
    def _stage_names(self) -> list[str]:
        return [stage.name for stage in self.learner.agent.stages]

    def _stages_of(self, meta: dict[str, Any]) -> list[str]:
        """The names of the stages that the agent of a snapshot had. Before they were kept, those of this one."""
        file = self.saved_in(meta) / snapshot.COMMIT
        return Fields(meta, file, "meta").items("stages", str, default=self._stage_names)

    def saved_in(self, meta: dict[str, Any]) -> Any:
        """The folder of a snapshot."""
        return self.checkpointer.directory / str(meta["step"])

    def restore_counts(self, host: dict[str, Any], meta: dict[str, Any]) -> list[str]:
        """Takes counters and averages from a checkpoint; returns what is to be said of them."""
        self.counters = self.schedule.counters = Counters.of(host["counters"], self.learner.agent.phase.name)
        self.counters.stage = find_stage(self.counters.stage, self._stages_of(meta), self._stage_names)
        self.metrics.restore(host["metrics"])
        iteration_steps = self.env.num_envs * self.team.count
        notes = []
        for phase in self.schedule.stage.phases:
            account = self.counters.account(phase.name)
            if phase.at_most is not None and account.updates >= phase.at_most:
                continue
            notes += account.settle(self.counters.step, phase.ratio, phase.rows, iteration_steps)
        return notes
