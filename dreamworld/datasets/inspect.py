"""What is in a data set, in numbers and in words, and whether all of it can be read."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from dreamworld import words
from dreamworld.datasets.episodes import return_of
from dreamworld.datasets.store import DataSet
from dreamworld.errors import UserError
from dreamworld.spaces import describe_space
from dreamworld.types import Spaces

MOST = 20  # problems that are named one by one


@dataclasses.dataclass(frozen=True)
class Share:
    """The episodes of one policy."""

    episodes: int
    steps: int
    mean_return: float  # NaN without rewards


def by_policy(data: DataSet) -> dict[str, Share]:
    """The share of each policy, in the order of their first episodes."""
    labels, lengths = np.array(data.labels), np.array(data.lengths)
    returns = np.array(data.returns) if data.has_reward else np.full(len(labels), np.nan)
    found = {}
    for name in data.header.policies:
        mine = labels == name
        if mine.any():
            found[name] = Share(int(mine.sum()), int((lengths[mine] - 1).sum()), float(returns[mine].mean()))
    return found


def summary(data: DataSet) -> dict[str, Any]:
    """The numbers, as JSON values."""
    steps = [length - 1 for length in data.lengths]
    share = lambda row: {
        "episodes": row.episodes,
        "steps": row.steps,
        "mean_return": row.mean_return if data.has_reward else None,
    }
    return {
        "folder": str(data.path),
        "source": data.header.source,
        "task": data.task,
        "episodes": data.episodes,
        "steps": data.steps,
        "absent": data.schema.absent,
        "observations": _spaces(data.obs_space),
        "actions": _spaces(data.act_space),
        "extra": _spaces(data.extra_space),
        "terminal": sum(data.terminals),
        "shortest": min(steps, default=0),
        "longest": max(steps, default=0),
        "mean_return": float(np.mean(data.returns)) if data.returns else None,
        "least_return": min(data.returns, default=None),
        "greatest_return": max(data.returns, default=None),
        "policies": {name: share(row) for name, row in by_policy(data).items()},
        "bytes": data.packed_bytes,
    }


def _spaces(spaces: Spaces) -> dict[str, str]:
    return {key: describe_space(space) for key, space in spaces.items()}


def describe(row: dict[str, Any]) -> str:
    """`summary` for people."""
    listed = lambda spaces: ", ".join(f"{key}: {space}" for key, space in spaces.items())
    count = lambda number, noun: words.count(number, noun)
    size = f"{count(row['steps'], 'step')} in {count(row['episodes'], 'episode')}, {words.size(row['bytes'])}"
    lines = [
        f"{row['folder']}: {size}",
        f"from: {row['source'] or 'unknown'}, recorded in {row['task'] or 'an unknown environment'}",
        f"observations: {listed(row['observations'])}",
        f"actions: {listed(row['actions']) or 'absent'}",
    ]
    lines += [f"extra: {listed(row['extra'])}"] if row["extra"] else []
    if row["mean_return"] is None:
        lines.append("rewards: absent")
    else:
        low, high = row["least_return"], row["greatest_return"]
        lines.append(f"returns: mean {row['mean_return']:.4g}, from {low:.4g} to {high:.4g}")
    lines.append(f"lengths: from {row['shortest']:,} to {count(row['longest'], 'step')}")
    limits = row["episodes"] - row["terminal"]
    lines.append(f"ends: {count(row['terminal'], 'true end')}, {count(limits, 'time limit')}")
    for name, share in row["policies"].items():
        mean = "" if share["mean_return"] is None else f", mean return {share['mean_return']:.4g}"
        lines.append(
            f"policy {name}: {count(share['episodes'], 'episode')}, {count(share['steps'], 'step')}{mean}"
        )
    return "\n".join(lines)


def check(data: DataSet, tell: Callable[[str], None]) -> int:
    """Reads everything; says what is damaged, one line each, and returns how many problems there are."""
    problems: Counter[str] = Counter()
    for index in range(data.episodes):
        try:
            episode = data.episode(index)
        except UserError as error:
            problems[str(error)] += 1
            continue
        told = data.header.returns[index] if data.has_reward else 0.0
        found = return_of(episode) if data.has_reward else 0.0
        if not np.isclose(told, found, rtol=1e-9, atol=1e-6):
            problems[f"episode {index} has the return {found:g}; dataset.json says {told:g}"] += 1
        if bool(episode["is_terminal"][-1]) != data.terminals[index]:
            problems[f"episode {index} ends otherwise than dataset.json says"] += 1
    for problem in list(problems)[:MOST]:
        tell(problem)
    if len(problems) > MOST:
        tell(f"and {words.count(len(problems) - MOST, 'more problem', 'more problems')}")
    return len(problems)
