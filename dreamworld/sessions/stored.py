"""Stored runs: opening one, whose it is, which environment it plays, and the agent that fits it.

A run directory may come from anybody. One that this user made (`dreamworld.trust`) is read as it is; of another one
only the settings that building the agent needs are taken, and code that it names is imported when the user says so.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from dreamworld import presets, schema, trust
from dreamworld.config import Config
from dreamworld.contract import Agent
from dreamworld.envs.adapters.custom import load_object
from dreamworld.envs.modules import look_in
from dreamworld.envs.sources import name_of, names_code
from dreamworld.errors import UserError
from dreamworld.limits import ACTING
from dreamworld.logging.rundir import RunDir
from dreamworld.runenv import RunEnv, read_run_env, same_name
from dreamworld.sessions import pieces
from dreamworld.types import EnvSource, Spaces

READ = (
    "task",
    "seed",
    "env",
    "agent",
    "run.mode",
    "run.replay_context",
    "run.batch_size",
    "run.batch_length",
)
"""Options (or groups) that are taken from anybody's config. None of them names a folder to write to or a service."""


class Stored(NamedTuple):
    """A run as a reader may use it."""

    rundir: RunDir
    config: Config
    env: RunEnv | None  # None for a run from before spaces were kept
    own: bool  # made by this user, or trusted

    @property
    def name(self) -> str:
        """The environment that it was trained on."""
        return self.env.name if self.env else self.config.task

    @property
    def whose(self) -> str:
        """The run's folder, for messages on what it names."""
        return f"{self.rundir}: this run is not signed as yours (made by another user, on another machine, or changed)"


class Played(NamedTuple):
    """Environments to play."""

    config: Config
    source: EnvSource  # an environment from Python; None for `config.task`
    name: str
    same: bool  # as in training


def open_run(logdir: str | os.PathLike[str], *, trusted: bool = False) -> Stored:
    """The run in `logdir`; UserError where there is none. Imports nothing that it names."""
    rundir = RunDir(logdir)
    config = rundir.require(trusted=trusted)
    env = read_run_env(rundir.spaces)
    own = trusted or trust.is_own(rundir.path)
    return Stored(rundir, config if own else readable(config), env, own)


def to_continue(logdir: str | os.PathLike[str], *, trusted: bool = False) -> Config:
    """The config of the run in `logdir`, to go on as it says; UserError for somebody else's."""
    stored = open_run(logdir, trusted=trusted)
    if not stored.own:
        raise UserError(
            f"{stored.whose}. To continue it, say what to train on: --configs {stored.rundir.config} --task NAME "
            f"--logdir {stored.rundir}; or, if you trust all that its config says, --trust"
        )
    return stored.config


def readable(config: Config) -> Config:
    """What may be taken from anybody's config; everything else as the reader's own default."""
    values, acting = presets.flat(config), set(schema.marked(config, ACTING)) - {"env.options"}
    taken = {
        key: value
        for key, value in values.items()
        if key not in acting and any(f"{key}.".startswith(f"{name}.") for name in READ)
    }
    return presets.replace(presets.with_agent(Config(), config.agent.name), taken)


def choose_env(stored: Stored, task: str = "", env: EnvSource = None) -> Played:
    """The environment that the user gives (`env`, or else `task`), or that of the run.

    UserError for one that has no name, and for code that the run of somebody else names.
    """
    given = env if env is not None else task
    if not isinstance(given, str) or given:
        name = name_of(given)
        same = same_name(name, stored.name)
        config = stored.config if same and stored.own else presets.replace(stored.config, {"env.options": ""})
        if isinstance(given, str):
            return Played(presets.replace(config, {"task": given}), None, name, same)
        return Played(config, given, name, same)
    if stored.env and not stored.env.importable:
        raise UserError(
            f"{stored.rundir}: trained with env={stored.name.partition(':')[2]} from Python, which can't be found by "
            "a name; give --task module:Name, or in Python env="
        )
    options = stored.config.env.options
    if not stored.own and names_code(stored.name, options):
        extra = f" with the options {options}" if options else ""
        raise UserError(
            f"{stored.whose}. It names the environment {stored.name!r}{extra}, and nothing was imported. If you "
            "trust it: --trust; or name an environment: --task NAME (in Python: trust=True or env=)"
        )
    return _by_name(stored)


def _by_name(stored: Stored) -> Played:
    if stored.own and stored.env:
        look_in(stored.env.folder, stored.name)
    source = load_object(stored.name) if stored.env and stored.env.given else None
    return Played(presets.replace(stored.config, {"task": stored.name}), source, stored.name, True)


def build_agent(stored: Stored, env: EnvSource = None) -> Agent:
    """The agent of a run from its spaces; without stored ones, or to check `env`, one environment is built."""
    if stored.env and env is None:
        return pieces.build_agent(stored.config, stored.env.obs_space, stored.env.act_space)
    played = choose_env(stored, env=env)
    built = pieces.make_eval_env(played.config, played.source, episodes=1)
    built.close()
    return fitting_agent(stored, played.name, built.obs_space, built.act_space)


def fitting_agent(stored: Stored, name: str, obs_space: Spaces, act_space: Spaces) -> Agent:
    """The agent of a run, for an environment with these spaces; UserError where it was trained on others."""
    if stored.env is None:
        return pieces.build_agent(stored.config, obs_space, act_space)
    if difference := stored.env.difference(obs_space, act_space):
        raise UserError(f"{name!r} does not fit {stored.rundir}, trained on {stored.name}: {difference}")
    return pieces.build_agent(stored.config, stored.env.obs_space, stored.env.act_space)
