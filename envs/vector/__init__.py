"""N environments behind one contract: in this process, in workers, in C++ threads, or one jitted vmap."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dreamworld.config import EnvConfig
from dreamworld.envs.vector.common import EnvFailure, env_seed
from dreamworld.errors import UserError
from dreamworld.types import VectorEnv

__all__ = ["EnvFailure", "env_seed", "make_vector_env"]


def make_vector_env(
    name_or_factory: str | Callable[..., Any] | Any,
    config: EnvConfig,
    *,
    seed: int,
    num: int | None = None,
) -> VectorEnv:
    """Builds `num` (default `config.num`) environments behind the engine that `config.engine` asks for.

    Takes a name as `make_env` does, a factory of one environment (importable, if worker processes are to use
    it), a JAX environment, or for `num` 1 one environment object, which is left open. `seed` starts the episodes
    if `step` is called before `reset`. The result has `engine_reason` (why this engine) and `failures` (how many
    were survived), too. UserError for what can't be built, or an engine that does not fit.
    """
    from dreamworld.envs.vector.auto import build

    num = config.num if num is None else num
    if num < 1:
        raise UserError(f"env.num is {num}; at least 1 environment is needed")
    return build(name_or_factory, config, seed=seed, num=num)
