"""A training session of several seeds in one program; each has a run directory that can be continued alone."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax

from dreamworld import parallel, words
from dreamworld.config import Config
from dreamworld.envs.vector import EnvFailure
from dreamworld.errors import UserError
from dreamworld.lists import parse_seeds
from dreamworld.logging.progress import Progress
from dreamworld.logging.rundir import RunDir
from dreamworld.replay.memory import Estimate
from dreamworld.sessions import budget, common, ending, preflight, session, stored
from dreamworld.sessions.announce import announce
from dreamworld.training.group import (
    Meeting,
    find_meeting,
    seed_configs,
    set_aside,
    shared_steps,
)
from dreamworld.training.hosts import Team
from dreamworld.training.learner import Learner
from dreamworld.training.run import NumericalStop, SaveFailed
from dreamworld.training.seeds import (
    PARALLEL_ENGINES,
    Lockstep,
    SeedMetrics,
    SeedView,
    load_seeds,
    make_take,
)
from dreamworld.training.stops import Exit, Stop


def train_seeds(config: Config, source: Any = None) -> int:
    """Trains `config.seeds` together; returns the exit code. What is wrong is said before anything is written."""
    configs = seed_configs(config)
    if config.parallel.coordinator:
        raise UserError(
            f"--seeds {config.seeds}: runs in one process; "
            "start one run per seed for the rest, for instance by `dreamworld sweep`"
        )
    devices = common.setup_jax(config)
    layout = parallel.make_layout(
        config.parallel, batch_size=config.run.batch_size, seeds=len(configs), devices=devices
    )
    with contextlib.ExitStack() as stack:
        rundirs = open_rundirs(configs, stack)
        meeting = find_meeting(rundirs, config.run.save_every, parse_seeds(config.seeds))
        return _train(config, configs, rundirs, layout, devices, meeting, source, stack)


def open_rundirs(configs: list[Config], stack: contextlib.ExitStack) -> list[RunDir]:
    """The run directories, those of runs that go on locked; UserError when one is in use or holds another run."""
    rundirs = [RunDir.of(each) for each in configs]
    for rundir, each in zip(rundirs, configs):
        if rundir.exists():
            stack.enter_context(rundir.lock())
        rundir.admit(each)
    return rundirs


def claim(rundirs: list[RunDir], configs: list[Config], stack: contextlib.ExitStack) -> None:
    """Creates and locks the run directories of an accepted training."""
    for rundir, each in zip(rundirs, configs):
        stack.enter_context(rundir.claim(each))


def common_step(rundirs: list[RunDir], save_every: float) -> int | None:
    """The step where these seeds go on together, None for the beginning; later snapshots are set aside."""
    meeting = find_meeting(rundirs, save_every)
    set_aside(rundirs, meeting)
    return meeting.step


def keeper(rundirs: list[RunDir], config: Config) -> Callable[[], list[int]]:
    """The steps that every seed has a snapshot of: no seed deletes the newest of them before all have a newer one."""
    folders = [rundir.checkpoints for rundir in rundirs]
    return lambda: shared_steps(folders, config.run.keep_last)


def _train(
    config: Config,
    configs: list[Config],
    rundirs: list[RunDir],
    layout: parallel.MeshLayout,
    devices: list[Any],
    meeting: Meeting,
    source: Any,
    stack: contextlib.ExitStack,
) -> int:
    budget.check_number_of_envs(config, source, len(configs))
    envs = [common.make_train_env(_share_cores(each, len(configs)), source) for each in configs]
    for env in envs:
        stack.callback(env.close)
    agent = common.build_agent(config, envs[0].obs_space, envs[0].act_space)
    preflight.check_phases(agent, layout)
    memory = budget.check(config, agent, len(configs), rundirs[0].path)
    preflight.check(configs[0], agent, envs[0].num_envs)
    claim(rundirs, configs, stack)
    frames = config.frames_per_step
    progress = stack.enter_context(
        Progress(config.run.steps, frames_per_step=frames, show=config.run.progress)
    )
    learner = Learner(
        agent,
        [each.seed for each in configs],
        num_envs=envs[0].num_envs,
        batch_size=config.run.batch_size,
        nan_policy=config.run.nan_policy,
        nan_limit=config.run.nan_limit,
        layout=layout,
    )
    loops = _build_loops(learner, configs, rundirs, envs, memory, meeting, progress, source, stack)
    params = jax.eval_shape(agent.init, jax.random.PRNGKey(0)).params
    announce(
        progress, configs[0], rundirs[0], agent, envs[0], params, devices, f"{memory}, all seeds together"
    )
    progress.message(f"{words.count(len(configs), 'seed')} in one program: {', '.join(map(str, rundirs))}")
    executor = None
    if all(env.engine in PARALLEL_ENGINES for env in envs):
        executor = stack.enter_context(ThreadPoolExecutor(len(envs)))
    return run_group(
        Lockstep(learner, loops, executor), progress, stack.enter_context(Stop(config.run.grace_s))
    )


def _build_loops(
    learner: Learner,
    configs: list[Config],
    rundirs: list[RunDir],
    envs: list[Any],
    memory: Estimate,
    meeting: Meeting,
    progress: Progress,
    source: Any,
    stack: contextlib.ExitStack,
) -> list[Any]:
    """The loop of each seed, restored where they meet."""
    told = stored.begin(rundirs, configs, source, (envs[0].obs_space, envs[0].act_space))
    set_aside(rundirs, meeting)
    configs = [budget.with_storage(each, memory) for each in configs]
    loops, views, take, also_keep = [], [], make_take(learner), keeper(rundirs, configs[0])
    for index, (each, rundir, env, notes) in enumerate(zip(configs, rundirs, envs, told)):
        voice = SeedProgress(progress, f"seed {each.seed}", shown=index == 0)
        for note in notes:
            voice.message(note)
        views.append(SeedView(learner, index, take))
        loops.append(
            session.assemble(rundir, each, views[-1], env, voice, stack, Team(), SeedMetrics(), also_keep)
        )
        loops[-1].group = tuple(config.seed for config in configs)
    if meeting.step is not None:
        for loop in loops:
            session.resume(loop, meeting.step)
        load_seeds(learner, views)
    else:
        for loop in loops:
            loop.logger.begin(0)
    if meeting.step is None and (init_from := configs[0].init_from):
        for view in views:
            view.load(
                {**view.snapshot(), "train": session.initialise_from(init_from, learner.agent, view.state)}
            )
        load_seeds(learner, views)
    player = session.make_player(loops[0])
    for loop in loops:
        if configs[0].eval.every:
            loop.evaluate = session.make_evaluator(loop, source, stack, player)
        loop.write_status("starting")
    return loops


def _share_cores(config: Config, seeds: int) -> Config:
    """Worker processes of all seeds together: one per core, unless their number is given."""
    workers = config.env.workers or max(1, (os.cpu_count() or 1) // seeds)
    return dataclasses.replace(config, env=dataclasses.replace(config.env, workers=workers))


def run_group(group: Lockstep, progress: Progress, stop: Stop) -> int:
    """Trains and says how it ended, in each status."""
    counters = group.loops[0].counters
    try:
        group.run(stop)
    except NumericalStop as error:
        progress.message(str(error))
        return int(Exit.NUMERICAL)
    except EnvFailure as error:
        return session.end_by_failure(error, group.loops, progress)
    except SaveFailed as error:
        return session.end_unsaved(error, group.loops, progress)
    except Exception as error:
        for loop in group.loops:
            loop.write_status("failed", error=f"{type(error).__name__}: {error}".splitlines()[0])
        raise
    progress.close()
    for loop in group.loops:
        loop.checkpointer.tidy()  # what was kept for a seed that had not saved yet
        loop.write_status("preempted" if stop.requested else "finished")
    if stop.requested:
        progress.message(
            f"stopped by {stop.reason}; saved at step {counters.step:,}. "
            + ending.how_to_continue(
                [loop.rundir for loop in group.loops], [loop.config for loop in group.loops]
            )
        )
        return int(Exit.PREEMPTED)
    for loop in group.loops:
        loop.logger.flush()
        loop.logger.pictures.learning_curve()
        session.tell_problems(loop)
    for line in ending.finished_lines(group.loops):
        progress.message(line)
    return int(Exit.OK)


class SeedProgress:
    """One seed's part of the common progress line: the first seed's numbers are shown, all messages are."""

    def __init__(self, progress: Progress, name: str, *, shown: bool):
        self._progress, self._name, self._shown = progress, name, shown
        self.speed = progress.speed

    def pause(self, name: str, text: str = "") -> contextlib.AbstractContextManager[None]:
        """Stops the common clock, for each seed in turn; a compilation is one for all of them."""
        if not self._shown and name == "compile":
            return contextlib.nullcontext()
        return self._progress.pause(name, text and f"{self._name}: {text}")

    def update(self, step: float, updates: int, last_return: float, mean_return: float) -> None:
        """Shows the numbers of the first seed."""
        if self._shown:
            self._progress.update(step, updates, last_return, mean_return)

    def message(self, text: str) -> None:
        """A line above, with the seed's name."""
        self._progress.message(f"{self._name}: {text}")
