"""Plays environments for segments: whole episodes of one policy after another, kept in memory."""

from __future__ import annotations

import dataclasses

from dreamworld.datasets.collect import Act, Collected, Truth, collect, make_schema
from dreamworld.datasets.episodes import Episode, Schema
from dreamworld.types import VectorEnv

MAX_STEPS = 1000  # of an episode; a longer one is ended there as by a time limit


@dataclasses.dataclass
class Gathered:
    """Episodes and who acted in each; takes them as a data set would."""

    schema: Schema
    episodes: list[Episode] = dataclasses.field(default_factory=list)
    labels: list[str] = dataclasses.field(default_factory=list)
    told: list[Collected] = dataclasses.field(default_factory=list)

    def add(self, episode: Episode, policy: str = "") -> None:
        """Keeps an episode."""
        self.episodes.append(episode)
        self.labels.append(policy)

    def flush(self) -> None:
        """Nothing waits to be written."""


def gather(
    env: VectorEnv,
    acts: dict[str, Act],
    *,
    steps: dict[str, int],
    seed: int,
    max_steps: int = MAX_STEPS,
) -> Gathered:
    """Plays each policy for at least so many steps, to the ends of its episodes; equal seeds give equal episodes."""
    truth: Truth | None = getattr(env, "truth", None)
    if truth:
        env.reset(seed)
    gathered = Gathered(make_schema(env, truth))
    for number, (name, act) in enumerate(acts.items()):
        told = collect(
            env,
            act,
            gathered,
            name,
            steps=steps[name],
            seed=seed + 7919 * number,
            truth=truth,
            max_steps=max_steps,
        )
        gathered.told.append(told)
    return gathered
