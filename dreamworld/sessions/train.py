"""Training as a function: `dreamworld.train`. Builds the session of a config, runs it, and says how it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dreamworld import words
from dreamworld.config import Config
from dreamworld.errors import UserError
from dreamworld.types import EnvSource

if TYPE_CHECKING:
    from dreamworld.sessions.job import Job


def train(config: Config, env: EnvSource = None) -> int:
    """Trains `config`, on `config.task` or on a user's own environment; returns the exit code.

    `env` is a class or factory, or with `env.num 1` one environment object, which is left open; its name
    becomes the task of the run. Raises UserError for what the user can mend.
    """
    from dreamworld import streams

    with streams.guarded("stdout", "stderr"):
        return _train(config, env)


def _train(config: Config, env: EnvSource) -> int:
    from dreamworld import presets
    from dreamworld.sessions import beginning, build
    from dreamworld.sessions.job import Job
    from dreamworld.sessions.run import run
    from dreamworld.training import hosts

    if not isinstance(config, Config):
        raise UserError(
            f"train: the config is {words.type_of(config)}; give dreamworld.parse([...]), as of a command line"
        )
    config = presets.override(config, presets.flat(config))  # made in Python, it was not checked yet
    config, env = beginning.name_task(beginning.name_data(config), env)
    job = Job.of(config, env)
    if said := finished_already(job):
        print("\n".join(said), flush=True)
        return 0
    build.kind_of(config).refuse(config, env)
    with build.opened(job._replace(team=hosts.connect(config.parallel))) as session:
        return run(session)


def finished_already(job: Job) -> list[str]:
    """What to say of a training with nothing left to do; empty where there is something."""
    from dreamworld.sessions import ending, folders

    over = folders.finished(job.rundirs, job.configs)
    return ending.already_lines(job.rundirs, job.configs) if over else []
