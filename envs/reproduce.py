"""Looks whether seeds fix everything random in an environment: for `dreamworld envs check`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dreamworld import words
from dreamworld.envs.base import Env, Step
from dreamworld.envs.report import Report
from dreamworld.envs.restore import equal_rows

EPISODE_STEPS = 50  # rows compared


def check_seeds(make: Callable[[], Env], report: Report, seed: int) -> None:
    """The same seed must give the same rows in two fresh environments and in a used one."""
    env = make()
    try:
        first, again = _episode(env, seed), _episode(env, seed)
        other = _second(make, report)
    finally:
        env.close()
    other = other or make()
    try:
        fresh, different = _episode(other, seed), _episode(other, seed + 1)
    finally:
        other.close()
    if not equal_rows(first, fresh):
        report.problem(
            f"seed {seed} gave different rows in two fresh environments: reset(seed) does not fix everything"
        )
    elif not equal_rows(first, again):
        report.problem(f"seed {seed} gave different rows when the same environment was reset with it again")
    elif equal_rows(first, different):
        report.notes.append(
            f"seeds {seed} and {seed + 1} gave the same rows: it is deterministic, or it ignores its seed"
        )


def _second(make: Callable[[], Env], report: Report) -> Env | None:
    """Another environment beside an open one; None, and a note, where a process holds one only."""
    try:
        return make()
    except Exception as error:
        what = words.exception(error)
        report.notes.append(
            f"only one of it can be open in a process ({what}): train with "
            "--env.engine process --env.workers N, where N is env.num"
        )
        return None


def _episode(env: Env, seed: int) -> list[Step]:
    """Rows of one reset with `seed` and a fixed sequence of actions, through ends of episodes."""
    random = np.random.default_rng(0)
    rows = [env.reset(seed)]
    for _ in range(EPISODE_STEPS):
        if rows[-1].is_last:
            rows.append(env.reset(None))
        else:
            rows.append(env.step({key: space.sample(random) for key, space in env.act_space.items()}))
    return rows
