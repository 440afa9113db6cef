"""The training loop: act, store, learn. Knows the contracts; no agent and no environment by name.

One iteration dispatches the actions first and the updates that are owed after them, so that environments step
while the device learns. What is random or scheduled depends on counts only: equal seeds give equal runs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dreamworld import words
from dreamworld.config import Config
from dreamworld.contract import Phase, Window
from dreamworld.dream import report_context
from dreamworld.errors import UserError
from dreamworld.fields import Fields
from dreamworld.logging.metrics import EpisodeStats, Metrics
from dreamworld.logging.obstacles import obstacle
from dreamworld.logging.pictures import REPORTS
from dreamworld.logging.progress import Progress
from dreamworld.logging.rundir import RunDir
from dreamworld.logging.writers import Logger
from dreamworld.presets import dump_yaml
from dreamworld.replay.pipeline import Pipeline, Prefetched
from dreamworld.replay.replay import Replay
from dreamworld.text import printable
from dreamworld.training import saved, tensors
from dreamworld.training.checkpoint import Checkpointer, Restored
from dreamworld.training.counters import Counters
from dreamworld.training.failures import save_bad_batch
from dreamworld.training.guard import Failure, GuardState
from dreamworld.training.hosts import Team
from dreamworld.training.learner import Learner
from dreamworld.training.schedule import Schedule
from dreamworld.training.snapshot import COMMIT
from dreamworld.training.stops import Stop
from dreamworld.training.timing import Moment, Phases, UpdateWatch, describe_compiling, rates
from dreamworld.types import FLAGS, Output, TimeStep, VectorEnv


class SaveFailed(OSError):
    """The last save of a session failed. The text says why, and what there is to go on from."""


def describe_newest(step: int | None) -> str:
    """What a run whose last save failed can go on from."""
    return "There is no checkpoint" if step is None else f"The newest checkpoint is that of step {step:,}"


class NumericalStop(RuntimeError):
    """Training can't go on: updates are not finite. A checkpoint of the last finite state is complete."""


