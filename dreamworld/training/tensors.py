"""The agent's pytree in a snapshot: a flat {name: array}, written and read by Orbax."""

from __future__ import annotations

import errno
import logging
import math
import os
import shutil
import sys
import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from etils import epath

from dreamworld import words
from dreamworld.replay.memory import available_memory
from dreamworld.types import Array, Tree

MOST_TIMES = 1024  # as large as now, a batch of another session may be
Table = dict[str, list[Any]]  # {name: [shape, dtype name]}


def flatten(tree: Tree) -> dict[str, Any]:
    """Leaves by name, as `params/rssm/kernel`; ValueError when two leaves have the same name."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    named = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}
    if len(named) != len(leaves):
        raise ValueError("two tensors of the pytree have the same name; don't put '/' into its keys")
    return named


def table(tree: Tree) -> Table:
    """Name, shape and dtype of every leaf."""
    return {name: [list(np.shape(leaf)), _dtype(leaf)] for name, leaf in flatten(tree).items()}


def difference(stored: Table, like: Tree, *, subset: bool = False, limit: int = 5) -> str:
    """One line that says how `like` differs from what is stored; empty when it does not."""
    wanted = table(like)
    lines = [f"missing {name} {_show(wanted[name])}" for name in wanted if name not in stored]
    if not subset:
        lines += [f"unknown {name} {_show(stored[name])}" for name in stored if name not in wanted]
    for name, spec in wanted.items():
        if name in stored and stored[name] != spec:
            lines.append(f"{name} is {_show(stored[name])}, the agent has {_show(spec)}")
    more = f"; and {len(lines) - limit} more" if len(lines) > limit else ""
    return "; ".join(lines[:limit]) + more


def as_stored(like: Tree, stored: Table, *parts: str) -> Tree:
    """`like` with the stored shapes where leaves of these parts have others, as a batch of another size has.

    Such leaves are numpy arrays, which no mesh has to divide; `fresh_where_other` replaces them once they are read.
    """

    def fit(path: Any, leaf: Array) -> Array:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        shape = stored[name][0] if name in stored else list(leaf.shape)
        among = any(name == part or name.startswith(f"{part}/") for part in parts)
        known = among and math.prod(shape) <= MOST_TIMES * max(leaf.size, 1)
        return leaf if not known or shape == list(leaf.shape) else np.zeros(shape, leaf.dtype)

    return jax.tree_util.tree_map_with_path(fit, like)


def fresh_where_other(found: Tree, fresh: Tree) -> Tree:
    """`found`, with the leaves of `fresh` where the shapes differ."""
    return jax.tree.map(lambda old, new: old if np.shape(old) == np.shape(new) else new, found, fresh)


def make_writer() -> Any:
    """An Orbax writer that returns as soon as the arrays are copied."""
    import orbax.checkpoint as ocp

    for name in ("absl", "asyncio"):
        logging.getLogger(name).addFilter(_is_not_told_already)  # the same filter again changes nothing
    if not isinstance(sys.unraisablehook, _LateWrites):
        sys.unraisablehook = _LateWrites(sys.unraisablehook)
    warnings.filterwarnings("ignore", "coroutine 'async_serialize", RuntimeWarning)  # of a save that failed
    return ocp.AsyncCheckpointer(ocp.PyTreeCheckpointHandler(use_ocdbt=True))


def _is_not_told_already(record: logging.LogRecord) -> bool:
    """False for what Orbax logs of a failed save, which raises that failure as well."""
    error = record.exc_info[1] if record.exc_info else None
    if record.name == "asyncio":  # tensors that were being written next to the one that failed
        return not (isinstance(error, OSError) or "OCDBT" in str(error))
    missing = record.getMessage().startswith("Metadata file does not exist")
    return "orbax" not in record.pathname or not (error or missing)


class _LateWrites:
    """Passes on what can't be raised, but for the tensors that end after the save of which they are a part failed."""

    def __init__(self, before: Callable[[Any], Any]):
        self._before = before

    def __call__(self, raised: Any) -> None:
        late = isinstance(raised.exc_value, RuntimeError) and "Event loop is closed" in str(raised.exc_value)
        if not late:
            self._before(raised)


