"""`dreamworld report DIR…`: learning curves, scores and aggregates of runs, as one page and as files."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from typing import Annotated, Literal

from dreamworld import cli
from dreamworld.limits import SEED, Range
from dreamworld.text import expand_path

DESCRIPTION = """Compare runs: dreamworld report DIR… or LABEL=DIR…

Each DIR holds the runs of one method (tasks x seeds), or a sweep, whose grid points become methods."""


@dataclasses.dataclass(frozen=True)
class Flags:
    baseline: Literal["none", "published"] = "none"
    """published: draw the published curves that the package carries, with their settings stated."""
    out: str = ""
    """Folder of the report; by default `statistics` in the first DIR."""
    at: Annotated[float, Range(0, 1e15)] = 0
    """Compare scores at this many environment frames; 0 takes what every finished run reached."""
    group_by: tuple[str, ...] = ()
    """Options whose values are different methods, such as agent.optim.lr."""
    source: Literal["train", "eval"] = "train"
    """train: finished training episodes. eval: evaluations."""
    resamples: Annotated[int, Range(100, 1_000_000)] = 2000
    """Bootstrap resamples."""
    seed: Annotated[int, SEED] = 0
    """Seed of the bootstrap."""
    title: str = ""
    """Title of the page; by default the names of the methods."""


def main(argv: Sequence[str]) -> int:
    """Writes the report and prints its tables; returns the exit code."""
    sources, options = cli.leading_words(argv)
    flags = cli.parse_flags(options, Flags(), prog="dreamworld report DIR…", description=DESCRIPTION)
    cli.require_folders("report", sources, "which runs? Give directories: dreamworld report DIR…")

    from dreamworld.stats.analysis import Options
    from dreamworld.stats.report import print_report, report

    options = Options(
        baseline=flags.baseline == "published",
        at_frames=flags.at,
        source=flags.source,
        resamples=flags.resamples,
        seed=flags.seed,
    )
    out = expand_path(flags.out) if flags.out else None
    analysis, page = report(sources, out=out, title=flags.title, group_by=flags.group_by, options=options)
    print_report(analysis, page)
    return 0


if __name__ == "__main__":
    from dreamworld import early

    sys.exit(early.run_script("report", main))
