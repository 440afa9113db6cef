"""The agent on the device: its compiled functions, and the state that acting and learning change."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from dreamworld.train import guard
from dreamworld.types import Agent, Array, Batch, Mode, Output, TimeStep

FLAGS = ("reward", "is_first", "is_last", "is_terminal")
ACT_STREAM, REPORT_STREAM = 1, 2  # random streams of a run, beside the learner's own


def to_batch(rows: dict[str, np.ndarray]) -> Batch:
    """Replay's flat rows [B, L, ...] as a Batch. Row ids become int32 pairs: JAX has no int64 by default."""
    groups: dict[str, dict[str, Any]] = {"obs": {}, "action": {}, "extras": {}}
    for key, value in rows.items():
        group, _, name = key.partition("/")
        if group in ("obs", "action"):
            groups[group][name] = value
        elif key not in FLAGS:
            groups["extras"][key] = value.view(np.int32).reshape((*value.shape, 2)) if key == "row" else value
    return Batch(groups["obs"], groups["action"], *(rows[key] for key in FLAGS), extras=groups["extras"])


class Learner:
    """Holds the train state and the two carries. Every call only dispatches work; nothing here waits for the device.

    Random bits of acting depend on the seed and the iteration alone, so that a resumed run draws the same.
    """

    def __init__(self, agent: Agent, seed: int, *, num_envs: int, batch_size: int, nan_policy: str = "stop", nan_limit: int = 0):
        self.agent = agent
        root = jax.random.PRNGKey(seed)
        self._root = root
        self.state = jax.jit(agent.init)(root)
        self.act_carry = agent.initial(self.state.params, num_envs)
        self.carry = agent.initial_train(self.state.params, batch_size)
        self.guard: guard.GuardState | None = None
        self.batch: Batch | None = None  # the last one trained on, for reports
        self._act = jax.jit(self._act_fn, static_argnames="mode", donate_argnums=1)
        self._update = jax.jit(guard.guarded(agent.update, nan_policy, nan_limit), donate_argnums=(0, 1, 2))
        self._report = jax.jit(agent.report)

    def act(self, step: TimeStep, iteration: int) -> tuple[dict[str, Array], dict[str, Array]]:
        """Actions and latents {key: [N, ...]} for the current rows."""
        obs = {**step.obs, "is_first": step.is_first}
        self.act_carry, action, entries = self._act(
            self.state.params, self.act_carry, obs, self._root, np.uint32(iteration), mode="sample"
        )
        return action, entries

    def put(self, rows: dict[str, np.ndarray]) -> Batch:
        """Moves a batch of replay rows to the device."""
        return jax.device_put(to_batch(rows))

    def update(self, batch: Batch) -> Output:
        """One learning step."""
        if self.guard is None:
            self.guard = self._init_guard(batch)
        self.batch = batch
        self.guard, self.state, self.carry, output = self._update(self.guard, self.state, self.carry, batch)
        return output

    def report(self, step: int) -> dict[str, np.ndarray]:
        """Open-loop predictions on the last batch; empty before the first update."""
        if self.batch is None:
            return {}
        key = jax.random.fold_in(jax.random.fold_in(self._root, REPORT_STREAM), step)
        return jax.device_get(self._report(self.state.params, self.batch, key))

    def check(self) -> guard.Report | None:
        """What the numerical guard caught since the last call; waits for the device."""
        return None if self.guard is None else guard.inspect(self.guard)

    def reset_acting(self) -> None:
        """Forgets what the policy has seen: every environment starts a new episode."""
        self.act_carry = self.agent.initial(self.state.params, self.act_carry_size)

    @property
    def act_carry_size(self) -> int:
        """Number of environments."""
        return jax.tree.leaves(self.act_carry)[0].shape[0]

    def snapshot(self) -> dict[str, Any]:
        """Everything that learning and acting change, as one pytree."""
        return {"train": self.state, "carry": self.carry, "act": self.act_carry}

    def load(self, tree: dict[str, Any]) -> None:
        """Takes a pytree of `snapshot` back."""
        self.state, self.carry, self.act_carry = tree["train"], tree["carry"], tree["act"]

    def _act_fn(self, params: Any, carry: Any, obs: Any, root: Array, iteration: Array, *, mode: Mode) -> Any:
        key = jax.random.fold_in(jax.random.fold_in(root, ACT_STREAM), iteration)
        return self.agent.act(params, carry, obs, key, mode=mode)

    def _init_guard(self, batch: Batch) -> Any:
        shapes = jax.eval_shape(self.agent.update, self.state, self.carry, batch)[2].health
        return guard.init_guard(batch, shapes, self.carry)