def require_space(directory: epath.Path, tree: Tree) -> None:
    """Raises OSError where the disk can't hold the tensors, before a part of them is written.

    A quarter of their size is the least that they need: while the optimizer's moments are zeros, compression
    leaves about half.
    """
    need = sum(leaf.nbytes for leaf in flatten(tree).values() if hasattr(leaf, "nbytes"))
    free = shutil.disk_usage(directory).free
    if free < need // 4:
        text = f"{os.strerror(errno.ENOSPC)} (the agent has {words.size(need)}, {words.size(free)} are free)"
        raise OSError(errno.ENOSPC, text, os.fspath(directory))


def write(writer: Any, path: epath.Path, tree: Tree) -> None:
    """Starts writing `tree`; its arrays may be donated or overwritten when this returns."""
    import orbax.checkpoint as ocp

    writer.save(path, args=ocp.args.PyTreeSave(_stored(flatten(tree))))


def read(path: epath.Path, names: dict[str, str], count: int, like: Tree) -> Tree:
    """Reads the tensors of `like` into its structure, shardings and array kinds.

    `names` maps each to its name among the `count` that are stored.
    """
    import orbax.checkpoint as ocp

    named = {name: _target(leaf) for name, leaf in flatten(like).items()}
    wanted = {names[name]: leaf for name, leaf in named.items() if np.prod(leaf.shape, dtype=int) > 0}
    args = ocp.args.PyTreeRestore(
        item=wanted,
        restore_args=ocp.checkpoint_utils.construct_restore_args(wanted),
        partial_restore=len(wanted) < count,
    )
    handler = ocp.PyTreeCheckpointHandler(use_ocdbt=True)
    with ocp.Checkpointer(handler) as reader:
        if wanted:
            _check_memory(wanted)
            _check_blocks(handler.metadata(path).tree, wanted)
        found = reader.restore(path, args=args) if wanted else {}
    leaves = [found[names[name]] if names[name] in found else _empty(leaf) for name, leaf in named.items()]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _check_memory(wanted: dict[str, Any]) -> None:
    """Raises ValueError where the tensors can't fit: a table of a few bytes may claim any size."""
    need = sum(math.prod(leaf.shape) * np.dtype(leaf.dtype).itemsize for leaf in wanted.values())
    free, source = available_memory()
    if need > free:
        raise ValueError(f"its tensors need {words.size(need)}, {words.size(free)} are left ({source})")


def _check_blocks(described: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raises ValueError where a file claims another shape, or larger blocks: a block is read whole."""
    for name, leaf in wanted.items():
        shape, storage = tuple(described[name].shape), described[name].storage
        blocks = tuple(storage.chunk_shape or ()) if storage else ()
        if shape != tuple(leaf.shape):
            raise ValueError(f"{name} has the shape {shape} in its file instead of {tuple(leaf.shape)}")
        if any(block > max(size, 1) for block, size in zip(blocks, shape)):
            raise ValueError(f"{name} of shape {shape} is stored in blocks of {blocks}")


def _stored(named: dict[str, Any]) -> dict[str, Any]:
    """Leaves as Orbax takes them: it copies arrays itself, and refuses numbers and empty arrays."""
    kept = {name: leaf for name, leaf in named.items() if np.size(leaf) > 0}
    return {name: leaf if isinstance(leaf, jax.Array) else np.asarray(leaf) for name, leaf in kept.items()}


def _target(leaf: Array) -> Any:
    if isinstance(leaf, jax.Array | jax.ShapeDtypeStruct):
        sharding = leaf.sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
    return np.asarray(leaf)


def _empty(target: Any) -> Any:
    if isinstance(target, np.ndarray):
        return np.zeros(target.shape, target.dtype)
    return jax.numpy.zeros(target.shape, target.dtype, device=target.sharding)


def _dtype(leaf: Array) -> str:
    dtype = leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype
    if jax.numpy.issubdtype(dtype, jax.dtypes.prng_key):
        raise TypeError("the pytree has a typed random key; save jax.random.key_data(key)")
    return str(dtype)


def _show(spec: list[Any]) -> str:
    return f"{spec[1]}{spec[0]}"
