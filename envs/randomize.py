"""Domain randomisation: reset options of an environment that are drawn anew for every episode."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dreamworld.envs.base import Env, Step
from dreamworld.envs.wrappers import Wrapper
from dreamworld.errors import UserError


class RandomizeReset(Wrapper):
    """Domain randomisation: draws reset options anew for every episode.

    `choices` maps an option to (low, high), drawn uniformly, or to a list, of which one is drawn. Drawn
    numbers are logged as `log/<option>`.
    """

    def __init__(self, env: Env, choices: Mapping[str, tuple[float, float] | list[Any]]):
        super().__init__(env)
        if not getattr(_innermost(env), "takes_options", True):
            raise UserError(
                f"env.randomize {','.join(choices)}: this environment ({type(_innermost(env)).__name__}) takes no "
                "reset options, so nothing can be drawn for its episodes; leave it empty"
            )
        self._choices = dict(choices)
        self._random = np.random.default_rng()

    def reset(self, seed: int | None = None, options: Mapping[str, Any] | None = None) -> Step:
        """Draws; options given here win over drawn ones."""
        if seed is not None:
            self._random = np.random.default_rng(seed)
        drawn = {key: self._draw(choice) for key, choice in self._choices.items()}
        step = self.env.reset(seed, {**drawn, **(options or {})})
        numbers = {f"log/{key}": float(x) for key, x in drawn.items() if isinstance(x, (int, float))}
        return step._replace(log={**step.log, **numbers})

    def save(self) -> None:
        """Environments with reset options can't save their state."""
        return None

    def _draw(self, choice: tuple[float, float] | list[Any]) -> Any:
        if isinstance(choice, tuple):
            return float(self._random.uniform(*choice))
        return choice[int(self._random.integers(len(choice)))]


def _innermost(env: Env) -> Env:
    """What the wrappers wrap."""
    while isinstance(env, Wrapper):
        env = env.env
    return env
