"""`dreamworld assess DIR…`: how good the world models of runs are, on the same held-out segments."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from dreamworld import cli
from dreamworld.sessions.assess import Assessed, Flags, assess

DESCRIPTION = """Judge the world models of runs: dreamworld assess DIR…

All are judged on the same segments, which are kept in the first run: what they dream against what happened.
With --study temperature or --study drift, they are studied instead."""


def main(argv: Sequence[str]) -> int:
    """Judges, writes, prints."""
    folders, options = cli.leading_words(argv)
    flags = cli.parse_flags(options, Flags(), prog="dreamworld assess DIR…", description=DESCRIPTION)
    cli.require_folders("assess", folders, "which runs? Give their folders: dreamworld assess DIR…")
    if flags.study != "none":
        return study(folders, flags)
    done = assess(folders, flags)
    for note in done.held.notes:
        print(note, file=sys.stderr)
    if flags.json:
        for judged in done.judged:
            print(json.dumps(judged.plain(), allow_nan=False))
    else:
        tell(done)
    for problem in done.problems:
        print(problem, file=sys.stderr)
    return 0


def study(folders: list[str], flags: Flags) -> int:
    """Studies, writes, prints."""
    from dreamworld.assess import files
    from dreamworld.assess.table import print_cells
    from dreamworld.sessions import studies
    from dreamworld.text import printable

    done = studies.run(folders, flags)
    for note in done.held.notes:
        print(note, file=sys.stderr)
    if flags.json:
        for one in done.studies:
            print(json.dumps(one.plain(), allow_nan=False))
    else:
        print(files.describe(done.held.segments))
        for one in done.studies:
            print(printable(one.name))
            print_cells(one.cells())
        for path in done.paths:
            print(printable(path))
    for problem in done.problems:
        print(problem, file=sys.stderr)
    return 0


def tell(done: Assessed) -> None:
    """What a person reads."""
    from dreamworld.assess import files
    from dreamworld.assess.levels import summary
    from dreamworld.assess.table import print_table
    from dreamworld.text import printable

    print(files.describe(done.held.segments))
    print_table(done.judged)
    for one in done.judged:
        print(f"{printable(one.name)}: {summary(one.card)}")
    for path in (done.held.path, *done.files, done.page):
        if path:
            print(printable(path))


if __name__ == "__main__":
    from dreamworld import early

    sys.exit(early.run_script("assess", main))
