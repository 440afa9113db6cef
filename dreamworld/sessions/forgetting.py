"""The study of forgetting: records two tasks, trains on them in turn, plays and dreams both at every checkpoint."""

from __future__ import annotations

import contextlib
import datetime
import functools
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dreamworld import exits, presets, words
from dreamworld.config import Config
from dreamworld.contract import Agent
from dreamworld.datasets import DataSet, open_dataset
from dreamworld.errors import UserError
from dreamworld.lists import split_list
from dreamworld.player import Player
from dreamworld.sessions import held, pieces, recording, trainings
from dreamworld.sessions.study_flags import ForgettingFlags
from dreamworld.sessions.trainings import Done
from dreamworld.spaces import difference
from dreamworld.training.evaluate import evaluate
from dreamworld.types import Params, Spaces

if TYPE_CHECKING:
    from dreamworld.assess.segments import Segments
    from dreamworld.assess.studies.forgetting import Measured
    from dreamworld.assess.studies.loss import WorldLoss

KIND = "forgetting"
TASKS = 2
EVALUATION = 1_000_003  # seed of the environments that are played, apart from those of training
NAMES = ("first", "second")


class Plan(NamedTuple):
    """What is trained, before anything is."""

    folder: Path
    tasks: list[Config]  # of the environment of each task
    sets: list[Path]  # the data set of each
    recorded: bool  # they are recorded by the study
    seeds: tuple[int, ...]
    steps: list[int]  # the checkpoints of each training


def run(config: Config, flags: ForgettingFlags, given: Collection[str]) -> Done:
    """Records and trains what is missing, measures all checkpoints, and writes the study."""
    plan = make_plan(config, flags, given)
    pieces.setup_jax(config)
    spaces = spaces_of(plan)
    trainings.require_agent(KIND, config, spaces)
    trainings.keep_plan(plan.folder, KIND, told(plan, flags, config))
    if plan.recorded and (status := record(plan, flags)):
        return Done(None, [], [], status)
    sets = [open_dataset(path) for path in plan.sets]
    for data in sets:
        if unlike := data.difference(*spaces):
            raise UserError(f"--data {data.path}: does not fit the tasks: {unlike}")
        if not (data.has_action and data.has_reward):
            raise UserError(f"--data {data.path}: the study of forgetting needs actions and rewards")
    segments = [draw_segments(data, flags, config) for data in sets]
    runs = {
        way: [plan_run(plan, config, way, seed) for seed in plan.seeds]
        for way in ("first", "without", "with")
    }
    configs = [one for way in runs.values() for one in way]
    trainings.admit(configs)
    if status := trainings.carry_out(configs):
        return Done(None, [], [], status)
    return finish(plan, runs, sets, segments, flags, config)


def make_plan(config: Config, flags: ForgettingFlags, given: Collection[str]) -> Plan:
    """What is to be trained; UserError for what can't be."""
    trainings.refuse_set(KIND, given, ("task", "run.save_every"))
    folder = trainings.require_folder(KIND, config, given)
    if len(flags.tasks) != TASKS:
        raise UserError(
            f"assess --study {KIND}: which two tasks? Give --tasks FIRST SECOND, such as "
            "--tasks jax_balls jax_darkroom"
        )
    options = [own or config.env.options for own in (flags.first_options, flags.second_options)]
    if len(set(zip(flags.tasks, options))) < TASKS:
        raise UserError(
            f"--tasks {' '.join(flags.tasks)}: both are the same, so that nothing would be forgotten; options that "
            "differ are given by --first_options and --second_options"
        )
    tasks = [
        presets.replace(config, {"task": task, "env.options": own, "seeds": ""})
        for task, own in zip(flags.tasks, options)
    ]
    own = split_list(flags.data)
    if len(own) not in (0, TASKS):
        raise UserError(f"--data {flags.data}: give two data sets, one of each task, or none, to record them")
    sets = [open_dataset(name).path for name in own] or [folder / "data" / name for name in NAMES]
    total = int(config.run.steps)
    if flags.looks > total:
        raise UserError(f"--looks {flags.looks}: trainings have {words.count(total, 'update')} (--run.steps)")
    every = total // flags.looks
    steps = [every * number for number in range(1, flags.looks)] + [total]
    plan = Plan(folder, tasks, sets, not own, trainings.seeds_of(config), steps)
    trainings.check_plan(folder, KIND, told(plan, flags, config))
    return plan


