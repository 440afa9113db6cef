"""What a training needs beside its environments: checked before its folder is created."""

from __future__ import annotations

from collections.abc import Sequence

from dreamworld.config import Config
from dreamworld.contract import Agent, longest, modules
from dreamworld.errors import UserError
from dreamworld.logging.rundir import RunDir


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
    source.require()
    return source, names


def _check_replay(config: Config, agent: Agent, num_envs: int) -> None:
    """Makes an empty replay, which touches no file."""
    from dreamworld.replay.replay import Replay
    from dreamworld.scripts.common import row_spaces

    window = longest(agent)
    Replay(
        row_spaces(agent),
        config.replay,
        num_envs=num_envs,
        length=window.context + window.length,
        context=window.context,
        directory=RunDir.of(config).replay,
    )
