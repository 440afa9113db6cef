"""In which precision networks compute; parameters are always float32."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np


def compute_dtype(precision: str) -> np.dtype:
    """jnp dtype of a precision option; `auto` is bfloat16 on accelerators and float32 on CPU."""
    if precision == "auto":
        precision = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return jnp.dtype(precision)


def precision_name(precision: str) -> str:
    """The name of the resolved precision, for the log."""
    return compute_dtype(precision).name