@dataclasses.dataclass
class Loop:
    """One run. `run` trains until `config.run.steps`, or until a stop is requested."""

    config: Config
    learner: Learner
    env: VectorEnv
    replay: Replay
    pipeline: Pipeline
    rundir: RunDir
    logger: Logger
    checkpointer: Checkpointer
    progress: Progress
    evaluate: Callable[[int], float | None] | None = (
        None  # step -> mean return (None: stopped), logged by itself
    )
    team: Team = dataclasses.field(default_factory=Team)  # processes that train this agent together
    ready: Callable[[], bool] | None = None  # whether updates may begin; default: once replay is ready
    counters: Counters = dataclasses.field(default_factory=Counters)
    metrics: Metrics = dataclasses.field(default_factory=Metrics)
    watch: UpdateWatch = dataclasses.field(default_factory=UpdateWatch)
    peak_flops: float | None = None  # per second, of all devices; None: not known
    group: tuple[int, ...] = ()  # the seeds that are saved together, if this is one of several

    def __post_init__(self) -> None:
        self.schedule = Schedule(
            self.learner.agent.stages, self.counters, self.sweep_updates, offline=bool(self.config.data)
        )
        self.episodes = EpisodeStats(self.env.num_envs)
        self.timestep: TimeStep | None = None
        self.score: float | None = None
        self.stop: Stop | None = None  # of the session
        self.phases = Phases()
        self._compiled: set[str] = set()
        self._began = time.monotonic()
        self._mark = self._now()

    # --- training ----------------------------------------------------------------------------------------

    def run(self, stop: Stop) -> None:
        """Trains; a checkpoint is complete when this returns."""
        self.stop = stop
        self.begin()
        while not self.finished and not self.team.any_before(stop.requested):
            previous = self.counters.step
            self.iterate()
            self.attend(previous)
        self.end()

    @property
    def finished(self) -> bool:
        """Whether all steps are done, or all stages."""
        return self.counters.step >= self.config.run.steps or self.schedule.finished

    def begin(self) -> None:
        """Starts the session's clock, and the first episodes unless environments went on from a checkpoint."""
        counters = self.counters
        if self.timestep is None:
            self.timestep = self.env.reset(self.env_seed())
            self._observe(self.timestep)
        self._began = time.monotonic() - counters.seconds
        self._mark = self._now()
        run, every = self.config.run, self.config.eval.every if self.evaluate else 0
        self.progress.speed.expect({"evaluation": every, "report": run.report_every, "save": run.save_every})
        if counters.evaluation_due:
            counters.evaluation_due = 0
            self.run_evaluation()
            if self.score is not None and not counters.evaluation_due:  # as where nothing interrupted it
                self.checkpointer.add_score(counters.step, self.score)

    @property
    def stopping(self) -> bool:
        """Whether a stop was asked for."""
        return self.stop is not None and self.stop.requested

    def end(self) -> None:
        """After the last iteration of a session: a complete checkpoint."""
        # A run that is stopped keeps its averages for the log row that is due after it goes on.
        if self.finished and self.counters.step > self._mark.step:
            self.log()
        self.save(block=True)
        self.watch.close()

    def iterate(self) -> None:
        """One row of every environment, and the updates owed for it; or one update where nothing is collected."""
        chosen = self.choose() if self.schedule.collects else None
        for phase, count in self.schedule.owed(self.is_ready):
            for _ in range(count):
                self.learn(phase)
        if chosen is not None:
            self.advance(*chosen)
        else:
            self.counters.step += 1
        self.next_stage()

    def next_stage(self) -> None:
        """Goes on to the next stage where this one is over; a policy that takes over has seen nothing yet."""
        before = self.schedule.stage.collect
        if self.schedule.advance() and (before, self.schedule.stage.collect) == ("random", "policy"):
            self.learner.reset_acting()

    def choose(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Actions for the current rows, and what to store with them: of random ones, latents that are zeros."""
        assert self.timestep is not None
        if self.schedule.stage.collect == "random":
            return self.random_action(), self.replay.layout.no_latents(self.env.num_envs)
        with self.timed("act"):
            action, entries = self.learner.act(self.timestep, self.counters.iteration)
        return action, entries

    def random_action(self) -> dict[str, np.ndarray]:
        """Uniformly random actions: a function of the seed and the iteration alone."""
        random = np.random.default_rng([self.config.seed, self.counters.iteration, self.team.index])
        num = self.env.num_envs
        return {key: space.sample(random, num) for key, space in sorted(self.env.act_space.items())}

    def advance(self, action: dict[str, Any], entries: dict[str, Any]) -> None:
        """Stores the current rows with the actions chosen for them, and steps the environments."""
        counters, step = self.counters, self.timestep
        assert step is not None
        with self.phases("act"):  # waits for the actions
            action = {key: mask(np.asarray(value), ~step.is_last) for key, value in action.items()}
        with self.phases("add"):
            self.pipeline.add(make_rows(step, action, entries))
        counters.iteration += 1
        counters.step += self.env.num_envs * self.team.count
        with self.phases("env"):
            self.timestep = self.env.step(action)
            self._observe(self.timestep)

    def is_ready(self) -> bool:
        """Whether replay, of all processes, has enough rows for updates."""
        return self.ready() if self.ready else self.team.all(self.pipeline.ready)

    def learn(self, phase: Phase) -> None:
        """One update on the oldest prefetched batch; its write-back is queued behind the draws made so far."""
        asked = time.perf_counter()
        with self.phases("sample"):
            drawn = self.draw(phase)
        got = time.perf_counter()
        # Of an update, its dispatch; what the device does meanwhile shows in no phase.
        with self.timed("update", phase.name):
            output = self.learner.update(drawn and drawn.batch, phase.name)
            self.watch.dispatched(output.metrics["loss/total"], asked, got)
            self.learned(phase, drawn, output)

    def draw(self, phase: Phase) -> Prefetched | None:
        """The next batch of a phase; None for one that reads none. UserError where replay holds no such window."""
        if phase.window is None:
            return None
        try:
            return self._draw(phase, phase.window)
        except LookupError as error:
            stage = self.schedule.stage.name
            raise UserError(
                f"stage {stage!r}, phase {phase.name!r}: {error}; collect more rows before it"
            ) from None

    def _draw(self, phase: Phase, window: Window) -> Prefetched:
        batch, length, replay = self.team.share(window.batch), window.context + window.length, self.replay
        if window.order == "sweep":
            index = self.counters.account(phase.name).updates
            take = lambda: replay.sweep(batch, window.length, window.context, index)
            return self.pipeline.next(phase.name, take, ahead=False)
        if window.align == "episode":
            return self.pipeline.next(phase.name, lambda: replay.sample_episodes(batch, length))
        if length < replay.length:
            return self.pipeline.next(phase.name, lambda: replay.sample_part(batch, length))
        return self.pipeline.next(phase.name, lambda: replay.sample(batch))

    def sweep_updates(self, phase: Phase) -> int:
        """Updates of a sweep."""
        self.pipeline.drain()
        assert phase.window is not None
        window = phase.window
        return self.replay.sweep_updates(self.team.share(window.batch), window.length, window.context)

    def learned(self, phase: Phase, drawn: Prefetched | None, output: Output) -> None:
        """Hands on what an update returned."""
        if drawn is not None and phase.window is not None:
            rows = drawn.rows[:, phase.window.context :]
            self.pipeline.write_back(rows, output.writeback)
            if output.priorities is not None and self.config.replay.prioritized:
                self.pipeline.update_priorities(rows, output.priorities)
        self.metrics.add(
            {key if "/" in key else f"train/{key}": value for key, value in output.metrics.items()}
        )
        self.counters.did(phase.name)

    def _observe(self, step: TimeStep) -> None:
        """Statistics of the rows that just arrived."""
        for event in step.events:
            self.progress.message(event)
        counters = self.counters
        for row in self.episodes.add(step):
            self.logger.episode(counters.step, counters.step * self.config.frames_per_step, row)

    # --- what happens every so many steps ----------------------------------------------------------------

    def attend(self, previous: int) -> None:
        """Logs, reports, evaluates and saves when a multiple of their period was passed since `previous`."""
        run, step = self.config.run, self.counters.step
        self.counters.seconds = time.monotonic() - self._began
        due = lambda every: every > 0 and step // every > previous // every
        self.progress.update(step, self.counters.updates, self.episodes.last, self.episodes.mean)
        if due(run.log_every):
            with self.phases("log"):
                self.log()
        if due(run.report_every):
            with self.pause("report", "report"):
                self.report()
        if self.evaluate and due(self.config.eval.every):
            self.run_evaluation()
        if due(run.save_every):
            with self.pause("save", "save"):
                self.save()

    @contextlib.contextmanager
    def pause(self, phase: str, name: str, text: str = "") -> Iterator[None]:
        """A phase in which nothing is trained."""
        with self.phases(phase), self.progress.pause(name, text):
            yield

    @contextlib.contextmanager
    def timed(self, phase: str, program: str = "") -> Iterator[None]:
        """A phase that calls a compiled program; the first call compiles it, which is said of what takes long."""
        program = program or phase
        if program in self._compiled:
            with self.phases(phase):
                yield
            return
        self._compiled.add(program)
        text = describe_compiling(self.config.agent.width, bool(self.config.run.compile_cache))
        with self.pause("compile", "compile", text if phase == "update" else ""):
            yield
        self.progress.speed.restart()  # before the first update a step is less work

    def run_evaluation(self) -> None:
        """Plays on environments of its own; what a stop interrupts comes at the begin of the next session."""
        if self.evaluate is None:
            return
        episodes = self.config.eval.episodes
        text = f"evaluating ({words.count(episodes, 'episode')})"
        with self.pause("eval", "evaluation", text):
            score = self.evaluate(self.counters.step)
        self.counters.evaluation_due = int(score is None)
        self.score = self.score if score is None else score

    def log(self) -> None:
        """Writes averages since the last log row; here, and only here, the loop waits for metrics."""
        self.pipeline.drain()  # what replay counts must not depend on how far its thread is
        counters = self.counters
        values = self.metrics.result()
        values |= {f"replay/{key}": value for key, value in self.replay.stats().items()}
        values |= self._speed() | {"time/seconds": counters.seconds}
        self.logger.scalars(
            counters.step, counters.updates, counters.step * self.config.frames_per_step, values
        )
        self.write_status("running", fps=values["fps/env"])
        problems = [self.checkpointer.poll(), *self.replay.take_problems(), *self.logger.take_problems()]
        for problem in filter(None, problems):
            self.progress.message(problem)
        self.check()

    def _now(self) -> Moment:
        counters, watch = self.counters, self.watch
        return Moment(
            time.monotonic(),
            counters.step,
            counters.updates,
            watch.updates,
            watch.idle_s,
            watch.starved_s,
            dict(self.phases.seconds),
        )

    def _speed(self) -> dict[str, float]:
        """Rates and shares of wall time since the last log row."""
        before, self._mark = self._mark, self._now()
        return rates(
            before, self._mark, self.config.frames_per_step, self.learner.update_flops, self.peak_flops
        )

    def check(self) -> None:
        """Says what the numerical guard caught and keeps the batch; raises NumericalStop once updates are frozen."""
        report, caught = self.learner.check(), self.learner.caught
        if report is None or caught is None:
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
        try:
            folder = save_bad_batch(self.rundir.path / "failures", caught, report, good, phase)
        except OSError as error:
            return f"{report.text}. The batch could not be kept: {error}"
        return f"{report.text}. Kept in {folder}: dreamworld debug {self.rundir}"

    def report(self) -> None:
        """Open-loop predictions as pictures; training goes on where they can't be made."""
        if not self.team.leads or not self.logger.problems.goes(REPORTS):
            return
        with self.logger.problems.attempt(REPORTS):
            if report := self.learner.report(self.counters.step):
                length = next(iter(report.values())).shape[1]
                self.logger.report(self.counters.step, report, report_context(length))

    def write_status(self, state: str, fps: float = 0.0, **fields: Any) -> None:
        """The heartbeat that `dreamworld status` reads."""
        if not self.team.leads or self.rundir.away():
            return
        left = max(0.0, self.config.run.steps - self.counters.step) * self.config.frames_per_step
        row = {
            "task": self.config.task,
            "seed": self.config.seed,
            "step": self.counters.step,
            "steps": int(self.config.run.steps),
            "updates": self.counters.updates,
            "fps": fps,
            "eta_s": left / fps + self.progress.speed.pauses_s if fps else None,
            "return": self.episodes.mean,
        }
        with self.logger.told(str(self.rundir.status)):
            self.rundir.write_status(state, **row, **fields)

    # --- stopping and going on ---------------------------------------------------------------------------

    def env_seed(self) -> int:
        """Seed of the episodes that begin now: another one at each resume that had to start new episodes."""
        base = self.config.env.seed if self.config.env.seed >= 0 else self.config.seed
        entropy = [base, self.counters.iteration] + [self.team.index] * (not self.team.leads)
        return int(np.random.SeedSequence(entropy).generate_state(1)[0])

    def save(self, block: bool = False) -> None:
        """Snapshots agent, counters, environments, statistics and replay at this point of the logical clock.

        A disk that fails is shouted about and tried again at the next save; with `block` it raises SaveFailed.
        """
        self.pipeline.drain()
        self.keep_files()
        manifest, problem = self._save_replay()
        if self.team.any(manifest is None):
            self.save_failed(problem or "the replay of another process was not saved", block)
            return
        host = {
            "counters": self.counters.state(),
            "metrics": self.metrics.state(),
            "episodes": self.episodes.state(),
            "act": self.learner.acting_state(),
            "env": self.env.save() or {},
            "pending": self.pipeline.pending(),
        }
        meta = {
            "replay": manifest,
            "config": dump_yaml(self.config),
            "processes": self.team.count,
        } | ({"group": list(self.group)} if self.group else {})
        self.checkpointer.save(
            self.counters.step, self.learner.snapshot(), host, meta, score=self.score, block=block
        )
        if block and self.checkpointer.problem:
            self.save_failed(self.checkpointer.problem, block)

    def _save_replay(self) -> tuple[dict[str, Any] | None, str]:
        """The manifest; or None and what went wrong."""
        if away := self.rundir.away():
            return None, away
        if why := obstacle(self.replay_folder, folder=True):
            return None, f"{self.replay_folder} {why}"
        try:
            return self.replay.save(self.replay_folder), ""
        except OSError as error:
            return None, str(error)

    def save_at_failure(self) -> None:
        """The last save of a session that ends for another reason: that it failed is said."""
        try:
            self.save(block=True)
        except SaveFailed as error:
            self.progress.message(str(error))

    def save_failed(self, problem: str, block: bool) -> None:
        """Says that nothing was saved, or raises SaveFailed where this was the last time."""
        text = f"SAVE FAILED at step {self.counters.step:,}: {problem}"
        if block:
            newest = describe_newest(self.checkpointer.last_good())
            raise SaveFailed(f"{text}. {newest}; once this is mended, the same command goes on from there.")
        self.progress.message(f"{text}. Training goes on; tried again later.")

    def keep_files(self) -> None:
        """Makes again what somebody removed while the run goes on, where its directory is in its place."""
        if not self.team.leads or self.rundir.away():
            return
        with self.logger.told(str(self.rundir.config)):
            self.rundir.keep_config(self.config)
        with self.logger.told(str(self.rundir.path / ".lock")):
            self.rundir.keep_lock()

    @property
    def replay_folder(self) -> Path:
        """Where the replay of this process lies."""
        return self.replay.directory or self.rundir.replay

    def restore(self, step: int | None = None) -> list[str]:
        """Goes on from the newest intact checkpoint, or that of `step`; returns what replay had to leave out.

        With another number of processes than before, process 0 goes on as ever and the others collect anew.
        """
        agent, host, meta, self.score = self.checkpointer.restore(
            step,
            lambda stored: tensors.as_stored(self.learner.snapshot(), stored, "carry"),
            check=self.check_saved,
        )
        self.learner.load(tensors.fresh_where_other(agent, self.learner.snapshot()))
        notes = self.restore_counts(host)
        resized = meta.get("processes", 1) != self.team.count
        if resized:
            self.counters.wait_again()
            if not self.team.leads:
                self.learner.reset_acting()
                return []
        self.episodes.restore(host["episodes"])
        problems = self.replay.load(self.replay_folder, meta["replay"], self._saved_in(meta) / COMMIT)
        if not self.replay.ready:  # damage took its rows: collect again before the next update
            self.counters.wait_again()
        if not resized:
            self.pipeline.restore_pending(self._pending_of(host["pending"]))
        return notes + problems + self._restore_env(host)

    def check_saved(self, restored: Restored) -> None:
        """Raises BadFile where a snapshot's host part is not one that this run can go on from; changes nothing."""
        folder = self._saved_in(restored.meta)
        meta = Fields(restored.meta, folder / COMMIT, "meta")
        resized = meta.integer("processes", 1, default=1) != self.team.count
        host_file = folder / f"host_{0 if resized else self.team.index}" / "tree.json"
        host = saved.check_counts(restored.host, host_file, self.env.num_envs, restored.meta["step"])
        if not resized or self.team.leads:
            saved.check_session(host, self.learner.acting_state(), self.replay.layout.spaces)
            self.replay.check(self.replay_folder, meta.get("replay"), folder / COMMIT)

    def _saved_in(self, meta: dict[str, Any]) -> Any:
        return self.checkpointer.directory / str(meta["step"])

    def _restore_env(self, host: dict[str, Any]) -> list[str]:
        """Environments go on where they were; new episodes begin where their state was not saved or is none."""
        notes = []
        if host["env"]:
            try:
                self.timestep = self.env.restore(host["env"])
                self.learner.load_acting(host["act"])
                return []
            except UserError:
                raise
            except Exception as error:  # an environment's own code, on a state that anybody may have written
                self.timestep = None
                cause = f"{type(error).__name__}: {printable(error):.200}"
                notes = [f"the environments can't take their saved state ({cause}); new episodes begin"]
        self.learner.reset_acting()
        return notes

    def restore_counts(self, host: dict[str, Any]) -> list[str]:
        """Takes counters and averages from a checkpoint; returns what is to be said of them."""
        self.counters = self.schedule.counters = Counters.of(host["counters"], self.learner.agent.phase.name)
        self.metrics.restore(host["metrics"])
        iteration_steps = self.env.num_envs * self.team.count
        notes = []
        for phase in self.schedule.stage.phases:
            account = self.counters.account(phase.name)
            if phase.at_most is not None and account.updates >= phase.at_most:
                continue
            notes += account.settle(self.counters.step, phase.ratio, phase.rows, iteration_steps)
        return notes

    def _pending_of(self, stored: Any) -> dict[str, list[dict[str, np.ndarray]]]:
        """Batches that were drawn before a restart, those that this session's phases can take. 0.1 had a list."""
        phases = {phase.name: phase for phase in self.learner.agent.phases}
        stored = stored if isinstance(stored, dict) else {self.learner.agent.phase.name: stored}
        return {
            name: [self._known(rows) for rows in batches if self._fits(phases[name], rows)]
            for name, batches in stored.items()
            if name in phases
        }

    def _known(self, rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """A batch without what earlier versions had in it."""
        return {key: value for key, value in rows.items() if key == "row" or key in self.replay.layout.spaces}

    def _fits(self, phase: Phase, rows: dict[str, np.ndarray]) -> bool:
        """Whether a batch that was drawn before a restart has the shape of this session's batches."""
        window = phase.window
        if window is None:
            return False
        return rows["row"].shape == (self.team.share(window.batch), window.context + window.length)


def make_rows(step: TimeStep, action: dict[str, np.ndarray], entries: dict[str, Any]) -> dict[str, Any]:
    """Flat replay rows [N, ...]; `entries` may still be on the device."""
    rows: dict[str, Any] = {f"obs/{key}": value for key, value in step.obs.items()}
    rows |= {f"action/{key}": value for key, value in action.items()}
    rows |= {key: getattr(step, key) for key in FLAGS}
    return rows | entries


def mask(value: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Zeros where not keep [N]."""
    return np.where(keep.reshape((-1,) + (1,) * (value.ndim - 1)), value, np.zeros((), value.dtype))
