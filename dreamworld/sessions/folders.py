"""The folder of a run as the first word of a command: `dreamworld train DIR`. Which run is in it, and is it over?"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from dreamworld import cli, presets, text, words
from dreamworld.config import Config
from dreamworld.errors import UserError
from dreamworld.lists import parse_seeds
from dreamworld.logging.rundir import RunDir
from dreamworld.sessions import stored
from dreamworld.stats.finding import find_runs
from dreamworld.text import expand_path
from dreamworld.training import snapshot

SEED = re.compile(r"seed([0-9]{1,10})")
SHOWN = 3  # runs that a message names


def split(argv: Sequence[str], command: str) -> tuple[str, list[str]]:
    """The folder before the options, "" where there is none, and the options; UserError for more than one."""
    given, options = cli.leading_words(argv)
    if len(given) > 1:
        raise UserError(
            f"{command} {' '.join(given)}: got {words.count(len(given), 'word')} before the options; "
            f"give one folder: dreamworld {command} DIR"
        )
    folder = "".join(given)
    if given:
        text.check_path(f"{command} DIR", folder)
    text.check("DIR", folder)
    return folder, options


def agreed(folder: str, logdir: str, command: str) -> str:
    """The folder that was given as the first word, as --logdir, or as both."""
    if folder and logdir and _path(folder) != _path(logdir):
        raise UserError(f"{command}: {folder} and --logdir {logdir} are two folders; give one")
    if not folder and not logdir:
        raise UserError(f"{command}: which run? Give its folder: dreamworld {command} DIR")
    return folder or logdir


def _path(folder: str | os.PathLike[str]) -> Path:
    return Path(os.path.normpath(expand_path(folder).absolute()))


def require_run(folder: str | os.PathLike[str]) -> RunDir:
    """The run in `folder`; UserError that names the runs below it where they are elsewhere."""
    path = _path(folder)
    rundir = RunDir(path)
    if not path.exists():
        raise UserError(f"{folder}: there is no such folder; give the folder of a run")
    if not rundir.exists() and path.is_dir() and (runs := find_runs(path)):
        names = ", ".join(run.relative_to(path).as_posix() for run in runs[:SHOWN])
        more = ", …" if len(runs) > SHOWN else ""
        raise UserError(
            f"{folder}: no run here, but {words.count(len(runs), 'run')} below it; give one of them: {names}{more}"
        )
    rundir.require_files()
    return rundir


def to_continue(folder: str, *, trusted: bool = False) -> Config:
    """The config of the run in `folder`, or of the seeds that were trained together there, to go on as it says."""
    path = _path(folder)
    if not path.is_dir():
        raise UserError(f"{folder}: {_not_a_folder(folder, path)}")
    seeds, missing = _group_in(path)
    if missing:
        there = next(f"seed{seed}" for seed in seeds if seed not in missing)
        raise UserError(
            f"{folder}: the seeds {','.join(map(str, seeds))} were trained together here, and seed{missing[0]} is "
            f"missing; put it back, or continue each alone: dreamworld train {shlex.quote(os.path.join(folder, there))}"
        )
    if seeds:
        configs = [stored.to_continue(path / f"seed{seed}", trusted=trusted) for seed in seeds]
        listed = ",".join(map(str, seeds))
        return presets.replace(configs[0], {"logdir": str(path), "seeds": listed, "seed": Config().seed})
    require_run(folder)
    return presets.replace(stored.to_continue(path, trusted=trusted), {"logdir": str(path)})


def _not_a_folder(word: str, path: Path) -> str:
    """What was meant instead."""
    if path.is_file() and path.name == "config.yaml":
        return f"is a file; to continue the run: dreamworld train {shlex.quote(os.path.dirname(word) or '.')}"
    if path.is_file():
        return f"is a file; for a file with options: --configs {shlex.quote(word)}"
    if word in presets.preset_names():
        return f"is no folder but a preset: --configs {word}"
    return f"there is no such folder; to continue a run, give its folder; to begin one, --task {shlex.quote(word)}"


def seeds_together(path: Path) -> tuple[int, ...]:
    """The seeds of a training with --seeds that has its folders in `path`; none where it holds something else."""
    group, missing = _group_in(path)
    return () if missing else group


def _group_in(path: Path) -> tuple[tuple[int, ...], list[int]]:
    """The seeds that those in `path` were last saved together with, and which of them are not there.

    A seed that has lost its checkpoints says nothing; where two say different things, they are no group.
    """
    if RunDir(path).exists():
        return (), []
    found = {int(match[1]): child for child in path.iterdir() if (match := SEED.fullmatch(child.name))}
    groups = {group for child in found.values() if (group := _saved_with(child)) is not None}
    if len(groups) != 1:
        return (), []
    (group,) = groups
    missing = [seed for seed in group if seed not in found]
    return (group, missing) if len(missing) < len(group) else ((), [])


def require_same_seeds(folder: str, config: Config) -> None:
    """UserError where other --seeds are given than those that `folder` holds."""
    there = seeds_together(_path(folder))
    if (parse_seeds(config.seeds) if config.seeds else ()) != there:
        what = f"the seeds {','.join(map(str, there))}" if there else "one run"
        raise UserError(f"--seeds {config.seeds}: {folder} holds {what}; for others give another --logdir")


def _saved_with(path: Path) -> tuple[int, ...] | None:
    """The seeds that the newest snapshot of a run was saved together with; None where there is none to read."""
    folder = RunDir(path).checkpoints
    for step in reversed(snapshot.snapshot_steps(folder)):
        try:
            meta = snapshot.read_commit(snapshot.epath.Path(folder / str(step)))["meta"]["0"]
            group = meta.get("group", [])
        except (snapshot.CorruptError, LookupError):
            continue
        whole = isinstance(group, list) and all(type(seed) is int for seed in group)
        return tuple(group) if whole else ()
    return None


def finished(rundirs: Sequence[RunDir], configs: Sequence[Config]) -> bool:
    """Whether all steps are done and the newest checkpoints are intact: nothing is left to train.

    Raises UserError where a training would be refused.
    """
    if not all(rundir.exists() for rundir in rundirs):
        return False
    for rundir, config in zip(rundirs, configs):
        rundir.admit(config)
    return all(_is_over(rundir, config) for rundir, config in zip(rundirs, configs))


def _is_over(rundir: RunDir, config: Config) -> bool:
    steps = snapshot.snapshot_steps(rundir.checkpoints)
    if rundir.read_status().get("state") != "finished" or not steps or steps[-1] < config.run.steps:
        return False
    try:
        snapshot.verify(snapshot.epath.Path(rundir.checkpoints / str(steps[-1])))
    except snapshot.CorruptError:
        return False
    return True
