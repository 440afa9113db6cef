"""One mesh (seed, data, fsdp) and the shardings on it; what `jax.pmap` is made of today, without pmap.

Batches are split on `data`, large tensors of the train state on `fsdp`, independent seeds lie on `seed`.
Everything is a global array under `jax.jit`, but for the loss and its gradient: each device on `data` computes
those of its own rows (`per_shard`), and they are averaged once. Random bits do not depend on the mesh, and
percentiles are those of the whole batch. https://docs.jax.dev/en/latest/migrate_pmap.html
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from dreamworld import words
from dreamworld.config import ParallelConfig
from dreamworld.errors import UserError
from dreamworld.types import Batch, Output, TrainState, Tree

AXES = ("seed", "data", "fsdp")
BUCKET = 1 << 20  # elements below which arrays are summed over devices as one; copying larger ones costs more


def axis_sizes(config: ParallelConfig, devices: int) -> tuple[int, int, int]:
    """Sizes of (seed, data, fsdp) for a number of devices, -1 filled in; UserError says what doesn't fit."""
    sizes = {axis: int(getattr(config, axis)) for axis in AXES}
    for axis, size in sizes.items():
        if size < 1 and size != -1:
            raise UserError(f"--parallel.{axis} {size}: takes a number of devices, or -1 for the rest")
    rest = [axis for axis, size in sizes.items() if size == -1]
    if len(rest) > 1:
        raise UserError(f"only one axis of the mesh can be -1, not parallel.{' and parallel.'.join(rest)}")
    fixed = math.prod(size for size in sizes.values() if size != -1)
    product = " x ".join(f"parallel.{axis} {size}" for axis, size in sizes.items() if size != -1)
    if fixed > devices:
        raise UserError(f"{product} needs {words.count(fixed, 'device')}; there are {devices}")
    if rest:
        if devices % fixed:
            raise UserError(
                f"{words.count(devices, 'device')} can't be divided by {product}, so parallel.{rest[0]} -1 has no size"
            )
        sizes[rest[0]] = devices // fixed
    return sizes["seed"], sizes["data"], sizes["fsdp"]


def make_mesh(config: ParallelConfig, devices: Sequence[Any] | None = None) -> Mesh:
    """The mesh over `devices` (default: all), or over the first ones when the sizes ask for fewer.

    Raises UserError when the sizes don't fit, or when processes would have to share rows of a batch.
    """
    devices = jax.devices() if devices is None else list(devices)
    shape = axis_sizes(config, len(devices))
    processes = {device.process_index for device in devices}
    used = math.prod(shape)
    if len(processes) > 1 and used < len(devices):
        raise UserError(
            f"parallel.seed x data x fsdp is {used}; with several processes it must be all "
            f"{words.count(len(devices), 'device')}"
        )
    mesh = jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * 3, devices=devices[:used])
    if len(processes) > 1:
        _check_processes(mesh)
    return mesh


def _check_processes(mesh: Mesh) -> None:
    """Every process brings its own rows of the batch: no position on `data` may belong to two of them."""
    owners = [{device.process_index for device in column.flat} for column in np.moveaxis(mesh.devices, 1, 0)]
    if any(len(owner) > 1 for owner in owners):
        each = mesh.size // len({device.process_index for device in mesh.devices.flat})
        raise UserError(
            f"parallel.seed {mesh.shape['seed']} x parallel.fsdp {mesh.shape['fsdp']}: must divide the "
            f"{words.count(each, 'device')} of a process, since each process brings its own part of the batch"
        )


