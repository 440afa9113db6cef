"""Pictures and videos of a run on disk. What can't be made is one line, and none of its kind is tried again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dreamworld import writing
from dreamworld.logging import video
from dreamworld.logging.problems import Problems
from dreamworld.logging.rundir import RunDir
from dreamworld.logging.sinks import Sinks
from dreamworld.reading import require_inside

# Kinds, as they are told.
REPORTS = "open-loop reports"
VIDEOS = "open-loop videos"
PLOTS = "open-loop plots"
EVALUATIONS = "videos of evaluations"
CURVE = "learning curves"
MP4 = "MP4 videos"

GIF_FRAMES = 250  # of a long video that becomes a GIF


class Pictures:
    """Draws and writes; `sinks` get the pictures of reports, too."""

    def __init__(self, rundir: RunDir, problems: Problems, sinks: Sinks | None = None):
        self.rundir, self.problems, self._sinks = rundir, problems, sinks or Sinks(problems)

    def report(self, step: int, report: Mapping[str, np.ndarray], context: int, fps: float) -> list[Path]:
        """Pictures of an agent's open-loop report (`truth/<key>`, `dream/<key>` or `probe/<key>`: [B, T, ...])."""
        paths: list[Path] = []
        for key in video.shown_keys(report):
            kind = VIDEOS if np.ndim(report[f"truth/{key}"]) == 5 else PLOTS
            if not self.problems.goes(kind):
                continue
            with self.problems.attempt(kind):
                picture = video.draw_key(report, key, context)
                if picture.frames is not None:
                    paths += self.video(step, picture.name, picture.frames, fps)
                paths.append(self.image(step, picture.name, picture.still))
        return paths

    def video(self, step: int, name: str, frames: np.ndarray, fps: float) -> list[Path]:
        """uint8 [T, H, W, 3] as report/<step>/<name>.gif, and .mp4 where that can be made."""
        stem = self.rundir.report / str(step) / name
        gif = video.save_gif(self._own(stem.with_name(f"{name}.gif")), frames, fps)
        self._sinks.video(step, f"report/{name}", gif, frames.shape)
        return [gif, *filter(None, [self._mp4(stem, frames, fps)])]

    def image(self, step: int, name: str, array: np.ndarray) -> Path:
        """uint8 [H, W, 3] as report/<step>/<name>.png."""
        path = video.save_png(self._own(self.rundir.report / str(step) / f"{name}.png"), array)
        self._sinks.image(step, f"report/{name}", path, array.shape)
        return path

    def evaluation(self, step: int, frames: np.ndarray, fps: float = 30) -> Path | None:
        """uint8 [T, H, W, 3] of one episode as eval/<step>.mp4, or .gif where no MP4 can be made; None: neither."""
        path = None
        if self.problems.goes(EVALUATIONS) and not self.rundir.away():
            with self.problems.attempt(EVALUATIONS):
                stem = self.rundir.eval / str(step)
                path = self._mp4(stem, video.upscale(frames), fps) or self._small_gif(stem, frames, fps)
        return path

    def learning_curve(self) -> None:
        """learning_curve.png."""
        from dreamworld.logging import plots

        if self.rundir.away():
            return
        with self.problems.attempt(CURVE):
            plots.learning_curve(self.rundir)

    def _own(self, path: Path) -> Path:
        """The path, with no link in its place; BadFile where a folder on the way leads out of the run."""
        require_inside(self.rundir.path, path.parent)
        return writing.clear(path)

    def _mp4(self, stem: Path, frames: np.ndarray, fps: float) -> Path | None:
        """None where there is no encoder. An encoder that fails for want of room is tried again."""
        if not self.problems.goes(MP4):
            return None
        try:
            return video.save_mp4(self._own(stem.with_name(f"{stem.name}.mp4")), frames, fps)
        except video.NoEncoder as error:
            probe = self._own(stem.with_name(f".{stem.name}.probe"))
            probe.write_bytes(frames[:1].tobytes())  # OSError: it is the disk
            probe.unlink()
            self.problems.give_up(MP4, f"{error}; GIFs are written instead")
            return None

    def _small_gif(self, stem: Path, frames: np.ndarray, fps: float) -> Path:
        every = -(-len(frames) // GIF_FRAMES)
        return video.save_gif(self._own(stem.with_name(f"{stem.name}.gif")), frames[::every], fps / every)
