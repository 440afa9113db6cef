"""A trained agent ready to act: from the folder of a run, or from parameters that are there already."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dreamworld.config import Config
from dreamworld.contract import Agent
from dreamworld.errors import UserError
from dreamworld.logging.rundir import RunDir
from dreamworld.plan_options import Planning, check_used
from dreamworld.player import Player
from dreamworld.sessions import pieces, stored
from dreamworld.sessions.evaluation import checked, plan_values
from dreamworld.sessions.planning import with_planner
from dreamworld.types import Mode, Params


def load(
    logdir: str | Path,
    *,
    step: int | None = None,
    mode: Mode = "sample",
    seed: int = 0,
    env: pieces.EnvSource | None = None,
    trust: bool = False,
    planner: Planning = "none",
    plan: Mapping[str, Any] | None = None,
) -> Player:
    """The agent of a run, ready to act (the newest checkpoint, or that of `step`).

        player = dreamworld.load(DIR)
        state = player.initial()
        state, action = player.act(state, obs)

    It is built from the spaces that the run kept, without its environment; one given as `env` is checked against
    them. `trust` lets a run that this user did not make use what its config names. With a `planner`, "cem" or "mppi",
    actions are planned in the dream of the agent's world; `plan` are its options, such as {"horizon": 15}.
    """
    values = {"step": step, "mode": mode, "seed": seed, "trust": trust, "planner": planner}
    flags = checked(logdir, {**values, **plan_values(plan)})
    check_used(flags.planner, flags.plan)
    run = stored.open_run(logdir, trusted=flags.trust)
    pieces.setup_jax(run.config)
    agent = stored.build_agent(run, env)
    params = restore_params(run.rundir, agent, flags.step if flags.step >= 0 else None)
    agent = with_planner(agent, run.config.agent.name, flags.planner, flags.plan)
    return make_player(run.config, agent, params, mode=flags.mode, seed=flags.seed)


def make_player(config: Config, agent: Agent, params: Params, *, mode: Mode, seed: int) -> Player:
    """A player that shows environments to the agent as its run did."""
    return Player(agent, params, seed, mode, config.env)


def restore_params(rundir: RunDir, agent: Agent, step: int | None = None) -> Params:
    """What acting needs of a checkpoint."""
    return restore_step(rundir, agent, step)[1]


def restore_step(rundir: RunDir, agent: Agent, step: int | None = None) -> tuple[int, Params]:
    """The step of a checkpoint, the newest intact one by default, and what acting needs of it.

    UserError where `step` is given and can't be read: another one would be taken for it.
    """
    import jax

    from dreamworld.training.checkpoint import Checkpointer

    like = jax.eval_shape(agent.init, jax.random.PRNGKey(0))
    with Checkpointer(rundir.checkpoints) as checkpointer:
        restored = checkpointer.restore(step, {"train": like._replace(opt_state=None)}, subset=True)
    found = restored.meta["step"]
    if step is not None and found != step:
        raise UserError(
            f"{rundir}: checkpoint {step} can't be read; the newest before it that can is {found}"
        )
    return found, agent.acting(restored.agent["train"])
