"""Environments: `make_env` builds one by name, `make_vector_env` builds N behind an engine. Loads no JAX."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dreamworld.envs.factory import make_env

if TYPE_CHECKING:
    from dreamworld.envs.vector import make_vector_env

__all__ = ["make_env", "make_vector_env"]


def __getattr__(name: str) -> Any:
    if name == "make_vector_env":
        from dreamworld.envs.vector import make_vector_env

        return make_vector_env
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
