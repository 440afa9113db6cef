"""Metric 2, reward and continuation: what the model expects to earn, and when it expects an end.

Simulators give the mean reward of a state, so the spread is that between S dreams; those that know the likelihood of a
reward in a state (`reward_nll`) are judged by that of the mixture of S dreams, too.
"""

from __future__ import annotations

import numpy as np

from dreamworld.assess import intervals
from dreamworld.assess.segments import Segments
from dreamworld.assess.sheet import Sheet

BINS = 15
LEAST = 1e-6  # probability: what is held for impossible and happens costs 13.8 nats
NEAR = 1  # steps by which an expected end may be early or late
NEEDS = "needs a model that predicts rewards and ends"


def add_reward(sheet: Sheet, segments: Segments, found: dict[str, np.ndarray]) -> None:
    """Writes down errors of rewards by step, their ranks, and those of rare rows apart."""
    if "reward" not in found:
        sheet.left_out["reward"] = NEEDS
        return
    mask = segments.imagined
    real = segments.columns["reward"][:, segments.context :]
    dreamt = found["reward"]  # [N, H, S]
    expected = dreamt.mean(-1)
    error = np.abs(expected - real)
    sheet.mean_curve("reward/mae", error, mask)
    sheet.mean_number("reward/mae", error, mask)
    zero = np.abs(np.median(real[mask]) - real) if mask.any() else np.abs(real)
    sheet.mean_number("reward/mae_constant", zero, mask)
    sheet.mean_number("reward/mae_posterior", np.abs(found["reward_posterior"] - real), mask)
    sheet.mean_curve("reward/crps", crps(dreamt, real), mask)
    sheet.mean_number("reward/crps", crps(dreamt, real), mask)
    if "reward_nll" in found:
        nats = nll(found["reward_nll"])
        sheet.mean_curve("reward/nll", nats, mask)
        sheet.mean_number("reward/nll", nats, mask)
    else:
        sheet.left_out["reward/nll"] = "needs a model that tells the likelihood of rewards (reward_nll)"
    segment = np.nonzero(mask)[0]
    if len(np.unique(real[mask])) > 1:
        sheet.number(
            "reward/spearman",
            intervals.spearman(sheet.weights, segment, expected[mask], real[mask]),
            int(mask.sum()),
        )
    paid = real != 0
    if 0 < (paid & mask).sum() < mask.sum():
        score, positive = np.abs(expected[mask]), paid[mask]
        for name, statistic in (("auroc", intervals.auroc), ("ap", intervals.average_precision)):
            sheet.number(f"reward/{name}", statistic(sheet.weights, segment, score, positive), len(score))
        sheet.mean_number("reward/mae_where_paid", error, mask & paid)
        sheet.mean_number("reward/mae_elsewhere", error, mask & ~paid)
    _add_return(sheet, segments, found, real, mask)


def _add_return(
    sheet: Sheet, segments: Segments, found: dict[str, np.ndarray], real: np.ndarray, mask: np.ndarray
) -> None:
    """|sum of rewards, each times the probability that the episode has not ended before - what was earned|."""
    alive = np.cumprod(found["cont"].mean(-1), -1)
    before = np.concatenate([np.ones_like(alive[:, :1]), alive[:, :-1]], -1)
    dreamt = (found["reward"].mean(-1) * before * mask).sum(-1)
    error = np.abs(dreamt - (real * mask).sum(-1))
    sheet.mean_number("reward/return_error", error, np.ones(len(error), bool))


def crps(dreamt: np.ndarray, real: np.ndarray) -> np.ndarray:
    """E|R - r| - E|R - R'| / 2 of S dreams [N, H, S] and what was earned [N, H]; pairs are of different dreams."""
    samples = dreamt.shape[-1]
    near = np.abs(dreamt - real[..., None]).mean(-1)
    ordered = np.sort(dreamt, -1)
    factors = 2 * np.arange(1, samples + 1) - samples - 1  # sum over pairs of |difference|, from the order
    pairs = max(samples * (samples - 1) / 2, 1)
    return near - (ordered * factors).sum(-1) / pairs / 2


def nll(nats: np.ndarray) -> np.ndarray:
    """-log of the mean likelihood of S dreams, [N, H] of their -log likelihoods [N, H, S]."""
    least = nats.min(-1, keepdims=True)
    return least[..., 0] - np.log(np.exp(least - nats).mean(-1))


def add_cont(sheet: Sheet, segments: Segments, found: dict[str, np.ndarray]) -> None:
    """Writes down how well ends are expected: Brier, NLL, calibration, recall of ends, deaths that did not come."""
    if "cont" not in found:
        sheet.left_out["cont"] = NEEDS
        return
    mask = segments.imagined
    ends = segments.columns["is_terminal"][:, segments.context :]
    expected = found["cont"].mean(-1)
    brier = (expected - ~ends) ** 2
    sheet.mean_curve("cont/brier", brier, mask)
    sheet.mean_number("cont/brier", brier, mask)
    nats = bernoulli_nll(expected, ~ends)
    sheet.mean_curve("cont/nll", nats, mask)
    sheet.mean_number("cont/nll", nats, mask)
    values, diagram = calibration(sheet.weights, expected, ~ends, mask)
    sheet.number("cont/ece", values, int(mask.sum()))
    sheet.diagrams["cont"] = diagram
    dead = (expected < 0.5) & mask
    sheet.mean_number("cont/false_deaths", dead & ~_near(ends), mask & ~_near(ends))
    if not (ends & mask).any():
        sheet.left_out["cont/recall"] = "needs episodes that end truly"
        return
    sheet.mean_number("cont/recall", _near(dead), ends & mask)


def bernoulli_nll(expected: np.ndarray, happened: np.ndarray) -> np.ndarray:
    """-log of the probability of what happened, in nats, where `expected` is that of True; at most 13.8."""
    return -np.log(np.maximum(np.where(happened, expected, 1 - expected), LEAST))


def _near(flags: np.ndarray) -> np.ndarray:
    """Flags [N, H] that are set within `NEAR` steps."""
    wide = np.pad(flags, ((0, 0), (NEAR, NEAR)))
    return np.any([wide[:, shift : shift + flags.shape[1]] for shift in range(2 * NEAR + 1)], axis=0)


def calibration(
    weights: np.ndarray, expected: np.ndarray, happened: np.ndarray, mask: np.ndarray, bins: int = BINS
) -> tuple[np.ndarray, dict[str, list[float]]]:
    """Expected calibration error [R] over bins of equal mass, and the reliability diagram.

    sum over bins of (share of rows) |mean expected - share that happened|. Equal probabilities are in one bin.
    """
    segment, score, truth = np.nonzero(mask)[0], expected[mask], happened[mask].astype(float)
    edges = np.unique(np.quantile(score, np.linspace(0, 1, bins + 1)[1:-1])) if len(score) else np.zeros(0)
    place = np.searchsorted(edges, score, side="left")
    gap, total, shown = 0, 0, {"expected": [], "happened": [], "rows": []}
    for index in np.unique(place):
        inside = place == index
        per = lambda values, inside=inside: np.bincount(segment[inside], values[inside], len(expected))
        count, said, came = (weights @ per(values) for values in (np.ones_like(score), score, truth))
        gap, total = gap + np.abs(said - came), total + count
        for name, value in (("expected", said[0] / count[0]), ("happened", came[0] / count[0])):
            shown[name].append(float(value))
        shown["rows"].append(float(count[0]))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(gap / total), shown
