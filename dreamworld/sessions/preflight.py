"""What a training needs beside its environments: checked before its folder is created."""

from __future__ import annotations

from dreamworld import words
from dreamworld.config import Config
from dreamworld.contract import Agent, longest, modules
from dreamworld.errors import UserError
from dreamworld.logging.rundir import RunDir
from dreamworld.parallel import MeshLayout
from dreamworld.sessions.initialise import parse_init_from
from dreamworld.training.hosts import Team


def check(config: Config, agent: Agent) -> None:
    """Raises UserError for services and parameters that the session would refuse later."""
    if config.logger.wandb:
        from dreamworld.logging.sinks import load_wandb

        load_wandb()
    if config.init_from:
        import jax

        names = modules(jax.eval_shape(agent.init, jax.random.PRNGKey(0)).params)
        parse_init_from(config.init_from, list(names))


def check_replay(config: Config, agent: Agent, num_envs: int) -> None:
    """Makes an empty replay, which touches no file."""
    from dreamworld.replay.replay import Replay
    from dreamworld.sessions.pieces import row_spaces

    window = longest(agent)
    Replay(
        row_spaces(agent),
        config.replay,
        num_envs=num_envs,
        length=window.context + window.length,
        context=window.context,
        directory=RunDir.of(config).replay,
        held_out=0.0 if config.data else config.replay.held_out,
    )


def check_team(agent: Agent, team: Team) -> None:
    """UserError for a phase whose batch the processes can't share."""
    for phase in agent.phases:
        if phase.window:
            team.share(phase.window.batch)


def check_phases(agent: Agent, layout: MeshLayout) -> None:
    """UserError for phases that have the same name, or whose batches the devices can't divide."""
    names = [phase.name for phase in agent.phases]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"two phases of this agent are called {twice[0]!r}; give each a name of its own")
    for phase in agent.phases:
        if phase.window and phase.window.batch % layout.mesh.shape["data"]:
            raise UserError(
                f"phase {phase.name!r}: {words.count(phase.window.batch, 'chunk')} can't be divided by parallel.data "
                f"{layout.mesh.shape['data']}"
            )
