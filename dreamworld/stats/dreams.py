"""What runs show of their dreams and of their evaluations, for the page of a report: pictures and videos as data."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import NamedTuple

from dreamworld import reading, words
from dreamworld.reading import BadFile, inside
from dreamworld.stats.analysis import Analysis
from dreamworld.stats.scores import Run

MOST_RUNS = 12  # of a page; each method and task shows its first run
MAX_FILE = 8 << 20  # bytes of a picture or a video that a page takes in
MAX_PAGE = 32 << 20  # of all of them
MAX_NAMES = 10_000  # of a folder
TYPES = {
    ".mp4": ("video/mp4", re.compile(rb".{4}ftyp", re.DOTALL)),
    ".gif": ("image/gif", re.compile(rb"GIF8")),
}
TYPES[".png"] = ("image/png", re.compile(rb"\x89PNG"))
ABOUT = (
    "The newest of each method's first run. Pictures: what happened, what was dreamt, their difference (gray: none). "
    "Blue was seen, orange was dreamt, a red left border or line starts an episode."
)


class Media(NamedTuple):
    """A picture or a video of a run."""

    name: str  # such as openloop_image
    step: int
    kind: str  # MIME type
    data: bytes

    @property
    def element(self) -> str:
        """It as HTML that fetches nothing."""
        address = f"data:{self.kind};base64,{base64.b64encode(self.data).decode()}"
        label = escape(f"{self.name}, step {self.step}", quote=True)
        if self.kind == "video/mp4":
            return f'<video controls loop muted playsinline aria-label="{label}" src="{address}"></video>'
        return f'<img alt="{label}" src="{address}">'


def section(analysis: Analysis) -> str:
    """The newest dreams and evaluations of the first run of each method and task; empty where there are none."""
    cards, room, left = [], MAX_PAGE, 0
    for run in shown_runs(analysis):
        for media in newest(run):
            if len(media.data) > room:
                left += 1
                continue
            room -= len(media.data)
            name = f"{run.label}, {run.name}" if len(analysis.groups) > 1 else run.name
            caption = escape(f"{name}, step {media.step:,}: {describe(media.name)}")
            wide = " wide" if media.kind == "image/png" else ""  # a strip, or a panel for each dimension
            under = f'<figcaption class="soft">{caption}</figcaption>'
            cards.append(f'<figure class="card media{wide}">{media.element}{under}</figure>')
    if not cards:
        return ""
    more = f" {words.count(left, 'more', 'more')} did not fit into the page." if left else ""
    return f'<h2>Dreams</h2><p class="soft">{ABOUT}{more}</p><div class="pair">' + "\n".join(cards) + "</div>"


def shown_runs(analysis: Analysis) -> list[Run]:
    """The first run, by seed, of each method and task."""
    found = [runs[0] for group in analysis.groups for task in group.tasks if (runs := group.of_task(task))]
    return found[:MOST_RUNS]


def describe(name: str) -> str:
    """What a picture shows: `dream of image`, `decoded by a probe: image`, `an evaluation episode`."""
    kind, _, key = name.partition("_")
    return {"openloop": f"dream of {key}", "probe": f"{key}, decoded by a probe"}.get(
        kind, "an evaluation episode"
    )


def newest(run: Run) -> Iterator[Media]:
    """Pictures of a run's newest open-loop report, and of its newest evaluation; what can't be read is left out."""
    steps = [int(name) for name in names(run.path, "report") if name.isdecimal() and len(name) < 16]
    if steps:
        folder, step = f"report/{max(steps)}", max(steps)
        stems = {
            Path(name).stem for name in names(run.path, folder) if name.startswith(("openloop_", "probe_"))
        }
        for stem in sorted(stems):
            yield from filter(None, [moving(run.path, folder, stem, stem, step)])
            yield from filter(None, [read(run.path, f"{folder}/{stem}.png", stem, step)])
    videos = [Path(name).stem for name in names(run.path, "eval") if Path(name).suffix in (".mp4", ".gif")]
    if steps := [int(stem) for stem in videos if stem.isdecimal() and len(stem) < 16]:
        yield from filter(None, [moving(run.path, "eval", str(max(steps)), "evaluation", max(steps))])


def moving(root: Path, folder: str, stem: str, name: str, step: int) -> Media | None:
    """The video, in the form that takes less room."""
    return read(root, f"{folder}/{stem}.mp4", name, step) or read(root, f"{folder}/{stem}.gif", name, step)


def read(root: Path, file: str, name: str, step: int) -> Media | None:
    """A file of a run; None where it is not what its name says, too large, or leads out of the run."""
    kind, begins = TYPES[os.path.splitext(file)[1]]
    try:
        data = reading.read_bytes(inside(root, file, folders=True), MAX_FILE)
    except BadFile:
        return None
    return Media(name, step, kind, data) if begins.match(data) else None


def names(root: Path, folder: str) -> list[str]:
    """Names in a folder of a run, sorted; none where it is not there or leads out of the run."""
    try:
        with os.scandir(inside(root, folder, folders=True)) as entries:
            return sorted(entry.name for _, entry in zip(range(MAX_NAMES), entries))
    except (BadFile, OSError):
        return []
