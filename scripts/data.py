"""`dreamworld data`: imports, exports, describes and checks data sets."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from dreamworld import exits, text, words
from dreamworld.errors import UserError

F = TypeVar("F")

USAGE = """usage: dreamworld data info DIR [--json]                          say what is in a data set
       dreamworld data check DIR                                read all of it and report damage
       dreamworld data import SOURCE DIR [--format F] [--task NAME]   make a data set of other files
       dreamworld data export DIR TARGET --format F             write it for other programs

Formats: minari (SOURCE and TARGET are ids such as demo/cartpole-v0, in MINARI_DATASETS_PATH), npz (a folder with a
file per episode, as Dreamer writes them), hdf5 (one file). Imports recognise the format by themselves. minari and
hdf5 need: pip install 'dreamworld[data]'. To record episodes: dreamworld collect --help"""


@dataclasses.dataclass(frozen=True)
class Info:
    json: bool = False
    """One JSON line instead of text."""


@dataclasses.dataclass(frozen=True)
class Import:
    format: str = "auto"
    """minari, npz or hdf5; by default what is there."""
    task: str = ""
    """Environment that the files were recorded in, where they don't say it."""


@dataclasses.dataclass(frozen=True)
class Export:
    format: str = ""
    """minari, npz or hdf5."""


def main(argv: Sequence[str]) -> int:
    """Returns the exit status: 0, or 1 when a check found problems."""
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE)
        return 0
    command, *rest = argv
    known = {"info": info, "check": check, "import": import_, "export": export}
    if command not in known:
        text.check_filled("data COMMAND", command, f"one of {', '.join(known)}")
        best = words.nearest(command, known)
        raise UserError(
            f"data {command}: no such command; did you mean data {best}? See dreamworld data --help"
        )
    if "-h" in rest or "--help" in rest:
        print(USAGE)
        return 0
    from dreamworld.datasets.interchange import Stopped

    try:
        return known[command](rest)
    except Stopped as stopped:
        print(f"stopped by {stopped}; nothing was written", file=sys.stderr)
        return exits.of_signal(str(stopped))


def info(argv: Sequence[str]) -> int:
    """Says what is in a data set."""
    (folder,), options = split(argv, "info", "DIR")
    flags = _flags(options, Info(), "info DIR")
    from dreamworld.datasets import inspect, open_dataset

    row = inspect.summary(open_dataset(folder))
    print(json.dumps(row, allow_nan=False) if flags.json else inspect.describe({**row, "folder": folder}))
    return 0


def check(argv: Sequence[str]) -> int:
    """Reads everything."""
    (folder,), options = split(argv, "check", "DIR")
    _flags(options, _None(), "check DIR")
    from dreamworld.datasets import inspect, open_dataset

    data = open_dataset(folder)
    problems = inspect.check(data, lambda line: print(text.printable(line)))
    found = words.count(problems, "problem") if problems else "well"
    print(
        f"{folder}: {words.count(data.episodes, 'episode')}, {words.count(data.steps, 'step')} read: {found}"
    )
    return int(problems > 0)


def import_(argv: Sequence[str]) -> int:
    """Makes a data set of other files."""
    (source, folder), options = split(argv, "import", "SOURCE DIR")
    flags = _flags(options, Import(), "import SOURCE DIR")
    from dreamworld.datasets.interchange import import_data

    say = lambda line: print(text.printable(line), file=sys.stderr)
    with _stopping() as stop:
        data = import_data(source, folder, format=flags.format, task=flags.task, tell=say, stop=stop)
    read = f"{words.count(data.steps, 'step')} in {words.count(data.episodes, 'episode')}"
    shown = shlex.quote(folder)
    print(f"{folder}: {read}\nnext: dreamworld data info {shown}, dreamworld train --data {shown}")
    return 0


def export(argv: Sequence[str]) -> int:
    """Writes a data set for other programs."""
    (folder, target), options = split(argv, "export", "DIR TARGET")
    flags = _flags(options, Export(), "export DIR TARGET")
    from dreamworld.datasets import open_dataset
    from dreamworld.datasets.interchange import FORMATS, export_data

    if not flags.format:
        raise UserError(f"data export: which format? Give --format, one of {', '.join(FORMATS)}")
    data = open_dataset(folder)
    with _stopping() as stop:
        place = export_data(data, target, format=flags.format, stop=stop)
    print(f"{place}: {words.count(data.steps, 'step')} in {words.count(data.episodes, 'episode')}")
    return 0


@contextlib.contextmanager
def _stopping() -> Iterator[Callable[[], bool]]:
    """Whether a signal asks to stop; what is unfinished is then removed, and Stopped names the signal."""
    from dreamworld.datasets.interchange import Stopped
    from dreamworld.training.stops import Stop

    with Stop(grace_s=60.0) as stop:
        try:
            yield lambda: stop.requested
        except Stopped:
            raise Stopped(stop.reason) from None


@dataclasses.dataclass(frozen=True)
class _None:
    """No options."""


def _flags(options: Sequence[str], flags: F, usage: str) -> F:
    from dreamworld import cli

    return cli.parse_flags(options, flags, prog=f"dreamworld data {usage}")


def split(argv: Sequence[str], command: str, wanted: str) -> tuple[list[str], list[str]]:
    """The words before the options, of which there are as many as in `wanted`, and the options."""
    from dreamworld import cli

    given, options = cli.leading_words(argv)
    names = wanted.split()
    if len(given) != len(names):
        found = " ".join(given) or "nothing"
        raise UserError(
            f"data {command}: got {found} before the options; expected dreamworld data {command} {wanted}"
        )
    for name, value in zip(names, given):
        text.check_path(f"data {command}: {name}", value)
        text.check(name, value)
    return given, options


if __name__ == "__main__":
    from dreamworld import early

    sys.exit(early.run_script("data", main))
