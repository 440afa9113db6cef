"""Batches whose update was not finite, on disk: `DIR/failures/<update>/`, for `dreamworld debug`."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath

from dreamworld.errors import UserError
from dreamworld.fields import Fields, read_fields
from dreamworld.limits import MAX_STEP
from dreamworld.reading import BadFile
from dreamworld.training import snapshot, trees
from dreamworld.training.guard import Failure, GuardState, fetch
from dreamworld.types import Batch, Tree


def save_bad_batch(
    directory: epath.PathLike,
    guard: GuardState,
    report: Failure,
    checkpoint: int | None = None,
    phase: str = "",
) -> epath.Path:
    """Writes what `dreamworld debug` needs to `directory/<update>/` and returns that folder.

    Args:
      directory: the run's folder of failures.
      guard: as given to `inspect`.
      report: what `inspect` returned.
      phase: name of the phase whose update it was.
      checkpoint: step of the snapshot nearest to the failure. With policy "stop" one saved now holds exactly
        the parameters that met the batch.
    """
    folder = epath.Path(directory) / str(report.step)
    temporary = epath.Path(directory) / f"{report.step}.tmp"
    for path in (temporary, folder):
        path.rmtree(missing_ok=True)
    batch: Batch = jax.tree.map(fetch, guard.batch)
    carry = [fetch(leaf) for leaf in jax.tree.leaves(guard.carry)]
    key = np.asarray(guard.key)
    trees.write_tree(temporary, {"batch": batch._asdict(), "carry": carry, "key": key, "step": report.step})
    summary = {
        **dataclasses.asdict(report),
        "rows": None,
        "text": report.text,
        "checkpoint": checkpoint,
        "phase": phase,
    }
    (temporary / "report.json").write_text(json.dumps(summary, indent=1))
    temporary.rename(folder)
    return folder


class BadBatch(NamedTuple):
    """A failure read back; numpy arrays."""

    step: int
    key: np.ndarray
    carry: list[np.ndarray]  # leaves
    batch: Batch
    summary: dict[str, Any]  # the report, "text" and "checkpoint"


def load_bad_batch(folder: epath.PathLike) -> BadBatch:
    """Reads what `save_bad_batch` wrote; UserError names what is damaged."""
    folder = epath.Path(folder)
    try:
        tree = Fields(trees.read_tree(folder), folder / "tree.json")
        summary = read_fields(folder / "report.json")
        summary.text("text")
        if summary.get("checkpoint") is not None:
            summary.integer("checkpoint", 0, MAX_STEP)
        batch = check_batch(tree.fields("batch"))
        carry = tree.items("carry", np.ndarray)
        key = check_arrays(tree.get("key"), tree, "key")
        if isinstance(key, dict) or key.shape != (2,) or key.dtype != np.uint32:
            raise tree.bad("key", "a key of two numbers")
        return BadBatch(tree.integer("step", 0, 2**31 - 1), key, carry, batch, summary.row)
    except (snapshot.CorruptError, BadFile) as error:
        raise UserError(f"{folder} does not hold a batch that can be read: {error}") from error


def check_batch(found: Fields) -> Batch:
    """A batch whose arrays have the same rows; BadFile for anything else."""
    if set(found) != set(Batch._fields):
        raise found.bad("obs", "with the other fields of a batch")
    reward = found.get("reward")
    for name in found:
        value = check_arrays(found.get(name), found, name)
        if isinstance(value, dict) != (name in ("obs", "action", "extras")):
            raise found.bad(name, "arrays by name" if name in ("obs", "action", "extras") else "one array")
        if not isinstance(value, dict) and (value.ndim != 2 or value.shape != reward.shape):
            raise found.bad(name, "an array [B, L], as long as the others")
    for name in ("obs", "action", "extras"):
        for key, array in found.get(name).items():
            rows = 1 if key == "weight" and name == "extras" else 2
            if array.shape[:rows] != reward.shape[:rows]:
                raise found.bad(
                    name, f"arrays [B, L, ...] of as many rows as `reward`, as {key!r:.80} is not"
                )
    return Batch(**found.row)


def check_arrays(value: Tree, found: Fields, name: str) -> Tree:
    """`value`, an array of numbers or a mapping of such; BadFile for anything else."""
    for item in value.values() if isinstance(value, dict) else [value]:
        if not isinstance(item, np.ndarray) or item.dtype.kind in "OSUMm":
            raise found.bad(name, "an array of numbers")
    return value
