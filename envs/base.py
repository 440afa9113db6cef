"""The contract of one environment on the host: unbatched, numpy, no JAX. Engines run N of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from dreamworld.spaces import Described
from dreamworld.types import Spaces


class Step(NamedTuple):
    """One row. Flags mean what they mean in `dreamworld.types`; the arrays belong to the caller."""

    obs: dict[str, np.ndarray]  # dtype and shape of its space
    reward: float  # 0 where is_first
    is_first: bool
    is_last: bool  # the episode ended, for any cause
    is_terminal: bool  # it truly ended (value 0 after it); implies is_last
    log: dict[str, float] = {}  # noqa: RUF012  keys "log/<name>": logged, never learned from


@runtime_checkable
class Env(Protocol):
    """One environment. It does not reset itself: after an `is_last` row the caller calls `reset`.

    Spaces are flat: nested ones have keys like "a/b", a single unnamed action has the key "action".
    Continuous actions arrive unclipped; they are clipped to [-1, 1] here, and rescaled to the environment's
    own bounds.
    """

    obs_space: Spaces
    act_space: Spaces

    def reset(self, seed: int | None = None, options: Mapping[str, Any] | None = None) -> Step:
        """Starts an episode. A seed fixes everything random from here on; None goes on with what there is.

        `options` go to environments that take reset options; others raise UserError if there are any, and have an
        attribute `takes_options = False`, so that `env.randomize` is refused before anything is made.
        """
        ...

    def step(self, action: dict[str, np.ndarray]) -> Step:
        """Advances by one agent step."""
        ...

    def render(self) -> np.ndarray | None:
        """A uint8 [height, width, 3] picture for people, or None."""
        ...

    def save(self) -> dict[str, np.ndarray] | None:
        """The full state as arrays, or None where the environment can't save its own."""
        ...

    def restore(self, state: dict[str, np.ndarray]) -> Step:
        """Restores `save()` and returns the step that was current then."""
        ...

    def close(self) -> None:
        """Releases what the environment holds; safe to call twice."""
        ...


class Unsaved(Described):
    """Mixin of environments that can't save their state."""

    def save(self) -> dict[str, np.ndarray] | None:
        """None: the state can't be saved."""
        return None

    def restore(self, state: dict[str, np.ndarray]) -> Step:
        """Never called with what `save` returned, as that was None."""
        raise ValueError(f"{type(self).__name__} can't restore a state")
