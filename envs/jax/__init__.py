"""JAX-native environments: pure functions of explicit state, so they vmap, jit and save by copying.

Listing the names loads no JAX; building an environment does.
"""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any, Protocol

from dreamworld import types
from dreamworld.envs.pictures import AUTO, Reading
from dreamworld.errors import UserError
from dreamworld.types import EnvObject, Tree


class NativeEnv(types.JaxEnv, Protocol):
    """What every environment of this package has beyond `JaxEnv`."""

    @property
    def random_return(self) -> float:
        """Mean return of uniform actions, default options."""
        ...

    @property
    def heuristic_return(self) -> float:
        """Mean return of `heuristic`, default options."""
        ...

    @property
    def optimal_return(self) -> float | None:
        """Best possible mean return, default options; None where it is not known."""
        ...

    def observe(self, state: Tree) -> dict[str, types.Array]:
        """The observation of a state; `step` returns the same."""
        ...

    def ground_truth(self, state: Tree) -> dict[str, types.Array]:
        """What a world model should have found out, by name."""
        ...

    def heuristic(self, state: Tree, key: types.Key) -> dict[str, types.Array]:
        """The action of a simple policy that may look at the state."""
        ...

    def render(self, state: Tree) -> types.Array:
        """A uint8 [h, w, 3] picture for people, at least 64 pixels wide."""
        ...


# name -> (module, class, options that make the variant)
_TABLE: dict[str, tuple[str, str, dict[str, Any]]] = {
    "jax_catch": ("catch", "Catch", {}),
    "jax_cartpole": ("cartpole", "CartPole", {}),
    "jax_dodge": ("dodge", "Dodge", {}),
    "jax_balls": ("balls", "Balls", {}),
    "jax_tworoom": ("tworoom", "TwoRoom", {}),
    "jax_darkroom": ("darkroom", "DarkRoom", {"noisy_tv": False}),
    "jax_darkroom_noisytv": ("darkroom", "DarkRoom", {"noisy_tv": True}),
}

JAX_ENVS: tuple[str, ...] = tuple(_TABLE)


def make_jax_env(name: str, /, **options: Any) -> NativeEnv:
    """Builds a JAX environment by name (`jax_catch`, or `catch` for short).

    `options` are the fields of the environment's dataclass. Raises UserError for an unknown name, an unknown
    option or a value outside its range.
    """
    full = name if name.startswith("jax_") else f"jax_{name}"
    if full not in _TABLE:
        raise UserError(f"unknown JAX environment {name!r}: choose from {', '.join(JAX_ENVS)}")
    module, cls_name, preset = _TABLE[full]
    cls = getattr(importlib.import_module(f"{__name__}.{module}"), cls_name)
    choices = [field.name for field in dataclasses.fields(cls) if field.name not in preset]
    unknown = sorted(set(options) - set(choices))
    if unknown:
        raise UserError(f"{full} has no option {unknown[0]!r}: choose from {', '.join(choices)}")
    return cls(**preset, **options)


def from_gymnax(env: EnvObject, params: Tree = None, reading: Reading = AUTO) -> types.JaxEnv:
    """A JAX environment from a gymnax-style object; `params` defaults to `env.default_params`."""
    from dreamworld.envs.jax.gymnax import GymnaxEnv

    return GymnaxEnv(env, params, reading)
