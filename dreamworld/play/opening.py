"""From the folder of a run, or the name of an environment, to a world that sessions play in."""

from __future__ import annotations

import dataclasses
import functools
import os
import threading
from collections.abc import Callable

from dreamworld.config import Config
from dreamworld.contract import Agent
from dreamworld.envs.vector.common import EnvFailure
from dreamworld.envs.vector.jax_engine import JaxVector
from dreamworld.errors import UserError
from dreamworld.plan_options import DEFAULT, PlanConfig, Planning
from dreamworld.play import reality
from dreamworld.play.controls import make_controls
from dreamworld.play.drawing import make_draw
from dreamworld.play.dreamer import Dreamer
from dreamworld.play.edits import make_edits
from dreamworld.play.segments import Segment, find
from dreamworld.play.world import World
from dreamworld.player import Player
from dreamworld.sessions import load, pieces, stored
from dreamworld.sessions.planning import with_planner
from dreamworld.sessions.stored import Stored
from dreamworld.text import expand_path
from dreamworld.types import EnvSource, JaxEnv, Spaces, VectorEnv

LONGEST = 1_000_000  # steps of a useful horizon that is believed


def open_task(config: Config, data: str = "") -> World:
    """An environment alone; episodes are saved in the folder `data`."""
    pieces.setup_jax(config)
    make = lambda: pieces.make_eval_env(config, None, episodes=1)
    task = config.task
    return _with_folder(of_env(task, config, make(), make), data or f"runs/play-{_plain(task)}")


def open_run(
    run: Stored,
    config: Config,
    source: EnvSource,
    checkpoint: int = -1,
    data: str = "",
    planner: Planning = "none",
    plan: PlanConfig = DEFAULT,
) -> World:
    """The environment of a run beside what its agent dreams; of a run without one the dream alone.

    With a `planner` one may let it act, too.
    """
    pieces.setup_jax(config)
    name = run.config.agent.name
    env = None
    if not _is_alone(run):
        make = lambda: pieces.make_eval_env(config, source, episodes=1)
        env = make()
        agent = stored.fitting_agent(run, config.task, env.obs_space, env.act_space)
    else:
        agent = stored.build_agent(run)
    _require_simulator(run, agent)
    step, params = load.restore_step(run.rundir, agent, checkpoint if checkpoint >= 0 else None)
    segments = _once(lambda: find(run, agent, config.seed))
    title = f"{config.task}: {name}, step {step:,}"
    world = of_env(title, config, env, make) if env else _alone(title, config, agent, segments())
    player = load.make_player(run.config, agent, params, mode="sample", seed=config.seed)
    if planner != "none":
        planning = with_planner(agent, name, planner, plan)
        another = load.make_player(run.config, planning, params, mode="sample", seed=config.seed)
        world = dataclasses.replace(world, planner=another)
    world = with_agent(world, player, name, _source(env))
    world = dataclasses.replace(world, step=step, segments=segments, useful_horizon=useful_horizon(run, step))
    return _with_folder(world, data or str(run.rundir.path / "play"))


def with_agent(world: World, player: Player, name: str, source: JaxEnv | None) -> World:
    """A world with the dream of an agent, compiled; `source` is the environment, where it is one in JAX."""
    agent = player.agent
    assert agent.simulator is not None
    dreamer = Dreamer(agent, player.params)
    shows = agent.simulator.edit is not None
    edits = make_edits(source, agent.obs_space, dreamer.decoded, shows=shows, swaps=True)
    found = dataclasses.replace(
        world, agent=name, dreamer=dreamer, player=player, plans=plans(name), edits=edits
    )
    warm_up(found)
    return found


def warm_up(world: World) -> None:
    """Compiles what the first steps of a session need."""
    if world.dreamer:
        world.dreamer.warm_up()
    obs = {key: space.zeros() for key, space in world.obs_space.items()}
    for player in world.minds.values():
        mind, _ = player.act(player.initial(), obs, normalised=True)
        player.act(mind, obs, normalised=True)


def _is_alone(run: Stored) -> bool:
    """Whether a run was trained on data whose environment is not known, or can't be made here by its name."""
    from dreamworld.envs.families import find_family

    if not run.config.data:
        return False
    return find_family(run.config.task) is None and ":" not in run.config.task


