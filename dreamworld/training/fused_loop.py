"""The loop around the fused program: the same schedule of logs, reports and checkpoints as the host loop."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax

from dreamworld import words
from dreamworld.contract import Phase
from dreamworld.errors import UserError
from dreamworld.replay import device
from dreamworld.training import guard, rounds, tensors
from dreamworld.training.checkpoint import Restored
from dreamworld.training.counters import describe_waiting
from dreamworld.training.fused import FusedState, Played, StepRows
from dreamworld.training.fused_learner import FusedLearner
from dreamworld.training.refusals import Refusals
from dreamworld.training.rounds import Round
from dreamworld.training.run import Run
from dreamworld.training.stops import Stop, raise_first

SHOWN = 5  # refused rows of a chunk that are described


@dataclasses.dataclass(kw_only=True)
class FusedLoop(Run):
    """One run whose iterations are chunks of the fused program."""

    refusals: Refusals

    def __post_init__(self) -> None:
        super().__post_init__()
        self.chunks = Chunks(self.learner, [self])
        self._let_go = 0  # rows of each environment that a smaller replay of an earlier session did not keep

    def run(self, stop: Stop) -> None:
        """Trains; a checkpoint is complete when this returns."""
        self.chunks.stop = self.stop = stop
        self.begin()
        while self.chunks.go_on:
            previous = self.counters.step
            self.chunks.iterate()
            self.attend(previous)
        self.end()

    def passed(self, played: Played, what: Round, times: int) -> None:
        """Counts what was played; without collection a step is an update."""
        counters, begun = self.counters, self.counters.step
        counters.iteration += len(played.rows.reward)
        counters.step += played.rows.reward.size if what.steps else times
        for name, updates in what.updates:
            account, phase = counters.account(name), self.learner.program.phase(name)
            if account.waiting and what.steps:
                account.open(begun, phase.ratio, phase.rows)
            counters.did(name, updates * times)
            self.add_metrics(name, played.metrics[name])

    def tell(self, rows: StepRows, step: int) -> None:
        """Writes the episodes that ended in rows, the first of which came at `step`."""
        # A first row that was refused is last, too: an episode that never began.
        ended = self.episodes.add_steps(rows.reward, rows.is_first, rows.is_last & ~rows.is_first)
        self.write_episodes([(step + t * self.env.num_envs, row) for t, row in ended])

    def look(self, rows: StepRows) -> Exception | None:
        """Says which rows were refused; the error that ends the run if there were too many in a row."""
        # `refused` is of the row that follows, which is the first of an episode where this one was last.
        events, error = self.refusals.look(rows.refused, rows.is_last)
        for event in events[:SHOWN]:
            self.progress.message(event)
        if len(events) > SHOWN:
            self.progress.message(f"and {len(events) - SHOWN} more since the last log row")
        return error

    def needs_state(self, previous: int) -> bool:
        """Whether the step reached since `previous` is one of a report, an evaluation and the like, or the end."""
        run = self.config.run
        periods = [run.report_every, run.save_every, self.config.eval.every if self.evaluate else 0]
        periods += [self.config.assess.every if self.assess else 0]
        return self.finished or any(self.passed_multiple(previous, every) for every in periods)

    def check(self) -> None:
        """Looks at the guard between two chunks: the next one is only running when nothing was caught."""
        if not self.learner.running:
            super().check()

    def replay_stats(self) -> dict[str, float]:
        """Rows inserted and rows kept; the replay on the device has a row for each vector step."""
        num_envs = self.env.num_envs
        return {
            "inserts": self.counters.iteration * num_envs,
            "size_steps": min(self.stored, self.learner.program.capacity) * num_envs,
        }

    @property
    def stored(self) -> int:
        """Rows that replay was given of each environment, less those that it had no place for when it was resized."""
        return self.counters.iteration - self._let_go

    def save(self, block: bool = False) -> None:
        """Snapshots the whole state, replay included, as arrays of the device."""
        self.keep_files()
        if away := self.rundir.away():
            self.save_failed(away, block)
            return
        self.commit(self.learner.snapshot(), {}, {}, block)

    def sweep_updates(self, phase: Phase) -> int:
        """None: the replay on the device has no order to sweep in, and `rounds.check` refused such an agent."""
        return 0

    def restore(self, step: int | None = None) -> list[str]:
        """Goes on from the newest intact checkpoint, or that of `step`, to the same bits.

        Replay may have had another capacity, as `run.steps` is one of its limits.
        """
        fresh: FusedState = self.learner.snapshot()
        tree, host, meta, self.score = self.checkpointer.restore(
            step, functools.partial(stored_like, fresh), check=self._check_saved
        )
        state = from_stored(tree, fresh)
        stored, capacity = state.replay.capacity, self.learner.program.capacity
        if stored != capacity:
            state = state._replace(replay=jax.jit(device.resize, static_argnums=1)(state.replay, capacity))
        self.learner.load(take_batch_size(state, fresh))
        notes = self.restore_counts(host, meta)
        self._let_go = self.counters.iteration - int(state.replay.count)
        self.episodes.restore(host["episodes"])
        length, least = self.learner.program.length, self.config.replay.min_starts
        windows = max(0, self.stored - length + 1) * self.env.num_envs
        if self.counters.updates and windows < least:
            notes.append(describe_waiting(windows, length, least))
        return notes

    def _check_saved(self, restored: Restored) -> None:
        """Raises BadFile where the counts are not those of such a run; everything else lies on the device."""
        host_file = self.saved_in(restored.meta) / "host_0" / "tree.json"
        self.check_counts(restored, host_file)


def stored_like(like: FusedState, stored: tensors.Table) -> dict[str, Any]:
    """`like`, by field, with the replay capacity and the batches of a checkpoint. 0.1 knew one phase only."""
    rows = stored.get("replay/rows/reward")
    capacity = rows[0][1] if rows and len(rows[0]) > 1 and rows[0][1] > 0 else like.replay.capacity
    shape = lambda leaf: (leaf.shape[0], capacity, *leaf.shape[2:])
    struct = lambda leaf: jax.ShapeDtypeStruct(shape(leaf), leaf.dtype, sharding=leaf.sharding)
    replay = like.replay._replace(rows=jax.tree.map(struct, like.replay.rows))
    tree: dict[str, Any] = like._replace(replay=replay)._asdict()
    if "guard/frozen" in stored:
        (name,) = list(like.guard)[-1:]
        tree |= {"guard": like.guard[name], "carry": like.carry[name]}
        del tree["draws"]
        parts = ["carry", "guard/carry", "guard/batch"]
    else:
        parts = ["carry", *(f"guard/{name}/{part}" for name in like.guard for part in ("carry", "batch"))]
    return tensors.as_stored(tree, stored, *parts)


def from_stored(tree: dict[str, Any], fresh: FusedState) -> FusedState:
    """The state of what `stored_like` described."""
    if isinstance(tree["guard"], guard.GuardState):
        (name,) = list(fresh.guard)[-1:]
        tree = tree | {"guard": {name: tree["guard"]}, "carry": {name: tree["carry"]}, "draws": fresh.draws}
    return FusedState(**tree)


def take_batch_size(state: FusedState, fresh: FusedState) -> FusedState:
    """`state` with the batches of this session: a new carry, and a guard that lets go of a failure it still held."""
    shapes = lambda tree: [leaf.shape for leaf in jax.tree.leaves(tree)]
    carries, guards = dict(state.carry), dict(state.guard)
    for name, own in state.guard.items():
        if shapes((carries[name], own)) != shapes((fresh.carry[name], fresh.guard[name])):
            carries[name] = tensors.fresh_where_other(carries[name], fresh.carry[name])
            empty = fresh.guard[name]
            guards[name] = guard.release(own)._replace(carry=empty.carry, batch=empty.batch)
    return state._replace(carry=carries, guard=guards)


@dataclasses.dataclass
class Chunks:
    """Runs the program for the loops of its seeds, one chunk at a time.

    The next chunk is started before the host looks at the rows of the last one, but where something needs the
    state between them: so every report, checkpoint and stop sees what it would see if the device had waited.
    """

    learner: FusedLearner
    loops: Sequence[FusedLoop]
    stop: Stop | None = None
    _running: tuple[Round, int] = (Round("none", 0), 0)

    @property
    def stopping(self) -> bool:
        """Whether a stop was asked for."""
        return self.stop is not None and self.stop.requested

    @property
    def go_on(self) -> bool:
        """Whether there is another chunk: a stop takes along the one that was started before it came."""
        return self.learner.running or not (self.loops[0].finished or self.stopping)

    def fill(self) -> None:
        """Collects until replay holds enough windows for a stage that learns, or the stage or the run is over."""
        while need := self._lacking():
            for loop in self.loops:
                loop.counters.wait_again()
            self._start(Round(self.loops[0].schedule.stage.collect, 1), need)
            self._finish()

    def _lacking(self) -> int:
        """Vector steps without updates that come next; UserError where nothing would be collected."""
        first, program = self.loops[0], self.learner.program
        stage, counters, num_envs = first.schedule.stage, first.counters, first.env.num_envs
        if first.finished or not stage.phases:
            return 0
        if not first.schedule.collects:
            self._require_window()
            return 0
        need = program.length - 1 - (-max(1, first.config.replay.min_starts) // num_envs) - first.stored
        ends = [first.config.run.steps - counters.step]
        ends += [] if stage.steps is None else [counters.stage_step + stage.steps - counters.step]
        return int(max(0, min(need, -(-min(ends) // num_envs))))

    def _require_window(self) -> None:
        """Raises UserError where replay holds no window of the phase that learns while nothing is collected."""
        first = self.loops[0]
        stage, phase = first.schedule.stage, first.schedule.current()
        rows = phase.window.context + phase.window.length if phase and phase.window else 0
        if phase and first.stored < rows:
            raise UserError(
                f"stage {stage.name!r}, phase {phase.name!r}: replay has {words.count(first.stored, 'row')} of each "
                f"environment, and a window {rows:,}; collect more rows before it"
            )

    def iterate(self) -> None:
        """One chunk: as many rounds as fit between two log rows, one at least; none where filling ends the run."""
        previous = self.loops[0].counters.step
        if not self.learner.running:
            self.fill()
            if self.loops[0].finished:
                return
            self._start(*self._plan())
        self._finish(lambda: any(loop.needs_state(previous) for loop in self.loops))

    def _plan(self) -> tuple[Round, int]:
        first = self.loops[0]
        return rounds.plan(first.schedule, first.env.num_envs, int(first.config.run.log_every))

    def _start(self, what: Round, times: int) -> None:
        now = time.perf_counter()
        with self.loops[0].timed("device", f"{what} {times}"):
            started = self.learner.start(what, times)
        self._running = (what, times)
        self.loops[0].watch.dispatched(started, now, now)

    def _finish(self, needs_state: Callable[[], bool] = lambda: True) -> None:
        """Takes what was played; starts the next chunk at once where nothing needs the state before it."""
        first, (what, times) = self.loops[0], self._running
        with first.phases("device"):
            chunks = self.learner.finish()
        begun, stage = first.counters.step, first.counters.stage
        for loop, played in zip(self.loops, chunks):
            loop.passed(played, what, times)
        broken = [loop.look(played.rows) for loop, played in zip(self.loops, chunks)]
        fresh = [loop.change_stage() for loop in self.loops]
        if any(fresh):
            self.learner.reset_acting()
        wait = needs_state() or self.stopping or any(broken) or any(played.caught for played in chunks)
        wait = wait or first.counters.stage != stage  # which may have to fill replay first
        if not wait and not first.finished:
            self._start(*self._plan())
        with first.phases("rows"):
            for loop, played in zip(self.loops, chunks):
                loop.tell(played.rows, begun)
        raise_first(broken)
