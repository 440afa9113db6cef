"""Fused training of JAX environments: collection, replay and updates as one jitted program.

Differs from the host loop in what is scheduled, not in what is computed: uniform sampling without the online queue,
whole numbers of vector steps and of updates (see `rounds`), no prefetched batches.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dreamworld.config import RunConfig
from dreamworld.contract import Agent, Phase, Window, longest
from dreamworld.replay import device
from dreamworld.training import guard
from dreamworld.training.learner import ACT_STREAM, to_batch
from dreamworld.training.refusals import refuse
from dreamworld.training.rounds import Round
from dreamworld.types import FLAGS, Array, Carry, Key, Spaces, TrainState, Tree

SAMPLE_STREAM = 4


class FusedState(NamedTuple):
    """Everything that a fused run changes: saving it is saving the run."""

    train: TrainState
    carry: dict[str, Carry]  # by phase, what an update hands to the next one
    guard: dict[str, guard.GuardState]  # by phase
    act: Tree
    env: Tree
    rows: Tree  # the rows of the environments that were not acted on yet
    replay: device.DeviceReplay
    iteration: Array  # uint32, vector steps
    draws: Array  # uint32, updates in stages that collect nothing


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
    metrics: dict[str, dict[str, Array]]  # by phase, means over updates
    caught: Array  # bool, a guard holds a failure


@dataclasses.dataclass(frozen=True)
class Fused:
    """The pure functions of one run; `init` and `train` are to be jitted.

    `env` is a batched environment (`reset(keys)`, `step(state, action)`); `spaces` those of the replay rows.
    """

    agent: Agent
    env: Tree
    spaces: Spaces
    run: RunConfig
    num_envs: int
    capacity: int  # replay rows per environment

    @property
    def window(self) -> Window:
        """The longest of the agent, of which replay holds some."""
        return longest(self.agent)

    @property
    def length(self) -> int:
        """Rows of it."""
        return self.window.context + self.window.length

    def init(self, key: Key, env_key: Key) -> FusedState:
        """The state before the first step."""
        agent = self.agent
        train = agent.init(key)
        carries = {phase.name: self._first_carry(phase, train) for phase in agent.phases}
        env_state, rows = self.env.reset(jax.random.split(env_key, self.num_envs))
        env_state, rows, _ = refuse(env_state, rows, None, self.agent.obs_space)
        replay = device.init(self.spaces, self.num_envs, self.capacity)
        guards = {}
        for phase in agent.phases:
            batch = jax.eval_shape(functools.partial(self.sample, phase), replay, key)[0]
            carry = carries[phase.name]
            health = jax.eval_shape(phase.update, train, carry, batch)[2].health
            guards[phase.name] = guard.init_guard(batch, health, carry)
        act, zero = agent.initial(agent.acting(train), self.num_envs), jnp.zeros((), jnp.uint32)
        return FusedState(train, carries, guards, act, env_state, rows, replay, zero, zero)

    def _first_carry(self, phase: Phase, train: TrainState) -> Carry:
        return phase.initial(train.params, phase.window.batch if phase.window else 1)

    def train(self, state: FusedState, root: Key, what: Round, rounds: int) -> tuple[FusedState, Played]:
        """Rounds of vector steps and updates."""

        def one(state: FusedState, _: None) -> tuple[FusedState, tuple[StepRows, Any]]:
            advance = lambda state, _: self._advance(state, root, what.collect)
            state, rows = jax.lax.scan(advance, state, None, length=what.steps)
            key = jax.random.fold_in(jax.random.fold_in(root, SAMPLE_STREAM), state.iteration)
            if what.steps == 0:
                key = jax.random.fold_in(key, state.draws + 1)  # 0 would be a key of the last vector step
                state = state._replace(draws=state.draws + 1)
            metrics = {}
            for index, (name, updates) in enumerate(what.updates):
                own = jax.random.fold_in(key, index) if index else key
                learn = functools.partial(self._learn, self.phase(name))
                state, found = jax.lax.scan(learn, state, jax.random.split(own, updates))
                metrics[name] = jax.tree.map(lambda x: x.astype(jnp.float32).mean(), found)
            return state, (rows, metrics)

        state, (rows, metrics) = jax.lax.scan(one, state, None, length=rounds)
        flat = jax.tree.map(lambda x: x.reshape((-1, *x.shape[2:])), rows)
        caught = jnp.stack([each.caught for each in state.guard.values()]).any()
        return state, Played(flat, jax.tree.map(jnp.mean, metrics), caught)

    def phase(self, name: str) -> Phase:
        """A phase of the agent."""
        return next(phase for phase in self.agent.phases if phase.name == name)

    def sample(self, phase: Phase, replay: device.DeviceReplay, key: Key) -> tuple[Any, Any]:
        """A batch of a phase and where it lies; every chunk starts from its own stored latents. None without one."""
        if phase.window is None:
            return None, None
        rows = phase.window.context + phase.window.length
        windows, place = device.sample(replay, phase.window.batch, rows, key)
        return to_batch(windows), place

    def reset_acting(self, state: FusedState) -> FusedState:
        """The policy has seen nothing yet."""
        return state._replace(act=self.agent.initial(self.agent.acting(state.train), self.num_envs))

    def _advance(self, state: FusedState, root: Key, collect: str) -> tuple[FusedState, StepRows]:
        """One vector step: act, store, step."""
        rows = state.rows
        key = jax.random.fold_in(jax.random.fold_in(root, ACT_STREAM), state.iteration)
        if collect == "random":
            act, action, entries = state.act, random_actions(self.agent.act_space, key, self.num_envs), {}
        else:
            obs = {**rows.obs, "is_first": rows.is_first}
            params = self.agent.acting(state.train)
            act, action, entries = self.agent.act(params, state.act, obs, key, mode="sample")
        going = ~rows.is_last
        action = {k: jnp.where(going.reshape((-1,) + (1,) * (a.ndim - 1)), a, 0) for k, a in action.items()}
        stored = {f"obs/{k}": v for k, v in rows.obs.items()} | {f"action/{k}": v for k, v in action.items()}
        flags = {key: getattr(rows, key) for key in FLAGS}
        stored |= flags | entries
        # What random actions leave open: zeros, until an update refreshes them.
        latents = self.spaces.keys() - stored.keys()
        stored |= {k: jnp.zeros((self.num_envs, *self.spaces[k].shape)) for k in latents}
        replay = device.add(state.replay, stored)
        env_state, following = self.env.step(state.env, action)
        env_state, following, refused = refuse(env_state, following, rows.obs, self.agent.obs_space)
        new = state._replace(
            act=act, env=env_state, rows=following, replay=replay, iteration=state.iteration + 1
        )
        return new, StepRows(**flags, refused=refused)

    def _learn(self, phase: Phase, state: FusedState, key: Key) -> tuple[FusedState, dict[str, Array]]:
        """One update on a fresh batch, its latents written back at once. What froze one phase freezes all."""
        update = guard.guarded(phase.update, self.run.nan_policy, self.run.nan_limit)
        batch, place = self.sample(phase, state.replay, key)
        watch = state.guard[phase.name]
        for name, other in state.guard.items():
            if name != phase.name:
                watch = watch._replace(frozen=watch.frozen | other.frozen)
        watch, train, carry, output = update(watch, state.train, state.carry[phase.name], batch)
        replay = state.replay if place is None else device.write_back(state.replay, place, output.writeback)
        new = state._replace(
            guard={**state.guard, phase.name: watch},
            train=train,
            carry={**state.carry, phase.name: carry},
            replay=replay,
        )
        return new, output.metrics


def random_actions(spaces: Spaces, key: Key, count: int) -> dict[str, Array]:
    """Uniform actions {key: [count, *shape]}; unbounded sides are taken as -1 and 1, as by `Space.sample`."""
    actions = {}
    for name, own in zip(sorted(spaces), jax.random.split(key, len(spaces))):
        space = spaces[name]
        shape, dtype = (count, *space.shape), jnp.dtype(space.dtype)
        if space.classes is not None:
            actions[name] = jax.random.randint(own, shape, 0, space.classes, jnp.int32).astype(dtype)
        else:
            low, high = (
                side if np.isfinite(side) else other for side, other in ((space.low, -1.0), (space.high, 1.0))
            )
            actions[name] = jax.random.uniform(own, shape, jnp.float32, low, high).astype(dtype)
    return actions