def _require_simulator(run: Stored, agent: Agent) -> None:
    if agent.simulator is None:
        raise UserError(
            f"{run.rundir}: the agent {run.config.agent.name} has no simulator, so there is no dream to play in; "
            f"its environment alone: dreamworld play {run.config.task}"
        )


def plans(name: str) -> bool:
    """Whether an agent plans its actions."""
    from dreamworld import agents

    return agents.find(name).acts == "planner"


def useful_horizon(run: Stored, step: int) -> int | None:
    """The steps of a dream that are better than half of standing still, by `assess/step-N.json` of this checkpoint."""
    from dreamworld.fields import read_fields
    from dreamworld.reading import BadFile, inside

    try:
        metrics = read_fields(inside(run.rundir.assess, f"step-{step}.json"), 16 << 20).fields("metrics")
        keys = [key for key in metrics if key.endswith("/useful_horizon")]
        found = min(metrics.fields(key).number("value") for key in keys) if keys else -1
        return int(found) if 0 <= found <= LONGEST else None
    except (BadFile, OSError):
        return None  # it was not judged, or the file is somebody's: the page does without


def of_env(title: str, config: Config, env: VectorEnv, make: Callable[[], VectorEnv]) -> World:
    """A world of an environment, without an agent."""
    obs_space, act_space = dict(env.obs_space), dict(env.act_space)
    if not act_space:
        raise UserError(f"{config.task}: takes no actions, so there is nothing to play")
    try:
        rewind = reality.why_no_rewind(env, config.seed)
        env.reset(config.seed)
    except EnvFailure as error:  # its traceback is what `envs check` is for
        line = str(error).partition("\n")[0]
        raise UserError(
            f"{config.task} can't be played: {line}; dreamworld envs check {config.task}"
        ) from None
    seen = any(space.is_image for space in obs_space.values())
    rendered = not seen and reality.rendered(env)[0] is not None
    another = lambda: reality.Played(reality.another(env, make), render=rendered, rewind=rewind)
    if not isinstance(env, JaxVector):
        env.close()  # each session makes its own, in its own thread
    return World(
        title=title,
        task=config.task,
        obs_space=obs_space,
        act_space=act_space,
        controls=make_controls(act_space, _names(env)),
        make_reality=another,
        rendered=rendered,
        draw=make_draw(config.task, env) if rendered else None,
        rewind=rewind,
        seed=config.seed,
    )


def _alone(title: str, config: Config, agent: Agent, segments: list[Segment]) -> World:
    """A world without an environment: dreams that begin in recorded segments."""
    if not segments:
        raise UserError(
            f"{title}: its environment is not known, and no recorded segments are at hand to begin a dream from: "
            "neither a replay nor its data set"
        )
    spaces: tuple[Spaces, Spaces] = (dict(agent.obs_space), dict(agent.act_space))
    return World(
        title=title,
        task=config.task,
        obs_space=spaces[0],
        act_space=spaces[1],
        controls=make_controls(spaces[1]),
        make_reality=None,
        rendered=False,
        save="there is no environment, and a dream is no data",
        seed=config.seed,
    )


def _with_folder(world: World, folder: str) -> World:
    """The world, whose episodes are saved in a folder where that can be written."""
    if world.save:
        return world
    from dreamworld.datasets.writer import require_writable

    path = expand_path(folder).absolute()
    try:
        require_writable(path)
    except UserError as error:
        return dataclasses.replace(world, save=str(error))
    return dataclasses.replace(world, folder=str(path))


def _source(env: VectorEnv | None) -> JaxEnv | None:
    return env.source if isinstance(env, JaxVector) else None


def _names(env: VectorEnv) -> dict[str, tuple[str, ...]]:
    """What the environment calls its actions, where there is one action."""
    found = getattr(env, "action_names", ())
    return dict.fromkeys(env.act_space, found) if len(env.act_space) == 1 else {}


def _plain(task: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in os.path.basename(task)) or "environment"


def _once(make: Callable[[], list[Segment]]) -> Callable[[], list[Segment]]:
    """`make`, called once, by whichever thread asks first."""
    lock, cached = threading.Lock(), functools.cache(make)

    def get() -> list[Segment]:
        with lock:
            return cached()

    return get
