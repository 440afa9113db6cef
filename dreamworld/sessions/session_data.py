"""A training session without an environment (`--data`): replay is filled from data sets, a step is an update."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from dreamworld import agents, parallel, presets, words
from dreamworld.config import Config
from dreamworld.datasets import DataSet
from dreamworld.errors import UserError
from dreamworld.lists import split_list
from dreamworld.logging.progress import Progress
from dreamworld.logging.rundir import RunDir
from dreamworld.runenv import read_run_env
from dreamworld.sessions import budget, common, preflight, session, stored
from dreamworld.sessions.announce import announce
from dreamworld.training import snapshot
from dreamworld.training.loop import Loop
from dreamworld.training.offline import NoEnv, fill, open_all
from dreamworld.training.stops import Stop
from dreamworld.types import Spaces


def train_on_data(rundir: RunDir, config: Config, source: Any = None) -> int:
    """Trains; returns the exit code. What is wrong is said before anything is written."""
    _refuse(config, source)
    goes_on = bool(snapshot.snapshot_steps(rundir.checkpoints))  # then replay is in the checkpoint
    needs = agents.find(config.agent.name).needs
    sets = [] if goes_on else open_all(config.data, needs, config.agent.name)
    devices = common.setup_jax(config)
    layout = parallel.make_layout(config.parallel, batch_size=config.run.batch_size, devices=devices)
    rundir.admit(config)
    with contextlib.ExitStack() as stack:
        obs_space, act_space = _spaces(rundir, sets)
        agent = common.build_agent(config, obs_space, act_space)
        preflight.check_phases(agent, layout)
        if sets:
            _check_task(config, sets[0])
        rows = sum(data.rows for data in sets) or config.run.steps
        memory = budget.check(presets.replace(config, {"run.steps": rows}), agent, directory=rundir.path)
        preflight.check(config, agent, 1)
        stack.enter_context(rundir.claim(config))
        (notes,) = stored.begin([rundir], [config], source, (obs_space, act_space))
        config = budget.with_storage(config, memory)
        show = config.run.progress
        progress = stack.enter_context(
            Progress(config.run.steps, frames_per_step=config.frames_per_step, show=show)
        )
        for note in notes:
            progress.message(note)
        env = NoEnv(obs_space, act_space)
        loop = session.build_loop(rundir, config, agent, env, progress, None, stack, layout=layout)
        if loop.checkpointer.latest() is None:
            _fill(loop, sets)
        announce(progress, config, rundir, agent, env, loop.learner.state.params, devices, str(memory))
        loop.write_status("starting")
        return session.run_loop(loop, stack.enter_context(Stop(config.run.grace_s)))


def _refuse(config: Config, source: Any) -> None:
    """UserError for what does not go with data sets."""
    for option, given in (
        ("--seeds", bool(config.seeds)),
        ("--run.mode fused", config.run.mode == "fused"),
        ("--parallel.coordinator", bool(config.parallel.coordinator) or config.parallel.processes > 1),
        ("env=", source is not None),
    ):
        if given:
            raise UserError(
                f"{option} does not go with --data yet; train each seed by itself (dreamworld sweep)"
            )


def _spaces(rundir: RunDir, sets: list[DataSet]) -> tuple[Spaces, Spaces]:
    """Those of the data sets; of a run that goes on, those that it keeps."""
    if sets:
        return sets[0].obs_space, sets[0].act_space
    kept = read_run_env(rundir.spaces)
    if kept is None:
        raise UserError(f"{rundir}: spaces.json is missing, without which the run can't go on")
    return kept.obs_space, kept.act_space


def _check_task(config: Config, data: DataSet) -> None:
    """UserError where evaluations would play in other spaces than those of the data."""
    if not config.eval.every:
        return
    env = common.make_eval_env(config, episodes=1)
    env.close()
    if difference := data.difference(env.obs_space, env.act_space):
        raise UserError(f"--task {config.task} does not fit --data {data.path}: {difference}")


def _fill(loop: Loop, sets: list[DataSet]) -> None:
    """The episodes to train on into replay."""
    count = fill(loop.replay, sets, loop.config.replay.held_out)
    held = sum(map(len, sets)) - count
    loop.progress.message(
        f"{words.count(count, 'episode')} of {', '.join(str(data.path) for data in sets)} in replay"
        + (f", {held:,} held out" if held else "")
    )


def name_run(config: Config) -> Config:
    """The config with the data set's name as the task, where neither it was recorded there nor is it played."""
    if not config.data:
        return config
    folders = [str(Path(folder).expanduser().absolute()) for folder in split_list(config.data)]
    if not folders:  # a comma alone; without folders it would be a training in the environment
        open_all(config.data, (), config.agent.name)
    config = presets.replace(config, {"data": ",".join(folders)})
    if config.eval.every or config.task.startswith("data_"):
        return config
    first = open_all(config.data, (), config.agent.name)[0]
    if config.task == first.task:
        return config
    return presets.replace(config, {"task": f"data_{first.path.name}"})
