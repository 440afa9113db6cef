"""Changes of a dream from outside: what the model is shown is decoded, changed, and shown to it again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Obs = dict[str, np.ndarray]


class Edit(NamedTuple):
    """One change that a person can ask for."""

    name: str
    label: str
    low: float
    high: float
    change: Callable[[Obs, float], Obs]  # of what the dream shows, to what it shall see

    def plain(self) -> dict[str, Any]:
        """As the page gets it."""
        return {"name": self.name, "label": self.label, "kind": "slider", "low": self.low, "high": self.high}
