"""Looks at the world model of a training: on segments that are made at the first one, and kept in the run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dreamworld.config import Config
from dreamworld.contract import Agent
from dreamworld.datasets import open_dataset
from dreamworld.errors import UserError
from dreamworld.lists import split_list
from dreamworld.sessions import policies
from dreamworld.sessions.evaluator import make_env_beside, make_player
from dreamworld.sessions.held import EPISODES_STEPS, SEED, cut_from_data
from dreamworld.training.run import Run
from dreamworld.types import EnvSource, Params

if TYPE_CHECKING:
    from dreamworld.assess.segments import Segments


def check_assessable(config: Config, agent: Agent) -> None:
    """UserError where looks are asked for and there is no world, or nothing held out, to look at."""
    if not config.assess.every:
        return
    if agent.simulator is None:
        raise UserError(
            f"--assess.every {config.assess.every:g}: the agent {config.agent.name} has no simulator, so there is no "
            "world to judge; leave it out"
        )
    if config.data and not config.replay.held_out:
        raise UserError(
            f"--assess.every {config.assess.every:g}: without an environment, episodes have to be held out; give "
            "--replay.held_out 0.1"
        )


def make_assessor(loop: Run, source: EnvSource) -> Callable[[int], dict[str, float]]:
    """`step -> what to log`; what it takes is imported, played and compiled at the first call."""
    made: dict[str, Any] = {}

    def run(step: int) -> dict[str, float]:
        params = loop.learner.act_params
        if not made:
            from dreamworld.assess.quick import QuickLook

            simulator = loop.learner.agent.simulator
            made["quick"] = QuickLook(simulator, find_segments(loop, source, params), loop.config.seed)
        return made["quick"].look(params["world"])

    return run


def find_segments(loop: Run, source: EnvSource, params: Params) -> Segments:
    """Those that an earlier session of this run made, or new ones; that these can't be written is told."""
    from dreamworld.assess import files

    config = loop.config
    wanted = config.assess
    request = {"training": True, "count": wanted.segments, "context": wanted.context}
    request |= {"horizon": wanted.horizon, "seed": config.seed}
    if found := files.find(loop.rundir.assess, request):
        return found[0]
    if config.data:
        sets = [open_dataset(name) for name in split_list(config.data)]
        chosen = [(data, index) for data in sets for index in data.split(config.replay.held_out)[1]]
        segments = cut_from_data(chosen, (wanted.segments, wanted.context, wanted.horizon), config.seed)
    else:
        segments = _played(loop, source, params)
    with loop.logger.problems.told(str(loop.rundir.assess)):
        files.save(segments, loop.rundir.assess, request)
    return segments


def _played(loop: Run, source: EnvSource, params: Params) -> Segments:
    """Half of random actions, the other half of the agent as it is now."""
    from dreamworld.assess import gather, segments
    from dreamworld.assess.room import require_room

    config, agent = loop.config, loop.learner.agent
    shape = (config.assess.segments, config.assess.context, config.assess.horizon)
    require_room(*shape, (agent.obs_space, agent.act_space))
    with contextlib.closing(make_env_beside(loop, source)) as env:
        player = make_player(loop).renewed(params, config.seed)
        acts = {
            "random": policies.random_policy(env.act_space, env.num_envs, config.seed),
            "agent": policies.player_policy(player, env.num_envs),
        }
        rows = config.assess.segments * (config.assess.context + config.assess.horizon)
        steps = dict.fromkeys(acts, max(1, round(EPISODES_STEPS * rows / 2)))
        gathered = gather.gather(env, acts, steps=steps, seed=SEED + config.seed)
        spaces = (env.obs_space, env.act_space)
    return segments.draw(
        gathered.episodes,
        gathered.labels,
        spaces,
        count=config.assess.segments,
        context=config.assess.context,
        horizon=config.assess.horizon,
        task=config.task,
        shares={"random": 0.5, "agent": 0.5},
        seed=config.seed,
    )
