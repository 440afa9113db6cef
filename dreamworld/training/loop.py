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

from dreamworld.contract import Phase
from dreamworld.errors import UserError
from dreamworld.replay.pipeline import Pipeline, Prefetched
from dreamworld.replay.replay import Replay
from dreamworld.training import saving
from dreamworld.training.run import Run
from dreamworld.training.stops import Stop
from dreamworld.types import FLAGS, Output, TimeStep


@dataclasses.dataclass(kw_only=True)
class Loop(Run):
    """One run. `run` trains until `config.run.steps`, or until a stop is requested."""

    replay: Replay
    pipeline: Pipeline
    ready: Callable[[], bool] | None = None  # whether updates may begin; default: once replay is ready

    def __post_init__(self) -> None:
        super().__post_init__()
        self.timestep: TimeStep | None = None

    def run(self, stop: Stop) -> None:
        """Trains; a checkpoint is complete when this returns."""
        self.stop = stop
        self.begin()
        while not self.finished and not self.team.any_before(stop.requested):
            previous = self.counters.step
            self.iterate()
            self.attend(previous)
        self.end()

    def begin(self) -> None:
        """The first episodes begin, unless environments went on from a checkpoint."""
        if self.timestep is None:
            self.observe(self.env.reset(self.env_seed()))
        super().begin()

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

    def choose(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Actions for the current rows, and what to store with them: of random ones, zeros."""
        assert self.timestep is not None
        if self.schedule.stage.collect == "random":
            return self.random_action(), self.replay.layout.no_latents(self.env.num_envs)
        with self.timed("act"):
            return self.learner.act(self.timestep, self.counters.iteration)

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
            self.observe(self.env.step(action))

    # --- the parts ---------------------------------------------------------------------------------------

    def observe(self, step: TimeStep) -> None:
        """Takes the rows that just arrived."""
        self.timestep = step
        for event in step.events:
            self.progress.message(event)
        self.write_episodes([(self.counters.step, row) for row in self.episodes.add(step)])

    def env_seed(self) -> int:
        """Seed of the episodes that begin now: another one at each resume that had to start new episodes."""
        base = self.config.env.seed if self.config.env.seed >= 0 else self.config.seed
        entropy = [base, self.counters.iteration] + [self.team.index] * (not self.team.leads)
        return int(np.random.SeedSequence(entropy).generate_state(1)[0])

    def random_action(self) -> dict[str, np.ndarray]:
        """Uniformly random actions: a function of the seed and the iteration alone."""
        random = np.random.default_rng([self.config.seed, self.counters.iteration, self.team.index])
        num = self.env.num_envs
        return {key: space.sample(random, num) for key, space in sorted(self.env.act_space.items())}

    def is_ready(self) -> bool:
        """Whether replay, of all processes, has enough rows for updates."""
        return self.ready() if self.ready else self.team.all(self.pipeline.ready)

    def draw(self, phase: Phase) -> Prefetched | None:
        """The next batch of a phase; None for one that reads none. UserError where replay holds no such window."""
        window = phase.window
        if window is None:
            return None
        batch, index = self.team.share(window.batch), self.counters.account(phase.name).updates
        try:
            return self.pipeline.draw(phase.name, window, batch, index)
        except LookupError as error:
            stage = self.schedule.stage.name
            what = "give a shorter --run.batch_length" if self.config.data else "collect more rows before it"
            raise UserError(f"stage {stage!r}, phase {phase.name!r}: {error}; {what}") from None

    def learned(self, phase: Phase, drawn: Prefetched | None, output: Output) -> None:
        """Hands on what an update returned."""
        if drawn is not None and phase.window is not None:
            rows = drawn.rows[:, phase.window.context :]
            if output.writeback:
                self.pipeline.write_back(rows, output.writeback)
            if output.priorities is not None and self.replay.sampler.tree is not None:
                self.pipeline.update_priorities(rows, output.priorities)
        self.add_metrics(phase.name, output.metrics)
        self.counters.did(phase.name)

    def next_stage(self) -> None:
        """Goes on to the next stage where this one is over; a policy that takes over has seen nothing yet."""
        if self.change_stage():
            self.learner.reset_acting()

    def sweep_updates(self, phase: Phase) -> int:
        """Updates in which a phase sees every row once, those of all processes: one with fewer begins again."""
        self.pipeline.drain()
        assert phase.window is not None
        window, batch = phase.window, self.team.share(phase.window.batch)
        return self.team.most(self.replay.sweep_updates(batch, window.length, window.context))

    def replay_stats(self) -> dict[str, float]:
        """Sizes and counts, which do not depend on how far replay's thread is."""
        self.pipeline.drain()
        return self.replay.stats()

    def replay_problems(self) -> list[str]:
        """What replay lost since the last call."""
        return self.replay.take_problems()

    def save(self, block: bool = False) -> None:
        """Snapshots agent, counters, environments, statistics and replay, as `Run.save`."""
        saving.save(self, block)

    def restore(self, step: int | None = None) -> list[str]:
        """Goes on from the newest intact checkpoint, or that of `step`; returns what replay had to leave out."""
        return saving.restore(self, step)


def make_rows(step: TimeStep, action: dict[str, np.ndarray], entries: dict[str, Any]) -> dict[str, Any]:
    """Flat replay rows [N, ...]; `entries` may still be on the device."""
    rows: dict[str, Any] = {f"obs/{key}": value for key, value in step.obs.items()}
    rows |= {f"action/{key}": value for key, value in action.items()}
    rows |= {key: getattr(step, key) for key in FLAGS}
    return rows | entries


def mask(value: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Zeros where not keep [N]."""
    return np.where(keep.reshape((-1,) + (1,) * (value.ndim - 1)), value, np.zeros((), value.dtype))
