"""Runs and their environments: opening a stored run, whose it is, which environment it plays; beginning one.

A run directory may come from anybody. One that this user made (`dreamworld.trust`) is read as it is; of another one
only the settings that building the agent needs are taken, and code that it names is imported when the user says so.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any, NamedTuple

from dreamworld import presets, trust, words
from dreamworld.config import Config
from dreamworld.contract import Agent
from dreamworld.envs.adapters.custom import load_object
from dreamworld.envs.modules import is_in, look_in
from dreamworld.envs.sources import name_of, names_code
from dreamworld.envs.vector.auto import is_single
from dreamworld.errors import UserError
from dreamworld.limits import ACTING
from dreamworld.logging.rundir import RunDir
from dreamworld.reading import BadFile
from dreamworld.runenv import CUSTOM, RunEnv, read_run_env, same_name
from dreamworld.sessions import common
from dreamworld.types import Spaces

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
    source: Any  # an environment from Python; None for `config.task`
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
    values, acting = presets.flat(config), set(presets.marked(config, ACTING)) - {"env.options"}
    taken = {
        key: value
        for key, value in values.items()
        if key not in acting and any(f"{key}.".startswith(f"{name}.") for name in READ)
    }
    return presets.replace(presets.with_agent(Config(), config.agent.name), taken)


def choose_env(stored: Stored, task: str = "", env: Any = None) -> Played:
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


def build_agent(stored: Stored, env: Any = None) -> Agent:
    """The agent of a run from its spaces; without stored ones, or to check `env`, one environment is built."""
    if stored.env and env is None:
        return common.build_agent(stored.config, stored.env.obs_space, stored.env.act_space)
    played = choose_env(stored, env=env)
    built = common.make_eval_env(played.config, played.source, episodes=1)
    built.close()
    return fitting_agent(stored, played.name, built.obs_space, built.act_space)


def fitting_agent(stored: Stored, name: str, obs_space: Spaces, act_space: Spaces) -> Agent:
    """The agent of a run, for an environment with these spaces; UserError where it was trained on others."""
    if stored.env is None:
        return common.build_agent(stored.config, obs_space, act_space)
    if difference := stored.env.difference(obs_space, act_space):
        raise UserError(f"{name!r} does not fit {stored.rundir}, trained on {stored.name}: {difference}")
    return common.build_agent(stored.config, stored.env.obs_space, stored.env.act_space)


# --- beginning -----------------------------------------------------------------------------------------------


def name_task(config: Config, env: Any = None) -> tuple[Config, Any]:
    """The config of a training on `env`, its name as the task, and what to build: `env`, or None for the task.

    UserError where the run to continue was trained on an environment that can't be found by its name.
    """
    if isinstance(env, str):
        config, env = presets.replace(config, {"task": env}), None
    if env is None:
        return config, _source_of_run(config)
    _refuse_single(config, env)
    named = presets.replace(config, {"task": name_of(env)})
    rundir = first_rundir(named)
    if not rundir.exists():
        return named, env
    task, found = rundir.load_config().task, _recall(rundir)
    # Before names were kept, the config of such a run had any task in it.
    goes_on = task == config.task if found is None else found.given and same_name(found.name, named.task)
    return (presets.replace(config, {"task": task}) if goes_on else named), env


def _source_of_run(config: Config) -> Any:
    rundir = first_rundir(config)
    found = _recall(rundir) if rundir.exists() else None
    if found is None or not same_name(found.name, config.task):
        return None
    if not found.importable:
        raise UserError(
            f"--logdir {rundir}: trained with env={found.name.partition(':')[2]} from Python; continue it there: "
            "dreamworld.train(config, env=...)"
        )
    if trust.is_own(rundir.path):
        look_in(found.folder, found.name)
    return load_object(found.name) if found.given else None


def _refuse_single(config: Config, env: Any) -> None:
    if not is_single(env):
        return
    what = f"{words.type_of(env)} is one environment"
    if config.seeds:
        raise UserError(f"{what}, and --seeds {config.seeds} needs one per seed: pass its class or a factory")
    if config.eval.every:
        raise UserError(
            f"{what}, and --eval.every {config.eval.every:g} needs another one: pass its class or a factory, "
            "or use --eval.every 0"
        )


def first_rundir(config: Config) -> RunDir:
    """The directory of a run, of several seeds that of the first."""
    from dreamworld.sessions.session_seeds import seed_configs

    return RunDir.of(seed_configs(config)[0] if config.seeds else config)


def _recall(rundir: RunDir) -> RunEnv | None:
    """What a run was trained on; None where that is not known, or can't be read."""
    with contextlib.suppress(BadFile):
        return read_run_env(rundir.spaces)
    return None


def begin(
    rundirs: list[RunDir], configs: list[Config], source: Any, spaces: tuple[Spaces, Spaces]
) -> list[list[str]]:
    """Begins or continues runs on one environment: checks it, keeps config and spaces. Returns notes for people.

    Raises UserError, changing nothing, where one of them was trained on another environment.
    """
    envs = [_describe(rundir, config, source, spaces) for rundir, config in zip(rundirs, configs)]
    notes = [rundir.check_env(env) if rundir.exists() else [] for rundir, env in zip(rundirs, envs)]
    for rundir, config, env, told in zip(rundirs, configs, envs, notes):
        told += rundir.begin(config)
        rundir.remember(env)
    return notes


def _describe(rundir: RunDir, config: Config, source: Any, spaces: tuple[Spaces, Spaces]) -> RunEnv:
    name, folder = config.task if source is None else name_of(source), os.getcwd()
    found = _recall(rundir)
    if found and same_name(found.name, name):
        name = found.name if name.startswith(CUSTOM) else name
        if trust.is_own(rundir.path) and not is_in(folder, name):
            folder = found.folder
    return RunEnv(name, source is not None, folder, *spaces)