@dataclasses.dataclass(frozen=True)
class MeshLayout:
    """Where everything lies. With `seeds`, every array of the train state, carry and batch leads with that axis."""

    mesh: Mesh
    threshold: int = 1 << 20  # elements from which a tensor is split on fsdp
    seeds: int = 0  # seeds trained together; 0: one, without the leading axis

    @property
    def replicated(self) -> NamedSharding:
        """The same on every device (of a seed)."""
        return self._named()

    @property
    def rows(self) -> NamedSharding:
        """Leading axis B on `data`."""
        return self._named("data")

    def tensor(self, shape: tuple[int, ...]) -> NamedSharding:
        """Of a learned tensor: its largest axis that divides goes on fsdp, if it is large; else replicated."""
        shape = shape[1:] if self.seeds else shape
        ways = self.mesh.shape["fsdp"]
        axes = [axis for axis, size in enumerate(shape) if size % ways == 0]
        if ways == 1 or not axes or math.prod(shape) < self.threshold:
            return self.replicated
        best = max(axes, key=lambda axis: shape[axis])
        return self._named(*(None,) * best, "fsdp")

    def train_state(self, like: TrainState) -> TrainState:
        """Shardings of a TrainState: params, optimiser and slow targets by `tensor`; the rest replicated."""
        split = lambda tree: jax.tree.map(lambda leaf: self.tensor(leaf.shape), tree)
        same = self.replicated
        return TrainState(split(like.params), split(like.opt_state), split(like.slow), same, same, same)

    def output(self) -> Output:
        """Shardings of what an update returns."""
        same: Any = self.replicated
        rows: Any = self.rows
        return Output(same, rows, rows, same)

    def put(self, batch: Batch) -> Batch:
        """A host batch on the devices; each process gives its own rows, of one seed or without seeds."""
        sharding = NamedSharding(self.mesh, PartitionSpec("data"))
        if jax.process_count() == 1:
            return jax.device_put(batch, sharding)
        return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), batch)

    def seed_row(self, seed: int) -> MeshLayout:
        """The layout of one seed (by position) on the devices that hold it."""
        index = seed // (self.seeds // self.mesh.shape["seed"])
        return MeshLayout(_submesh(self.mesh, self.mesh.devices[index : index + 1]), self.threshold)

    def acting(self) -> Mesh:
        """The devices of this process that act: the first position on `data`."""
        local = self._local_devices()
        return _submesh(self.mesh, local[:, :1])

    def local(self) -> Mesh:
        """The devices of this process."""
        return _submesh(self.mesh, self._local_devices())

    def known_to(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, with the mesh as JAX's context while it is traced: `per_shard` in it sees the mesh."""
        if self.mesh.shape["data"] == 1:
            return function  # nothing to see, and XLA's CPU code is 17% slower with the context

        def traced(*args: Any) -> Any:
            with jax.sharding.use_abstract_mesh(self.mesh.abstract_mesh):
                return function(*args)

        return traced

    def _local_devices(self) -> np.ndarray:
        mine = [device.process_index == jax.process_index() for device in self.mesh.devices[0, :, 0]]
        return self.mesh.devices[:, np.asarray(mine)]

    def _named(self, *spec: str | None) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec("seed", *spec) if self.seeds else PartitionSpec(*spec))


def make_layout(
    config: ParallelConfig, *, batch_size: int, seeds: int = 0, devices: Sequence[Any] | None = None
) -> MeshLayout:
    """The layout of a run; UserError when batch or seeds can't be divided over the mesh."""
    mesh = make_mesh(config, devices)
    shape = mesh.shape
    if batch_size % shape["data"]:
        raise UserError(
            f"--run.batch_size {batch_size} can't be divided by parallel.data {shape['data']}; "
            f"set --parallel.data or the batch size"
        )
    if not seeds and shape["seed"] > 1:
        raise UserError(f"--parallel.seed {shape['seed']}: is for runs of several --seeds")
    if seeds and seeds % shape["seed"]:
        raise UserError(f"{words.count(seeds, 'seed')} can't be divided by parallel.seed {shape['seed']}")
    return MeshLayout(mesh, config.fsdp_threshold, seeds)


def per_shard(function: Callable[[Any, Any], tuple[Any, Any]], same: Tree, rows: Tree) -> tuple[Any, Any]:
    """`function(same, rows) -> (same, rows)` where each device on `data` has its own rows of the batch.

    For gradients. Left to itself the compiler sums the gradient of a replicated weight over devices wherever it
    is computed: for a weight used in a scan, in every step of the backward scan. Here each device has a gradient
    of its own, which `function` averages with `mean_over_shards` when it is complete.

    Without a mesh in JAX's context (`MeshLayout.known_to`), or with one device on `data`, it is a plain call.

    Args:
      same: pytree that is equal for all rows, such as parameters; the first result must be, too.
      rows: pytree whose leaves lead with B; so do those of the second result.
    """
    if jax.sharding.get_abstract_mesh().shape.get("data", 1) == 1:
        return function(same, rows)
    specs = (PartitionSpec(), PartitionSpec("data"))
    # The compiler splits over fsdp. JAX can't check that results computed from gathered rows are equal everywhere.
    manual = {"seed", "data"}
    return jax.shard_map(function, in_specs=specs, out_specs=specs, axis_names=manual, check_vma=False)(
        same, rows
    )


