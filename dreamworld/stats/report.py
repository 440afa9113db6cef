"""Writes the report of some run directories: pictures, CSV, Markdown and one self-contained page."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from dreamworld import writing
from dreamworld.errors import UserError
from dreamworld.reading import inside, require_inside
from dreamworld.stats import groups as grouping
from dreamworld.stats.analysis import Analysis, Options, analyse
from dreamworld.stats.export import csv_files
from dreamworld.stats.notes import describe
from dreamworld.stats.tables import aggregate_tables, markdown, score_table
from dreamworld.text import marked, printable

PAGE = "report.html"


def report(
    sources: list[str],
    *,
    out: Path | None = None,
    title: str = "",
    group_by: tuple[str, ...] = (),
    options: Options | None = None,
) -> tuple[Analysis, Path]:
    """Analyses `DIR` or `LABEL=DIR` sources; writes to `out`, by default DIR/statistics of the first.

    Returns the analysis and the page's path. UserError before anything is written, or where a file can't be.
    """
    options = options or Options()
    collected = grouping.collect(sources, group_by, options.source)
    _, first = grouping.split_label(sources[0])
    folder = out or inside(first, "statistics")
    with _told(folder):
        _check_writable(folder)
    analysis = analyse(collected, options)
    with _told(folder):
        return analysis, write(analysis, folder, title or ", ".join(analysis.labels[:3]))


def write(analysis: Analysis, folder: Path, title: str) -> Path:
    """Writes all files into `folder`, in place of an older report, or none; returns the page's path."""
    from dreamworld.stats import html, plots  # matplotlib takes seconds to import

    require_inside(folder, folder / "plots")
    tables = csv_files(analysis)
    files: dict[str, str | bytes] = {
        PAGE: html.page(analysis, title)
    }  # first: it marks the folder as a report's
    files |= {name: content for name, content in tables.items() if content}
    files |= {"report.md": markdown(analysis, title)}
    files |= {f"plots/{name}": content for name, content in plots.figure_files(analysis).items()}
    with writing.making(folder / "plots"):
        writing.replace_all(folder, files)
        for name in tables.keys() - files.keys():  # of an older report
            (folder / name).unlink(missing_ok=True)
    return folder / PAGE


@contextlib.contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Says in one line that the system refuses a file of the report."""
    try:
        yield
    except OSError as error:
        cause = error.strerror or error
        raise UserError(
            f"the report can't be written to {folder} ({cause}); give another folder: --out FOLDER"
        ) from None


def _check_writable(folder: Path) -> None:
    """Only an empty folder or an older report is written to."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out {folder} is a file; give a folder")
    others = folder.is_dir() and any(not writing.is_part(path.name) for path in folder.iterdir())
    if others and not (folder / PAGE).is_file():
        raise UserError(f"--out {folder} holds other files and no older report; give a new or empty folder")


def print_report(analysis: Analysis, page: Path) -> None:
    """Prints notes, aggregates and final scores, and where the files are."""
    print_tables(analysis)
    print(f"Report: {printable(page)}")


def print_tables(analysis: Analysis) -> None:
    """Prints notes, aggregates and final scores."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console.width = 120
    for note in describe(analysis):
        console.print(f"[yellow]•[/] {marked(note)}", highlight=False)
    for table in [*aggregate_tables(analysis), score_table(analysis)]:
        grid = Table(
            title=f"\n{marked(table.title)}", box=box.SIMPLE_HEAD, title_justify="left", padding=(0, 1, 0, 0)
        )
        for index, name in enumerate(table.head):
            grid.add_column(name, justify="left" if index == 0 or name == "method" else "right", no_wrap=True)
        for before, row in zip([None, *table.rows], table.rows):
            repeated = before is not None and before[0] == row[0]
            grid.add_row(*("" if repeated and not index else marked(cell) for index, cell in enumerate(row)))
        console.print(grid, highlight=False)
