"""`dreamworld train`: trains an agent, or continues the run found in the log directory."""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Sequence
from typing import Annotated

from dreamworld.config import Config
from dreamworld.limits import Range
from dreamworld.logging.rundir import RunDir
from dreamworld.sessions.train import train


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


if __name__ == "__main__":
    from dreamworld import early

    sys.exit(early.run_script("train", main))
