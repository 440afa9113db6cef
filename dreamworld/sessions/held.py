"""Segments for judging worlds: played anew in the environment of the runs, taken of a data set, or of a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from dreamworld import presets, words
from dreamworld.config import Config
from dreamworld.datasets import DataSet, open_dataset
from dreamworld.errors import UserError
from dreamworld.lists import split_list
from dreamworld.sessions import pieces, policies, stored
from dreamworld.sessions.stored import Played, Stored
from dreamworld.spaces import difference
from dreamworld.text import expand_path

if TYPE_CHECKING:
    from dreamworld.assess.ground import Ground
    from dreamworld.assess.host import HostGround
    from dreamworld.assess.segments import Segments
    from dreamworld.assess.tape import Tape
    from dreamworld.datasets.collect import Act
    from dreamworld.logging.problems import Problems
    from dreamworld.types import Spaces, VectorEnv

SEED = 2_000_003  # of environments, apart from those of training and evaluation
ENVIRONMENTS = 16  # that are played together
SECONDS = 60.0  # that an agent may act
EPISODES_STEPS = 0.5  # that are played, of the rows of all segments: an episode gives more than one


class Wanted(NamedTuple):
    """How segments are asked for."""

    data: str
    count: int
    context: int
    horizon: int
    seed: int
    fresh: bool


class Held(NamedTuple):
    """Segments, and where they are."""

    segments: Segments
    path: Path | None  # None: they could not be written
    notes: list[str]
    ground: Ground | HostGround | None = (
        None  # the environment of the first run, where states of it can be restored
    )


def find(runs: list[Stored], wanted: Wanted, problems: Problems) -> Held:
    """The segments that are there already and were asked for in the same way, or new ones, which are kept.

    UserError for segments of other spaces than those of a run. That new ones can't be written is told.
    """
    from dreamworld.assess import files
    from dreamworld.assess.branches import with_branches

    path = expand_path(wanted.data)
    if wanted.data and path.is_file():
        segments, _ = files.load(path)
        _require_fitting(runs, segments)
        segments = segments.cut(wanted.context, wanted.horizon)
        return Held(segments, path, [], _ground(runs[0], segments))
    folder = runs[0].rundir.assess
    request = wanted._asdict() | {"runs": [str(run.rundir) for run in runs]}
    del request["fresh"]
    if not wanted.data and not wanted.fresh and (before := files.find(folder, request)):
        _require_fitting(runs, before[0])
        notes = ["these segments were made before; --fresh True makes others"]
        return Held(*before, notes, _ground(runs[0], before[0]))
    if wanted.data:
        segments, notes = _of_data(runs, open_dataset(path), wanted)
    else:
        _require_alike(runs)
        segments, notes = _played(runs, wanted)
    _require_fitting(runs, segments)
    ground = _ground(runs[0], segments)
    segments = with_branches(segments, ground, wanted.seed)
    notes += getattr(ground, "told", [])
    kept = None
    with problems.told(str(folder)):
        kept = files.save(segments, folder, request)
    return Held(segments, kept, notes, ground)


def _require_fitting(runs: list[Stored], segments: Segments) -> None:
    for run in runs:
        agent = stored.build_agent(run)
        segments.check_spaces(agent.obs_space, agent.act_space, str(run.rundir))


def _require_alike(runs: list[Stored]) -> None:
    """UserError, before anything is played, where runs have other spaces than the first one."""
    first = stored.build_agent(runs[0])
    for run in runs[1:]:
        agent = stored.build_agent(run)
        found = difference("observation", first.obs_space, agent.obs_space)
        if found := found or difference("action", first.act_space, agent.act_space):
            raise UserError(
                f"{runs[0].rundir} and {run.rundir} can't be judged on the same segments: {found}; judge each alone"
            )


def other_worlds(runs: list[Stored], task: str) -> list[str]:
    """Notes on runs of another world than that of the segments, as far as its name and its options tell."""
    known = lambda run: " ".join(filter(None, (run.name, run.config.env.options)))
    here = task if task not in ("", runs[0].name) else known(runs[0])
    others = [run for run in runs if here not in (run.name, known(run))]
    return [f"{run.rundir} was trained on {known(run)}; these segments are of {here}" for run in others]


def _ground(run: Stored, segments: Segments) -> Ground | HostGround | None:
    """The environment of a run, as it was trained on, where states of these segments can be restored in it."""
    from dreamworld.assess.ground import make_ground
    from dreamworld.assess.host import make_host_ground
    from dreamworld.envs.vector import auto
    from dreamworld.envs.vector.worker import maker

    try:
        played = stored.choose_env(run)
    except UserError:
        return None
    target, config = played.name if played.source is None else played.source, played.config.env
    if _in_program(played):
        return make_ground(auto.as_jax_env(target, config), segments, config.time_limit)
    return make_host_ground(maker(target, config), segments)


def _in_program(played: Played) -> bool:
    """Whether it is a JAX environment without wrappers."""
    from dreamworld.envs.vector import auto

    target = played.name if played.source is None else played.source
    return set(auto.wrapper_options(played.config.env)) <= {"time_limit"} and auto.is_jax(target)


def _open(played: Played, num: int, tape: Tape) -> VectorEnv:
    """Environments to play segments in: those of the host write what they play on the tape."""
    from dreamworld.assess.tape import ENGINES, Recorder

    config = played.config
    if config.env.engine in ("auto", "atari") and played.name.startswith(("atari_", "atari100k_")):
        config = presets.replace(
            config, {"env.engine": "inprocess"}
        )  # its threads don't seed games one by one
    env = pieces.make_eval_env(config, played.source, episodes=num)
    return Recorder(env, tape) if env.engine in ENGINES else env


def _of_data(runs: list[Stored], data: DataSet, wanted: Wanted) -> tuple[Segments, list[str]]:
    if not data.has_action:
        raise UserError(f"{data.path}: the actions are not known, so no model can be asked what they lead to")
    shares = {_held_out(run.config, data) for run in runs}
    share, notes = max(shares), []
    chosen = list(range(data.episodes))
    if share > 0:
        chosen = data.split(share)[1]
    if 0.0 in shares:
        notes.append(
            f"{data.path}: a run was trained on this data and held nothing out (replay.held_out 0): what is judged "
            "was seen in training"
        )
    if not data.has_reward:
        notes.append(f"{data.path} knows no rewards: they count as 0")
    shape = (wanted.count, wanted.context, wanted.horizon)
    return cut_from_data([(data, index) for index in chosen], shape, wanted.seed), notes


def cut_from_data(chosen: list[tuple[DataSet, int]], shape: tuple[int, int, int], seed: int) -> Segments:
    """Segments of these episodes of data sets; `shape` is how many, the rows seen and the rows imagined."""
    from dreamworld.assess import segments

    count, context, horizon = shape
    first = chosen[0][0]
    return segments.draw(
        [data.episode(index) for data, index in chosen],
        [data.labels[index] for data, index in chosen],
        (first.obs_space, first.act_space),
        count=count,
        context=context,
        horizon=horizon,
        task=first.task,
        seed=seed,
    )


def _held_out(config: Config, data: DataSet) -> float:
    """The share of this data that a run has held out; -1 where it was not trained on it."""
    own = {expand_path(name).absolute() for name in split_list(config.data)} if config.data else set()
    return config.replay.held_out if data.path in own else -1.0


class Actor(NamedTuple):
    """Who acts, in how many environments, and for how many steps."""

    name: str
    run: Stored | None  # None: uniformly random actions
    num_envs: int
    steps: int


def _played(runs: list[Stored], wanted: Wanted) -> tuple[Segments, list[str]]:
    """Half of the segments of random actions, the other half of the agents of the runs, in equal shares."""
    from dreamworld.assess import gather, segments
    from dreamworld.assess.room import require_room
    from dreamworld.assess.tape import Tape, with_streams

    first = runs[0]
    if first.config.data and not first.env:
        raise UserError(f"{first.rundir}: its environment is not known; give a data set: --data DIR")
    played = stored.choose_env(first)
    agent = stored.build_agent(first)
    require_room(wanted.count, wanted.context, wanted.horizon, (agent.obs_space, agent.act_space))
    pieces.setup_jax(played.config)
    names = [f"agent of {run.rundir.path.name}" for run in runs]
    names = [name if names.count(name) == 1 else f"{name} ({index})" for index, name in enumerate(names)]
    shares = {"random": 0.5} | {name: 0.5 / len(runs) for name in names}
    rows = wanted.count * (wanted.context + wanted.horizon)
    steps = {name: max(1, round(EPISODES_STEPS * share * rows)) for name, share in shares.items()}
    actors = [Actor("random", None, ENVIRONMENTS, steps["random"])]
    notes: list[str] = []
    for name, run in zip(names, runs):
        actor, told = _pace(name, run, steps[name], wanted)
        actors += [actor] if actor else []
        notes += told
    episodes, labels, tape = [], [], Tape()
    spaces = None
    for actor in actors:
        env = _open(played, actor.num_envs, tape)
        try:
            spaces = (env.obs_space, env.act_space)
            act = _act(actor, played.name, spaces, env.num_envs, wanted.seed)
            most = gather.MAX_STEPS if actor.num_envs == ENVIRONMENTS else wanted.context + wanted.horizon
            seed = SEED + wanted.seed + 7919 * len(labels)
            found = gather.gather(
                env, {actor.name: act}, steps={actor.name: actor.steps}, seed=seed, max_steps=most
            )
        finally:
            env.close()
        episodes, labels = [*episodes, *found.episodes], [*labels, *found.labels]
        notes += [event for done in found.told for event in done.events]
    assert spaces is not None
    whole = sum(shares[actor.name] for actor in actors)
    drawn = segments.draw(
        episodes,
        labels,
        spaces,
        count=wanted.count,
        context=wanted.context,
        horizon=wanted.horizon,
        task=played.name,
        shares={actor.name: shares[actor.name] / whole for actor in actors},
        seed=wanted.seed,
    )
    if len(drawn) < wanted.count:
        notes.append(
            f"these episodes hold {words.count(len(drawn), 'segment')} of the {wanted.count:,} asked for"
        )
    return with_streams(drawn, tape), notes


def _act(actor: Actor, task: str, spaces: tuple[Spaces, Spaces], num_envs: int, seed: int) -> Act:
    if actor.run is None:
        return policies.random_policy(spaces[1], num_envs, seed)
    options: dict[str, Any] = {"mode": "sample", "step": -1, "seed": seed}
    return policies.run_policy(actor.run, task, spaces, num_envs, **options)


def _pace(name: str, run: Stored, steps: int, wanted: Wanted) -> tuple[Actor | None, list[str]]:
    """How an agent acts within `SECONDS`: in fewer environments, or not at all, with a note."""
    from dreamworld.assess.timing import act_seconds
    from dreamworld.sessions import load

    agent = stored.build_agent(run)
    took = act_seconds(agent, load.restore_params(run.rundir, agent))
    rows = wanted.context + wanted.horizon + 1
    num = int(SECONDS / took / rows)
    if num >= ENVIRONMENTS and steps * took <= SECONDS:
        return Actor(name, run, ENVIRONMENTS, steps), []
    if num < 1:
        return None, [
            f"{name}: acts too slowly to be played ({took:.2g} s for one state); no segment is of it"
        ]
    fewer = min(num, ENVIRONMENTS - 1)
    told = f"{name}: acts slowly; it is played for {words.count(fewer * rows, 'row')}"
    return Actor(name, run, fewer, 1), [told]
