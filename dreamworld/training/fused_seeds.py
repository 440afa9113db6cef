"""Several seeds of a fused run in one program: vmapped, and laid over the devices of the mesh's `seed` axis."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from dreamworld import parallel
from dreamworld.config import Config
from dreamworld.contract import Agent
from dreamworld.parallel import MeshLayout
from dreamworld.replay.device import DeviceReplay
from dreamworld.training import guard
from dreamworld.training.fused import FusedState, Played, StepRows
from dreamworld.training.fused_learner import FusedLearner, keys_of
from dreamworld.training.fused_loop import Chunks, FusedLoop
from dreamworld.training.rounds import Round
from dreamworld.training.seed_view import release_seed
from dreamworld.training.seeds import Lockstep
from dreamworld.training.stops import Stop
from dreamworld.types import Key, Params, Spaces, TrainState, Tree

# What has a leading seed axis. Counts are the same for all seeds: with one of their own, writing a row would scatter.
SEEDED = FusedState(True, True, True, True, True, True, DeviceReplay(True, False), False, False)  # type: ignore[arg-type]
AXES = jax.tree.map(lambda seeded: 0 if seeded else None, SEEDED)


class FusedSeeds(FusedLearner):
    """The fused program of several seeds; `view(i)` is what the loop of one seed sees.

    Each device runs the program for its own seeds and talks to no other one.
    """

    def __init__(
        self,
        agent: Agent,
        env: Any,
        spaces: Spaces,
        configs: Sequence[Config],
        *,
        capacity: int,
        layout: MeshLayout,
    ):
        self.layout, self._configs = layout, configs
        super().__init__(agent, env, spaces, configs[0], capacity=capacity)
        pick = lambda metrics, index: jax.tree.map(lambda leaf: leaf[index], metrics)
        self._split = jax.jit(lambda metrics: [pick(metrics, index) for index in range(len(configs))])

    def _keys(self) -> tuple[Any, Any]:
        """Those of each seed alone."""
        sharding = NamedSharding(self.layout.mesh, PartitionSpec("seed"))
        roots, env_keys = zip(*map(keys_of, self._configs))
        return jax.device_put((np.stack(roots), np.stack(env_keys)), sharding)

    def _compile(self) -> tuple[Any, Any, Any]:
        program, mesh = self.program, self.layout.mesh

        def lift(function: Callable[..., Any], axes: Tree, out_axes: Tree) -> Any:
            vmapped = jax.vmap(function, in_axes=axes, out_axes=out_axes)
            specs = {"in_specs": _specs(axes), "out_specs": _specs(out_axes)}
            return jax.shard_map(vmapped, mesh=mesh, check_vma=False, **specs)

        def train(state: FusedState, roots: Key, what: Round, rounds: int) -> Any:
            once = lambda state, root: program.train(state, root, what, rounds)
            return lift(once, (AXES, 0), (AXES, 0))(state, roots)

        init = jax.jit(lift(program.init, (0, 0), AXES))
        reset = jax.jit(lift(program.reset_acting, (AXES,), AXES), donate_argnums=0)
        return init, jax.jit(train, static_argnums=(2, 3), donate_argnums=0), reset

    def finish(self) -> list[Played]:
        """Waits for what was started; rows and flags on the host, metrics on the device, of each seed."""
        rows, metrics, caught = self._take_chunk()
        return [
            Played(StepRows(*(part[index] for part in rows)), own, caught[index])
            for index, own in enumerate(self._split(metrics))
        ]

    def root(self, index: int) -> np.ndarray:
        """The root key of a seed."""
        return np.asarray(self._root)[index]

    def part(self, index: int, tree: Tree, seeded: Tree) -> Tree:
        """A copy of one seed's part of the state, or of a part of it, on the device that holds the seed."""
        layout = self.layout
        each = layout.seeds // layout.mesh.shape["seed"]
        return _take(parallel.view(tree, layout.seed_row(index).mesh), index % each, seeded)

    def join(self, states: Sequence[FusedState]) -> None:
        """Takes the states of all seeds, each as `part` gave it."""
        mesh = self.layout.mesh
        each = len(states) // mesh.shape["seed"]
        groups = []
        for begin in range(0, len(states), each):
            row = self.layout.seed_row(begin).mesh
            shardings = jax.tree.map(functools.partial(NamedSharding, row), _specs(AXES))
            groups.append(jax.jit(_stack, out_shardings=shardings)(states[begin : begin + each]))

        def whole(seeded: bool, *parts: Tree) -> Tree:
            sharding = NamedSharding(mesh, PartitionSpec("seed") if seeded else PartitionSpec())

            def one(*leaves: jax.Array) -> jax.Array:
                shape = (len(states), *leaves[0].shape[1:]) if seeded else leaves[0].shape
                shards = [leaf.addressable_shards[0].data for leaf in leaves]
                return jax.make_array_from_single_device_arrays(shape, sharding, shards)

            return jax.tree.map(one, *parts)

        self.load(jax.tree.map(whole, SEEDED, *groups))


