"""The parts that a config describes: devices, environments, the agent, rows of its replay, checkpoints."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from dreamworld.config import Config, RunConfig
from dreamworld.contract import Agent
from dreamworld.datasets import Schema
from dreamworld.envs.building import building
from dreamworld.errors import UserError
from dreamworld.text import printable
from dreamworld.types import EnvSource, Spaces, VectorEnv

if TYPE_CHECKING:
    from dreamworld.logging.rundir import RunDir
    from dreamworld.training.checkpoint import Checkpointer


def setup_jax(config: Config) -> list[Any]:
    """Chooses the platform and the compilation cache before JAX starts; returns the devices, of all processes.

    Raises UserError when the platform asked for is not there.
    """
    import jax

    run = config.run
    if run.compile_cache and not jax.config.values["jax_compilation_cache_dir"]:
        jax.config.update("jax_compilation_cache_dir", os.path.expanduser(run.compile_cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
    _require_backend()
    if run.platform == "auto":
        return jax.devices()
    try:
        devices = jax.devices(run.platform)
    except RuntimeError:
        found = sorted({device.platform for device in jax.local_devices()})
        install = (
            " Install the extra: pip install 'dreamworld[cuda]' (or [cuda12])"
            if run.platform == "gpu"
            else ""
        )
        raise UserError(
            f"--run.platform {run.platform}: no such device here (found {', '.join(found)}).{install}"
        ) from None
    jax.config.update("jax_default_device", jax.local_devices(backend=run.platform)[0])
    return devices


def _require_backend() -> None:
    """UserError where the variable JAX_PLATFORMS allows nothing that is here."""
    import jax

    try:
        jax.devices()
    except (RuntimeError, AssertionError):  # without a plugin for the platform JAX fails by an assertion
        asked = jax.config.values["jax_platforms"]
        if not asked:
            raise
        raise UserError(
            f"JAX_PLATFORMS={printable(str(asked))}: JAX has no such device here; unset the variable, or install what "
            "it needs (pip install 'dreamworld[cuda]' for NVIDIA GPUs; dreamworld doctor shows what is there)"
        ) from None


def make_train_env(config: Config, source: EnvSource | None = None) -> VectorEnv:
    """The training environments of a config, or of a user's factory."""
    from dreamworld.envs.vector import make_vector_env

    with building(_shown(config, source)):
        return make_vector_env(config.task if source is None else source, config.env, seed=config.seed)


def make_eval_env(config: Config, source: EnvSource | None = None, *, episodes: int) -> VectorEnv:
    """Separate environments for evaluation: at most one per episode, seeded apart from training."""
    from dreamworld.envs.vector import make_vector_env

    num = max(1, min(episodes, config.env.num))
    target = config.task if source is None else source
    with building(_shown(config, source)):
        return make_vector_env(target, config.env, seed=config.seed + 1_000_003, num=num)


def _shown(config: Config, source: EnvSource | None) -> str:
    from dreamworld.envs.sources import name_of

    return config.task if source is None else name_of(source)


def build_agent(config: Config, obs_space: Spaces | None = None, act_space: Spaces | None = None) -> Agent:
    """The agent of a config; without spaces, one environment is built to ask for them."""
    from dreamworld.agents import make_agent

    if obs_space is None or act_space is None:
        env = make_eval_env(config, episodes=1)
        obs_space, act_space = env.obs_space, env.act_space
        env.close()
    return make_agent(config, obs_space, act_space)


def row_spaces(agent: Agent) -> Spaces:
    """Spaces of the flat rows that replay stores for an agent."""
    rows = Schema(agent.obs_space, agent.act_space).row_spaces()
    return rows | agent.latent_space | agent.extra_space


def make_checkpointer(
    rundir: RunDir,
    run: RunConfig,
    also_keep: Callable[[], Iterable[int]] = tuple,
    on_commit: Callable[[list[dict[str, Any]]], Any] | None = None,
) -> Checkpointer:
    """The checkpoints of a run, kept by its rules."""
    from dreamworld.training.checkpoint import Checkpointer

    return Checkpointer(
        rundir.checkpoints,
        keep_last=run.keep_last,
        keep_every=run.keep_every,
        keep_best=run.keep_best,
        on_commit=on_commit,
        also_keep=also_keep,
        away=rundir.away,
    )