def shards() -> int:
    """Devices among which the batch is split here: 1 outside of `per_shard`."""
    mesh = jax.sharding.get_abstract_mesh()
    return mesh.shape["data"] if "data" in mesh.manual_axes else 1


def mean_over_shards(tree: Tree) -> Tree:
    """Means over devices; a bool becomes whether it is true on one. Outside of `per_shard` the tree itself.

    Small arrays travel as one: on a slow network each costs a round trip, and between processes on CPUs more.
    """
    count = shards()
    if count == 1:
        return tree
    leaves, structure = jax.tree.flatten(tree)
    small = [leaf.size < BUCKET for leaf in leaves]
    vector, split = ravel_pytree([leaf for leaf, fits in zip(leaves, small) if fits])
    large = [leaf for leaf, fits in zip(leaves, small) if not fits]
    vector, *large = jax.tree.map(lambda x: x / count, jax.lax.psum([vector, *large], "data"))
    together, alone = iter(split(vector)), iter(large)
    return jax.tree.unflatten(structure, [next(together if fits else alone) for fits in small])


def all_rows(arrays: Sequence[jax.Array], axis: int) -> Sequence[jax.Array]:
    """Arrays of equal shape with the rows of all devices along `axis`; the arrays themselves outside of `per_shard`."""
    if shards() == 1:
        return arrays
    return list(jax.lax.all_gather(jax.numpy.stack(arrays), "data", axis=axis + 1, tiled=True))


def view(tree: Tree, mesh: Mesh) -> Tree:
    """The parts of global arrays that lie on the devices of `mesh`, as arrays on it. Copies nothing.

    `mesh` holds some of the devices of theirs; axes of arrays that are split on a shorter axis get shorter.
    """
    return jax.tree.map(lambda leaf: _view(leaf, mesh), tree)


def _view(leaf: jax.Array, mesh: Mesh) -> jax.Array:
    sharding = leaf.sharding
    assert isinstance(sharding, NamedSharding)
    if sharding.mesh.size == mesh.size:
        return leaf
    spec = (*sharding.spec, *(None,) * (leaf.ndim - len(sharding.spec)))
    scale = lambda axis: mesh.shape[axis] / sharding.mesh.shape[axis] if axis else 1
    shape = tuple(round(size * scale(axis)) for size, axis in zip(leaf.shape, spec))
    parts = {shard.device: shard.data for shard in leaf.addressable_shards}
    found = [parts[device] for device in mesh.devices.flat]
    return jax.make_array_from_single_device_arrays(shape, NamedSharding(mesh, sharding.spec), found)


def join(parts: list[Any], layout: MeshLayout) -> Tree:
    """One array [seeds, ...] per leaf from arrays that `layout.seed_row(s).put` placed; nothing changes device."""
    each = len(parts) // layout.mesh.shape["seed"]
    groups = []
    for begin in range(0, len(parts), each):
        sharding = NamedSharding(layout.seed_row(begin).mesh, PartitionSpec("seed", "data"))
        groups.append(_stack(parts[begin : begin + each], sharding))
    if len(groups) == 1:
        return groups[0]

    def one(*leaves: jax.Array) -> jax.Array:
        shards = [shard.data for leaf in leaves for shard in leaf.addressable_shards]
        return jax.make_array_from_single_device_arrays(
            (len(parts), *leaves[0].shape[1:]), layout.rows, shards
        )

    return jax.tree.map(one, *groups)


@functools.partial(jax.jit, static_argnums=1)
def _stack(trees: list[Any], sharding: NamedSharding) -> Tree:
    stacked = jax.tree.map(lambda *leaves: jax.numpy.stack(leaves), *trees)
    return jax.lax.with_sharding_constraint(stacked, sharding)


def _submesh(mesh: Mesh, devices: np.ndarray) -> Mesh:
    return Mesh(devices, AXES, axis_types=mesh.axis_types)
