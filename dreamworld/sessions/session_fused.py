"""One fused training session (`--run.mode fused`): a JAX environment, its replay and the agent in one program."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import jax

from dreamworld import parallel, words
from dreamworld.config import Config
from dreamworld.contract import Agent
from dreamworld.envs.vector.common import Failures
from dreamworld.errors import UserError
from dreamworld.lists import parse_seeds
from dreamworld.logging.progress import Progress
from dreamworld.logging.rundir import RunDir
from dreamworld.logging.writers import Logger
from dreamworld.parallel import MeshLayout
from dreamworld.replay.memory import estimate
from dreamworld.sessions import budget, common, preflight, session, session_seeds, stored
from dreamworld.sessions.announce import announce
from dreamworld.training import group
from dreamworld.training.checkpoint import Checkpointer
from dreamworld.training.fused_loop import FusedLearner, FusedLoop
from dreamworld.training.fused_seeds import FusedLockstep, FusedSeeds, FusedSeedView
from dreamworld.training.refusals import Refusals
from dreamworld.training.stops import Stop
from dreamworld.types import Spaces


def train_fused(rundir: RunDir, config: Config, source: Any = None) -> int:
    """Trains; returns the exit code. What is wrong is said before anything is written."""
    devices = common.setup_jax(config)
    make_layout(config, 0, devices)
    rundir.admit(config)
    with contextlib.ExitStack() as stack:
        progress = stack.enter_context(
            Progress(config.run.steps, frames_per_step=config.frames_per_step, show=config.run.progress)
        )
        loop = build_fused(rundir, config, progress, source, stack)
        agent = loop.learner.agent
        rows = f"{replay_rows(config, agent)}, on the device"
        announce(progress, config, rundir, agent, loop.env, loop.learner.act_params, devices, rows)
        loop.write_status("starting")
        return session.run_loop(loop, stack.enter_context(Stop(config.run.grace_s)))


def build_fused(
    rundir: RunDir, config: Config, progress: Progress, source: Any, stack: contextlib.ExitStack
) -> FusedLoop:
    """The loop of a fused run, restored from its newest checkpoint when there is one."""
    parts = make_parts(config, source)
    preflight.check(config, parts[0])
    learner = FusedLearner(*parts, config, capacity=rows_per_env(config))
    stack.enter_context(rundir.claim(config))
    (notes,) = stored.begin([rundir], [config], source, (parts[0].obs_space, parts[0].act_space))
    for note in notes:
        progress.message(note)
    loop = assemble(rundir, config, learner, progress, stack)
    if loop.checkpointer.latest() is not None:
        session.resume(loop)
    else:
        loop.logger.begin(0)
        if config.init_from:
            learner.state = session.initialise_from(config.init_from, learner.agent, learner.state)
            progress.message(f"parameters taken from {config.init_from}")
    if config.eval.every:
        loop.evaluate = session.make_evaluator(loop, source, stack)
    return loop


def train_fused_seeds(config: Config, source: Any = None) -> int:
    """Trains `config.seeds` together; returns the exit code. What is wrong is said before anything is written."""
    configs = group.seed_configs(config)
    devices = common.setup_jax(config)
    layout = make_layout(config, len(configs), devices)
    with contextlib.ExitStack() as stack:
        rundirs = session_seeds.open_rundirs(configs, stack)
        meeting = group.find_meeting(rundirs, config.run.save_every, parse_seeds(config.seeds))
        progress = stack.enter_context(
            Progress(config.run.steps, frames_per_step=config.frames_per_step, show=config.run.progress)
        )
        lockstep = build_fused_seeds(rundirs, configs, layout, meeting, progress, source, stack)
        first = lockstep.loops[0]
        params = jax.eval_shape(first.learner.agent.init, jax.random.PRNGKey(0)).params
        memory = f"{replay_rows(config, first.learner.agent)} for each seed, on the device"
        announce(progress, configs[0], rundirs[0], first.learner.agent, first.env, params, devices, memory)
        progress.message(
            f"{words.count(len(configs), 'seed')} in one program: {', '.join(map(str, rundirs))}"
        )
        return session_seeds.run_group(lockstep, progress, stack.enter_context(Stop(config.run.grace_s)))


def build_fused_seeds(
    rundirs: list[RunDir],
    configs: list[Config],
    layout: MeshLayout,
    meeting: group.Meeting,
    progress: Progress,
    source: Any,
    stack: contextlib.ExitStack,
) -> FusedLockstep:
    """The fused loops of several seeds, restored where they meet."""
    config, step = configs[0], meeting.step
    parts = make_parts(config, source, len(configs))
    preflight.check(config, parts[0])
    learner = FusedSeeds(*parts, configs, capacity=rows_per_env(config), layout=layout)
    session_seeds.claim(rundirs, configs, stack)
    told = stored.begin(rundirs, configs, source, (parts[0].obs_space, parts[0].act_space))
    group.set_aside(rundirs, meeting)
    also_keep = session_seeds.keeper(rundirs, config)
    views, loops = [], []
    for index, (each, rundir, notes) in enumerate(zip(configs, rundirs, told)):
        voice: Any = session_seeds.SeedProgress(progress, f"seed {each.seed}", shown=index == 0)
        for note in notes:
            voice.message(note)
        views.append(FusedSeedView(learner, index))
        seeds = tuple(config.seed for config in configs)
        loops.append(assemble(rundir, each, views[-1], voice, stack, also_keep, seeds))
    for loop, view in zip(loops, views):
        if step is not None:
            session.resume(loop, step)
            continue
        loop.logger.begin(0)
        if config.init_from:
            train = session.initialise_from(config.init_from, learner.agent, view.state)
            view.load(view.snapshot()._replace(train=train))
    if step is not None or config.init_from:
        learner.join([view.loaded for view in views])
    player = session.make_player(loops[0])
    for loop in loops:
        if config.eval.every:
            loop.evaluate = session.make_evaluator(loop, source, stack, player)
        loop.write_status("starting")
    return FusedLockstep(learner, loops)


def make_layout(config: Config, seeds: int, devices: list[Any]) -> MeshLayout:
    """Seeds over devices; UserError for a mesh that splits one seed."""
    data, fsdp = config.parallel.data, config.parallel.fsdp
    if data not in (-1, 1) or fsdp != 1:
        raise UserError(
            f"--parallel.data {data} --parallel.fsdp {fsdp}: --run.mode fused trains each seed on one device; "
            "lay several --seeds over devices by --parallel.seed, or use --run.mode host"
        )
    mesh = dataclasses.replace(config.parallel, data=1)
    return parallel.make_layout(mesh, batch_size=config.run.batch_size, seeds=seeds, devices=devices)


def make_parts(config: Config, source: Any, seeds: int = 1) -> tuple[Agent, Any, Spaces]:
    """Agent, batched environment and the spaces of replay rows; UserError when replay does not fit."""
    env = jax_environment(config, source)
    agent = common.build_agent(config, env.obs_space, env.act_space)
    spaces = common.row_spaces(agent)
    budget.check_fused(config, agent, estimate(spaces, config.replay, config.run.steps), seeds)
    from dreamworld.envs.jax.batched import batched

    return agent, batched(env), spaces


def replay_rows(config: Config, agent: Agent) -> str:
    """What replay holds, in words."""
    return estimate(common.row_spaces(agent), config.replay, config.run.steps).describe_rows()


def rows_per_env(config: Config) -> int:
    """Capacity of replay. The last chunk may run past `steps` by up to a log period."""
    rows = int(min(config.replay.capacity_steps, config.run.steps + config.run.log_every))
    return -(-rows // config.env.num) + config.run.batch_length


def assemble(
    rundir: RunDir,
    config: Config,
    learner: Any,
    progress: Any,
    stack: contextlib.ExitStack,
    also_keep: Callable[[], Iterable[int]] = tuple,
    group: tuple[int, ...] = (),
) -> FusedLoop:
    """Checkpoints, logger and the loop over them, as new."""
    run, agent = config.run, learner.agent
    checkpointer = stack.enter_context(
        Checkpointer(
            rundir.checkpoints,
            keep_last=run.keep_last,
            keep_every=run.keep_every,
            keep_best=run.keep_best,
            also_keep=also_keep,
        )
    )
    logger = stack.enter_context(Logger(rundir, config, begin=False))
    shell: Any = SimpleNamespace(
        num_envs=config.env.num,
        obs_space=agent.obs_space,
        act_space=agent.act_space,
        engine="fused",
        engine_reason="collection, replay and updates are one program",
    )
    return FusedLoop(
        config=config,
        learner=learner,
        env=shell,
        rundir=rundir,
        logger=logger,
        checkpointer=checkpointer,
        progress=progress,
        refusals=Refusals(agent.obs_space, Failures(config.env.max_failures)),
        group=group,
    )


def jax_environment(config: Config, source: Any) -> Any:
    """The JAX environment of a config or of a user; UserError for anything else."""
    from dreamworld.envs.vector.auto import as_jax_env, wrapper_options

    wrapped = wrapper_options(config.env)
    if wrapped:
        names = ", ".join(f"env.{name}" for name in wrapped)
        raise UserError(f"--run.mode fused does not serve {names}; use --run.mode host")
    return as_jax_env(config.task if source is None else source, config.env)
