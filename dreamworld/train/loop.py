"""The training loop: act, store, learn. Knows the contracts; no agent and no environment by name.

One iteration dispatches the actions first and the updates that are owed after them, so that environments step
while the device learns. What is random or scheduled depends on counts only: equal seeds give equal runs.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from dreamworld.config import Config
from dreamworld.logging.metrics import EpisodeStats, Metrics
from dreamworld.logging.progress import Progress
from dreamworld.logging.rundir import RunDir
from dreamworld.logging.writers import Logger
from dreamworld.replay.pipeline import Pipeline
from dreamworld.replay.replay import Replay
from dreamworld.train.checkpoint import Checkpointer
from dreamworld.train.failures import save_bad_batch
from dreamworld.train.guard import release
from dreamworld.train.learner import Learner
from dreamworld.train.stops import Stop
from dreamworld.types import TimeStep, VectorEnv


class NumericalStop(RuntimeError):
    """Training can't go on: updates are not finite. A checkpoint of the last finite state is complete."""


@dataclasses.dataclass
class Counters:
    """How far the run is. Everything that is scheduled is a function of these."""

    step: int = 0  # agent steps: rows of all environments
    iteration: int = 0  # vector steps
    updates: int = 0
    first_update: int = -1  # step at which replay became ready; -1 before
    seconds: float = 0.0  # wall time of training, all sessions together


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
    frames_per_step: int
    evaluate: Callable[[int], float] | None = None  # step -> mean return, logged by itself
    counters: Counters = dataclasses.field(default_factory=Counters)
    metrics: Metrics = dataclasses.field(default_factory=Metrics)

    def __post_init__(self) -> None:
        self.episodes = EpisodeStats(self.env.num_envs)
        self.timestep: TimeStep | None = None
        self.score: float | None = None
        self._mark = (time.monotonic(), 0, 0, 0.0)

    # --- training ----------------------------------------------------------------------------------------

    def run(self, stop: Stop) -> None:
        """Trains; a checkpoint is complete when this returns."""
        run, counters = self.config.run, self.counters
        if self.timestep is None:
            self.timestep = self.env.reset(self.env_seed())
            self._observe(self.timestep)
        began, before = time.monotonic(), counters.seconds
        self._mark = (began, counters.step, counters.updates, self.pipeline.waited_s)
        while counters.step < run.steps and not stop.requested:
            previous = counters.step
            self.iterate()
            counters.seconds = before + time.monotonic() - began
            self.attend(previous)
        # A run that is stopped keeps its averages for the log row that is due after it goes on.
        if not stop.requested and counters.step > self._mark[1]:
            self.log()
        self.save(block=True)

    def iterate(self) -> None:
        """One row of every environment, and the updates owed for it."""
        counters, step = self.counters, self.timestep
        assert step is not None
        action, entries = self.learner.act(step, counters.iteration)
        for _ in range(self.owed()):
            self.learn()
        action = {key: mask(np.asarray(value), ~step.is_last) for key, value in action.items()}
        self.pipeline.add(make_rows(step, action, entries))
        counters.iteration += 1
        counters.step += self.env.num_envs
        self.timestep = self.env.step(action)
        self._observe(self.timestep)

    def owed(self) -> int:
        """Updates due: one when replay becomes ready, then train_ratio / (batch_size * batch_length) per agent step."""
        run, counters = self.config.run, self.counters
        if counters.first_update < 0:
            if not self.pipeline.ready:
                return 0
            counters.first_update = counters.step
        rows = (counters.step - counters.first_update) * run.train_ratio
        return int(rows // (run.batch_size * run.batch_length)) + 1 - counters.updates

    def learn(self) -> None:
        """One update on the oldest prefetched batch; its write-back is queued behind the draws made so far."""
        drawn = self.pipeline.next()
        output = self.learner.update(drawn.batch)
        rows = drawn.rows[:, self.config.run.replay_context :]
        self.pipeline.write_back(rows, output.writeback)
        if output.priorities is not None and self.config.replay.prioritized:
            self.pipeline.update_priorities(rows, output.priorities)
        self.metrics.add(
            {key if "/" in key else f"train/{key}": value for key, value in output.metrics.items()}
        )
        self.counters.updates += 1

    def _observe(self, step: TimeStep) -> None:
        """Statistics of the rows that just arrived."""
        for event in step.events:
            self.progress.message(event)
        counters = self.counters
        for row in self.episodes.add(step):
            self.logger.episode(counters.step, counters.step * self.frames_per_step, row)

    # --- what happens every so many steps ----------------------------------------------------------------

    def attend(self, previous: int) -> None:
        """Logs, reports, evaluates and saves when a multiple of their period was passed since `previous`."""
        run, step = self.config.run, self.counters.step
        due = lambda every: every > 0 and step // every > previous // every
        self.progress.update(step, self.counters.updates, self.episodes.last, self.episodes.mean)
        if due(run.log_every):
            self.log()
        if due(run.report_every):
            self.report()
        if self.evaluate and due(self.config.eval.every):
            self.score = self.evaluate(step)
        if due(run.save_every):
            self.save()

    def log(self) -> None:
        """Writes averages since the last log row; here, and only here, the loop waits for metrics."""
        self.pipeline.drain()  # what replay counts must not depend on how far its thread is
        counters = self.counters
        now, began = time.monotonic(), self._mark
        duration_s = max(now - began[0], 1e-9)
        waited_s = self.pipeline.waited_s
        values = self.metrics.result()
        values |= {f"replay/{key}": value for key, value in self.replay.stats().items()}
        values |= {
            "fps/env": (counters.step - began[1]) * self.frames_per_step / duration_s,
            "fps/updates": (counters.updates - began[2]) / duration_s,
            "time/replay_wait_fraction": (waited_s - began[3]) / duration_s,
            "time/seconds": counters.seconds,
        }
        self._mark = (now, counters.step, counters.updates, waited_s)
        self.logger.scalars(counters.step, counters.updates, counters.step * self.frames_per_step, values)
        self.write_status("running", fps=values["fps/env"])
        if problem := self.checkpointer.poll():
            self.progress.message(problem)
        self.check()

    def check(self) -> None:
        """Says what the numerical guard caught and keeps the batch; raises NumericalStop once updates are frozen."""
        report = self.learner.check()
        if report is None:
            return
        if report.frozen:
            self.save(block=True)
        folder = save_bad_batch(
            self.rundir.path / "failures", self.learner.guard, report, self.checkpointer.latest()
        )
        text = f"{report.text}. Kept in {folder}: dreamworld debug {self.rundir}"
        if report.frozen:
            raise NumericalStop(text)
        self.progress.message(text)
        self.learner.guard = release(self.learner.guard)

    def report(self) -> None:
        """Open-loop predictions as pictures."""
        if report := self.learner.report(self.counters.step):
            self.logger.report(self.counters.step, report, self.config.run.batch_length // 2)

    def write_status(self, state: str, fps: float = 0.0, **fields: Any) -> None:
        """The heartbeat that `dreamworld status` reads."""
        left = max(0.0, self.config.run.steps - self.counters.step) * self.frames_per_step
        self.rundir.write_status(
            state,
            task=self.config.task,
            seed=self.config.seed,
            step=self.counters.step,
            steps=int(self.config.run.steps),
            updates=self.counters.updates,
            fps=fps,
            eta_s=left / fps if fps else None,
            **{"return": self.episodes.mean},
            **fields,
        )

    # --- stopping and going on ---------------------------------------------------------------------------

    def env_seed(self) -> int:
        """Seed of the episodes that begin now: another one at each resume that had to start new episodes."""
        base = self.config.env.seed if self.config.env.seed >= 0 else self.config.seed
        return int(np.random.SeedSequence([base, self.counters.iteration]).generate_state(1)[0])

    def save(self, block: bool = False) -> None:
        """Snapshots agent, counters, environments, statistics and replay at this point of the logical clock.

        A disk that fails is shouted about and tried again at the next save; with `block` it ends the run.
        """
        self.pipeline.drain()
        try:
            manifest = self.replay.save(self.rundir.replay)
        except OSError as error:
            if block:
                raise
            self.progress.message(
                f"SAVE FAILED at step {self.counters.step:,}: {error}. Training goes on; tried again later."
            )
            return
        host = {
            "counters": dataclasses.asdict(self.counters),
            "metrics": self.metrics.state(),
            "episodes": self.episodes.state(),
            "env": self.env.save() or {},
            "pending": self.pipeline.pending(),
        }
        meta = {"replay": manifest, "config": self.rundir.config.read_text("utf-8")}
        self.checkpointer.save(
            self.counters.step, self.learner.snapshot(), host, meta, score=self.score, block=block
        )
        if block and self.checkpointer.problem:
            raise OSError(self.checkpointer.problem)

    def restore(self) -> list[str]:
        """Goes on from the newest intact checkpoint; returns what had to be left out of replay."""
        agent, host, meta = self.checkpointer.restore(None, self.learner.snapshot())
        self.learner.load(agent)
        self.counters = Counters(**{key: np.asarray(value).item() for key, value in host["counters"].items()})
        self.metrics.restore(host["metrics"])
        self.episodes.restore(host["episodes"])
        goes_on = bool(host["env"])
        problems = self.replay.load(self.rundir.replay, meta["replay"])
        self.pipeline.restore_pending(host["pending"])
        if goes_on:
            self.timestep = self.env.restore(host["env"])
        else:
            self.learner.reset_acting()
        return problems


def make_rows(step: TimeStep, action: dict[str, np.ndarray], entries: dict[str, Any]) -> dict[str, Any]:
    """Flat replay rows [N, ...]; `entries` may still be on the device."""
    rows: dict[str, Any] = {f"obs/{key}": value for key, value in step.obs.items()}
    rows |= {f"action/{key}": value for key, value in action.items()}
    rows |= {key: getattr(step, key) for key in ("reward", "is_first", "is_last", "is_terminal")}
    return rows | entries


def mask(value: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Zeros where not keep [N]."""
    return np.where(keep.reshape((-1,) + (1,) * (value.ndim - 1)), value, np.zeros((), value.dtype))
