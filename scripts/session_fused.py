"""One fused training session (`--run.mode fused`): a JAX environment, its replay and the agent in one program."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import Any

from dreamworld.config import Config
from dreamworld.errors import UserError
from dreamworld.logging.progress import Progress
from dreamworld.logging.rundir import RunDir
from dreamworld.logging.writers import Logger
from dreamworld.replay.memory import available_memory, estimate
from dreamworld.scripts import common, session
from dreamworld.scripts.announce import announce
from dreamworld.training.checkpoint import Checkpointer
from dreamworld.training.fused_loop import DeviceReplayStats, FusedLearner, FusedLoop, NoPipeline
from dreamworld.training.stops import Stop


def train_fused(rundir: RunDir, config: Config, source: Any = None) -> int:
    """Trains in a locked run directory; returns the exit code."""
    devices = common.setup_jax(config)
    if rundir.exists():
        rundir.check(config)
    with contextlib.ExitStack() as stack:
        progress = stack.enter_context(
            Progress(config.run.steps, frames_per_step=config.env.repeat, show=config.run.progress)
        )
        loop = build_fused(rundir, config, progress, source, stack)
        rows = estimate(common.row_spaces(loop.learner.agent), config.replay, config.run.steps)
        announce(
            progress,
            config,
            rundir,
            loop.learner.agent,
            loop.env,
            loop.learner.act_params,
            devices,
            f"{rows}, on the device",
        )
        loop.write_status("starting")
        return session.run_loop(loop, stack.enter_context(Stop(config.run.grace_s)))


def build_fused(
    rundir: RunDir, config: Config, progress: Progress, source: Any, stack: contextlib.ExitStack
) -> FusedLoop:
    """The loop of a fused run, restored from its newest checkpoint when there is one."""
    env = jax_environment(config, source)
    agent = common.build_agent(config, env.obs_space, env.act_space)
    spaces = common.row_spaces(agent)
    need = estimate(spaces, config.replay, config.run.steps)
    free, of = available_memory()
    if need.ram_bytes > free:
        raise UserError(
            f"replay does not fit: {need}, {of} is {free / 2**30:.1f} GiB. Use a smaller --replay.capacity_steps"
        )
    for note in rundir.begin(config):
        progress.message(note)
    from dreamworld.envs.jax.batched import batched

    # The last chunk may run past `steps` by up to a log period.
    rows = int(min(config.replay.capacity_steps, config.run.steps + config.run.log_every))
    capacity = -(-rows // config.env.num) + config.run.batch_length
    learner = FusedLearner(agent, batched(env), spaces, config, capacity=capacity)
    run = config.run
    checkpointer = stack.enter_context(
        Checkpointer(
            rundir.checkpoints, keep_last=run.keep_last, keep_every=run.keep_every, keep_best=run.keep_best
        )
    )
    latest = checkpointer.latest()
    logger = stack.enter_context(Logger(rundir, config, step=latest or 0))
    shell: Any = SimpleNamespace(
        num_envs=config.env.num,
        obs_space=env.obs_space,
        act_space=env.act_space,
        engine="fused",
        engine_reason="collection, replay and updates are one program",
    )
    pipeline: Any = NoPipeline()
    replay: Any = DeviceReplayStats(learner)
    loop = FusedLoop(
        config, learner, shell, replay, pipeline, rundir, logger, checkpointer, progress, config.env.repeat
    )
    if latest is not None:
        session.resume(loop)
    elif config.init_from:
        learner.state = session.initialise_from(config.init_from, agent, learner.state)
        progress.message(f"parameters taken from {config.init_from}")
    if config.eval.every:
        loop.evaluate = session.make_evaluator(loop, source, stack)
    return loop


def jax_environment(config: Config, source: Any) -> Any:
    """The JAX environment of a config or of a user; UserError for anything else."""
    from dreamworld.envs.vector.auto import as_jax_env, wrapper_options

    wrapped = wrapper_options(config.env)
    if wrapped:
        names = ", ".join(f"env.{name}" for name in wrapped)
        raise UserError(f"--run.mode fused does not serve {names}; use --run.mode host")
    return as_jax_env(source or config.task, config.env)
