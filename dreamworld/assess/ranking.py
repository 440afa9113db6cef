"""Metric 4, policy ranking: do checkpoints rank in one dream as they do in reality?

The policies of several checkpoints act from the same states, in the environment and in the dream of one world. The
violation is that of Li et al. (2024, arXiv:2405.05941): for each policy the greatest real difference to one that the
dream ranks the other way round, the mean over policies; here as a share of the spread of real returns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from dreamworld.assess import intervals
from dreamworld.assess.decisions import seen_state
from dreamworld.assess.dreams import Dreaming
from dreamworld.assess.ground import Ground
from dreamworld.assess.host import HostGround
from dreamworld.assess.returns import LEAST, choose_starts, dreamt_returns, needs, real_returns
from dreamworld.assess.segments import Segments
from dreamworld.assess.sheet import Sheet
from dreamworld.contract import Agent
from dreamworld.types import Key, Params


class Policy(NamedTuple):
    """A policy that is ranked."""

    name: str
    agent: Agent
    params: Params  # what acting needs


def play_all(
    policies: Sequence[Policy],
    world: Params,
    dreaming: Dreaming,
    segments: Segments,
    ground: Ground | HostGround,
    key: Key,
    temperatures: Sequence[float] = (1.0,),
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Real returns [P, M], dreamt ones [T, P, M] at each temperature, and the segments [M] that they begin in.

    Every policy begins in the same states, with the same random numbers.
    """
    first = policies[0]
    times = len(policies) * (1 + len(temperatures))
    index = choose_starts(first.agent, first.params, segments, times)
    real_key, see_key, dream_key = jax.random.split(key, 3)
    real = [real_returns(one.agent, one.params, segments, ground, index, real_key) for one in policies]
    reached = np.isfinite(real).all(0)
    index, real = index[reached], np.stack(real)[:, reached]
    if not len(index):
        return real, np.zeros((len(temperatures), *real.shape)), index
    start = seen_state(dreaming, world, segments, index, see_key)
    dreamt = [
        [
            dreamt_returns(
                one.agent,
                one.params,
                dreaming,
                segments,
                index,
                start,
                dream_key,
                world=world,
                temperature=tau,
            )
            for one in policies
        ]
        for tau in temperatures
    ]
    return real, np.array(dreamt), index


def add_ranking(
    sheet: Sheet,
    policies: Sequence[Policy],
    params: Params,
    dreaming: Dreaming,
    segments: Segments,
    ground: Ground | HostGround | None,
    key: Key,
) -> None:
    """Writes down rank correlation, violation and the share of pairs in the wrong order, and what each one earns."""
    reason = needs(policies[0].agent, dreaming, params, ground)
    if reason or ground is None:
        sheet.left_out["ranking"] = reason
        return
    real, dreamt, index = play_all(policies, params["world"], dreaming, segments, ground, key)
    if len(index) < LEAST:
        sheet.left_out["ranking"] = f"needs {LEAST} states to begin in; {len(index):,} were reached in time"
        return
    score(sheet, [one.name for one in policies], real, dreamt[0], index)


def score(
    sheet: Sheet, names: Sequence[str], real: np.ndarray, dreamt: np.ndarray, index: np.ndarray
) -> None:
    """Writes down the metrics of real and dreamt returns [P, M] from these segments [M]."""
    weights, all_ = sheet.weights[:, index], np.ones(len(index), bool)
    means = [
        np.stack([intervals.total_mean(weights, one, all_) for one in kind], 1) for kind in (real, dreamt)
    ]  # [R, P] each
    for place, name in enumerate(names):
        sheet.number(f"ranking/real@{name}", means[0][:, place], len(index))
        sheet.number(f"ranking/dreamt@{name}", means[1][:, place], len(index))
    sheet.number("ranking/spearman", np.array([_spearman(*pair) for pair in zip(*means)]), len(names))
    wrong, violation = violations(*means)
    sheet.number("ranking/wrong_pairs", wrong, len(names))
    sheet.number("ranking/violation", violation, len(names))


def _spearman(one: np.ndarray, other: np.ndarray) -> float:
    ones = np.ones((1, len(one)))
    found = intervals.weighted_correlation(ones, intervals.ranks(one), intervals.ranks(other))
    return float(found[0])


def violations(real: np.ndarray, dreamt: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of returns [R, P]: the share of pairs in the wrong order, and the mean of the greatest violations, [R] each.

    Violation(i, j) = |R_i - R_j| where D and R rank i and j the other way round; over max R - min R.
    """
    apart = real[:, :, None] - real[:, None]
    wrong = (apart * (dreamt[:, :, None] - dreamt[:, None])) < 0
    pairs = real.shape[1] * (real.shape[1] - 1)
    spread = real.max(1) - real.min(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        violation = np.where(wrong, np.abs(apart), 0).max(2).mean(1) / spread
    return wrong.sum((1, 2)) / max(pairs, 1), np.where(spread > 0, violation, np.nan)
