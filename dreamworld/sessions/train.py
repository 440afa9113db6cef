"""Training as a function: `dreamworld.train`. Builds the session of a config, runs it, and says how it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dreamworld import words
from dreamworld.config import Config
from dreamworld.errors import UserError
from dreamworld.types import EnvSource

if TYPE_CHECKING:
    from dreamworld.sessions.job import Job
    from dreamworld.training.callbacks import Callbacks, OnCheckpoint, OnEpisode, OnLog


def train(
    config: Config,
    env: EnvSource = None,
    *,
    on_log: OnLog | None = None,
    on_episode: OnEpisode | None = None,
    on_checkpoint: OnCheckpoint | None = None,
) -> int:
    """Trains `config`, on `config.task` or on a user's own environment; returns the exit code.

    `env` is a class or factory, or with `env.num 1` one environment object, which is left open; its name
    becomes the task of the run. Raises UserError for what the user can mend.

    Callbacks look at the training, in the thread that called `train`, between two steps of the loop; while one runs,
    training waits. What they return is ignored. One that raises is told once, and training goes on;
    `dreamworld.StopTraining` ends it as SIGTERM does: it saves, and the same call continues it. Of several
    processes, the first alone calls them.

    Args:
      config: what is trained, of `dreamworld.parse`.
      env: see above.
      on_log: `on_log(row)` after each log row: what `metrics.jsonl` holds, with `seed`, `step`, `frames` and `updates`.
      on_episode: `on_episode(row)` after a training episode: `return`, `length`, `env` (the index of the
        environment) and what `episodes.jsonl` holds, with `seed`, `step` and `frames`.
      on_checkpoint: `on_checkpoint(path, step)` once a checkpoint is complete on disk; `path` is its folder.
    """
    from dreamworld import streams
    from dreamworld.training.callbacks import Callbacks

    callbacks = Callbacks(on_log, on_episode, on_checkpoint)
    with streams.guarded("stdout", "stderr"):
        return _train(config, env, callbacks)


def _train(config: Config, env: EnvSource, callbacks: Callbacks) -> int:
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
    job = Job.of(config, env, callbacks=callbacks)
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
