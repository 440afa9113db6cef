"""What a training says at its end: returns, wall time, the learning curve, and the commands that may come next."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dreamworld import words
from dreamworld.config import Config
from dreamworld.logging.progress import format_duration, format_number
from dreamworld.logging.rundir import RunDir
from dreamworld.logging.writers import read_jsonl
from dreamworld.reading import BadFile, is_number
from dreamworld.runenv import read_run_env

if TYPE_CHECKING:
    from dreamworld.training.run import Run

WIDTH = 10  # of the names of lines


def finished_lines(loops: Sequence[Run]) -> list[str]:
    """The lines after the last step."""
    counters, several = loops[0].counters, len(loops) > 1
    seeds = f" of {words.count(len(loops), 'seed')}" if several else f". {loops[0].rundir}"
    lines = [
        f"finished: {words.count(counters.step, 'step')}, {words.count(counters.updates, 'update')}"
        f" in {format_duration(counters.seconds)}{seeds}"
    ]
    for loop in loops:
        lines.append(_line(f"seed {loop.config.seed}" if several else "returns", describe_returns(loop)))
    for loop in loops:
        lines.append(_line("curve", describe_curve(loop.rundir)))
    return lines + next_lines([loop.rundir for loop in loops], [loop.config for loop in loops])


def describe_returns(loop: Run) -> str:
    """`last 23, mean 21.3 of the last 17 episodes, best evaluation 30 (step 600)`."""
    episodes = loop.episodes
    if not episodes.episodes:
        text = "no episode has ended"
    else:
        recent = min(episodes.episodes, episodes.window)
        mean = (
            f", mean {format_number(episodes.mean)} of the last {words.count(recent, 'episode')}"
            if recent > 1
            else ""
        )
        text = f"last {format_number(episodes.last)}{mean}"
    rows = [row for row in read_jsonl(loop.rundir.evals) if is_number(row.get("mean"))]
    rows = [row for row in rows if math.isfinite(row["mean"])]
    if not rows:
        return text
    best = max(rows, key=lambda row: row["mean"])
    return f"{text}, best evaluation {format_number(best['mean'])} (step {best['step']:,.0f})"


def describe_curve(rundir: RunDir) -> str:
    """Where the learning curve is; where none could be drawn, how one is made."""
    if rundir.learning_curve.is_file():
        return str(rundir.learning_curve)
    return f"not drawn here; from what was logged: tensorboard --logdir {_quoted(rundir.tensorboard)}"


def next_lines(rundirs: Sequence[RunDir], configs: Sequence[Config]) -> list[str]:
    """The commands that may come next."""
    if name := _unnamed_env(rundirs[0]):
        return [
            _line("evaluate", f"in Python: dreamworld.evaluate({str(rundirs[0])!r}, env={name})"),
            _line("compare", _report(rundirs)),
            _line("go on", f"in Python: dreamworld.train(config, env={name}), with more run.steps"),
        ]
    done = [rundir.read_status().get("step") for rundir in rundirs]  # may be more than run.steps are now
    most = max(
        [float(config.run.steps) for config in configs]
        + [float(step or 0) for step in done if is_number(step)]
    )
    more = f"--run.steps {2 * most:.12g}"
    return [
        _line("evaluate", f"dreamworld eval {_quoted(rundirs[0])}"),
        _line("compare", _report(rundirs)),
        _line("go on", f"{continue_command(rundirs, configs)} {more}"),
    ]


def how_to_continue(rundirs: Sequence[RunDir], configs: Sequence[Config]) -> str:
    """The end of the message of a stopped training."""
    if _unnamed_env(rundirs[0]):
        return "The same call continues."
    return f"The same command continues, or: {continue_command(rundirs, configs)}"


def _unnamed_env(rundir: RunDir) -> str:
    """The name of an environment from Python that no command can find; empty for any other."""
    try:
        env = read_run_env(rundir.spaces)
    except BadFile:
        return ""
    return "" if env is None or env.importable else env.name.partition(":")[2]


def _report(rundirs: Sequence[RunDir]) -> str:
    return f"dreamworld report {_quoted(common_folder(rundirs) or rundirs[0])}"


def continue_command(rundirs: Sequence[RunDir], configs: Sequence[Config]) -> str:
    """The command that continues a run, or seeds that are trained together."""
    folder = common_folder(rundirs)
    if folder is not None:
        return f"dreamworld train {_quoted(folder)}"
    seeds = ",".join(str(config.seed) for config in configs)
    logdir = _quoted(_template(rundirs, configs))
    return f"dreamworld train --configs {_quoted(rundirs[0].config)} --seeds {seeds} --logdir {logdir}"


def _template(rundirs: Sequence[RunDir], configs: Sequence[Config]) -> str:
    """The --logdir with `{seed}` that these folders come from."""
    first = str(rundirs[0])
    for found in re.finditer(str(configs[0].seed), first):
        text = first[: found.start()] + "{seed}" + first[found.end() :]
        made = [text.replace("{seed}", str(config.seed)) for config in configs]
        if made == [str(rundir) for rundir in rundirs]:
            return text
    return first


def common_folder(rundirs: Sequence[RunDir]) -> Path | None:
    """The folder of a run, or the one that holds the folders `seed<k>` of several; None for other places."""
    if len(rundirs) == 1:
        return rundirs[0].path
    parents = {rundir.path.parent for rundir in rundirs}
    named = all(rundir.path.name.startswith("seed") for rundir in rundirs)
    return parents.pop() if len(parents) == 1 and named else None


def already_lines(rundirs: Sequence[RunDir], configs: Sequence[Config]) -> list[str]:
    """What to say of a run with nothing left to train."""
    where = f"{words.count(len(rundirs), 'seed')}" if len(rundirs) > 1 else str(rundirs[0])
    return [
        f"finished already: all {words.count(configs[0].run.steps, 'step')} are done; nothing was changed. {where}",
        *next_lines(rundirs, configs),
    ]


def _line(name: str, text: str) -> str:
    return f"  {name:<{WIDTH}} {text}"


def _quoted(path: object) -> str:
    return shlex.quote(str(path))
