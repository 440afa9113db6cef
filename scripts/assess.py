"""`dreamworld assess DIR…`: how good the world models of runs are, on the same held-out segments."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dreamworld import cli
from dreamworld.errors import UserError
from dreamworld.sessions import study_flags
from dreamworld.sessions.assess import Assessed, Flags, assess
from dreamworld.sessions.study_flags import TRAINING

if TYPE_CHECKING:
    from pathlib import Path

    from dreamworld.assess.studies.study import Study

DESCRIPTION = """Judge the world models of runs: dreamworld assess DIR…

All are judged on the same segments, which are kept in the first run: what they dream against what happened.
With --study temperature or --study drift, they are studied instead. --study forgetting and --study scaling train
models themselves: dreamworld assess --study scaling --help"""
TRAINING_DESCRIPTION = """Study models that the study trains: dreamworld assess --study KIND … --logdir DIR

forgetting: --tasks FIRST SECOND, with and without replay of the first. scaling: --data DIR, over sizes, shares of the
data and contexts. Options of training hold for each of the trainings; the same command goes on where it was."""


def main(argv: Sequence[str]) -> int:
    """Judges, writes, prints."""
    if (kind := asked_study(argv)) in TRAINING:
        return train_and_study(kind, argv)
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


def asked_study(argv: Sequence[str]) -> str:
    """The value of --study, before all of the command line is parsed."""
    begin = next((i for i, word in enumerate(argv) if word.split("=")[0] == "--study"), len(argv))
    end = next((i for i in range(begin + 1, len(argv)) if argv[i].startswith("-")), len(argv))
    return cli.parse_flags(argv[begin:end], Flags(), prog="dreamworld assess").study


def train_and_study(kind: str, argv: Sequence[str]) -> int:
    """Trains, studies, writes, prints; the exit code of a training that was stopped."""
    folders, options = cli.leading_words(argv)
    if folders:
        raise UserError(f"assess {folders[0]}: --study {kind} trains its own models; leave the folder out")
    given = {word[2:].partition("=")[0].replace("-", "_") for word in options if word.startswith("--")}
    prog = f"dreamworld assess --study {kind}"
    config, flags = cli.parse_with(
        options, study_flags.flags_of(kind), prog=prog, description=TRAINING_DESCRIPTION
    )
    if isinstance(flags, study_flags.ForgettingFlags):
        from dreamworld.sessions import forgetting

        done = forgetting.run(config, flags, given)
    else:
        from dreamworld.sessions import scaling

        done = scaling.run(config, flags, given)
    from dreamworld.assess.studies.study import describe_all

    for note in done.notes:
        print(note, file=sys.stderr)
    if done.study and flags.json:
        print(json.dumps(done.study.plain(), allow_nan=False))
    elif done.study:
        print(describe_all(done.study.about["segments"]))
        tell_studies([done.study], done.paths)
    return done.status


def tell_studies(studies: Sequence[Study], paths: Sequence[Path]) -> None:
    """All tables of studies, and where they are."""
    from dreamworld.assess.table import print_cells
    from dreamworld.text import printable

    for found in studies:
        print(printable(found.name))
        for table in found.tables():
            if table.name:
                print(table.name)
            print_cells(table.cells())
    for path in paths:
        print(printable(path))


def study(folders: list[str], flags: Flags) -> int:
    """Studies, writes, prints."""
    from dreamworld.assess import files
    from dreamworld.sessions import studies

    done = studies.run(folders, flags)
    for note in done.held.notes:
        print(note, file=sys.stderr)
    if flags.json:
        for one in done.studies:
            print(json.dumps(one.plain(), allow_nan=False))
    else:
        print(files.describe(done.held.segments))
        tell_studies(done.studies, done.paths)
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
