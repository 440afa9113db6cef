"""Seeds that train together: which they are, where each has its folder, and where all can go on from.

Loads no JAX: the supervisor asks, too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import shlex
import shutil
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from dreamworld.config import Config
from dreamworld.errors import UserError
from dreamworld.lists import parse_seeds
from dreamworld.logging.rundir import RunDir
from dreamworld.reading import BlockedFile
from dreamworld.replay import patience
from dreamworld.training import snapshot

log = logging.getLogger("dreamworld")


def seed_configs(config: Config) -> list[Config]:
    """The config of each seed, as that of a run of its own; without `{seed}` in logdir its folder is `seed<k>`."""
    logdir = config.logdir if "{seed}" in config.logdir else os.path.join(config.logdir, "seed{seed}")
    return [
        dataclasses.replace(config, seed=seed, seeds="", logdir=logdir.replace("{seed}", str(seed)))
        for seed in parse_seeds(config.seeds)
    ]


def checkpoint_folders(config: Config) -> list[Path]:
    """Where the snapshots of a training lie: a folder for each of its seeds."""
    configs = seed_configs(config) if config.seeds else [config]
    return [RunDir.of(each).checkpoints for each in configs]


def shared_steps(folders: Iterable[Path], last: int) -> list[int]:
    """The newest `last` steps of which every folder has a complete snapshot."""
    return sorted(set.intersection(*(set(snapshot.snapshot_steps(folder)) for folder in folders)))[-last:]


class Meeting(NamedTuple):
    """Where all seeds go on together."""

    step: int | None  # None: from the beginning
    late: list[tuple[RunDir, int, str]]  # snapshots beyond it: run, step, damage ("": intact)


def find_meeting(rundirs: Sequence[RunDir], save_every: float, seeds: Sequence[int] = ()) -> Meeting:
    """The newest step at which every seed has an intact snapshot; changes nothing.

    A kill between the saves of two seeds leaves them apart, at the first save with nothing in common: then all
    begin anew. Raises UserError where a seed was continued alone, where one has lost its snapshots, and where no
    common one is intact.
    """
    complete = [set(snapshot.snapshot_steps(rundir.checkpoints)) for rundir in rundirs]
    if not any(complete):
        return Meeting(None, [])
    shared = sorted(set.intersection(*complete), reverse=True)
    _require_together(rundirs, complete, shared, save_every, list(seeds))
    if not shared:
        _require_first_save(rundirs, complete, save_every)
    damage: dict[tuple[RunDir, int], str] = {}
    step = None
    for candidate in shared:
        found = {(rundir, candidate): _damage(rundir, candidate) for rundir in rundirs}
        damage |= found
        if not any(found.values()):
            step = candidate
            break
    else:
        if shared:
            causes = "; ".join(f"{rundir}, {at}: {cause}" for (rundir, at), cause in damage.items() if cause)
            raise UserError(
                f"no checkpoint that all these seeds have is intact ({causes}); continue each alone"
            )
    late = [
        (rundir, number, damage.get((rundir, number), ""))
        for rundir, numbers in zip(rundirs, complete)
        for number in sorted(numbers)
        if step is None or number > step
    ]
    return Meeting(step, late)


def _require_together(
    rundirs: Sequence[RunDir],
    complete: list[set[int]],
    shared: list[int],
    save_every: float,
    seeds: list[int],
) -> None:
    """Raises UserError unless what is beyond the newest common step comes from a save of this group."""
    common = shared[0] if shared else 0
    apart = max(max(numbers, default=0) for numbers in complete) - common
    near = apart <= 2 * max(save_every, 1)
    beyond = [(r, n) for r, numbers in zip(rundirs, complete) for n in numbers if n > common]
    begun = shared or all(rundir.exists() for rundir in rundirs)
    if begun and (near or all(_saved_by(rundir, number, seeds) for rundir, number in beyond)):
        return
    newest = ", ".join(
        f"{rundir}: {max(numbers, default='none')}" for rundir, numbers in zip(rundirs, complete)
    )
    raise UserError(
        f"these seeds can't go on together, their newest checkpoints differ ({newest}); continue each alone"
    )


def _require_first_save(rundirs: Sequence[RunDir], complete: list[set[int]], save_every: float) -> None:
    """Raises UserError where the seeds have nothing in common, and what some have comes from more than one save."""
    steps = sorted(set.union(*complete))
    if len(steps) == 1 and (save_every <= 0 or steps[0] <= 2 * save_every):
        return
    without = [str(rundir) for rundir, numbers in zip(rundirs, complete) if not numbers]
    furthest = next(rundir for rundir, numbers in zip(rundirs, complete) if steps[-1] in numbers)
    what = f"{', '.join(without)} has no checkpoint" if without else "no checkpoint is there for every seed"
    raise UserError(
        f"{what}, and others have theirs up to step {steps[-1]:,}: together these seeds could only begin anew, and "
        "those steps would be lost, so nothing was changed. Put the checkpoints back; or continue each alone, such "
        f"as dreamworld train {shlex.quote(str(furthest))}; or move these folders away to begin anew"
    )


def _saved_by(rundir: RunDir, step: int, seeds: list[int]) -> bool:
    """Whether a snapshot was saved in a training of these seeds together."""
    try:
        meta = snapshot.read_commit(snapshot.epath.Path(rundir.checkpoints / str(step)))["meta"]["0"]
    except (snapshot.CorruptError, KeyError):
        return True  # nothing says that the seed was alone
    return bool(seeds) and meta.get("group") == seeds


def _damage(rundir: RunDir, step: int) -> str:
    """What is wrong with a snapshot; empty when it is intact. UserError where the system does not give it."""
    try:
        patience.retried(lambda: snapshot.verify(snapshot.epath.Path(rundir.checkpoints / str(step))))
    except BlockedFile as error:
        raise UserError(f"{error}; {snapshot.NO_DAMAGE}") from None
    except snapshot.CorruptError as error:
        return str(error)
    return ""


def set_aside(rundirs: Sequence[RunDir], meeting: Meeting) -> None:
    """Moves the snapshots beyond the common step out of the way, and says so; nothing that is intact is deleted.

    Damaged ones become `checkpoints/<step>.damaged-<time>`, intact ones `set_aside/<step>`. Of those that were set
    aside earlier the ones are removed whose step all seeds have passed since.
    """
    for rundir in rundirs if meeting.step is not None else ():
        _forget_passed(rundir, meeting.step or 0)
    for rundir, step, damage in meeting.late:
        source = rundir.checkpoints / str(step)
        target = rundir.checkpoints / f"{step}.damaged-{int(time.time())}"
        why = f"is damaged: {damage}"
        if not damage:
            target, why = rundir.path / "set_aside" / str(step), "is not there for every seed"
        try:
            target.parent.mkdir(exist_ok=True)
            if target.exists():
                target.rename(target.with_name(f"{target.name}-{int(time.time())}"))
            source.rename(target)
        except OSError as error:
            raise UserError(f"{source} {why}, and can't be moved: {error.strerror or error}") from None
        log.warning(f"checkpoint {source} {why}; moved to {target}")
    if meeting.late:
        begin = "the beginning" if meeting.step is None else f"step {meeting.step:,}"
        log.warning(f"all seeds go on from {begin}")


def _forget_passed(rundir: RunDir, step: int) -> None:
    """Removes what was set aside at steps that the run has passed since."""
    folder = rundir.path / "set_aside"
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        number = path.name.partition("-")[0]
        if snapshot.STEP.fullmatch(number) and int(number) <= step:
            shutil.rmtree(path, ignore_errors=True)
    with contextlib.suppress(OSError):
        folder.rmdir()
