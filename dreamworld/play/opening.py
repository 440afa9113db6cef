"""From the folder of a run, or the name of an environment, to a world that sessions play in."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from dreamworld.config import Config
from dreamworld.contract import Agent
from dreamworld.errors import UserError
from dreamworld.play import reality
from dreamworld.play.controls import make_controls
from dreamworld.play.dreamer import Dreamer
from dreamworld.play.world import World
from dreamworld.sessions import load, pieces, stored
from dreamworld.types import EnvSource, VectorEnv


def open_task(config: Config) -> World:
    """An environment alone."""
    pieces.setup_jax(config)
    make = lambda: pieces.make_eval_env(config, None, episodes=1)
    return _world(config.task, config, make(), make)


def open_run(run: stored.Stored, config: Config, source: EnvSource, checkpoint: int = -1) -> World:
    """The environment of a run beside what its agent dreams."""
    pieces.setup_jax(config)
    make = lambda: pieces.make_eval_env(config, source, episodes=1)
    env = make()
    agent = stored.fitting_agent(run, config.task, env.obs_space, env.act_space)
    step, params = load.restore_step(run.rundir, agent, checkpoint if checkpoint >= 0 else None)
    title = f"{config.task}: {run.config.agent.name}, step {step:,}"
    world = _world(title, config, env, make)
    player = load.make_player(run.config, agent, params, mode="sample", seed=config.seed)
    return dataclasses.replace(
        world,
        agent=run.config.agent.name,
        step=step,
        dreamer=make_dreamer(agent, params) if agent.simulator else None,
        player=player,
        plans=plans(run.config.agent.name),
    )


def make_dreamer(agent: Agent, params: object) -> Dreamer:
    """A compiled dreamer."""
    dreamer = Dreamer(agent, params)
    dreamer.warm_up()
    return dreamer


def plans(name: str) -> bool:
    """Whether an agent plans its actions."""
    from dreamworld import agents

    return agents.find(name).acts == "planner"


def _world(title: str, config: Config, env: VectorEnv, make: Callable[[], VectorEnv]) -> World:
    """A world without an agent."""
    task = config.task
    if not env.act_space:
        raise UserError(f"{task}: takes no actions, so there is nothing to play")
    rendered = not any(space.is_image for space in env.obs_space.values())
    rewind = reality.why_no_rewind(env, config.seed)
    env.reset(config.seed)
    if rendered and env.render(0) is None:
        rendered = False
    another = lambda: reality.Played(reality.another(env, make), render=rendered, rewind=rewind)
    return World(
        title=title,
        task=task,
        agent="",
        step=0,
        obs_space=dict(env.obs_space),
        act_space=dict(env.act_space),
        controls=make_controls(dict(env.act_space)),
        dreamer=None,
        player=None,
        plans=False,
        make_reality=another,
        segments=list,
        rendered=rendered,
        rewind=rewind,
        seed=config.seed,
    )


def require_extra() -> None:
    """UserError where the extra `play` is not installed."""
    import importlib.util

    missing = [
        name for name in ("starlette", "uvicorn", "websockets") if importlib.util.find_spec(name) is None
    ]
    if missing:
        raise UserError(f"play needs {', '.join(missing)}: pip install 'dreamworld[play]'")