def told(plan: Plan, flags: ForgettingFlags, config: Config) -> dict[str, Any]:
    """What can't change when a study goes on, beside the configs of its runs."""
    recorded: dict[str, Any] = {"rows": flags.rows, "seed": config.seed} if plan.recorded else {}
    tasks = {
        "tasks": [task.task for task in plan.tasks],
        "options": [task.env.options for task in plan.tasks],
    }
    held_out = config.replay.held_out or trainings.HELD_OUT
    return {**tasks, "data": [str(path) for path in plan.sets], **recorded} | {
        "held_out": held_out,
        "updates": int(config.run.steps),
        "looks": flags.looks,
    }


def spaces_of(plan: Plan) -> tuple[Spaces, Spaces]:
    """The spaces that both tasks have; UserError where they differ."""
    found = []
    for task in plan.tasks:
        env = pieces.make_eval_env(task, episodes=1)
        env.close()
        found.append((env.obs_space, env.act_space))
    (first, second) = found
    unlike = difference("observation", second[0], first[0]) or difference("action", second[1], first[1])
    if unlike:
        names = " and ".join(task.task for task in plan.tasks)
        raise UserError(f"--tasks: {names} have different spaces, so no agent can learn both: {unlike}")
    return first


def record(plan: Plan, flags: ForgettingFlags) -> int:
    """Records uniformly random actions in each task, once; a signal that stopped it as an exit code, else 0."""
    for task, path in zip(plan.tasks, plan.sets):
        if path.exists():
            continue
        partial = trainings.partial(path)
        print(
            f"recording {words.count(flags.rows, 'step')} of {task.task}: {path}", file=sys.stderr, flush=True
        )
        wanted = recording.Plan(
            config=task, policies=("random",), runs={}, source=None, folder=str(partial), steps=flags.rows,
            append=False, mode="sample", step=-1, max_steps=task.eval.max_steps, truth=False,
        )  # fmt: skip
        done = recording.record(wanted, lambda steps, last: None)
        if done.stopped:
            return int(exits.of_signal(done.stopped))
        partial.rename(path)
    return 0


def draw_segments(data: DataSet, flags: ForgettingFlags, config: Config) -> Segments:
    """Segments of what is held out of a data set."""
    held_out = data.split(config.replay.held_out or trainings.HELD_OUT)[1]
    shape = (flags.segments, flags.context, flags.horizon)
    return held.cut_from_data([(data, index) for index in held_out], shape, config.seed)


def plan_run(plan: Plan, config: Config, way: str, seed: int) -> Config:
    """The config of a training: `first`, or one of the two ways to go on from it."""
    path = plan.folder / "runs" / way / f"seed{seed}"
    first = plan.folder / "runs" / "first" / f"seed{seed}"
    data = {"first": plan.sets[:1], "without": plan.sets[1:], "with": plan.sets}[way]
    task = plan.tasks[1] if way == "without" else plan.tasks[0]
    every = plan.steps[0]
    values = {"data": ",".join(map(str, data)), "task": task.task, "env.options": task.env.options}
    values |= {
        "run.save_every": every,
        "run.keep_every": every,
        "init_from": "" if way == "first" else str(first),
    }
    return trainings.plan_run(config, path, seed, values)


class Probe(NamedTuple):
    """What measures an agent on one task."""

    play: Callable[[Params, int], float]  # (parameters, seed) -> mean return
    loss: WorldLoss


