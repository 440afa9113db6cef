"""Fused training of JAX environments: collection, replay and updates as one jitted program.

Differs from the host loop in what is scheduled, not in what is computed: uniform sampling without the online queue,
a whole number of updates per vector step (or of vector steps per update), no prefetched batches.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dreamworld import words
from dreamworld.config import RunConfig
from dreamworld.contract import Agent, Phase, Window
from dreamworld.errors import UserError
from dreamworld.replay import device
from dreamworld.training import guard
from dreamworld.training.learner import ACT_STREAM, to_batch
from dreamworld.training.refusals import refuse
from dreamworld.types import FLAGS, Array, Key, Spaces, TrainState

SAMPLE_STREAM = 4


class FusedState(NamedTuple):
    """Everything that a fused run changes: saving it is saving the run."""

    train: TrainState
    carry: Any
    guard: guard.GuardState
    act: Any
    env: Any
    rows: Any  # the rows of the environments that were not acted on yet
    replay: device.DeviceReplay
    iteration: Array  # uint32, vector steps


class StepRows(NamedTuple):
    """What the host needs of the vector steps of a chunk, [steps, N]."""

    reward: Array
    is_first: Array
    is_last: Array
    is_terminal: Array
    refused: Array  # int32, codes of `refusals`: what the environments returned one step later was not finite


class Played(NamedTuple):
    """What the host needs of some rounds."""

    rows: StepRows
    metrics: dict[str, Array]  # means over updates
    caught: Array  # bool, the guard holds a failure


def phase_of(agent: Agent) -> tuple[Phase, Window]:
    """The phase that the fused mode trains, and its window; UserError for an agent that learns in another way."""
    stage, phase = agent.stages[0], agent.phases[0]
    window, alone = phase.window, len(agent.stages) == len(agent.phases) == 1
    if alone and stage.collect == "policy" and window is not None:
        limits = (phase.begins, phase.at_most, stage.steps)
        plain = (window.order, window.align, *limits) == ("draw", "row", 0, None, None)
        if plain:
            return phase, window
    raise UserError(
        "--run.mode fused trains agents with one stage of one phase on drawn windows; this one has the stages "
        f"{', '.join(stage.name for stage in agent.stages)} with the phases "
        f"{', '.join(phase.name for phase in agent.phases)}: use --run.mode host"
    )


def schedule(phase: Phase, num_envs: int) -> tuple[int, int]:
    """(vector steps, updates) of one round: the train ratio as a ratio of whole numbers, one of which is 1.

    Without a train ratio there are no updates.
    """
    if phase.ratio == 0:
        return 1, 0
    per_step = num_envs * phase.ratio / phase.rows
    steps, updates = (1, round(per_step)) if per_step >= 1 else (round(1 / per_step), 1)
    if abs(updates / steps - per_step) > 1e-6 * per_step:
        near = updates / steps * phase.rows / num_envs
        raise UserError(
            f"--run.train_ratio {phase.ratio:g}: {words.count(per_step, 'update')} per step of "
            f"{words.count(num_envs, 'environment')}; "
            f"the fused mode takes whole numbers, or one update per whole number of steps: {near:g} would do"
        )
    return steps, updates


@dataclasses.dataclass(frozen=True)
class Fused:
    """The pure functions of one run; `init`, `collect` and `train` are to be jitted.

    `env` is a batched environment (`reset(keys)`, `step(state, action)`); `spaces` those of the replay rows.
    """

    agent: Agent
    env: Any
    spaces: Spaces
    run: RunConfig
    num_envs: int
    capacity: int  # replay rows per environment

    @property
    def length(self) -> int:
        """Rows of a sampled window."""
        return self.window.context + self.window.length

    @property
    def phase(self) -> Phase:
        """What is learned."""
        return phase_of(self.agent)[0]

    @property
    def window(self) -> Window:
        """What is sampled."""
        return phase_of(self.agent)[1]

    def init(self, key: Key, env_key: Key) -> FusedState:
        """The state before the first step."""
        agent, phase = self.agent, self.phase
        train = agent.init(key)
        carry = phase.initial(train.params, self.window.batch)
        env_state, rows = self.env.reset(jax.random.split(env_key, self.num_envs))
        env_state, rows, _ = refuse(env_state, rows, None)
        replay = device.init(self.spaces, self.num_envs, self.capacity)
        batch, _ = jax.eval_shape(self.sample, replay, key)
        health = jax.eval_shape(phase.update, train, carry, batch)[2].health
        return FusedState(
            train,
            carry,
            guard.init_guard(batch, health, carry),
            agent.initial(agent.acting(train), self.num_envs),
            env_state,
            rows,
            replay,
            jnp.zeros((), jnp.uint32),
        )

    def collect(self, state: FusedState, root: Key, steps: int) -> tuple[FusedState, StepRows]:
        """Vector steps without learning."""
        return jax.lax.scan(lambda state, _: self._advance(state, root), state, None, length=steps)

    def train(self, state: FusedState, root: Key, rounds: int) -> tuple[FusedState, Played]:
        """Rounds of `schedule`."""
        steps, updates = schedule(self.phase, self.num_envs)

        def one(state: FusedState, _: None) -> tuple[FusedState, tuple[StepRows, dict[str, Array]]]:
            state, rows = self.collect(state, root, steps)
            if updates == 0:
                return state, (rows, {})
            key = jax.random.fold_in(jax.random.fold_in(root, SAMPLE_STREAM), state.iteration)
            state, metrics = jax.lax.scan(self._learn, state, jax.random.split(key, updates))
            return state, (rows, jax.tree.map(lambda x: x.astype(jnp.float32).mean(), metrics))

        state, (rows, metrics) = jax.lax.scan(one, state, None, length=rounds)
        flat = jax.tree.map(lambda x: x.reshape((-1, *x.shape[2:])), rows)
        return state, Played(flat, jax.tree.map(jnp.mean, metrics), state.guard.caught)

    def sample(self, replay: device.DeviceReplay, key: Key) -> tuple[Any, tuple[Array, Array]]:
        """A batch and where it lies; every chunk starts from its own stored latents."""
        windows, place = device.sample(replay, self.window.batch, self.length, key)
        return to_batch(windows), place

    def _advance(self, state: FusedState, root: Key) -> tuple[FusedState, StepRows]:
        """One vector step: act, store, step."""
        rows = state.rows
        key = jax.random.fold_in(jax.random.fold_in(root, ACT_STREAM), state.iteration)
        obs = {**rows.obs, "is_first": rows.is_first}
        act, action, entries = self.agent.act(
            self.agent.acting(state.train), state.act, obs, key, mode="sample"
        )
        going = ~rows.is_last
        action = {k: jnp.where(going.reshape((-1,) + (1,) * (a.ndim - 1)), a, 0) for k, a in action.items()}
        stored = {f"obs/{k}": v for k, v in rows.obs.items()} | {f"action/{k}": v for k, v in action.items()}
        flags = {key: getattr(rows, key) for key in FLAGS}
        replay = device.add(state.replay, stored | flags | entries)
        env_state, following = self.env.step(state.env, action)
        env_state, following, refused = refuse(env_state, following, rows.obs)
        new = state._replace(
            act=act, env=env_state, rows=following, replay=replay, iteration=state.iteration + 1
        )
        return new, StepRows(**flags, refused=refused)

    def _learn(self, state: FusedState, key: Key) -> tuple[FusedState, dict[str, Array]]:
        """One update on a fresh batch, its latents written back at once."""
        update = guard.guarded(self.phase.update, self.run.nan_policy, self.run.nan_limit)
        batch, place = self.sample(state.replay, key)
        watch, train, carry, output = update(state.guard, state.train, state.carry, batch)
        replay = device.write_back(state.replay, place, output.writeback)
        return state._replace(guard=watch, train=train, carry=carry, replay=replay), output.metrics
