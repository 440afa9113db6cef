"""The loop around the fused program: the same schedule of logs, reports and checkpoints as the host loop."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import numpy as np

from dreamworld.replay import device
from dreamworld.training import fused, guard
from dreamworld.training.learner import REPORT_STREAM
from dreamworld.training.loop import Counters, Loop
from dreamworld.types import Agent, Spaces, TimeStep


class FusedLearner:
    """The fused program and its state, where the host loop has a learner, environments and replay."""

    def __init__(self, agent: Agent, env: Any, spaces: Spaces, config: Any, *, capacity: int):
        self.agent, self.config = agent, config
        self.rounds = fused.schedule(config.run, config.env.num)
        root = jax.random.PRNGKey(config.seed)
        base = config.env.seed if config.env.seed >= 0 else config.seed
        env_key = jax.random.fold_in(jax.random.PRNGKey(base), 1)
        init, collect, train = fused.make_fused(
            agent, env, spaces, config.run, num_envs=config.env.num, capacity=capacity
        )
        self._root = root
        self.fused: fused.FusedState = jax.jit(init)(root, env_key)
        self._collect = jax.jit(collect, static_argnums=2, donate_argnums=0)
        self._train = jax.jit(train, static_argnums=2, donate_argnums=0)
        length = config.run.replay_context + config.run.batch_length
        sample = functools.partial(device.sample, batch=config.run.batch_size, length=length)
        self._report = jax.jit(
            lambda params, replay, key: agent.report(
                params, fused.as_batch(sample(replay, key=key)[0], config.run.batch_size), key
            )
        )

    update_flops = 0  # not counted: updates have no time of their own in a chunk

    @property
    def state(self) -> Any:
        """The train state; settable, for `--init_from`."""
        return self.fused.train

    @state.setter
    def state(self, value: Any) -> None:
        self.fused = self.fused._replace(train=value)

    @property
    def act_params(self) -> Any:
        """Parameters that act."""
        return self.fused.train.params

    @property
    def guard(self) -> guard.GuardState:
        """The numerical guard on the device."""
        return self.fused.guard

    @guard.setter
    def guard(self, value: guard.GuardState) -> None:
        self.fused = self.fused._replace(guard=value)

    def collect(self, steps: int) -> fused.Rows:
        """Vector steps without learning; rows [steps, N] on the host."""
        self.fused, rows = self._collect(self.fused, self._root, steps)
        return jax.device_get(rows)

    def train(self, rounds: int) -> tuple[fused.Rows, dict[str, Any]]:
        """Rounds of vector steps and updates; rows on the host, metrics on the device."""
        self.fused, rows, metrics = self._train(self.fused, self._root, rounds)
        return jax.device_get(rows), metrics

    def report(self, step: int) -> dict[str, np.ndarray]:
        """Open-loop predictions on a fresh batch."""
        key = jax.random.fold_in(jax.random.fold_in(self._root, REPORT_STREAM), step)
        return jax.device_get(self._report(self.act_params, self.fused.replay, key))

    def check(self) -> guard.Report | None:
        """What the numerical guard caught; waits for the device."""
        return guard.inspect(self.guard)

    def snapshot(self) -> fused.FusedState:
        """The whole run, replay included."""
        return self.fused

    def load(self, tree: fused.FusedState) -> None:
        """Takes a `snapshot` back."""
        self.fused = tree


@dataclasses.dataclass
class NoPipeline:
    """There is no thread to wait for."""

    waited_s: float = 0.0

    def drain(self) -> None:
        """Everything is done already."""


@dataclasses.dataclass
class DeviceReplayStats:
    """What the log says about the replay on the device."""

    learner: FusedLearner

    def stats(self) -> dict[str, float]:
        """Rows inserted and rows kept."""
        replay = self.learner.fused.replay
        count = int(replay.count)
        num_envs = self.learner.config.env.num
        return {"inserts": count * num_envs, "size_steps": min(count, replay.capacity) * num_envs}

    def take_problems(self) -> list[str]:
        """Nothing on the device gets lost."""
        return []


class FusedLoop(Loop):
    """`Loop` whose iterations are chunks of the fused program."""

    learner: FusedLearner  # type: ignore[assignment]

    def begin(self) -> None:
        """Starts the session's clock, and collects until replay holds enough windows."""
        self.timestep = empty_step(self.env.num_envs)
        super().begin()
        run = self.config.run
        length = run.replay_context + run.batch_length
        need = length - 1 + -(-max(1, self.config.replay.min_starts) // self.env.num_envs)
        if self.counters.iteration < need:
            self._count(self.learner.collect(need - self.counters.iteration))
            self.counters.first_update = self.counters.step

    def iterate(self) -> None:
        """One chunk: as many rounds as fit between two log rows, one at least."""
        steps, updates = self.learner.rounds
        rounds = max(1, int(self.config.run.log_every) // (steps * self.env.num_envs))
        rows, metrics = self.learner.train(rounds)
        self.counters.updates += rounds * updates
        self.metrics.add({key if "/" in key else f"train/{key}": value for key, value in metrics.items()})
        self._count(rows)

    def _count(self, rows: fused.Rows) -> None:
        for index in range(rows.reward.shape[0]):
            step = empty_step(self.env.num_envs)
            self._observe(dataclasses.replace(step, **{k: v[index] for k, v in rows._asdict().items()}))
            self.counters.iteration += 1
            self.counters.step += self.env.num_envs

    def save(self, block: bool = False) -> None:
        """Snapshots the whole state, replay included, as arrays of the device."""
        host = {
            "counters": dataclasses.asdict(self.counters),
            "metrics": self.metrics.state(),
            "episodes": self.episodes.state(),
        }
        meta = {"config": self.rundir.config.read_text("utf-8"), "processes": 1}
        self.checkpointer.save(
            self.counters.step, self.learner.snapshot(), host, meta, score=self.score, block=block
        )
        if block and self.checkpointer.problem:
            raise OSError(self.checkpointer.problem)

    def restore(self, step: int | None = None) -> list[str]:
        """Goes on from the newest intact checkpoint, or that of `step`, to the same bits."""
        agent, host, _ = self.checkpointer.restore(step, self.learner.snapshot())
        self.learner.load(agent)
        self.counters = Counters(**{key: np.asarray(value).item() for key, value in host["counters"].items()})
        self.metrics.restore(host["metrics"])
        self.episodes.restore(host["episodes"])
        return []


def empty_step(num_envs: int) -> TimeStep:
    """A time step without observations, for statistics."""
    no = np.zeros(num_envs, bool)
    return TimeStep({}, np.zeros(num_envs, np.float32), no, no, no)