@contextlib.contextmanager
def probes(
    plan: Plan, agent: Agent, segments: list[Segments], flags: ForgettingFlags
) -> Iterator[list[Probe]]:
    """Those of both tasks, compiled once for all checkpoints."""
    from dreamworld.assess.studies.loss import WorldLoss

    assert agent.simulator is not None
    with contextlib.ExitStack() as stack:
        found = []
        plain = Player(agent, None, mode=plan.tasks[0].eval.mode)
        for task, own in zip(plan.tasks, segments):
            env = pieces.make_eval_env(task, episodes=task.eval.episodes)
            stack.callback(env.close)
            play = functools.partial(_play, plain, env, task)
            found.append(Probe(play, WorldLoss(agent.simulator, own, flags.samples, task.seed)))
        yield found


def _play(plain: Player, env: Any, task: Config, params: Params, seed: int) -> float:
    """The mean return of an agent, on the same episodes at each checkpoint."""
    player = plain.renewed(params, seed)
    act = functools.partial(player.act, normalised=True)
    state, episodes = player.initial(env.num_envs), task.eval.episodes
    found = evaluate(act, state, env, episodes, seed=EVALUATION + seed, max_steps=task.eval.max_steps)
    return float(np.mean(found.returns))


def measure(runs: list[Config], agent: Agent, found: list[Probe], steps: list[int]) -> Measured:
    """All checkpoints of the trainings of one way."""
    from dreamworld.assess import intervals
    from dreamworld.assess.studies.forgetting import Measured

    returns, losses = (np.zeros((len(runs), len(steps), TASKS)) for _ in range(2))
    for row, config in enumerate(runs):
        for column, step in enumerate(steps):
            params = trainings.restore(config, agent, step)
            for index, probe in enumerate(found):
                returns[row, column, index] = probe.play(params, config.seed)
                errors, mask = probe.loss.errors(params["world"]), probe.loss.segments.imagined
                losses[row, column, index] = intervals.total_mean(np.ones((1, len(mask))), errors, mask)[0]
    return Measured(steps, returns, losses)


def finish(
    plan: Plan,
    runs: dict[str, list[Config]],
    sets: list[DataSet],
    segments: list[Segments],
    flags: ForgettingFlags,
    config: Config,
) -> Done:
    """Measures all checkpoints, and writes the study."""
    import jax

    from dreamworld.assess.intervals import total_mean
    from dreamworld.assess.judge import describe_segments
    from dreamworld.assess.studies import forgetting

    agent = pieces.build_agent(config, sets[0].obs_space, sets[0].act_space)
    with probes(plan, agent, segments, flags) as found:
        done = {way: measure(own, agent, found, plan.steps) for way, own in runs.items()}
        copied = [
            float(total_mean(np.ones((1, len(own))), probe.loss.copied(), own.imagined)[0])
            for probe, own in zip(found, segments)
        ]
    baselines = forgetting.Baselines(
        (float(np.mean(sets[0].returns)), float(np.mean(sets[1].returns))), (copied[0], copied[1])
    )
    about = told(plan, flags, config) | {
        "agent": config.agent.name,
        "seeds": list(plan.seeds),
        "episodes": config.eval.episodes,
        "baselines": baselines._asdict(),
        "segments": [describe_segments(own, flags.samples) for own in segments],
        "device": jax.devices()[0].device_kind,
        "date": datetime.date.today().isoformat(),
    }
    about["recorded_steps"] = about.pop("rows", None)  # the rows of the file are those of the table
    options = [task.env.options for task in plan.tasks]
    names = [
        f"{task.task} ({task.env.options})" if options[0] != options[1] else task.task for task in plan.tasks
    ]
    title = f"{names[0]}, then {names[1]}"
    study = forgetting.tabulate(title, names, done["first"], done, baselines, about)
    notes = []
    if len(plan.seeds) < 2:
        notes.append("one seed: there are no intervals; give --seeds 0:3")
    return Done(study, trainings.write(plan.folder, study, f"Forgetting: {title}"), notes, 0)
