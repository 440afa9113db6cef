"""`dreamworld train`: trains an agent, or continues the run found in the log directory."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import sys
from collections.abc import Sequence
from typing import Annotated, Any

from dreamworld import words
from dreamworld.config import Config
from dreamworld.errors import UserError
from dreamworld.limits import Range
from dreamworld.logging.rundir import RunDir


@dataclasses.dataclass(frozen=True)
class Flags:
    supervise: bool = False
    """Run as a child process and restart it after a preemption, an abort or a lost host."""
    max_restarts: Annotated[int, Range(0, 1e6)] = 10
    """With --supervise: restarts without progress before giving up."""


DESCRIPTION = """Train an agent: dreamworld train --configs … --task NAME --logdir DIR

Continue the run in a folder as it was begun: dreamworld train DIR. Options that follow change what may change."""


def main(argv: Sequence[str]) -> int:
    """Parses, builds and trains; returns the exit code."""
    config, flags = read(argv)
    if not flags.supervise:
        return train(config)
    from dreamworld import system

    system.require_posix("--supervise", "leave it out, and start the same command again where it ended")
    from dreamworld.training.group import checkpoint_folders
    from dreamworld.training.supervise import supervise

    command = [sys.executable, "-m", "dreamworld", "train", *without_flags(argv)]
    return supervise(command, checkpoints=checkpoint_folders(config), max_restarts=flags.max_restarts)


def read(argv: Sequence[str]) -> tuple[Config, Flags]:
    """The config of a command line, and the supervisor's options; a folder before them gives the config below."""
    from dreamworld import cli
    from dreamworld.sessions import folders

    folder, options = folders.split(argv, "train")
    stored = functools.partial(folders.to_continue, folder) if folder else None
    config, flags = cli.parse_with(
        options, Flags(), prog="dreamworld train [DIR]", description=DESCRIPTION, base=stored
    )
    if folder:
        folders.require_same_seeds(folder, config)
        logdir = folders.agreed(folder, config.logdir, "train")
        config = dataclasses.replace(config, logdir=str(RunDir(logdir)))
    return config, flags


def without_flags(argv: Sequence[str]) -> list[str]:
    """The command line of the supervised child: `argv` without the supervisor's own options and their values."""
    own = {f"--{field.name}" for field in dataclasses.fields(Flags)}
    kept: list[str] = []
    dropping = False
    for word in argv:
        if word.startswith("--"):
            dropping = word.partition("=")[0].replace("-", "_").replace("__", "--", 1) in own
        if not dropping:
            kept.append(word)
    return kept


def train(config: Config, env: Any = None) -> int:
    """Trains `config`, on `config.task` or on a user's own environment; returns the exit code.

    `env` is a class or factory, or with `env.num 1` one environment object, which is left open; its name
    becomes the task of the run. Raises UserError for what the user can mend.
    """
    from dreamworld import streams

    with streams.guarded("stdout", "stderr"):
        return _train(config, env)


def _train(config: Config, env: Any) -> int:
    from dreamworld.sessions import session, session_data, session_fused, session_seeds, stored
    from dreamworld.training import hosts

    if not isinstance(config, Config):
        raise UserError(
            f"train: the config is {words.type_of(config)}; give dreamworld.parse([...]), as of a command line"
        )
    config, env = stored.name_task(session_data.name_run(config), env)
    if said := finished_already(config):
        print("\n".join(said), flush=True)
        return 0
    if config.data:
        rundir = RunDir.of(config)
        with rundir.lock() if rundir.exists() else contextlib.nullcontext():
            return session_data.train_on_data(rundir, config, env)
    fused = config.run.mode == "fused"
    if fused and (config.parallel.coordinator or config.parallel.processes > 1):
        raise UserError("--run.mode fused trains in one process; use --run.mode host")
    if config.seeds:
        return (session_fused.train_fused_seeds if fused else session_seeds.train_seeds)(config, env)
    team = hosts.connect(config.parallel)
    rundir = RunDir.of(config)
    # A run that goes on is held from the start, a new one (see `RunDir.claim`) once everything is accepted.
    with team.lock(rundir) if rundir.exists() else contextlib.nullcontext():
        if fused:
            return session_fused.train_fused(rundir, config, env)
        return session.train_in(rundir, config, env, team)


def finished_already(config: Config) -> list[str]:
    """What to say of a training with nothing left to do; empty where there is something."""
    from dreamworld.sessions import ending, folders
    from dreamworld.training.group import seed_configs

    configs = seed_configs(config) if config.seeds else [config]
    rundirs = [RunDir.of(each) for each in configs]
    return ending.already_lines(rundirs, configs) if folders.finished(rundirs, configs) else []


if __name__ == "__main__":
    from dreamworld import early

    sys.exit(early.run_script("train", main))
