"""`dreamworld train`: trains an agent, or continues the run found in the log directory."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

from dreamworld.config import Config


@dataclasses.dataclass(frozen=True)
class Flags:
    supervise: bool = False
    """Run as a child process and restart it after a preemption, an abort or a lost host."""
    max_restarts: int = 10
    """With --supervise: restarts without progress before giving up."""


def main(argv: Sequence[str]) -> int:
    """Parses, builds and trains; returns the exit code."""
    from dreamworld import cli

    config, flags = cli.parse_with(argv, Flags(), prog="dreamworld train", description="Train an agent.")
    if flags.supervise:
        from dreamworld.train.supervise import supervise

        child = [word for word in argv if not word.startswith("--supervise")]
        return supervise(child, max_restarts=flags.max_restarts)
    return train(config)


def train(config: Config, env: Any = None) -> int:
    """Trains `config`, on `config.task` or on a user's own environment object or factory; returns the exit code.

    Raises UserError for what the user can mend.
    """
    from dreamworld.logging.rundir import RunDir
    from dreamworld.scripts import session

    rundir = RunDir.of(config)
    rundir.create()
    with rundir.lock():
        return session.train_in(rundir, config, env)


if __name__ == "__main__":
    from dreamworld import cli

    sys.exit(cli.run(main, sys.argv[1:]))
