"""Several seeds of one run in one program: their agents are one vmapped agent, everything else is each its own."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dreamworld import parallel
from dreamworld.contract import Phase
from dreamworld.logging.metrics import Metrics
from dreamworld.training.learner import Learner
from dreamworld.training.loop import Loop
from dreamworld.training.run import NumericalStop, Run, SaveFailed
from dreamworld.training.seed_view import Part
from dreamworld.training.stops import Stop, raise_first
from dreamworld.types import Array, Output, TimeStep, Tree

PARALLEL_ENGINES = (
    "process",
    "atari",
)  # wait for others without holding Python's lock, and draw nothing here


class SeedMetrics(Metrics):
    """Averages of one seed; what is summed on the device for all seeds comes in when it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.fetch: Callable[[], None] = lambda: None

    def add_sums(self, sums: dict[str, float], count: int) -> None:
        """Adds sums over `count` updates."""
        for name, value in sums.items():
            self._host[name] = self._host.get(name, 0.0) + value
            self._counts[name] = self._counts.get(name, 0) + count

    def result(self) -> dict[str, float]:
        """Means since the last call; waits for the device."""
        self.fetch()
        return super().result()

    def state(self) -> dict[str, np.ndarray]:
        """Everything as arrays, as `Metrics.state`."""
        self.fetch()
        return super().state()


class _Sums:
    """Metrics [S] of all seeds, summed on the device as one array: one dispatch an update."""

    def __init__(self, targets: list[Any]):
        self._targets = targets
        self._sums: Tree = None
        self._names: tuple[str, ...] = ()
        self._count = 0
        for target in targets:
            target.fetch = self._fetch

    def add(self, metrics: dict[str, Any]) -> None:
        """Adds those of one update, by the names under which they are logged."""
        if tuple(metrics) != self._names:
            self._fetch()
            self._names = tuple(metrics)
        self._sums = _accumulate(self._sums, list(metrics.values()))
        self._count += 1

    def _fetch(self) -> None:
        if self._count == 0:
            return
        columns = np.asarray(self._sums, np.float64).T
        for target, column in zip(self._targets, columns):
            target.add_sums(dict(zip(self._names, column.tolist())), self._count)
        self._sums, self._count = None, 0


@jax.jit
def _accumulate(sums: Tree, values: list[Any]) -> Tree:
    stacked = jnp.stack([value.astype(jnp.float32) for value in values])
    return stacked if sums is None else sums + stacked


class Lockstep:
    """Runs the loops of several seeds together: one `act` and one `update` for all, the rest each its own."""

    def __init__(self, learner: Learner, loops: list[Loop], executor: Executor | None = None):
        self.learner, self.loops, self._executor = learner, loops, executor
        self._sums = _Sums([loop.metrics for loop in loops])
        for loop in loops:
            loop.ready = self._ready
            loop.watch = loops[0].watch  # one program for all
            loop.schedule.sweep = self._sweep_updates

    @contextlib.contextmanager
    def phases(self, name: str) -> Iterator[None]:
        """Time that all seeds spend together."""
        with contextlib.ExitStack() as stack:
            for loop in self.loops:
                stack.enter_context(loop.timed(name) if name == "update" else loop.phases(name))
            yield

    def run(self, stop: Stop) -> None:
        """Trains; a checkpoint of every seed is complete when this returns, also by NumericalStop."""
        for loop in self.loops:
            loop.stop = stop
        self._each(lambda loop: loop.begin())
        while not self.loops[0].finished and not stop.requested:
            previous = self.loops[0].counters.step
            self.iterate()
            self._each(lambda loop, previous=previous: loop.attend(previous))
        self._each(lambda loop: loop.end())

    def iterate(self) -> None:
        """One row of every environment of every seed, and the updates owed for it."""
        loops = self.loops
        acts = loops[0].schedule.collects and loops[0].schedule.stage.collect == "policy"
        action, entries = self._choose() if acts else ({}, {})
        for phase, count in self._owed():
            for _ in range(count):
                self._learn(phase)
        if not loops[0].schedule.collects:
            for loop in loops:
                loop.counters.step += 1
                loop.next_stage()
            return
        with self.phases("act"):
            chosen = {key: np.asarray(value) for key, value in action.items()}

        def advance(index: int) -> Exception | None:
            try:
                if acts:
                    own = {key: value[index] for key, value in chosen.items()}
                    loops[index].advance(own, {key: Part(value, index) for key, value in entries.items()})
                else:
                    loops[index].advance(*loops[index].choose())
            except Exception as error:  # raised once all seeds are at the same step: only so can they go on
                return error
            return None

        run = self._executor.map if self._executor else map
        raise_first(list(run(advance, range(len(loops)))))
        for loop in loops:
            loop.next_stage()

    def _sweep_updates(self, phase: Phase) -> int:
        """Those of the seed that has the most windows: all go through it together."""
        return max(loop.sweep_updates(phase) for loop in self.loops)

    def _choose(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Actions and entries of all seeds."""
        step = stack_steps([loop.timestep for loop in self.loops if loop.timestep is not None])
        with self.phases("act"):
            return self.learner.act(step, self.loops[0].counters.iteration)

    def _owed(self) -> Iterator[tuple[Phase, int]]:
        """Updates due now of each phase; seeds that lost rows to damage go along."""
        due = [
            {phase.name: count for phase, count in loop.schedule.owed(loop.is_ready)} for loop in self.loops
        ]
        for phase in self.loops[0].schedule.stage.phases:
            if count := max(each.get(phase.name, 0) for each in due):
                yield phase, count

    def _learn(self, phase: Phase) -> None:
        asked = time.perf_counter()
        with self.phases("sample"):
            drawn = [loop.draw(phase) for loop in self.loops]
        got = time.perf_counter()
        with self.phases("update"):
            batches = [item.batch for item in drawn if item is not None]
            batch = parallel.join(batches, self.learner.layout) if batches else None
            output = self.learner.update(batch, phase.name)
            self.loops[0].watch.dispatched(output.metrics["loss/total"], asked, got)
            self._sums.add(self.loops[0].named(phase.name, output.metrics))
        for index, (loop, item) in enumerate(zip(self.loops, drawn)):
            writeback = {key: Part(value, index) for key, value in output.writeback.items()}
            priorities: Array | None = None if output.priorities is None else Part(output.priorities, index)
            loop.learned(phase, item, Output({}, writeback, priorities, {}))

    def _ready(self) -> bool:
        return all(loop.pipeline.ready for loop in self.loops)

    def _each(self, call: Callable[[Run], None]) -> None:
        """Calls for every seed, also when one fails; after a numerical stop all are saved before it is raised."""
        stopped: NumericalStop | SaveFailed | None = None
        for loop in self.loops:
            try:
                call(loop)
            except (NumericalStop, SaveFailed) as error:
                stopped = stopped or error
                loop.write_status("failed", error=str(error))
        if stopped is None:
            return
        if isinstance(stopped, NumericalStop):
            for loop in self.loops:
                loop.save_at_failure()
        raise stopped


def stack_steps(steps: list[TimeStep]) -> TimeStep:
    """Rows [S, N, ...] of S seeds."""
    stack = lambda key: np.stack([getattr(step, key) for step in steps])
    obs = {key: np.stack([step.obs[key] for step in steps]) for key in steps[0].obs}
    return TimeStep(obs, stack("reward"), stack("is_first"), stack("is_last"), stack("is_terminal"))