def _specs(axes: Tree) -> Tree:
    spec = lambda axis: PartitionSpec() if axis is None else PartitionSpec("seed")
    return jax.tree.map(spec, axes, is_leaf=lambda axis: axis is None)


@functools.partial(jax.jit, static_argnums=2)
def _take(tree: Tree, index: Tree, seeded: Tree) -> Tree:
    own = lambda leads, part: jax.tree.map(lambda leaf: leaf[index] if leads else leaf, part)
    return jax.tree.map(own, seeded, tree)


def _stack(states: Sequence[FusedState]) -> FusedState:
    def one(seeded: bool, *parts: Tree) -> Tree:
        return jax.tree.map(lambda *leaves: jnp.stack(leaves) if seeded else leaves[0], *parts)

    return jax.tree.map(one, SEEDED, *states)


class FusedSeedView:
    """What the loop of one seed sees of the common learner; the methods are those of `FusedLearner`."""

    update_flops = 0

    def __init__(self, learner: FusedSeeds, index: int):
        self._learner, self._index = learner, index
        self.agent, self.program = learner.agent, learner.program
        self.loaded: FusedState | None = None

    @property
    def running(self) -> bool:
        """Whether a chunk was started that is not finished."""
        return self._learner.running

    @property
    def state(self) -> TrainState:
        """A copy of this seed's train state."""
        return self._learner.part(self._index, self._learner.snapshot().train, True)

    @property
    def act_params(self) -> Params:
        """A copy of what acting needs of this seed, on one device."""
        return self.agent.acting(self.state)

    def snapshot(self) -> FusedState:
        """This seed alone, as a run of one seed saves it."""
        return self._learner.part(self._index, self._learner.snapshot(), SEEDED)

    def load(self, tree: FusedState) -> None:
        """Keeps a seed's state until `join` has all of them."""
        self.loaded = tree

    def report(self, step: int) -> dict[str, np.ndarray]:
        """Open-loop predictions of this seed on a fresh batch."""
        return self._learner.report_on(self.snapshot(), self._learner.root(self._index), step)

    @property
    def caught(self) -> guard.GuardState | None:
        """A copy of this seed's part of the first guard that caught something of it; None where none did."""
        name = self.caught_phase
        return self._learner.part(self._index, self._learner.snapshot().guard[name], True) if name else None

    @property
    def caught_phase(self) -> str:
        """The phase of `caught`; empty for none."""
        return guard.first_caught(self._learner.snapshot().guard, self._index)

    def release(self) -> None:
        """Lets go of what was caught of this seed."""
        state = self._learner.snapshot()
        guards = {name: release_seed(own, self._index) for name, own in state.guard.items()}
        self._learner.load(state._replace(guard=guards))


class FusedLockstep(Lockstep):
    """Runs the fused loops of several seeds together: one program for all, the rest each its own."""

    def __init__(self, learner: FusedSeeds, loops: Sequence[FusedLoop]):
        self.loops = list(loops)
        self.chunks = Chunks(learner, loops)
        for loop in loops:
            loop.watch = loops[0].watch

    def run(self, stop: Stop) -> None:
        """Trains; a checkpoint of every seed is complete when this returns, also by NumericalStop."""
        self.chunks.stop = stop
        for loop in self.loops:
            loop.stop = stop
        self._each(lambda loop: loop.begin())
        while self.chunks.go_on:
            previous = self.loops[0].counters.step
            self.chunks.iterate()
            self._each(lambda loop, previous=previous: loop.attend(previous))
        self._each(lambda loop: loop.end())
