"""The fused program on the device and its state, where the host loop has a learner, environments and replay."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from dreamworld import dream
from dreamworld.contract import Agent
from dreamworld.random import as_uint32
from dreamworld.replay import device
from dreamworld.training import guard, rounds
from dreamworld.training.fused import Fused, FusedState, Played
from dreamworld.training.learner import REPORT_STREAM
from dreamworld.training.rounds import Round
from dreamworld.types import Key, Params, Spaces


class FusedLearner:
    """The fused program and its state.

    Between `start` and `finish` of a chunk the state is that after it: it belongs to nobody but the device.
    """

    update_flops = 0  # not counted: updates have no time of their own in a chunk

    def __init__(self, agent: Agent, env: Any, spaces: Spaces, config: Any, *, capacity: int):
        rounds.check(agent, config.env.num)
        self.agent, self.config = agent, config
        self.program = Fused(agent, env, spaces, config.run, config.env.num, capacity)
        self._root, env_key = self._keys()
        init, self._train, self._reset = self._compile()
        self._state: FusedState = init(self._root, env_key)
        self._report = jax.jit(self._report_fn)
        self._chunk: Played | None = None

    def _report_fn(self, params: Params, replay: device.DeviceReplay, key: Key) -> dict[str, Any]:
        agent = self.agent
        phase = next((phase for phase in agent.phases if phase.window == self.program.window), None)
        if agent.simulator is None or phase is None:
            return {}
        batch, _ = self.program.sample(phase, replay, key)
        context = self.program.window.context
        return dream.report(agent.simulator, agent.obs_space, params["world"], batch, context, key)

    def _keys(self) -> tuple[Any, Any]:
        """The root key of the run, and that of its environments."""
        return keys_of(self.config)

    def _compile(self) -> tuple[Any, Any, Any]:
        """`init`, `train` (state, root key, what is repeated, how often) and `reset_acting`, jitted."""
        program = self.program
        train = jax.jit(program.train, static_argnums=(2, 3), donate_argnums=0)
        return jax.jit(program.init), train, jax.jit(program.reset_acting, donate_argnums=0)

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
    def act_params(self) -> Params:
        """What acting needs."""
        return self.agent.acting(self.snapshot().train)

    @property
    def caught(self) -> guard.GuardState | None:
        """The guard that caught something, one that froze before others; None where none did."""
        return self.snapshot().guard.get(self.caught_phase)

    @property
    def caught_phase(self) -> str:
        """The phase of `caught`; empty for none."""
        return guard.first_caught(self.snapshot().guard)

    def release(self) -> None:
        """Lets go of what was caught, and goes on."""
        state = self.snapshot()
        self._state = state._replace(guard={name: guard.release(own) for name, own in state.guard.items()})

    def reset_acting(self) -> None:
        """Forgets what the policy has seen."""
        self._state = self._reset(self.snapshot())

    def start(self, what: Round, times: int) -> Any:
        """Dispatches rounds of vector steps and updates; returns an array that is there when they are done."""
        self._state, chunk = self._train(self.snapshot(), self._root, what, times)
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

    def report_on(self, state: FusedState, root: Key, step: int) -> dict[str, np.ndarray]:
        """`report` with the state and root key of one seed given."""
        key = jax.random.fold_in(jax.random.fold_in(root, REPORT_STREAM), as_uint32(step))
        return jax.device_get(self._report(self.agent.acting(state.train), state.replay, key))

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
