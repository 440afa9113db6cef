"""From returns to comparable scores: human-normalised Atari, DMC / 1000, Crafter score; published curves."""

from __future__ import annotations

import dataclasses
import functools
import json
from importlib import resources
from typing import Any

import numpy as np

from dreamworld import words
from dreamworld.stats.scores import Run, flatten

CRAFTER_ACHIEVEMENTS = 22
METRICS = {
    "atari": "human-normalised score",
    "dmc": "return / 1000",
    "crafter": "Crafter score / 100",
    "raw": "return, not normalised",
}


@dataclasses.dataclass(frozen=True)
class Published:
    """A published learning curve: mean return over seeds at some budgets."""

    suite: str
    game: str
    frames: np.ndarray  # [P]
    mean: np.ndarray  # [P] return
    std: np.ndarray  # [P] over seeds
    seeds: np.ndarray  # [P] runs behind each point
    settings: dict[str, Any]

    @property
    def seeds_text(self) -> str:
        """How many seeds are behind it."""
        low, high = int(self.seeds.min()), int(self.seeds.max())
        return (
            f"{words.count(high, 'seed')}"
            if low == high
            else f"{words.count(high, 'seed')}, {low} at the fewest"
        )

    @property
    def settings_text(self) -> str:
        """The settings of its suite in words."""
        settings = self.settings
        return (
            f"{self.suite}, {settings['model']}, train ratio {settings['train_ratio']}, "
            f"action repeat {settings['action_repeat']}, {settings['budget_frames'] // 1000}k frames"
        )

    @property
    def caption(self) -> str:
        """Settings and seeds, for legends."""
        return f"published: {self.settings_text}, {self.seeds_text}"


@functools.cache
def load_table(name: str) -> dict[str, Any]:
    """A JSON table that the package carries in `dreamworld/data`."""
    return json.loads((resources.files("dreamworld") / "data" / f"{name}.json").read_text())


def split_task(task: str) -> tuple[str, str]:
    """`dmc_walker_walk` -> (`dmc`, `walker_walk`); (suite, game); suite `raw` has no normalisation."""
    prefix, _, game = task.partition("_")
    if prefix in ("atari", "atari100k"):
        known = game in load_table("atari_human_random")["scores"]
        return ("atari" if known else "raw"), game
    return (prefix if prefix in ("dmc", "crafter") else "raw"), game or task


def normalise(task: str, returns: np.ndarray) -> np.ndarray:
    """Returns as scores: Atari (x - random) / (human - random), DMC x / 1000, others unchanged."""
    suite, game = split_task(task)
    if suite == "atari":
        row = load_table("atari_human_random")["scores"][game]
        return (np.asarray(returns) - row["random"]) / (row["human"] - row["random"])
    return np.asarray(returns) / 1000 if suite == "dmc" else np.asarray(returns, np.float64)


def crafter_score(success_rates: np.ndarray) -> np.ndarray:
    """exp(mean_i ln(1 + s_i)) - 1 over the last axis; rates s_i in percent (Hafner, arXiv:2109.06780)."""
    return np.exp(np.log1p(success_rates).mean(-1)) - 1


def crafter_rates(run: Run, frames: float) -> np.ndarray | None:
    """Success rates in percent [22] over all episodes up to `frames`; None without achievements or episodes.

    An achievement that no episode unlocked may be absent from the log: its rate is 0.
    """
    counted = run.frames <= frames
    if not run.achievements or not counted.any():
        return None
    rates = np.zeros(max(CRAFTER_ACHIEVEMENTS, len(run.achievements)))
    rates[: len(run.achievements)] = [
        100 * unlocked[counted].mean() for unlocked in run.achievements.values()
    ]
    return rates


def published(task: str, config: dict[str, Any]) -> Published | None:
    """The published curve of a task under the suite that the run's settings say, or None."""
    prefix, _, game = task.partition("_")
    suite = prefix
    if prefix == "dmc":
        suite = {"proprio": "dmc_proprio", "vision": "dmc_vision"}.get(
            str(flatten(config).get("env.dmc.obs")), ""
        )
    table = load_table("dreamerv3_scores")
    rows = table["scores"].get(suite, {}).get(game)
    if rows is None:
        return None
    column = {key: np.array([row[key] for row in rows], np.float64) for key in rows[0]}
    return Published(
        suite,
        game,
        column["frames"],
        column["mean"],
        column["std_over_seeds"],
        column["seeds"],
        table["settings"][suite],
    )
