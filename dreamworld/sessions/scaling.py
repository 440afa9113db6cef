"""The study of scaling: plans, trains and compares models of several sizes on shares of one data set."""

from __future__ import annotations

import datetime
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dreamworld import agents, presets, words
from dreamworld.config import Config
from dreamworld.datasets import DataSet, DataWriter
from dreamworld.errors import UserError
from dreamworld.sessions import held, pieces, trainings
from dreamworld.sessions.study_flags import ScalingFlags
from dreamworld.sessions.trainings import Done
from dreamworld.training.offline import open_all

if TYPE_CHECKING:
    from dreamworld.assess.segments import Segments
    from dreamworld.assess.studies.scaling import Trained

KIND = "scaling"
WIDTHS = ("units", "hidden", "deter", "depth", "belief", "reward_units")  # of an agent, which sizes multiply
EVEN = 8  # widths that are multiples of it stay so: recurrent layers are cut into blocks


class Share(NamedTuple):
    """A part of the data set to learn from."""

    share: float
    episodes: list[int]
    rows: int


class Plan(NamedTuple):
    """What is trained, before anything is."""

    folder: Path
    data: DataSet
    held_out: list[int]
    sizes: dict[str, Config]
    shares: list[Share]
    seeds: tuple[int, ...]


def run(config: Config, flags: ScalingFlags, given: Collection[str]) -> Done:
    """Trains what is missing, judges all models on the same segments, and writes the study."""
    plan = make_plan(config, flags, given)
    pieces.setup_jax(config)
    segments = draw_segments(plan, flags, config.seed)
    spaces = (plan.data.obs_space, plan.data.act_space)
    for size, sized in plan.sizes.items():
        try:
            trainings.require_agent(KIND, sized, spaces)
        except UserError as error:
            raise UserError(f"--sizes {size}: {error}") from None
    trainings.keep_plan(plan.folder, KIND, told(plan, config))
    for share in plan.shares:
        write_share(plan, share)
    grid = {
        (size, share.share): [plan_run(plan, size, share, seed) for seed in plan.seeds]
        for size in plan.sizes
        for share in plan.shares
    }
    configs = [one for cell in grid.values() for one in cell]
    trainings.admit(configs)
    if status := trainings.carry_out(configs):
        return Done(None, [], [], status)
    return finish(plan, grid, segments, flags, config)


def make_plan(config: Config, flags: ScalingFlags, given: Collection[str]) -> Plan:
    """What is to be trained; UserError for what can't be."""
    trainings.refuse_set(KIND, given, ("task",))
    folder = trainings.require_folder(KIND, config, given)
    if not flags.data:
        raise UserError(f"assess --study {KIND}: of which data? Give a data set: --data DIR")
    needs = agents.find(config.agent.name).needs
    sets = open_all(flags.data, needs, config.agent.name)
    if len(sets) > 1:
        raise UserError(f"--data {flags.data}: the study of scaling takes one data set")
    (data,) = sets
    if not data.has_action:
        raise UserError(
            f"--data {data.path}: the actions are not known, so no model can be asked what they lead to"
        )
    for name, values in (("sizes", flags.sizes), ("shares", flags.shares), ("contexts", flags.contexts)):
        if not values or len(set(values)) < len(values):
            raise UserError(f"--{name}: give at least one, each once")
    kept, held_out = data.split(config.replay.held_out or trainings.HELD_OUT)
    longest = max((data.lengths[index] for index in held_out), default=0)
    if longest <= max(flags.contexts):
        raise UserError(
            f"--contexts {max(flags.contexts)}: the longest held-out episode of {data.path} has "
            f"{words.count(longest, 'row')}, and at least one is imagined; use shorter ones"
        )
    shares = [choose(data, kept, share) for share in sorted(flags.shares)]
    window = config.run.batch_length + config.run.replay_context
    if shares[0].rows < window:
        raise UserError(
            f"--shares {shares[0].share:g}: {words.count(shares[0].rows, 'row')} of {data.path}, fewer than a window "
            f"of {words.count(window, 'row')} (run.batch_length and run.replay_context)"
        )
    sizes = {size: resize(config, size) for size in flags.sizes}
    plan = Plan(folder, data, held_out, sizes, shares, trainings.seeds_of(config))
    trainings.check_plan(folder, KIND, told(plan, config))
    return plan


def told(plan: Plan, config: Config) -> dict[str, Any]:
    """What can't change when a study goes on, beside the configs of its runs."""
    held_out = config.replay.held_out or trainings.HELD_OUT
    data = {"data": str(plan.data.path), "data_episodes": plan.data.episodes, "data_rows": plan.data.rows}
    return {**data, "held_out": held_out, "updates": int(config.run.steps)}


def choose(data: DataSet, kept: list[int], share: float) -> Share:
    """Episodes with at least this share of the rows of those to train on; a larger share holds those of a smaller."""
    order = np.random.default_rng(0).permutation(kept)
    lengths = np.array(data.lengths)[order]
    count = int(np.searchsorted(np.cumsum(lengths), share * lengths.sum() * (1 - 1e-12))) + 1
    return Share(share, sorted(order[:count].tolist()), int(lengths[:count].sum()))


