"""What a training begins with: the name of its environment or data, and the files that its folder keeps of them."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from dreamworld import presets, trust, words
from dreamworld.config import Config
from dreamworld.envs.adapters.custom import load_object
from dreamworld.envs.attributes import is_a
from dreamworld.envs.made import describe_source
from dreamworld.envs.modules import is_in, look_in
from dreamworld.envs.sources import name_of
from dreamworld.envs.vector.auto import is_single
from dreamworld.errors import UserError
from dreamworld.lists import split_list
from dreamworld.logging.rundir import RunDir
from dreamworld.reading import BadFile
from dreamworld.runenv import CUSTOM, RunEnv, read_run_env, same_name
from dreamworld.text import current_folder, expand_path
from dreamworld.training.group import seed_configs
from dreamworld.training.offline import open_all
from dreamworld.types import EnvSource, Spaces


def name_task(config: Config, env: EnvSource = None) -> tuple[Config, Any]:
    """The config of a training on `env`, its name as the task, and what to build: `env`, or None for the task.

    UserError where the run to continue was trained on an environment that can't be found by its name.
    """
    if is_a(env, str):
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


def name_data(config: Config) -> Config:
    """The config with the data set's name as the task, where neither it was recorded there nor is it played."""
    if not config.data:
        return config
    folders = [str(expand_path(folder).absolute()) for folder in split_list(config.data)]
    if not folders:  # a comma alone; without folders it would be a training in the environment
        open_all(config.data, (), config.agent.name)
    config = presets.replace(config, {"data": ",".join(folders)})
    if config.eval.every or config.task.startswith("data_"):
        return config
    first = open_all(config.data, (), config.agent.name)[0]
    if config.task == first.task:
        return config
    return presets.replace(config, {"task": f"data_{first.path.name}"})


def _source_of_run(config: Config) -> EnvSource:
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


def _refuse_single(config: Config, env: EnvSource) -> None:
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
    return RunDir.of(seed_configs(config)[0] if config.seeds else config)


def _recall(rundir: RunDir) -> RunEnv | None:
    """What a run was trained on; None where that is not known, or can't be read."""
    with contextlib.suppress(BadFile):
        return read_run_env(rundir.spaces)
    return None


class Beginning(NamedTuple):
    """What a run begins or goes on with."""

    rundir: RunDir
    config: Config
    env: RunEnv
    notes: list[str]  # for people

    def keep(self) -> None:
        """Keeps config and spaces in the folder. A new run whose files can't be written leaves none."""
        rundir, is_new = self.rundir, not self.rundir.exists()
        try:
            self.notes.extend(rundir.begin(self.config))
            rundir.remember(self.env)
        except OSError:
            for path in (rundir.spaces, rundir.path / trust.SIGNATURE, rundir.config) if is_new else ():
                path.unlink(missing_ok=True)
            raise


def accept(
    rundirs: Sequence[RunDir], configs: Sequence[Config], source: EnvSource, spaces: tuple[Spaces, Spaces]
) -> list[Beginning]:
    """What runs on one environment begin with; UserError where one of them was trained on another environment."""
    envs = [_describe(rundir, config, source, spaces) for rundir, config in zip(rundirs, configs)]
    notes = [rundir.check_env(env) if rundir.exists() else [] for rundir, env in zip(rundirs, envs)]
    return list(map(Beginning, rundirs, configs, envs, notes))


def _describe(rundir: RunDir, config: Config, source: EnvSource, spaces: tuple[Spaces, Spaces]) -> RunEnv:
    name, folder = config.task if source is None else name_of(source), current_folder()
    found = _recall(rundir)
    if found and same_name(found.name, name):
        name = found.name if name.startswith(CUSTOM) else name
        if trust.is_own(rundir.path) and not is_in(folder, name):
            folder = found.folder
    made = describe_source(source) if name.startswith(CUSTOM) else ""  # another name tells enough
    return RunEnv(name, source is not None, folder, *spaces, made)
