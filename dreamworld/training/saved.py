"""What the host part of a snapshot must be for a loop to go on from it, checked before the loop takes anything.

Whatever does not fit raises `BadFile`: the snapshot counts as damaged, and the one before it is used.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from dreamworld import words
from dreamworld.fields import Fields
from dreamworld.reading import BadFile, PathLike
from dreamworld.training.counters import Account, Counters
from dreamworld.types import Spaces

MOST = float(1 << 53)  # of a counter
MAX_SECONDS = 1e10  # three centuries
WINDOW = 10_000  # returns of episodes


def check_counts(host: object, path: PathLike, num_envs: int, step: int, stages: int) -> Fields:
    """Counters at `step` of an agent of some `stages`, averages, statistics of `num_envs` environments.

    Returns the host part as fields.
    """
    found = Fields(host, path)
    _check_counters(found.fields("counters"), step, stages)
    _check_metrics(found.fields("metrics"))
    _check_episodes(found.fields("episodes"), num_envs)
    return found


def check_session(found: Fields, act: list[Any], spaces: Spaces) -> None:
    """What acting, environments and batches on their way left; `act` are the leaves of the carry of acting."""
    env = found.fields("env")
    for key in env:
        _array(env, key)
    leaves = found.items("act", np.ndarray)
    if env.row and [leaf.shape for leaf in leaves] != [leaf.shape for leaf in act]:
        raise found.bad("act", f"the {len(act)} arrays of this agent's carry")
    if any(leaf.dtype.kind in "OSUMm" for leaf in leaves):
        raise found.bad("act", "arrays of numbers")
    pending = found.get("pending")
    groups = (
        [found.rows("pending")]
        if isinstance(pending, list)
        else [found.fields("pending").rows(name) for name in found.fields("pending")]
    )  # version 0.1 had a list
    for batch in (batch for group in groups for batch in group):
        _check_batch(batch, spaces)


def _check_counters(counters: Fields, step: int, stages: int) -> None:
    own, account = _defaults(Counters), _defaults(Account)
    known = own if "accounts" in counters else account | own  # version 0.1 had one account among them
    at = _numbers(counters, known)
    if at["step"] != step:
        raise counters.bad("step", f"{step}, that of the snapshot")
    if at["stage"] > stages:
        raise counters.bad("stage", f"one of the {words.count(stages, 'stage')} of this agent")
    if at["iteration"] > step:
        raise counters.bad("iteration", "a number of at most the steps")
    if at["seconds"] > MAX_SECONDS:
        raise counters.bad("seconds", f"a number of at most {MAX_SECONDS:.0f}")
    if at["stage_step"] > step:
        raise counters.bad("stage_step", "a step that was reached")
    accounts = counters.fields("accounts") if "accounts" in counters else None
    for row in [counters] if accounts is None else [accounts.fields(name) for name in accounts]:
        values = at if accounts is None else _numbers(row, account)
        if (values["train_ratio"] >= 0 and values["batch_rows"] < 1) or values["first_update"] > step:
            raise BadFile(counters.path, f"{row.where} contradict each other")


def _defaults(kind: type) -> dict[str, float]:
    fields = dataclasses.fields(kind)
    return {field.name: field.default for field in fields if field.default is not dataclasses.MISSING}


def _numbers(row: Fields, known: dict[str, float]) -> dict[str, float]:
    """The numbers of a row by name, those that are missing at their defaults."""
    found = dict(known)
    for key in row:
        if key == "accounts":
            continue
        if key not in known:
            raise BadFile(row.path, f"{row.name(key)} is no counter")
        value = found[key] = _scalar(row, key)
        whole, low = isinstance(known[key], int), -1 if known[key] == -1 else 0
        if (whole and value != int(value)) or not low <= value <= MOST:
            raise row.bad(key, f"a {'whole ' if whole else ''}number of at least {low}")
    return found


def _check_metrics(metrics: Fields) -> None:
    for key in metrics:
        kind = key.partition("/")[0]
        value = _scalar(metrics, key, finite=False)
        if kind not in ("device", "host", "count") or (kind == "count" and not 1 <= value <= MOST):
            raise metrics.bad(key, "a sum or a count of at least 1")


def _check_episodes(episodes: Fields, num_envs: int) -> None:
    for key in ("return", "length", *[key for key in episodes if key.startswith("sum/")]):
        if _array(episodes, key).shape != (num_envs,):
            raise episodes.bad(key, f"an array of {words.count(num_envs, 'number')}, one per environment")
    recent = _array(episodes, "recent")
    if recent.ndim != 1 or len(recent) > WINDOW:
        raise episodes.bad("recent", "a list of returns")
    if not 0 <= _scalar(episodes, "episodes") <= MOST:
        raise episodes.bad("episodes", "a number of at least 0")


def _check_batch(batch: Fields, spaces: Spaces) -> None:
    """A batch as replay draws it: rows [B, L, ...] of the spaces, their ids, and maybe importance weights [B].

    Version 0.1 had `consec` [B], too.
    """
    if set(batch) - {"consec", "weight"} != {*spaces, "row"}:
        raise BadFile(batch.path, f"{batch.where} has not the keys of a batch")
    leading = _array(batch, "row").shape
    if len(leading) != 2 or _array(batch, "row").dtype != np.int64:
        raise batch.bad("row", "ids of rows")
    if "weight" in batch:
        weight = _array(batch, "weight")
        if weight.shape != leading[:1] or weight.dtype != np.float32 or not np.isfinite(weight).all():
            raise batch.bad("weight", "importance weights")
    for key, space in spaces.items():
        array = _array(batch, key, numbers=False)
        if array.shape != (*leading, *space.shape) or array.dtype.name != space.dtype:
            raise batch.bad(key, f"{space.dtype} of shape {(*leading, *space.shape)}")


def _array(found: Fields, key: str, numbers: bool = True) -> np.ndarray:
    value = found.get(key)
    if not isinstance(value, np.ndarray) or (numbers and value.dtype.kind in "OSUMmV"):
        raise found.bad(key, "an array of numbers")
    return value


def _scalar(found: Fields, key: str, finite: bool = True) -> float:
    value = found.get(key)
    if isinstance(value, np.ndarray) and value.shape == () and value.dtype.kind in "iuf":
        value = value.item()
    elif isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 10**300:
        raise found.bad(key, "a number")
    if finite and not math.isfinite(value):
        raise found.bad(key, "a finite number")
    return value
