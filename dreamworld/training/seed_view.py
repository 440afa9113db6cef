"""What one seed sees of a learner of several: its part of the states, the metrics and the guard."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dreamworld.contract import Agent
from dreamworld.parallel import MeshLayout
from dreamworld.training import guard
from dreamworld.training.learner import Learner, to_batch
from dreamworld.types import Array, Batch, DType, Params, TrainState


class Part:
    """One seed's slice of a device array [S, ...]; the whole is fetched once, when a thread asks for a slice."""

    def __init__(self, array: Array, index: int):
        self.array, self.index = array, index
        self.shape = array.shape[1:]

    def copy_to_host_async(self) -> None:
        """Starts the transfer."""
        self.array.copy_to_host_async()

    def __array__(self, dtype: DType | None = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(np.asarray(self.array)[self.index], dtype)


class SeedView:
    """What the loop of one seed sees of the common learner; the methods are those of `Learner`."""

    def __init__(self, learner: Learner, index: int, take: Callable[[Any, int], Any]):
        self._learner, self._index, self._take = learner, index, take
        self.layout = learner.layout  # of all seeds
        self._layout = self.layout.seed_row(index)
        self._loaded: dict[str, Any] | None = None
        self.agent: Agent = learner.agent

    def put(self, rows: dict[str, np.ndarray]) -> Batch:
        """Moves this seed's batch to the devices that hold the seed."""
        return self._layout.put(to_batch(rows))

    @property
    def state(self) -> TrainState:
        """A copy of this seed's train state."""
        return self.snapshot()["train"]

    @property
    def act_params(self) -> Params:
        """A copy of what acting needs of this seed, on one device."""
        return jax.device_put(self.agent.acting(self.state), self._layout.acting().devices.flat[0])

    @property
    def update_flops(self) -> float:
        """Floating-point operations of an update of this seed."""
        return self._learner.update_flops / self._learner.layout.seeds

    def snapshot(self) -> dict[str, Any]:
        """This seed alone, as a run of one seed saves it."""
        return self._take(self._learner.snapshot(), self._index)

    def load(self, tree: dict[str, Any]) -> None:
        """Keeps a seed's state until `load_seeds` has all of them."""
        self._loaded = tree

    def acting_state(self) -> list[np.ndarray]:
        """What acting changes, of this seed."""
        return [leaf[self._index] for leaf in self._learner.acting_state()]

    def load_acting(self, leaves: list[np.ndarray]) -> None:
        """Takes `acting_state` back."""
        whole = [np.array(leaf) for leaf in self._learner.acting_state()]
        for target, leaf in zip(whole, leaves, strict=True):
            target[self._index] = leaf
        self._learner.load_acting(whole)

    def reset_acting(self) -> None:
        """Forgets what the policy of this seed has seen."""
        fresh = jax.device_get(self._learner.initial_acting())
        self.load_acting([leaf[self._index] for leaf in jax.tree.leaves(fresh)])

    def report(self, step: int) -> dict[str, np.ndarray]:
        """Open-loop predictions of this seed on its last batch."""
        learner, index = self._learner, self._index
        if learner.batch is None:
            return {}
        batch = jax.tree.map(lambda leaf: leaf[index], jax.device_get(learner.batch))
        return learner.report_on(self.act_params, batch, learner.root[index], step)

    @property
    def caught(self) -> guard.GuardState | None:
        """A copy of this seed's part of the first guard that caught something of it; None where none did."""
        name = self.caught_phase
        if not name:
            return None
        return jax.tree.map(
            lambda leaf: leaf[self._index], jax.device_get(self._learner.learning(name).guard)
        )

    @property
    def caught_phase(self) -> str:
        """The phase of `caught`, one that froze before others; empty for none."""
        guards = {own.phase.name: own.guard for own in self._learner.learnings}
        return guard.first_caught(guards, self._index)

    def release(self) -> None:
        """Lets go of what was caught of this seed."""
        for own in self._learner.learnings:
            if own.guard is not None:
                own.guard = release_seed(own.guard, self._index)


def release_seed(whole: guard.GuardState, index: int) -> guard.GuardState:
    """`guard.release` of one seed."""
    clear = lambda flags: jax.device_put(flags.at[index].set(False), flags.sharding)
    return whole._replace(frozen=clear(whole.frozen), caught=clear(whole.caught))


def load_seeds(learner: Learner, views: list[SeedView]) -> None:
    """Stacks what the views were given to `load`."""
    trees = [view._loaded for view in views]
    assert all(tree is not None for tree in trees)
    shardings = {"train": learner.shardings, "carry": learner.layout.rows}
    stack = lambda trees: jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
    learner.load(jax.jit(stack, out_shardings=shardings)(trees))
    for view in views:
        view._loaded = None


def make_take(learner: Learner) -> Callable[[Any, int], Any]:
    """The jitted slice of a snapshot of all seeds, laid out as one seed's on the whole mesh."""
    layout = MeshLayout(learner.layout.mesh, learner.layout.threshold)
    shape = jax.eval_shape(lambda tree: jax.tree.map(lambda leaf: leaf[0], tree), learner.snapshot())
    shardings = {"train": layout.train_state(shape["train"]), "carry": layout.rows}
    return jax.jit(lambda tree, index: jax.tree.map(lambda leaf: leaf[index], tree), out_shardings=shardings)
