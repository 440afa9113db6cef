"""What the commands share: JAX set-up, and building environments, agent and replay from a config."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dreamworld.config import Config
from dreamworld.contract import Agent
from dreamworld.envs.building import building
from dreamworld.errors import UserError
from dreamworld.types import Space, Spaces, VectorEnv

if TYPE_CHECKING:
    from dreamworld.player import Player
    from dreamworld.types import Mode

EnvSource = str | Callable[[], Any] | Any


def setup_jax(config: Config) -> list[Any]:
    """Chooses the platform and the compilation cache before JAX starts; returns the devices, of all processes.

    Raises UserError when the platform asked for is not there.
    """
    from dreamworld import launch

    launch.set_xla_flags(config.agent.width)
    import jax

    run = config.run
    if run.compile_cache and not jax.config.jax_compilation_cache_dir:
        jax.config.update("jax_compilation_cache_dir", os.path.expanduser(run.compile_cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
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
    flag = Space((), "bool")
    rows = {f"obs/{key}": space for key, space in agent.obs_space.items()}
    rows |= {f"action/{key}": space for key, space in agent.act_space.items()}
    rows |= {"reward": Space((), "float32"), "is_first": flag, "is_last": flag, "is_terminal": flag}
    return rows | agent.latent_space


def load(
    logdir: str | Path,
    *,
    step: int | None = None,
    mode: Mode = "sample",
    seed: int = 0,
    env: EnvSource | None = None,
    trust: bool = False,
) -> Player:
    """The agent of a run, ready to act (the newest checkpoint, or that of `step`).

    player = dreamworld.load(DIR); state = player.initial()
    state, action = player.act(state, obs)

    It is built from the spaces that the run kept, without its environment; one given as `env` is checked against
    them. `trust` lets a run that this user did not make use what its config names.
    """
    from dreamworld.scripts.eval import checked
    from dreamworld.sessions import stored

    flags = checked(logdir, {"step": step, "mode": mode, "seed": seed, "trust": trust})
    run = stored.open_run(logdir, trusted=flags.trust)
    setup_jax(run.config)
    agent = stored.build_agent(run, env)
    params = restore_params(run.rundir, agent, flags.step if flags.step >= 0 else None)
    return make_player(run.config, agent, params, mode=flags.mode, seed=flags.seed)


def make_player(config: Config, agent: Agent, params: Any, *, mode: Mode, seed: int) -> Player:
    """A player that shows environments to the agent as its run did."""
    from dreamworld.player import Player

    return Player(agent, params, seed, mode, config.env)


def restore_params(rundir: Any, agent: Agent, step: int | None = None) -> Any:
    """What acting needs of a checkpoint."""
    import jax

    from dreamworld.training.checkpoint import Checkpointer

    like = jax.eval_shape(agent.init, jax.random.PRNGKey(0))
    with Checkpointer(rundir.checkpoints) as checkpointer:
        restored = checkpointer.restore(step, {"train": like._replace(opt_state=None)}, subset=True)
    return agent.acting(restored.agent["train"])