def resize(config: Config, size: str) -> Config:
    """The config of a model of a size: all widths multiplied by a factor, or a preset laid over it."""
    try:
        factor = float(size)
    except ValueError:
        if size not in presets.preset_names():
            raise UserError(
                f"--sizes {size}: neither a factor, such as 0.5, nor the name of a preset"
            ) from None
        return presets.apply(config, [size])
    if not 0 < factor <= 1000:
        raise UserError(f"--sizes {size}: a factor is above 0 and at most 1000")
    widths = {
        key: scaled(value, factor)
        for key, value in presets.flat(config).items()
        if key.startswith("agent.") and key.rpartition(".")[2] in WIDTHS
    }
    return presets.override(config, widths, f"--sizes {size}")


def scaled(width: int, factor: float) -> int:
    """A width times a factor, a multiple of `EVEN` where it was one."""
    unit = EVEN if width % EVEN == 0 else 1
    return max(unit, round(width * factor / unit) * unit)


def draw_segments(plan: Plan, flags: ScalingFlags, seed: int) -> Segments:
    """Segments of the held-out episodes, with the longest context."""
    shape = (flags.segments, max(flags.contexts), flags.horizon)
    return held.cut_from_data([(plan.data, index) for index in plan.held_out], shape, seed)


def path_of(plan: Plan, share: Share) -> Path:
    """The data set of a share; all of the data is where it was."""
    return plan.data.path if share.share == 1 else plan.folder / "data" / f"share-{share.share:g}"


def write_share(plan: Plan, share: Share) -> None:
    """Writes the episodes of a share as a data set, once; a copy that was stopped is made anew."""
    path = path_of(plan, share)
    if path.exists():
        return
    partial = trainings.partial(path)
    source = f"{share.share:g} of {plan.data.path.name}"
    with DataWriter(partial, plan.data.schema, source=source, task=plan.data.task) as writer:
        for index, episode in zip(share.episodes, plan.data.iterate(share.episodes)):
            writer.add(episode, plan.data.labels[index])
    partial.rename(path)


def plan_run(plan: Plan, size: str, share: Share, seed: int) -> Config:
    """The config of one training. Of a share nothing is held out: that was done before it was written."""
    path = plan.folder / "runs" / f"size-{size}-share-{share.share:g}" / f"seed{seed}"
    whole = share.share == 1
    values: dict[str, Any] = {
        "data": str(path_of(plan, share)),
        "task": plan.data.task or f"data_{plan.data.path.name}",
    }
    return trainings.plan_run(
        plan.sizes[size], path, seed, values | ({} if whole else {"replay.held_out": 0.0})
    )


def measure(
    plan: Plan,
    grid: dict[tuple[str, float], list[Config]],
    segments: Segments,
    flags: ScalingFlags,
    seed: int,
) -> tuple[list[Trained], np.ndarray]:
    """The errors of all models, and those of copying the last row."""
    import jax

    from dreamworld.assess.studies.loss import WorldLoss
    from dreamworld.assess.studies.scaling import Trained

    found, copied = [], np.zeros(0)
    spaces = (plan.data.obs_space, plan.data.act_space)
    for size, sized in plan.sizes.items():
        agent, shapes = trainings.require_agent(KIND, sized, spaces)
        parameters = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes["world"]))
        assert agent.simulator is not None
        losses = {
            context: WorldLoss(agent.simulator, segments.see(context), flags.samples, seed, segments)
            for context in flags.contexts
        }
        for share in plan.shares:
            worlds = [trainings.restore(one, agent)["world"] for one in grid[size, share.share]]
            errors = {
                context: np.stack([loss.errors(world) for world in worlds])
                for context, loss in losses.items()
            }
            found.append(Trained(size, parameters, share.share, share.rows, errors))
        copied = next(iter(losses.values())).copied()
    return found, copied


def finish(
    plan: Plan,
    grid: dict[tuple[str, float], list[Config]],
    segments: Segments,
    flags: ScalingFlags,
    config: Config,
) -> Done:
    """Measures all models, and writes the study."""
    import jax

    from dreamworld.assess.judge import describe_segments
    from dreamworld.assess.studies import scaling

    found, copied = measure(plan, grid, segments, flags, config.seed)
    about = told(plan, config) | {
        "task": plan.data.task,
        "agent": config.agent.name,
        "seeds": list(plan.seeds),
        "segments": describe_segments(segments, flags.samples),
        "device": jax.devices()[0].device_kind,
        "date": datetime.date.today().isoformat(),
    }
    study = scaling.tabulate(plan.data.path.name, found, segments, copied, about, config.seed)
    notes = []
    if len(segments) < flags.segments:
        notes.append(
            f"what is held out has {words.count(len(segments), 'segment')} of the {flags.segments:,} asked for"
        )
    return Done(study, trainings.write(plan.folder, study, f"Scaling: {plan.data.path.name}"), notes, 0)
