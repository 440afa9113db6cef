"""One training session: joins environments, agent, replay, logging and checkpoints, and runs the loop."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax

from dreamworld import flops, parallel, words
from dreamworld.config import Config
from dreamworld.contract import Agent, longest, modules
from dreamworld.envs.vector import EnvFailure
from dreamworld.envs.vector.alone import beside_another
from dreamworld.errors import UserError
from dreamworld.logging.metrics import Metrics
from dreamworld.logging.pictures import EVALUATIONS
from dreamworld.logging.progress import Progress
from dreamworld.logging.rundir import RunDir
from dreamworld.logging.writers import Logger
from dreamworld.parallel import MeshLayout
from dreamworld.player import Player
from dreamworld.precision import precision_name
from dreamworld.replay.pipeline import Pipeline
from dreamworld.replay.replay import Replay
from dreamworld.sessions import budget, common, ending, preflight, stored
from dreamworld.sessions.announce import announce
from dreamworld.training.checkpoint import Checkpointer
from dreamworld.training.evaluate import evaluate
from dreamworld.training.hosts import Silence, Team
from dreamworld.training.learner import Learner
from dreamworld.training.loop import Loop
from dreamworld.training.run import NumericalStop, SaveFailed
from dreamworld.training.stops import Exit, Stop
from dreamworld.types import VectorEnv


def train_in(rundir: RunDir, config: Config, source: Any = None, team: Team | None = None) -> int:
    """Trains; returns the exit code. What is wrong is said before anything is written."""
    team = team or Team()
    devices = common.setup_jax(config)
    layout = parallel.make_layout(config.parallel, batch_size=config.run.batch_size, devices=devices)
    team.share(config.run.batch_size)
    if team.leads:
        rundir.admit(config)
    elif rundir.exists():
        rundir.check(config)
    with contextlib.ExitStack() as stack:
        budget.check_number_of_envs(config, source)
        env = common.make_train_env(dataclasses.replace(config, seed=team.seed(config.seed)), source)
        stack.callback(env.close)
        agent = common.build_agent(config, env.obs_space, env.act_space)
        preflight.check_team(agent, team)
        preflight.check_phases(agent, layout)
        memory = budget.check(config, agent, directory=rundir.path)
        preflight.check(config, agent, env.num_envs)
        stack.enter_context(team.claim(rundir, config))
        notes = []
        if team.leads:
            (notes,) = stored.begin([rundir], [config], source, (env.obs_space, env.act_space))
        team.wait("run directory")
        config = budget.with_storage(config, memory)
        progress = stack.enter_context(
            Progress(
                config.run.steps,
                frames_per_step=config.frames_per_step,
                show=config.run.progress and team.leads,
            )
        )
        for note in notes:
            progress.message(note)
        loop = build_loop(rundir, config, agent, env, progress, source, stack, layout=layout, team=team)
        if team.leads:
            announce(progress, config, rundir, agent, env, loop.learner.state.params, devices, str(memory))
        loop.write_status("starting")
        return run_loop(loop, stack.enter_context(Stop(config.run.grace_s)))


def build_loop(
    rundir: RunDir,
    config: Config,
    agent: Agent,
    env: VectorEnv,
    progress: Progress,
    source: Any,
    stack: contextlib.ExitStack,
    *,
    layout: MeshLayout | None = None,
    team: Team | None = None,
) -> Loop:
    """The loop of a run, restored from its newest checkpoint when there is one."""
    run = config.run
    learner = Learner(
        agent,
        config.seed,
        num_envs=env.num_envs or 1,
        batch_size=run.batch_size,
        nan_policy=run.nan_policy,
        nan_limit=run.nan_limit,
        layout=layout,
    )
    loop = assemble(rundir, config, learner, env, progress, stack, team or Team())
    if loop.checkpointer.latest() is not None:
        resume(loop)
    else:
        loop.logger.begin(0)
        if config.init_from:
            learner.state = initialise_from(config.init_from, agent, learner.state)
            progress.message(f"parameters taken from {config.init_from}")
    if config.eval.every and loop.team.leads:
        loop.evaluate = make_evaluator(loop, source, stack)
    return loop


def assemble(
    rundir: RunDir,
    config: Config,
    learner: Any,
    env: VectorEnv,
    progress: Any,
    stack: contextlib.ExitStack,
    team: Team,
    metrics: Metrics | None = None,
    also_keep: Callable[[], Iterable[int]] = tuple,
) -> Loop:
    """Replay, checkpoints, logger and the loop over them, as new."""
    run, window = config.run, longest(learner.agent)
    replay = Replay(
        common.row_spaces(learner.agent),
        config.replay,
        num_envs=env.num_envs or 1,
        length=window.context + window.length,
        context=window.context,
        directory=rundir.replay if team.leads else rundir.path / f"replay_{team.index}",
        seed=team.seed(config.seed),
    )
    pipeline = Pipeline(replay, learner.put, batch_size=team.share(window.batch), depth=run.prefetch)
    stack.callback(pipeline.close)
    checkpointer = stack.enter_context(
        Checkpointer(
            rundir.checkpoints,
            keep_last=run.keep_last,
            keep_every=run.keep_every,
            keep_best=run.keep_best,
            on_commit=lambda metas: replay.collect_garbage([meta["replay"] for meta in metas]),
            also_keep=also_keep,
        )
    )
    logger: Any = Silence()
    if team.leads:
        logger = stack.enter_context(Logger(rundir, config, begin=False))
    return Loop(
        config=config,
        learner=learner,
        env=env,
        replay=replay,
        pipeline=pipeline,
        rundir=rundir,
        logger=logger,
        checkpointer=checkpointer,
        progress=progress,
        team=team,
        metrics=metrics or Metrics(),
        peak_flops=peak_flops(config, learner, team),
    )


def peak_flops(config: Config, learner: Any, team: Team) -> float | None:
    """Of the devices that this run trains on, all processes together; None when not known."""
    peak = flops.peak(precision_name(config.agent.precision))
    on_cpu = jax.default_backend() == "cpu"  # whose devices are threads of one machine
    return peak and peak * (team.count if on_cpu else learner.layout.mesh.size)


def resume(loop: Loop, step: int | None = None) -> None:
    """Restores a loop, of exactly `step` where one is given, cuts its log files there, and says so."""
    problems = loop.restore(step)
    if step is not None and loop.counters.step != step:
        raise UserError(f"{loop.rundir}: checkpoint {step} can't be read, the other seeds have it")
    loop.logger.begin(loop.counters.step)
    for problem in problems:
        loop.progress.message(problem)
    loop.progress.message(
        f"continued at step {loop.counters.step:,} ({words.count(loop.counters.updates, 'update')})"
    )


def run_loop(loop: Loop, stop: Stop) -> int:
    """Trains and says how it ended: exit code, status, learning curve."""
    try:
        loop.run(stop)
    except NumericalStop as error:
        loop.write_status("failed", error=str(error))
        loop.progress.message(str(error))
        loop.progress.message(
            f"stopped with exit code {Exit.NUMERICAL:d}; the last finite state is saved at step "
            f"{loop.counters.step:,}. Mend the cause, or go on with --run.nan_policy skip --run.nan_limit N."
        )
        return int(Exit.NUMERICAL)
    except EnvFailure as error:
        return end_by_failure(error, [loop], loop.progress)
    except SaveFailed as error:
        return end_unsaved(error, [loop], loop.progress)
    except Exception as error:
        loop.write_status("failed", error=f"{type(error).__name__}: {error}".splitlines()[0])
        raise
    loop.progress.close()
    if stop.requested:
        loop.write_status("preempted")
        tell_problems(loop)
        loop.progress.message(
            f"stopped by {stop.reason}; saved at step {loop.counters.step:,}. "
            + ending.how_to_continue([loop.rundir], [loop.config])
        )
        return int(Exit.PREEMPTED)
    loop.write_status("finished")
    if loop.team.leads:
        loop.logger.flush()
        loop.logger.pictures.learning_curve()
    tell_problems(loop)
    if loop.team.leads:
        for line in ending.finished_lines([loop]):
            loop.progress.message(line)
    return int(Exit.OK)


def end_by_failure(error: EnvFailure, loops: Sequence[Loop], progress: Any) -> int:
    """Saves the runs whose environments failed too often, says so, and returns the exit code."""
    text, *trace = str(error).splitlines()
    for loop in loops:
        loop.save_at_failure()
        loop.write_status("failed", error=text)
    for line in [text, *trace]:  # of the environment, where it raised
        progress.message(line)
    progress.message(
        f"stopped with exit code {Exit.FAILURE:d}; saved at step {loops[0].counters.step:,}. Mend the environment, or "
        "allow more with --env.max_failures; the same command continues with new episodes."
    )
    return int(Exit.FAILURE)


def end_unsaved(error: SaveFailed, loops: Sequence[Loop], progress: Any) -> int:
    """Says that the last save failed, and returns the exit code."""
    progress.message(f"error: {error}")
    for loop in loops:
        loop.write_status("failed", error=str(error))
        tell_problems(loop)
    return int(Exit.FAILURE)


def tell_problems(loop: Loop) -> None:
    """Says what could not be written or drawn."""
    for problem in loop.logger.take_problems():
        loop.progress.message(problem)


def make_player(loop: Loop) -> Player:
    """A player without parameters yet: traced once for all evaluations of a run, and of the seeds with it."""
    return Player(loop.learner.agent, None, mode=loop.config.eval.mode)


def make_evaluator(
    loop: Loop, source: Any, stack: contextlib.ExitStack, player: Player | None = None
) -> Callable[[int], float | None]:
    """`step -> mean return` on environments of its own, logged with a video; None where a stop came before the end."""
    config, problems = loop.config, loop.logger.problems
    env = make_env_beside(loop, source)
    stack.callback(env.close)
    plain = player or make_player(loop)

    def run(step: int) -> float | None:
        player = plain.renewed(loop.learner.act_params, config.seed + step)
        found = evaluate(
            functools.partial(player.act, normalised=True),
            player.initial(env.num_envs),
            env,
            config.eval.episodes,
            seed=config.seed + 1_000_003 + step,
            video=config.eval.video and problems.goes(EVALUATIONS),
            max_steps=config.eval.max_steps,
            stop=lambda: loop.stopping,
        )
        if found.stopped:
            loop.progress.message(f"evaluation at step {step:,} was stopped; it comes when the run goes on")
            return None
        log = found.log | ({"cut": found.cut} if found.cut else {})
        row = loop.logger.evaluation(step, loop.frames, config.eval.mode, found.returns, found.lengths, log)
        if found.frames is not None:
            loop.logger.pictures.evaluation(step, found.frames)
        if found.unfilmed:
            problems.give_up(EVALUATIONS, found.unfilmed)
        loop.progress.message(
            f"evaluation at step {step:,}: mean return {row['mean']:.4g} "
            f"({words.count(len(found.returns), 'episode')})"
            + (
                f", {found.cut} of them cut at {words.count(config.eval.max_steps, 'step')} (eval.max_steps)"
                * bool(found.cut)
            )
        )
        return row["mean"]

    return run


def make_env_beside(loop: Loop, source: Any) -> VectorEnv:
    """The environments of evaluation, in processes of their own where they can't be built beside those of training."""
    config = loop.config
    make = functools.partial(common.make_eval_env, source=source, episodes=config.eval.episodes)
    if getattr(loop.env, "engine", "") != "inprocess":
        return make(config)
    try:
        with beside_another(source or config.task, config.env):
            return make(config)
    except UserError as error:
        if config.env.engine != "auto" or error.__cause__ is None:
            raise
        alone = dataclasses.replace(config.env, engine="process", workers=config.env.num)
        env = make(dataclasses.replace(config, env=alone))
        loop.progress.message(
            f"the environments of evaluation run in processes of their own: {error.__cause__}"
        )
        return env


def initialise_from(text: str, agent: Agent, state: Any) -> Any:
    """The train state with parameters of another run: all of them (`DIR`), or some modules (`DIR:encoder,dynamics`)."""
    source, names = preflight.parse_init_from(text, list(modules(state.params)))
    pick = lambda tree: {
        part: {name: own[name] for name in names if name in own} for part, own in tree.items()
    }
    merge = lambda tree, found: {part: {**own, **found.get(part, {})} for part, own in tree.items()}
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)
    like = like._replace(
        params=pick(like.params), slow=pick(like.slow), opt_state=None, stats=None, step=None, key=None
    )
    with Checkpointer(source.checkpoints) as checkpointer:
        found = checkpointer.restore(None, {"train": like}, subset=True).agent["train"]
    return state._replace(params=merge(state.params, found.params), slow=merge(state.slow, found.slow))
