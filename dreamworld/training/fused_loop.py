"""The loop around the fused program: the same schedule of logs, reports and checkpoints as the host loop."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from dreamworld import dream
from dreamworld.contract import Agent
from dreamworld.replay import device
from dreamworld.training import guard, saved, tensors
from dreamworld.training.checkpoint import Restored
from dreamworld.training.fused import Fused, FusedState, Played, StepRows, phase_of, schedule
from dreamworld.training.learner import REPORT_STREAM
from dreamworld.training.refusals import Refusals
from dreamworld.training.run import Run
from dreamworld.training.stops import Stop, raise_first
from dreamworld.types import Spaces

SHOWN = 5  # refused rows of a chunk that are described


class FusedLearner:
    """The fused program and its state, where the host loop has a learner, environments and replay.

    Between `start` and `finish` of a chunk the state is that after it: it belongs to nobody but the device.
    """

    update_flops = 0  # not counted: updates have no time of their own in a chunk

    def __init__(self, agent: Agent, env: Any, spaces: Spaces, config: Any, *, capacity: int):
        self.agent, self.config = agent, config
        self.rounds = schedule(phase_of(agent)[0], config.env.num)
        self.program = Fused(agent, env, spaces, config.run, config.env.num, capacity)
        self._root, env_key = self._keys()
        init, self._collect, self._train = self._compile()
        self._state: FusedState = init(self._root, env_key)
        self._report = jax.jit(self._report_fn)
        self._chunk: Played | None = None

    def _report_fn(self, params: Any, replay: device.DeviceReplay, key: Any) -> dict[str, Any]:
        agent, batch = self.agent, self.program.sample(replay, key)[0]
        if agent.simulator is None:
            return {}
        context = self.program.window.context
        return dream.report(agent.simulator, agent.obs_space, params["world"], batch, context, key)

    def _keys(self) -> tuple[Any, Any]:
        """The root key of the run, and that of its environments."""
        return keys_of(self.config)

    def _compile(self) -> tuple[Any, Any, Any]:
        """`init`, `collect` and `train`, jitted; the last two take the number of steps or rounds as third."""
        program = self.program
        collect = jax.jit(program.collect, static_argnums=2, donate_argnums=0)
        return jax.jit(program.init), collect, jax.jit(program.train, static_argnums=2, donate_argnums=0)

    @property
    def running(self) -> bool:
        """Whether a chunk was started that is not finished."""
        return self._chunk is not None

    @property
    def state(self) -> Any:
        """The train state; settable, for `--init_from`."""
        return self._state.train

    @state.setter
    def state(self, value: Any) -> None:
        self._state = self.snapshot()._replace(train=value)

    @property
    def act_params(self) -> Any:
        """What acting needs."""
        return self.agent.acting(self.snapshot().train)

    @property
    def caught(self) -> guard.GuardState | None:
        """The numerical guard, where it caught something; None where not."""
        own = self.snapshot().guard
        return own if np.asarray(own.caught).any() else None

    @property
    def caught_phase(self) -> str:
        """The only phase."""
        return self.program.phase.name

    def release(self) -> None:
        """Lets go of what was caught, and goes on."""
        state = self.snapshot()
        self._state = state._replace(guard=guard.release(state.guard))

    def collect(self, steps: int) -> list[StepRows]:
        """Vector steps without learning; rows [steps, N] on the host, of each seed."""
        self._state, rows = self._collect(self.snapshot(), self._root, steps)
        return [jax.device_get(rows)]

    def start(self, rounds: int) -> Any:
        """Dispatches rounds of vector steps and updates; returns an array that is there when they are done."""
        self._state, chunk = self._train(self.snapshot(), self._root, rounds)
        self._chunk = chunk
        return chunk.caught

    def finish(self) -> list[Played]:
        """Waits for what was started; rows and flags on the host, metrics on the device, of each seed."""
        return [self._take_chunk()]

    def _take_chunk(self) -> Played:
        assert self._chunk is not None, "nothing was started"
        chunk, self._chunk = self._chunk, None
        rows, caught = jax.device_get((chunk.rows, chunk.caught))
        return Played(rows, chunk.metrics, caught)

    def report(self, step: int) -> dict[str, np.ndarray]:
        """Open-loop predictions on a fresh batch."""
        return self.report_on(self.snapshot(), self._root, step)

    def report_on(self, state: FusedState, root: Any, step: int) -> dict[str, np.ndarray]:
        """`report` with the state and root key of one seed given."""
        key = jax.random.fold_in(jax.random.fold_in(root, REPORT_STREAM), step)
        return jax.device_get(self._report(self.agent.acting(state.train), state.replay, key))

    def check(self) -> guard.Failure | None:
        """What the numerical guard caught; waits for the device."""
        return guard.inspect(self.snapshot().guard)

    def snapshot(self) -> FusedState:
        """The whole run, replay included."""
        assert not self.running, "the state between two chunks is gone once the second one is started"
        return self._state

    def load(self, tree: FusedState) -> None:
        """Takes a `snapshot` back."""
        self._state = tree


def keys_of(config: Any) -> tuple[Any, Any]:
    """The root key of a run, and that of its environments."""
    base = config.env.seed if config.env.seed >= 0 else config.seed
    return jax.random.PRNGKey(config.seed), jax.random.fold_in(jax.random.PRNGKey(base), 1)


@dataclasses.dataclass(kw_only=True)
class FusedLoop(Run):
    """One run whose iterations are chunks of the fused program."""

    refusals: Refusals

    def __post_init__(self) -> None:
        super().__post_init__()
        self.chunks = Chunks(self.learner, [self])

    def run(self, stop: Stop) -> None:
        """Trains; a checkpoint is complete when this returns."""
        self.chunks.stop = self.stop = stop
        self.begin()
        self.chunks.fill()
        while self.chunks.go_on:
            previous = self.counters.step
            self.chunks.iterate()
            self.attend(previous)
        self.end()

    def passed(self, rows: StepRows, updates: int = 0) -> None:
        """Counts rows and updates."""
        self.counters.iteration += len(rows.reward)
        self.counters.step += rows.reward.size
        self.counters.did(self.learner.program.phase.name, updates)

    def tell(self, rows: StepRows, step: int) -> None:
        """Writes the episodes that ended in rows, the first of which came at `step`."""
        # A first row that was refused is last, too: an episode that never began.
        ended = self.episodes.add_steps(rows.reward, rows.is_first, rows.is_last & ~rows.is_first)
        steps = [step + t * self.env.num_envs for t, _ in ended]
        self.logger.episodes(
            [(at, at * self.config.frames_per_step, row) for at, (_, row) in zip(steps, ended)]
        )

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
        """Whether the step reached since `previous` is one of a report, evaluation, checkpoint or the end."""
        run, step = self.config.run, self.counters.step
        periods = [run.report_every, run.save_every, self.config.eval.every if self.evaluate else 0]
        return self.finished or any(every > 0 and step // every > previous // every for every in periods)

    def check(self) -> None:
        """As ever; the next chunk is only running when nothing was caught."""
        if not self.learner.running:
            super().check()

    def replay_stats(self) -> dict[str, float]:
        """Rows inserted and rows kept; the replay on the device has a row for each vector step."""
        num_envs, count = self.env.num_envs, self.counters.iteration
        return {
            "inserts": count * num_envs,
            "size_steps": min(count, self.learner.program.capacity) * num_envs,
        }

    def save(self, block: bool = False) -> None:
        """Snapshots the whole state, replay included, as arrays of the device."""
        self.keep_files()
        if away := self.rundir.away():
            self.save_failed(away, block)
            return
        self.commit(self.learner.snapshot(), {}, {}, block)

    def restore(self, step: int | None = None) -> list[str]:
        """Goes on from the newest intact checkpoint, or that of `step`, to the same bits.

        Replay may have had another capacity, as `run.steps` is one of its limits.
        """
        fresh: FusedState = self.learner.snapshot()
        agent, host, _, self.score = self.checkpointer.restore(
            step, functools.partial(stored_like, fresh), check=self._check_saved
        )
        stored, capacity = agent.replay.capacity, self.learner.program.capacity
        if stored != capacity:
            agent = agent._replace(replay=jax.jit(device.resize, static_argnums=1)(agent.replay, capacity))
        self.learner.load(take_batch_size(agent, fresh))
        notes = self.restore_counts(host)
        self.episodes.restore(host["episodes"])
        return notes

    def _check_saved(self, restored: Restored) -> None:
        """Raises BadFile where the counts are not those of such a run; everything else lies on the device."""
        host_file = self.saved_in(restored.meta) / "host_0" / "tree.json"
        saved.check_counts(restored.host, host_file, self.env.num_envs, restored.meta["step"])


def stored_like(like: FusedState, stored: tensors.Table) -> FusedState:
    """`like` with the replay capacity and the batch of a checkpoint."""
    rows = stored.get("replay/rows/reward")
    capacity = rows[0][1] if rows and len(rows[0]) > 1 and rows[0][1] > 0 else like.replay.capacity
    shape = lambda leaf: (leaf.shape[0], capacity, *leaf.shape[2:])
    struct = lambda leaf: jax.ShapeDtypeStruct(shape(leaf), leaf.dtype, sharding=leaf.sharding)
    replay = like.replay._replace(rows=jax.tree.map(struct, like.replay.rows))
    return tensors.as_stored(like._replace(replay=replay), stored, "carry", "guard/carry", "guard/batch")


def take_batch_size(state: FusedState, fresh: FusedState) -> FusedState:
    """`state` with the batch of this session: a new carry, and a guard that lets go of a failure it still held."""
    shapes = lambda tree: [leaf.shape for leaf in jax.tree.leaves(tree)]
    if shapes((state.carry, state.guard)) == shapes((fresh.carry, fresh.guard)):
        return state
    empty = guard.release(state.guard)._replace(carry=fresh.guard.carry, batch=fresh.guard.batch)
    return state._replace(carry=tensors.fresh_where_other(state.carry, fresh.carry), guard=empty)


@dataclasses.dataclass
class Chunks:
    """Runs the program for the loops of its seeds, one chunk at a time.

    The next chunk is started before the host looks at the rows of the last one, but where something needs the
    state between them: so every report, checkpoint and stop sees what it would see if the device had waited.
    """

    learner: FusedLearner
    loops: Sequence[FusedLoop]
    stop: Stop | None = None

    @property
    def stopping(self) -> bool:
        """Whether a stop was asked for."""
        return self.stop is not None and self.stop.requested

    @property
    def go_on(self) -> bool:
        """Whether there is another chunk: a stop takes along the one that was started before it came."""
        return self.learner.running or not (self.loops[0].finished or self.stopping)

    def fill(self) -> None:
        """Collects until replay holds enough windows."""
        first = self.loops[0]
        need = (
            self.learner.program.length - 1 - (-max(1, first.config.replay.min_starts) // first.env.num_envs)
        )
        if first.counters.iteration >= need:
            return
        with first.timed("device", "collect"):
            collected = self.learner.collect(need - first.counters.iteration)
        for loop, rows in zip(self.loops, collected):
            loop.tell(rows, loop.counters.step)
            loop.passed(rows)
            counters, phase = loop.counters, self.learner.program.phase
            counters.account(phase.name).open(counters.step, phase.ratio, phase.rows)
        raise_first([loop.look(rows) for loop, rows in zip(self.loops, collected)])

    def iterate(self) -> None:
        """One chunk: as many rounds as fit between two log rows, one at least."""
        first = self.loops[0]
        steps, updates = self.learner.rounds
        rounds = max(1, int(first.config.run.log_every) // (steps * first.env.num_envs))
        if not self.learner.running:
            self._start(rounds)
        with first.phases("device"):
            chunks = self.learner.finish()
        previous = first.counters.step
        for loop, chunk in zip(self.loops, chunks):
            loop.passed(chunk.rows, rounds * updates)
            names = {key: key if "/" in key else f"train/{key}" for key in chunk.metrics}
            loop.metrics.add({names[key]: value for key, value in chunk.metrics.items()})
        caught = any(chunk.caught for chunk in chunks)
        broken = [loop.look(chunk.rows) for loop, chunk in zip(self.loops, chunks)]
        if not (
            caught or any(broken) or self.stopping or any(loop.needs_state(previous) for loop in self.loops)
        ):
            self._start(rounds)
        with first.phases("rows"):
            for loop, chunk in zip(self.loops, chunks):
                loop.tell(chunk.rows, previous)
        raise_first(broken)

    def _start(self, rounds: int) -> None:
        now = time.perf_counter()
        with self.loops[0].timed("device", "update"):
            started = self.learner.start(rounds)
        self.loops[0].watch.dispatched(started, now, now)
