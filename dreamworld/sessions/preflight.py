"""What a training needs beside its environments: checked before its folder is created."""

from __future__ import annotations

from collections.abc import Sequence

from dreamworld import words
from dreamworld.config import Config
from dreamworld.contract import Agent, longest, modules
from dreamworld.errors import UserError
from dreamworld.logging.rundir import RunDir
from dreamworld.parallel import MeshLayout
from dreamworld.training.hosts import Team


def check(config: Config, agent: Agent, num_envs: int = 0) -> None:
    """Raises UserError for what the session would refuse later; `num_envs` 0 has no replay on the host."""
    if config.logger.wandb:
        from dreamworld.logging.sinks import load_wandb

        load_wandb()
    if config.init_from:
        import jax

        parse_init_from(
            config.init_from, list(modules(jax.eval_shape(agent.init, jax.random.PRNGKey(0)).params))
        )
    if num_envs:
        _check_replay(config, agent, num_envs)


def parse_init_from(text: str, modules: Sequence[str]) -> tuple[RunDir, list[str]]:
    """The run and the modules of `DIR` or `DIR:module,module`; UserError where one of them is not there."""
    head, _, tail = text.rpartition(":")
    path, names = (head, tail.split(",")) if head and "/" not in tail else (text, list(modules))
    if unknown := sorted(set(names) - set(modules)):
        raise UserError(f"--init_from {text}: no module {', '.join(unknown)}; there are {', '.join(modules)}")
    source = RunDir(path)
    source.require_files()
    return source, names


def _check_replay(config: Config, agent: Agent, num_envs: int) -> None:
    """Makes an empty replay, which touches no file."""
    from dreamworld.replay.replay import Replay
    from dreamworld.sessions.common import row_spaces

    window = longest(agent)
    Replay(
        row_spaces(agent),
        config.replay,
        num_envs=num_envs,
        length=window.context + window.length,
        context=window.context,
        directory=RunDir.of(config).replay,
    )


def check_team(agent: Agent, team: Team) -> None:
    """UserError for phases that several processes can't go through together: each has a replay of its own."""
    sweeps = [phase.name for phase in agent.phases if phase.window and phase.window.order == "sweep"]
    if team.count > 1 and sweeps:
        raise UserError(
            f"phase {sweeps[0]!r} sweeps over replay, which works in one process; leave --parallel out"
        )
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
