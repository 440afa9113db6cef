"""The gymnasium spaces that the specs of dm_env describe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dreamworld.errors import UserError

if TYPE_CHECKING:
    import gymnasium


def gym_space_of_spec(spec: Any) -> gymnasium.Space:
    """The gymnasium space that a dm_env spec (or nested mapping, list or tuple of specs) describes."""
    import dm_env.specs as specs
    from gymnasium import spaces

    if isinstance(spec, dict) or hasattr(spec, "items"):
        return spaces.Dict({str(key): gym_space_of_spec(value) for key, value in spec.items()})
    if isinstance(spec, (list, tuple)):
        return spaces.Tuple([gym_space_of_spec(value) for value in spec])
    if isinstance(spec, specs.DiscreteArray):
        return spaces.Discrete(int(spec.num_values))
    if isinstance(spec, specs.StringArray) or not isinstance(spec, specs.Array):
        raise UserError(
            f"unsupported spec {spec}; supported are Array, BoundedArray, DiscreteArray and nestings"
        )
    dtype: Any = np.dtype(spec.dtype)
    if dtype.kind == "b":
        return spaces.MultiBinary(spec.shape) if spec.shape else spaces.Discrete(2)
    if isinstance(spec, specs.BoundedArray):
        low, high = np.broadcast_to(spec.minimum, spec.shape), np.broadcast_to(spec.maximum, spec.shape)
        return spaces.Box(low.astype(dtype), high.astype(dtype), spec.shape, dtype)
    if np.issubdtype(dtype, np.integer):
        info = np.iinfo(dtype)
        return spaces.Box(info.min, info.max, spec.shape, dtype)
    return spaces.Box(-np.inf, np.inf, spec.shape, dtype)
