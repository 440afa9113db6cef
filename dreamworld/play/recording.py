"""What is kept of a game: a film of both lanes, and the commands that lead to it again to the bit, as JSON lines."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dreamworld.fields import Fields
from dreamworld.frames import fit
from dreamworld.logging import video
from dreamworld.play.readouts import DREAM, REAL, Step
from dreamworld.play.reality import Action
from dreamworld.reading import BadFile, read_rows
from dreamworld.types import Spaces

VERSION = 1
FRAMES = 1500  # of a film; at most
MOST_BYTES = 256 << 20  # of its frames as they are kept
GIF_FRAMES = 300
MOST = 10  # recordings of a session; the oldest ones are deleted
LINES = 30_000  # of a journal; a longer game is not recorded any further
GAP = 4  # pixels between the lanes
HEIGHT = 256  # of a film, about


@dataclasses.dataclass
class Journal:
    """What was done in an episode since it began: enough to do it again."""

    start: dict[str, Any] = dataclasses.field(default_factory=dict)
    lines: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def begin(self, seed: int, episode: int, segment: int) -> None:
        """A new episode."""
        self.start, self.lines = {"seed": seed, "episode": episode, "segment": segment}, []

    def add(self, **line: Any) -> None:
        """One more thing that was done."""
        if len(self.lines) < LINES:
            self.lines.append(line)

    @property
    def full(self) -> bool:
        """Whether nothing more is noted."""
        return len(self.lines) >= LINES


def to_plain(action: Action) -> dict[str, Any]:
    """An action as JSON values, exactly."""
    return {key: value.tolist() for key, value in action.items()}


def from_plain(action: dict[str, Any], spaces: Spaces) -> Action:
    """The other way round."""
    return {key: np.asarray(action[key], space.dtype).reshape(space.shape) for key, space in spaces.items()}


@dataclasses.dataclass(frozen=True)
class Recording:
    """One that is finished."""

    name: str
    start: dict[str, Any]
    lines: list[dict[str, Any]]
    first: int  # the line at which the film begins; those before it lead there
    files: dict[str, Path]  # label -> file

    @property
    def steps(self) -> int:
        """Steps in the film."""
        return sum("action" in line for line in self.lines[self.first :])

    def plain(self, url: Callable[[str], str]) -> dict[str, Any]:
        """As the page gets it."""
        files = [{"label": label, "url": url(path.name)} for label, path in self.files.items()]
        return {"name": self.name, "steps": self.steps, "files": files}


class Film:
    """The frames of a recording that goes on: reality left, the dream right. They are kept packed."""

    def __init__(self, first: int):
        self.first = first
        self._frames: list[bytes] = []
        self._bytes = 0
        self._shape: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self._frames)

    def add(self, step: Step) -> None:
        """One more frame, while there is room and something to see."""
        lanes = [[p.image for p in step.pictures if p.lane == lane] for lane in (REAL, DREAM)]
        images = [_small(lane[0]) for lane in lanes if lane]
        if not images or len(self._frames) >= FRAMES or self._bytes >= MOST_BYTES:
            return
        shape = images[0].shape
        blank = np.zeros(shape, np.uint8)
        both = [fit(_small(lane[0]), shape) if lane else blank for lane in lanes]
        gap = np.full((shape[0], max(1, GAP * shape[0] // HEIGHT), 3), 128, np.uint8)
        frame = np.concatenate([both[0], gap, both[1]], 1)
        self._shape = self._shape or frame.shape
        packed = zlib.compress(fit(frame, self._shape).tobytes(), 1)
        self._frames.append(packed)
        self._bytes += len(packed)

    def frames(self, every: int = 1) -> Iterator[np.ndarray]:
        """Each `every`-th frame, uint8 [H, W, 3], enlarged."""
        for packed in self._frames[::every]:
            frame = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(self._shape)
            yield video.upscale(frame, HEIGHT)


def _small(image: np.ndarray) -> np.ndarray:
    """A picture that is much higher than a film, at the film's height."""
    if image.shape[0] < 1.5 * HEIGHT:
        return image
    from PIL import Image

    width = max(1, round(image.shape[1] * HEIGHT / image.shape[0]))
    return np.asarray(
        Image.fromarray(np.ascontiguousarray(image)).resize((width, HEIGHT), Image.Resampling.BOX)
    )


class Shelf:
    """The recordings of a session, in a folder of its own that goes with it."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._made = 0
        self.items: list[Recording] = []

    def keep(self, film: Film, journal: Journal, about: dict[str, Any], fps: float) -> str:
        """Writes a recording; returns what could not be written, empty for nothing."""
        self._made += 1
        name = f"recording-{self._made}"
        files: dict[str, Path] = {}
        try:
            self._folder = self._folder or Path(tempfile.mkdtemp(prefix="dreamworld-play-"))
            problem = self._write(self._folder / name, film, journal, about, fps, files)
        except OSError as error:
            problem = f"the recording can't be written: {error.strerror or error}"
        if files:
            self.items.append(Recording(name, dict(journal.start), list(journal.lines), film.first, files))
        if len(self.items) > MOST:
            for path in self.items.pop(0).files.values():
                path.unlink(missing_ok=True)
        return problem

    def _write(
        self,
        stem: Path,
        film: Film,
        journal: Journal,
        about: dict[str, Any],
        fps: float,
        files: dict[str, Path],
    ) -> str:
        """Adds the files that were written to `files`."""
        head = {"version": VERSION, **about, **journal.start, "first": film.first}
        actions = stem.with_name(f"{stem.name}.jsonl")
        actions.write_text("".join(f"{json.dumps(row)}\n" for row in (head, *journal.lines)), "utf-8")
        files["actions"] = actions
        if not len(film):
            return ""
        every = -(-len(film) // GIF_FRAMES)
        files["GIF"] = video.save_gif(stem.with_name(f"{stem.name}.gif"), film.frames(every), fps / every)
        try:
            files["MP4"] = video.save_mp4(stem.with_name(f"{stem.name}.mp4"), film.frames(), fps)
        except video.NoEncoder as error:
            return f"no MP4 can be made here: {error}"
        return ""

    def file(self, name: str) -> Path | None:
        """The file of a recording by its name."""
        return next((path for item in self.items for path in item.files.values() if path.name == name), None)

    def close(self) -> None:
        """Deletes all of them."""
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)


def read(path: Path, spaces: Spaces) -> Recording:
    """A recording from its file of actions; BadFile for a file that is none."""
    rows = list(itertools.islice(read_rows(path), LINES + 2))
    head, lines = Fields(rows[0] if rows else None, path), [row for row in rows[1:] if row is not None]
    if head.get("version", None) != VERSION or not len(lines) + 1 == len(rows) <= LINES + 1:
        raise BadFile(path, f"is no recording of version {VERSION}")
    for number, line in enumerate(lines, 2):
        try:
            if "action" in line:
                from_plain(line["action"], spaces)
        except (LookupError, TypeError, ValueError, OverflowError):
            raise BadFile(path, f"has an action in line {number} that is none of this world") from None
    start = {key: head.integer(key, -1) for key in ("seed", "episode", "segment")}
    return Recording(path.stem, start, lines, head.integer("first", 0, len(lines)), {"actions": path})
