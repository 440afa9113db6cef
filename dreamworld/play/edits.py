"""Changes of a dream from outside: what the model is shown is decoded, changed, and shown to it again.

What can be changed: balls, where the environment finds them in a picture and draws them elsewhere; elements of decoded
vectors; and the whole latent state, for that of a recorded segment.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from dreamworld.types import JaxEnv, Spaces

Obs = dict[str, np.ndarray]
Change = Callable[[Obs, Any], Obs]
ELEMENTS = 16  # of vectors that get a slider
SWAP = "swap"  # the edit that takes the latent state of a segment


class Edit(NamedTuple):
    """One change that a person can ask for."""

    name: str
    label: str
    kind: str  # slider, point, segment
    low: Any  # a number; of a point, of x and of y
    high: Any
    change: Change | None  # of what the dream shows and a value, to what it shall see; None of a swap

    def plain(self) -> dict[str, Any]:
        """As the page gets it."""
        return {"name": self.name, "label": self.label, "kind": self.kind, "low": self.low, "high": self.high}

    def read(self, value: object) -> Any:
        """A value within the bounds; ValueError for one of another kind."""
        if (self.kind == "point") != isinstance(value, list):
            raise ValueError(
                f"edit {self.name} takes {'a point [x, y]' if self.kind == 'point' else 'a number'}"
            )
        found = np.clip(np.asarray(value, np.float64), self.low, self.high)
        return found.tolist()


def make_edits(
    env: JaxEnv | None, spaces: Spaces, decoded: list[str], *, shows: bool, swaps: bool
) -> tuple[Edit, ...]:
    """The edits of a world: `shows` says that its model can be shown an observation, `swaps` that it has segments."""
    found: list[Edit] = []
    whole = set(decoded) >= set(spaces)
    if shows and whole and env is not None and getattr(env, "can_locate", False) and hasattr(env, "place"):
        found += _balls(env)
    if shows and whole:
        for key in decoded:
            space = spaces[key]
            if space.is_image or space.discrete or space.size > ELEMENTS:
                continue
            low, high = (space.low, space.high) if np.isfinite([space.low, space.high]).all() else (-3.0, 3.0)
            found += [_element(key, i, float(low), float(high)) for i in range(space.size)]
    if swaps:
        found.append(Edit(SWAP, "take the latent state of a segment", "segment", 0, 1e6, None))
    return tuple(found)


def _element(key: str, index: int, low: float, high: float) -> Edit:
    def change(obs: Obs, value: float) -> Obs:
        changed = np.array(obs[key], np.float32)
        changed.reshape(-1)[index] = value
        return {**obs, key: changed}

    return Edit(f"{key}[{index}]", f"{key}[{index}]", "slider", low, high, change)


def _balls(env: Any) -> list[Edit]:
    """A point for each ball; the others stay where the dream shows them."""
    import jax

    place = jax.jit(env.place)

    def make(index: int) -> Edit:
        def change(obs: Obs, value: list[float]) -> Obs:
            picture = {"image": np.asarray(obs["image"], np.float32) / 255}
            moved = place(picture, np.int32(index), np.asarray(value, np.float32))
            return {**obs, "image": np.asarray(moved)}

        low, high = [env.radius] * 2, [1 - env.radius] * 2
        return Edit(f"ball {index}", f"move ball {index}", "point", low, high, change)

    return [make(index) for index in range(env.n)]
