"""N environments behind one contract: in this process, in workers, in C++ threads, or one jitted vmap."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dreamworld.config import EnvConfig
from dreamworld.envs.vector.common import EnvFailure, env_seed
from dreamworld.errors import UserError
from dreamworld.types import VectorEnv

if TYPE_CHECKING:
    from dreamworld.envs.base import Env

__all__ = ["EnvFailure", "env_seed", "make_vector_env"]


def make_vector_env(
    name_or_factory: str | Callable[[], Env] | Any, config: EnvConfig, *, seed: int, num: int | None = None
) -> VectorEnv:
    """Builds `num` (default `config.num`) environments behind the engine that `config.engine` asks for."""
    from dreamworld.envs.vector.inprocess import InProcess

    num = config.num if num is None else num
    if num < 1:
        raise UserError(f"env.num is {num}; at least 1 environment is needed")
    return InProcess(_maker(name_or_factory, config), num, max_failures=config.max_failures, seed=seed)


def _maker(name_or_factory: str | Callable[[], Env], config: EnvConfig) -> Callable[[], Env]:
    if not isinstance(name_or_factory, str):
        return name_or_factory
    from dreamworld.envs.factory import make_env

    name = name_or_factory
    return lambda: make_env(name, config)
