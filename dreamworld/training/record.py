"""What a run writes while it trains: log rows, episodes, reports, evaluations and its status."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from dreamworld import words
from dreamworld.config import Config
from dreamworld.dream import report_context
from dreamworld.logging.metrics import EpisodeStats, Metrics
from dreamworld.logging.pictures import REPORTS
from dreamworld.logging.progress import Progress
from dreamworld.logging.rundir import RunDir
from dreamworld.logging.writers import Logger
from dreamworld.training.callbacks import Callbacks
from dreamworld.training.checkpoint import Checkpointer
from dreamworld.training.counters import Counters
from dreamworld.training.hosts import Team
from dreamworld.training.stops import Stop
from dreamworld.training.timing import Moment, Phases, UpdateWatch, describe_compiling, rates
from dreamworld.types import VectorEnv

ASSESSMENTS = "assessments of the world model"


@dataclasses.dataclass(kw_only=True)
class Record:
    """A run directory and all that is said of a training; `Run` adds when, and what is saved."""

    config: Config
    learner: Any  # a Learner, what one seed sees of it, or their fused forms
    env: VectorEnv
    rundir: RunDir
    logger: Logger
    checkpointer: Checkpointer
    progress: Progress
    evaluate: Callable[[int], float | None] | None = None  # step -> mean return, logged; None: stopped
    assess: Callable[[int], dict[str, float]] | None = None  # step -> what to log of its world model
    team: Team = dataclasses.field(default_factory=Team)  # processes that train this agent together
    counters: Counters = dataclasses.field(default_factory=Counters)
    metrics: Metrics = dataclasses.field(default_factory=Metrics)
    watch: UpdateWatch = dataclasses.field(default_factory=UpdateWatch)
    peak_flops: float | None = None  # per second, of all devices; None: not known
    callbacks: Callbacks = dataclasses.field(default_factory=Callbacks)
    group: tuple[int, ...] = ()  # the seeds that are saved together, if this is one of several

    def __post_init__(self) -> None:
        self.episodes = EpisodeStats(self.env.num_envs)
        self.score: float | None = None  # of the last evaluation
        self.stop: Stop | None = None  # of the session
        self.phases = Phases()
        self._ended: list[dict[str, float]] = []  # episodes of which `on_episode` does not know yet
        self._compiled: set[str] = set()
        self._began = time.monotonic()
        self._mark = self._now()

    def replay_stats(self) -> dict[str, float]:
        """Sizes and counts of replay, for the log."""
        raise NotImplementedError

    def replay_problems(self) -> list[str]:
        """What replay lost since the last call."""
        return []

    @property
    def frames(self) -> int:
        """Steps of the environment so far, action repeat included."""
        return self.counters.step * self.config.frames_per_step

    def named(self, phase: str, metrics: dict[str, Any]) -> dict[str, Any]:
        """Metrics of a phase by the names that they have in the log: where there are several, those of each apart."""
        several = len(self.learner.agent.phases) > 1
        name = lambda key: key if "/" in key else f"train/{key}"
        return {f"{phase}/{key}" if several else name(key): value for key, value in metrics.items()}

    def add_metrics(self, phase: str, metrics: dict[str, Any]) -> None:
        """Takes the metrics of an update, or means over some, into the averages of the next log row."""
        self.metrics.add(self.named(phase, metrics))

    def write_row(self) -> dict[str, float]:
        """Writes and returns averages since the last log row; waits for the device."""
        counters = self.counters
        values = self.metrics.result()
        values |= {f"replay/{key}": value for key, value in self.replay_stats().items()}
        values |= self._speed() | {"time/seconds": counters.seconds}
        self.logger.scalars(counters.step, counters.updates, self.frames, values)
        self.write_status("running", fps=values["fps/env"])
        problems = [self.checkpointer.poll(), *self.replay_problems(), *self.logger.take_problems()]
        for problem in filter(None, problems):
            self.progress.message(problem)
        return values

    def write_episodes(self, rows: Sequence[tuple[int, dict[str, float]]]) -> None:
        """Writes ended episodes, (step, row of `EpisodeStats`) each."""
        frames = self.config.frames_per_step
        self.logger.episodes([(step, step * frames, row) for step, row in rows])
        if "on_episode" in self.callbacks:  # called later: threads of several seeds may be here
            counts = lambda step: {"seed": self.config.seed, "step": step, "frames": step * frames}
            self._ended += [counts(step) | row for step, row in rows]

    def _now(self) -> Moment:
        counters, watch = self.counters, self.watch
        now, idle_s = watch.look()
        return Moment(
            now,
            counters.step,
            counters.updates,
            watch.updates,
            idle_s,
            watch.starved_s,
            dict(self.phases.seconds),
        )

    def _speed(self) -> dict[str, float]:
        """Rates and shares of wall time since the last log row."""
        before, self._mark = self._mark, self._now()
        return rates(
            before, self._mark, self.config.frames_per_step, self.learner.update_flops, self.peak_flops
        )

    def report(self) -> None:
        """Open-loop predictions as pictures; training goes on where they can't be made."""
        if not self.team.leads or not self.logger.problems.goes(REPORTS):
            return
        with self.logger.problems.attempt(REPORTS):
            if report := self.learner.report(self.counters.step):
                length = next(iter(report.values())).shape[1]
                self.logger.report(self.counters.step, report, report_context(length))

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

    def run_assessment(self) -> None:
        """Judges the world model on held-out segments, for the next log row; training goes on where that fails."""
        if self.assess is None or not self.logger.problems.goes(ASSESSMENTS):
            return
        text = f"judging the world model ({words.count(self.config.assess.segments, 'segment')})"
        with self.pause("assess", "assessment", text), self.logger.problems.attempt(ASSESSMENTS):
            self.metrics.add(self.assess(self.counters.step))

    def write_status(self, state: str, fps: float | None = None, **fields: Any) -> None:
        """The heartbeat that `dreamworld status` reads; `fps` None where no speed was measured yet."""
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
